package adaround

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roundel/nn"
	"roundel/tensor"
)

// oneBatch is a loader of one batch.
type oneBatch struct{ t tensor.Any }

func (b oneBatch) Len() int                                   { return 1 }
func (b oneBatch) Sample(context.Context, int) (Batch, error) { return Batch{"x": b.t}, nil }

// twoLayers is a network of two products, with a configuration whose state goes to dir.
func twoLayers(tb testing.TB, dir string) (*nn.Graph, Config) {
	tb.Helper()
	ramp := func(step float32, shape ...int) *tensor.Dense[float32] {
		t := tensor.New[float32](shape...)
		for i := range t.Data() {
			t.Data()[i] = float32(math.Mod(float64(float32(i)*step), 2)) - 0.9
		}
		return t
	}
	typ := nn.Type{DType: tensor.Float32, Dims: []nn.Dim{{Size: -1, Sym: "N"}, nn.Known(6)}, Ranked: true}
	g := &nn.Graph{Inputs: []nn.ValueInfo{{Name: "x", Type: typ}}, Outputs: []nn.ValueInfo{{Name: "y"}},
		Consts: map[string]tensor.Any{"w": ramp(0.37, 6, 5), "v": ramp(0.71, 5, 3)},
		Nodes: []*nn.Node{{Name: "first", Op: "MatMul", Inputs: []string{"x", "w"}, Outputs: []string{"h"}},
			{Name: "second", Op: "MatMul", Inputs: []string{"h", "v"}, Outputs: []string{"y"}}}}
	if err := nn.Verify(g); err != nil {
		tb.Fatal(err)
	}
	c := DefaultConfig()
	c.DataLoader, c.Checkpoint, c.Workers = oneBatch{ramp(0.13, 16, 6)}, dir, 1
	return g, c
}

// saved rounds the network, and returns a run that could continue, with the content of its first checkpoint.
func saved(tb testing.TB, dir string) (*run, checkpoint) {
	tb.Helper()
	g, c := twoLayers(tb, dir)
	if _, err := Apply(context.Background(), g, c); err != nil {
		tb.Fatal(err)
	}
	r, err := newRun(context.Background(), g, c)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := os.ReadFile(r.saved.path(0))
	if err != nil {
		tb.Fatal(err)
	}
	var f checkpoint
	if err := json.Unmarshal(b, &f); err != nil {
		tb.Fatal(err)
	}
	return r, f
}

// put writes f, with a checksum that is right, as the checkpoint of layer 0.
func (r *run) put(tb testing.TB, f checkpoint) {
	tb.Helper()
	f.Sum = f.sum()
	b, err := json.Marshal(f)
	if err == nil {
		err = os.WriteFile(r.saved.path(0), b, 0o666)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func codes(v ...int32) string {
	var raw []byte
	for _, c := range v {
		raw = binary.AppendVarint(raw, int64(c))
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// TestCheckpointContent has files with right checksums and wrong contents: each is refused by name.
func TestCheckpointContent(t *testing.T) {
	r, good := saved(t, t.TempDir())
	if sol, report, err := r.saved.load(0, r.layers[0]); err != nil || sol == nil || !report.Resumed {
		t.Fatalf("a good file is refused: %v", err)
	}
	cases := []struct {
		name string
		edit func(*checkpoint)
		want string
	}{
		{"another program", func(f *checkpoint) { f.Made = "v9.9.9" }, "written by roundel v9.9.9"},
		{"another format", func(f *checkpoint) { f.Format = "roundel adaround checkpoint 1" }, "format"},
		{"another key", func(f *checkpoint) { f.Key = strings.Repeat("0", 64) }, "another model"},
		{"another layer", func(f *checkpoint) { f.Layer = "second" }, `layer "second"`},
		{"another index", func(f *checkpoint) { f.Index = 1 }, "another"},
		{"no codes", func(f *checkpoint) { f.Codes = "" }, "does not fit"},
		{"codes that are not base64", func(f *checkpoint) { f.Codes = "***" }, "does not fit"},
		{"too many codes", func(f *checkpoint) { f.Codes += f.Codes }, "does not fit"},
		{"codes outside the grid", func(f *checkpoint) { f.Codes = codes(append(make([]int32, 29), 1000)...) }, "code 1000"},
		{"no scales", func(f *checkpoint) { f.Scale = nil }, "does not fit"},
		{"a scale of zero", func(f *checkpoint) { f.Scale[0] = 0 }, "scale 0"},
		{"a negative scale", func(f *checkpoint) { f.Scale[1] = -1 }, "scale -1"},
		{"one bias too few", func(f *checkpoint) { f.Bias = []float32{1} }, "does not fit"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := good
			f.Scale = append([]float32{}, good.Scale...)
			c.edit(&f)
			r.put(t, f)
			sol, _, err := r.saved.load(0, r.layers[0])
			if err == nil || sol != nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), r.saved.path(0)) {
				t.Errorf("got %v, want an error with the path and %q", err, c.want)
			}
		})
	}
}

// TestResumedIsTheSame continues from each number of finished layers.
func TestResumedIsTheSame(t *testing.T) {
	dir := t.TempDir()
	g, c := twoLayers(t, dir)
	want, err := Apply(context.Background(), g, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range [][]string{{"layer-0001.json"}, {"layer-0000.json"}, {"layer-0000.json", "layer-0001.json"}, nil} {
		for _, name := range gone {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		got, err := Apply(context.Background(), g, c)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"w", "v"} {
			a, b := want.Graph.ConstF32(name).Data(), got.Graph.ConstF32(name).Data()
			for i := range a {
				if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
					t.Fatalf("without %v: %s differs at %d: %g and %g", gone, name, i, a[i], b[i])
				}
			}
		}
		for i, l := range got.Layers {
			lost := false
			for _, name := range gone {
				lost = lost || name == filepath.Base((&checkpoints{dir: dir}).path(i))
			}
			if l.Resumed == lost {
				t.Errorf("without %v: layer %d resumed is %v", gone, i, l.Resumed)
			}
		}
	}
}

// FuzzCheckpoint loads files of any content, with a checksum that was made right if they are near enough to the format:
// the solution is on the grid, or there is an error.
func FuzzCheckpoint(f *testing.F) {
	r, good := saved(f, f.TempDir())
	b, err := json.Marshal(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add(bytes.Replace(b, []byte(`"Codes":"`), []byte(`"Codes":"////`), 1))
	f.Add([]byte(`{"Scale":[1e400]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		var c checkpoint
		if json.Unmarshal(b, &c) == nil {
			c.Format, c.Made, c.Key, c.Layer, c.Index = good.Format, good.Made, good.Key, good.Layer, good.Index
			r.put(t, c)
		} else if err := os.WriteFile(r.saved.path(0), b, 0o666); err != nil {
			t.Fatal(err)
		}
		sol, _, err := r.saved.load(0, r.layers[0])
		if err != nil {
			if !strings.Contains(err.Error(), r.saved.path(0)) {
				t.Fatalf("%v does not name the file", err)
			}
			return
		}
		p := r.layers[0].problem()
		for i, v := range sol.Codes {
			if o := i / p.K; v < p.Lo[o] || v > p.Hi[o] || !(sol.Scale[o] > 0) {
				t.Fatalf("code %d and scale %g of output %d", v, sol.Scale[o], o)
			}
		}
	})
}
