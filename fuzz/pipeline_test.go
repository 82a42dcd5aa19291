package fuzz

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roundel/adaround"
	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/quantsim/export"
	"roundel/tensor"
)

// constant is a loader that gives the same batch again and again.
type constant adaround.Batch

func (c constant) Len() int { return 2 }

func (c constant) Sample(context.Context, int) (adaround.Batch, error) { return adaround.Batch(c), nil }

// FuzzPipeline takes models of any content through AdaRound, simulation and export: nothing panics, and what is exported
// describes itself.
func FuzzPipeline(f *testing.F) {
	addModels(f, 4)
	names, err := filepath.Glob(filepath.Join("..", "quantsim", "testdata", "placement", "*.onnx"))
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for seed := range uint64(6) {
			f.Add(b, seed)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		g, feeds, m := smallGraph(b, seed)
		if g == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		c := adaround.DefaultConfig()
		c.DataLoader, c.Positions, c.Workers, c.Seed = constant(feeds), 64, 1+int(seed%2), seed
		c.ParamBits = 2 + int(seed%7)
		res, err := adaround.Apply(ctx, g, c)
		if err != nil {
			return
		}
		file := &encoding.File{}
		for _, l := range res.Layers {
			file.Entries = append(file.Entries, encoding.Entry{Name: l.Weight, Kind: encoding.Param, Shape: res.Graph.Consts[l.Weight].Shape(),
				Encoding: res.ParamEncodings[l.Weight]})
		}
		sc := quantsim.DefaultConfig()
		sc.ParamBits, sc.Workers = c.ParamBits, 1
		sim, err := quantsim.New(res.Graph, sc)
		if err != nil {
			return
		}
		if err := sim.SetAndFreezeParams(file); err != nil {
			if strings.Contains(err.Error(), "not quantized") {
				return // the rules may leave a layer in float that AdaRound has rounded
			}
			t.Fatalf("AdaRound's encodings do not fit the simulation of its result: %v", err)
		}
		err = sim.ComputeEncodings(ctx, func(run func(map[string]tensor.Any) error) error { return run(feeds) })
		if err != nil {
			return
		}
		exported(t, sim, m)
	})
}

// exported writes the simulation in every form and reads what can be read.
func exported(t *testing.T, sim *quantsim.Sim, base *onnx.Model) {
	m, err := convert.ToModel(sim.Graph(), base)
	if err != nil {
		return
	}
	for _, version := range []string{"0.6.1", "1.0.0", "2.0.0"} {
		f, err := export.Encodings(sim, export.Options{Version: version})
		if err != nil {
			continue
		}
		var b bytes.Buffer
		if f.Write(&b, version) != nil {
			continue
		}
		again, err := encoding.Parse("written", b.Bytes())
		if err != nil {
			t.Fatalf("%s: what was written is refused: %v", version, err)
		}
		findings, err := export.Check(m, again)
		if err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		for _, x := range findings {
			if x.Fatal {
				t.Fatalf("%s: the export does not describe itself: %v", version, x)
			}
		}
	}
	q, err := export.ToQDQ(sim, base, export.QDQOptions{})
	if err != nil {
		return
	}
	decoded, err := onnx.Decode(q.Encode())
	if err != nil {
		t.Fatalf("the QDQ model does not decode: %v", err)
	}
	g, err := convert.ToGraph(decoded)
	if errors.As(err, new(*onnx.UnsupportedError)) {
		return // forms of old opsets need declared shapes, which values behind quantizers do not have
	}
	if err != nil {
		t.Fatalf("the QDQ model is refused: %v", err)
	}
	if err := nn.Verify(g); err != nil {
		t.Fatalf("the QDQ model is bad: %v", err)
	}
	if _, _, err := export.FromQDQ(decoded); err != nil && !strings.Contains(err.Error(), "a constant is a graph output") {
		t.Fatalf("the QDQ model is not read back: %v", err)
	}
}
