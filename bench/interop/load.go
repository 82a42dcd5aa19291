package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"roundel/data"
	"roundel/internal/atomicfile"
	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/quantsim/export"
	"roundel/tensor"
)

// loadAndRun simulates a model with the encodings of another tool, or a QDQ model that it made.
func loadAndRun(path, base, result string, images int) error {
	var s *quantsim.Sim
	m, err := onnx.Read(base)
	if err != nil {
		return err
	}
	if path == base {
		if s, _, err = export.Import(m, quantsim.DefaultConfig()); err != nil {
			return err
		}
	} else if s, err = loaded(m, path); err != nil {
		return err
	}
	x, err := first(filepath.Join(filepath.Dir(base), "x.npy"), images)
	if err != nil {
		return err
	}
	g := s.Graph()
	out, err := s.Forward(context.Background(), map[string]tensor.Any{g.Inputs[0].Name: x})
	if err != nil {
		return err
	}
	return data.WriteNpy(result, out[g.Outputs[0].Name])
}

// first reads the first n images of a file, all if n is 0.
func first(path string, n int) (tensor.Any, error) {
	v, err := data.ReadNpy(path)
	if err != nil {
		return nil, err
	}
	x, err := tensor.As[float32](v)
	if err != nil || n == 0 || n >= x.Shape()[0] {
		return v, err
	}
	shape := x.Shape().Clone()
	each := x.Len() / shape[0]
	shape[0] = n
	return tensor.From(x.Data()[:n*each], shape...), nil
}

func loaded(m *onnx.Model, path string) (*quantsim.Sim, error) {
	g, err := convert.ToGraph(m)
	if err != nil {
		return nil, err
	}
	s, err := quantsim.New(g, quantsim.DefaultConfig())
	if err != nil {
		return nil, err
	}
	f, err := encoding.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return s, s.LoadEncodings(f, quantsim.LoadOptions{Reconfigure: true})
}

// valueBatches and valueImages are what values writes: so many batches of so many images.
const valueBatches, valueImages = 2, 2

// values writes the float activations that a simulation of base would observe, as v<tensor>_<batch>.npy, and in
// values.json the encodings that each scheme gives them.
func values(base, dir string) error {
	m, err := onnx.Read(base)
	if err != nil {
		return err
	}
	g, err := convert.ToGraph(m)
	if err != nil {
		return err
	}
	s, err := quantsim.New(g, quantsim.DefaultConfig())
	if err != nil {
		return err
	}
	var names []string
	for _, name := range s.Tensors() {
		if st, _ := s.State(name); st.Kind == encoding.Activation && st.Enabled && g.Consts[name] == nil {
			names = append(names, name)
		}
	}
	p, err := nn.Compile(context.Background(), g, nn.CompileOptions{Fetches: names[1:]}) // the first is the input
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	batches := make([]map[string]tensor.Any, valueBatches)
	for b := range batches {
		x, err := first(filepath.Join(filepath.Dir(base), fmt.Sprintf("calib%d.npy", b)), valueImages)
		if err != nil {
			return err
		}
		if batches[b], err = p.Run(context.Background(), map[string]tensor.Any{names[0]: x}); err != nil {
			return err
		}
		batches[b][names[0]] = x
		for i, name := range names {
			if err := data.WriteNpy(filepath.Join(dir, fmt.Sprintf("v%d_%d.npy", i, b)), batches[b][name]); err != nil {
				return err
			}
		}
	}
	return writeValues(dir, names, batches)
}

// valueGrid is a grid and a scheme that values tries on every tensor.
type valueGrid struct {
	Bits       int
	Symmetric  bool
	Scheme     string
	Percentile float64
}

var valueGrids = []valueGrid{
	{8, false, "min_max", 0}, {16, false, "min_max", 0}, {8, true, "min_max", 0},
	{8, false, "tf_enhanced", 0}, {16, false, "tf_enhanced", 0}, {4, false, "tf_enhanced", 0}, {8, true, "tf_enhanced", 0},
	{8, false, "percentile", 99.9},
}

// value is one encoding of one tensor.
type value struct {
	Tensor string
	Index  int
	valueGrid
	Scale, Offset float64
}

func writeValues(dir string, names []string, batches []map[string]tensor.Any) error {
	var out []value
	for i, name := range names {
		for _, v := range valueGrids {
			scheme, err := encoding.ParseScheme(v.Scheme)
			if err != nil {
				return err
			}
			grid := encoding.Grid{Bits: v.Bits, Symmetric: v.Symmetric, Axis: encoding.PerTensor}
			a, err := encoding.NewAnalyzer(name, grid, encoding.Method{Scheme: scheme, Percentile: v.Percentile})
			for _, b := range batches {
				if x := b[name].(*tensor.Dense[float32]); err == nil {
					err = a.Observe(x.Data(), x.Shape())
				}
			}
			if err != nil {
				return err
			}
			e, err := a.Encoding()
			if err != nil {
				return err
			}
			out = append(out, value{name, i, v, e.Scale[0], e.Offset[0]})
		}
	}
	return atomicfile.Write(filepath.Join(dir, "values.json"), func(w io.Writer) error { return json.NewEncoder(w).Encode(out) })
}
