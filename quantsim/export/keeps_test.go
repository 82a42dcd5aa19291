package export_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim"
	"roundel/quantsim/export"
	"roundel/tensor"
)

// dynamicModel writes a model with a symbolic batch, external data and metadata, and reads it again.
func dynamicModel(t *testing.T) *onnx.Model {
	t.Helper()
	m, err := onnx.Read("../testdata/placement/orientations.onnx")
	if err != nil {
		t.Fatal(err)
	}
	m.Graph.ValueInfo = nil
	for _, v := range []*onnx.ValueInfo{m.Graph.Inputs[0], m.Graph.Outputs[0]} {
		*v.Type.Tensor.Shape.Dims[0] = onnx.Dim{Param: "batch"}
	}
	m.Metadata = append(m.Metadata, &onnx.StringEntry{Key: "author", Value: "us"})
	path := filepath.Join(t.TempDir(), "m.onnx")
	if err := (onnx.WriteOptions{External: onnx.ExternalAlways}).Write(path, m); err != nil {
		t.Fatal(err)
	}
	if m, err = onnx.Read(path); err != nil {
		t.Fatal(err)
	}
	return m
}

func ramp(batch int) *tensor.Dense[float32] {
	x := tensor.New[float32](batch, 4, 6, 6)
	for i := range x.Data() {
		x.Data()[i] = float32(i*7919%1001)/250 - 2
	}
	return x
}

// TestExportsKeep: batch symbol, names of nodes, inputs and outputs, metadata and external data survive both exports,
// which run with other batches than the calibration's.
func TestExportsKeep(t *testing.T) {
	base := dynamicModel(t)
	s := newSim(t, base, quantsim.DefaultConfig())
	calibrate(t, s, ramp(2))
	dir := t.TempDir()
	if err := export.Write(s, base, dir, "net", export.Options{QDQ: true}); err != nil {
		t.Fatal(err)
	}
	if data, _ := filepath.Glob(filepath.Join(dir, "net.onnx.data")); len(data) != 1 {
		all, _ := filepath.Glob(filepath.Join(dir, "*"))
		t.Errorf("external data did not stay outside: %v", all)
	}
	for _, name := range []string{"net.onnx", "net_qdq.onnx"} {
		m, err := onnx.Read(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range []*onnx.ValueInfo{m.Graph.Inputs[0], m.Graph.Outputs[0]} {
			want := []*onnx.ValueInfo{base.Graph.Inputs[0], base.Graph.Outputs[0]}[i]
			if v.Name != want.Name || v.Type.Tensor.Shape.Dims[0].Param != "batch" {
				t.Errorf("%s: %s has first dimension %+v", name, v.Name, v.Type.Tensor.Shape.Dims[0])
			}
		}
		for _, n := range base.Graph.Nodes {
			if !slices.ContainsFunc(m.Graph.Nodes, func(o *onnx.Node) bool { return o.Name == n.Name && o.OpType == n.OpType }) {
				t.Errorf("%s: node %q (%s) is gone", name, n.Name, n.OpType)
			}
		}
		if !slices.ContainsFunc(m.Metadata, func(e *onnx.StringEntry) bool { return e.Key == "author" && e.Value == "us" }) {
			t.Errorf("%s: metadata is gone", name)
		}
		g := mustGraph(t, m)
		p, err := nn.Compile(t.Context(), g, nn.CompileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, batch := range []int{1, 3} {
			out, err := p.Run(context.Background(), map[string]tensor.Any{"x": ramp(batch)})
			if err != nil || out["y"].Shape()[0] != batch {
				t.Fatalf("%s with batch %d: %v", name, batch, err)
			}
			if name == "net_qdq.onnx" {
				mustEqual(t, name, out["y"].(*tensor.Dense[float32]).Data(), forward(t, s, map[string]tensor.Any{"x": ramp(batch)}))
			}
		}
	}
}

// TestQDQTypes: 4 and 16 bits raise the opset to 21 and have types of their own; where the opset must stay, 4 bits lie in
// int8 and 16 are refused.
func TestQDQTypes(t *testing.T) {
	base := dynamicModel(t)
	for _, c := range []struct {
		weights, activations int
		keep                 bool
		opset                int64
		weight, zero         onnx.DataType
	}{
		{8, 8, false, 17, onnx.Int8, onnx.Uint8}, {4, 8, false, 21, onnx.Int4, onnx.Uint8}, {8, 16, false, 21, onnx.Int8, onnx.Uint16},
		{4, 8, true, 17, onnx.Int8, onnx.Uint8}, {4, 4, false, 21, onnx.Int4, onnx.Uint4}, {8, 16, true, 0, 0, 0},
	} {
		cfg := quantsim.DefaultConfig()
		cfg.ParamBits, cfg.OutputBits = c.weights, c.activations
		s := newSim(t, base, cfg)
		calibrate(t, s, ramp(1))
		m, err := export.ToQDQ(s, base, export.QDQOptions{KeepOpset: c.keep})
		if c.opset == 0 {
			if err == nil {
				t.Errorf("%+v: no error", c)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		w, _ := m.Graph.FindConstant("g1.weight_q")
		z, _ := m.Graph.FindConstant("x_zero_point")
		if w == nil || z == nil || m.Opset("") != c.opset || w.DataType != c.weight || z.DataType != c.zero {
			t.Errorf("%+v: opset %d, weight %+v, zero point %+v", c, m.Opset(""), w, z)
			continue
		}
		v, err := convert.ToTensor(w)
		if err != nil {
			t.Fatal(err)
		}
		most := 0.0
		for _, k := range tensor.Float64s(v) {
			most = max(most, k, -k-1)
		}
		if limit := float64(int(1)<<(c.weights-1) - 1); most != limit {
			t.Errorf("%+v: codes go to %v, want %v", c, most, limit)
		}
	}
}

// TestCheckLints: what is right for us and refused by converters is advice, not an error.
func TestCheckLints(t *testing.T) {
	base := dynamicModel(t)
	s := newSim(t, base, quantsim.DefaultConfig())
	if err := s.SetSymmetry(true, false, true, "m.weight"); err != nil {
		t.Fatal(err)
	}
	if err := s.SetEnabled(true, "g1.bias"); err != nil {
		t.Fatal(err)
	}
	if err := s.SetEnabled(false, "x", "y"); err != nil {
		t.Fatal(err)
	}
	positive := s.Graph().Consts["m.weight"].(*tensor.Dense[float32])
	for i, v := range positive.Data() {
		positive.Data()[i] = max(v, -v)
	}
	calibrate(t, s, ramp(1))
	f, err := export.Encodings(s, export.Options{Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := convert.ToModel(s.Graph(), base)
	if err != nil {
		t.Fatal(err)
	}
	found, err := export.Check(m, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []export.Finding{{Rule: "missing", Tensor: "x"}, {Rule: "missing", Tensor: "y"}, {Rule: "symmetry", Tensor: "m.weight"}, {Rule: "bias", Tensor: "g1.bias"}} {
		if !slices.ContainsFunc(found, func(f export.Finding) bool { return !f.Fatal && f.Rule == want.Rule && f.Tensor == want.Tensor }) {
			t.Errorf("no advice %q about %s in %v", want.Rule, want.Tensor, found)
		}
	}
	if slices.ContainsFunc(found, func(f export.Finding) bool { return f.Fatal }) {
		t.Errorf("errors among %v", found)
	}
}
