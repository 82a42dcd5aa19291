package export_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"roundel/internal/golden"
	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/quantsim/export"
	"roundel/tensor"
)

// loadCase returns the model of a golden case, a calibrated simulation and test inputs.
func loadCase(t *testing.T, m *golden.Manifest, edit func(*quantsim.Sim)) (*onnx.Model, *quantsim.Sim, map[string]tensor.Any) {
	t.Helper()
	base, err := onnx.Read(m.Model(t))
	if err != nil {
		t.Fatal(err)
	}
	cfg := quantsim.DefaultConfig()
	var paramType, actType, scheme string
	m.Param(t, "param_type", &paramType)
	m.Param(t, "activation_type", &actType)
	m.Param(t, "quant_scheme", &scheme)
	bits := map[string]int{"int4": 4, "int8": 8, "int16": 16}
	cfg.ParamBits, cfg.OutputBits = bits[paramType], bits[actType]
	if cfg.Method.Scheme, err = encoding.ParseScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if c := filepath.Join(m.Dir, "config.json"); exists(c) {
		cfg.ConfigFile = c
	}
	s := newSim(t, base, cfg)
	if edit != nil {
		edit(s)
	}
	calibrate(t, s, m.Input(t, "calib0_x"))
	return base, s, map[string]tensor.Any{"x": m.Input(t, "test0_x")}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func newSim(t *testing.T, m *onnx.Model, cfg quantsim.Config) *quantsim.Sim {
	t.Helper()
	g, err := convert.ToGraph(m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := quantsim.New(g, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func calibrate(t *testing.T, s *quantsim.Sim, x tensor.Any) {
	t.Helper()
	err := s.ComputeEncodings(context.Background(), func(run func(map[string]tensor.Any) error) error {
		return run(map[string]tensor.Any{s.Graph().Inputs[0].Name: x})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func forward(t *testing.T, s *quantsim.Sim, feeds map[string]tensor.Any) []float32 {
	t.Helper()
	out, err := s.Forward(context.Background(), feeds)
	if err != nil {
		t.Fatal(err)
	}
	return out[s.Graph().Outputs[0].Name].(*tensor.Dense[float32]).Data()
}

// reread sends a model through a file.
func reread(t *testing.T, m *onnx.Model) *onnx.Model {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.onnx")
	if err := onnx.Write(path, m); err != nil {
		t.Fatal(err)
	}
	out, err := onnx.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// evaluate runs a QDQ model as it is, QuantizeLinear and DequantizeLinear included.
func evaluate(t *testing.T, m *onnx.Model, feeds map[string]tensor.Any) []float32 {
	t.Helper()
	g, err := convert.ToGraph(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := nn.Verify(g); err != nil {
		t.Fatal(err)
	}
	p, err := nn.Compile(t.Context(), g, nn.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(context.Background(), feeds)
	if err != nil {
		t.Fatal(err)
	}
	return out[g.Outputs[0].Name].(*tensor.Dense[float32]).Data()
}

func mustEqual(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

// qdqVariants are the ways to write a QDQ model.
var qdqVariants = map[string]export.QDQOptions{
	"integers":     {},
	"float":        {FloatWeights: true},
	"bias":         {Bias: true},
	"without":      {NoCopies: true},
	"float, bias":  {FloatWeights: true, Bias: true},
	"keep opset":   {KeepOpset: true},
	"keep, floats": {KeepOpset: true, FloatWeights: true, NoCopies: true},
}

// TestQDQ writes every golden case in every way: the QDQ model must compute what the
// simulation computes, bit for bit, and so must the simulation that is read back from it.
func TestQDQ(t *testing.T) {
	n := 0
	golden.Each(t, "quantsim", func(t *testing.T, m *golden.Manifest) {
		if m.Case == "residual_frozen_params" {
			t.Skip("has no calibration of its own")
		}
		base, s, feeds := loadCase(t, m, nil)
		want := forward(t, s, feeds)
		before := base.Encode()
		for name, o := range qdqVariants {
			q, err := export.ToQDQ(s, base, o)
			if err != nil {
				if o.KeepOpset && strings.Contains(err.Error(), "opset 21") && s.Config().OutputBits == 16 {
					continue
				}
				t.Fatalf("%s: %v", name, err)
			}
			q = reread(t, q)
			if o.KeepOpset && q.Opset("") != base.Opset("") {
				t.Errorf("%s: opset %d became %d", name, base.Opset(""), q.Opset(""))
			}
			if got := evaluate(t, q, feeds); !o.Bias {
				mustEqual(t, name, got, want)
			}
			back, float, err := export.Import(q, s.Config())
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if export.Quantized(float) {
				t.Errorf("%s: pairs are left", name)
			}
			if !o.Bias {
				mustEqual(t, name+", imported", forward(t, back, feeds), want)
				sameEncodings(t, name, s, back)
			}
			n++
		}
		if !slices.Equal(before, base.Encode()) {
			t.Error("the base model was changed")
		}
	})
	t.Logf("%d QDQ models", n)
}

// sameEncodings compares what is enabled; an imported model cannot tell a few bits in a wider container.
func sameEncodings(t *testing.T, what string, a, b *quantsim.Sim) {
	t.Helper()
	for _, name := range a.Tensors() {
		x, _ := a.State(name)
		y, ok := b.State(name)
		if !ok || x.Enabled != y.Enabled {
			t.Errorf("%s: %s: enabled %v, imported %v", what, name, x.Enabled, y.Enabled)
			continue
		}
		if !x.Enabled {
			continue
		}
		for i, s := range x.Encoding.Scale {
			if float32(y.Encoding.Scale[i]) != float32(s) || x.Encoding.Bits == y.Encoding.Bits && x.Encoding.Offset[i] != y.Encoding.Offset[i] {
				t.Errorf("%s: %s: %v %v became %v %v", what, name, s, x.Encoding.Offset[i], y.Encoding.Scale[i], y.Encoding.Offset[i])
				break
			}
		}
	}
}

// TestImportAIMETQDQ reads AIMET's own QDQ models; ONNX Runtime's outputs of them are known.
func TestImportAIMETQDQ(t *testing.T) {
	golden.Each(t, "quantsim", func(t *testing.T, m *golden.Manifest) {
		if _, ok := m.Expected["qdq_model"]; !ok {
			t.Skip("no QDQ model")
		}
		q, err := onnx.Read(m.WantFile(t, "qdq_model"))
		if err != nil {
			t.Fatal(err)
		}
		s, _, err := export.Import(q, quantsim.DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		feeds := map[string]tensor.Any{"x": m.Input(t, "test0_x")}
		got := forward(t, s, feeds)
		mustEqual(t, "the model itself", evaluate(t, q, feeds), got)
		want := m.Want(t, "qdq0_y").(*tensor.Dense[float32]).Data()
		differ := 0
		for i := range want {
			if got[i] != want[i] {
				differ++
			}
		}
		t.Logf("%d of %d outputs differ from ONNX Runtime's", differ, len(want))
		if differ*20 > len(want) && m.Case != "concat_branches_w8a8_per_channel" {
			t.Errorf("%d of %d outputs differ from ONNX Runtime's", differ, len(want))
		}
	})
}

func TestOtherTypesAndBlocks(t *testing.T) {
	cases := map[string]func(*quantsim.Sim) error{
		"float16 activation":  func(s *quantsim.Sim) error { return s.SetPrecision(encoding.Float16, 16, "q", "x", "y") },
		"bfloat16 activation": func(s *quantsim.Sim) error { return s.SetPrecision(encoding.BFloat16, 16, "ctx") },
		"float16 weight":      func(s *quantsim.Sim) error { return s.SetPrecision(encoding.Float16, 16, "q.weight") },
		"blocks":              func(s *quantsim.Sim) error { return s.SetBlocks(4, "q.weight", "k.weight", "v.weight") },
		"5-bit activation":    func(s *quantsim.Sim) error { return s.SetPrecision(encoding.Int, 5, "ctx", "y") },
		"3-bit weight":        func(s *quantsim.Sim) error { return s.SetPrecision(encoding.Int, 3, "o.weight") },
		"strict":              func(s *quantsim.Sim) error { return s.SetSymmetry(true, true, false, "q.weight", "o") },
		"disabled":            func(s *quantsim.Sim) error { return s.SetEnabled(false, "x", "y", "q.weight") },
		"excluded":            func(s *quantsim.Sim) error { return s.Exclude("add_q", "softmax_probs") },
		"asymmetric weight":   func(s *quantsim.Sim) error { return s.SetSymmetry(false, false, false, "q.weight") },
	}
	m := golden.Load(t, "quantsim", "attention_w8a8_per_channel")
	plain, first, feeds := loadCase(t, m, nil)
	usual := forward(t, first, feeds)
	_ = plain
	for name, edit := range cases {
		t.Run(name, func(t *testing.T) {
			base, s, feeds := loadCase(t, m, func(s *quantsim.Sim) {
				if err := edit(s); err != nil {
					t.Fatal(err)
				}
			})
			want := forward(t, s, feeds)
			if slices.Equal(want, usual) {
				t.Error("the change makes no difference")
			}
			q, err := export.ToQDQ(s, base, export.QDQOptions{})
			if err != nil {
				t.Fatal(err)
			}
			q = reread(t, q)
			got := evaluate(t, q, feeds)
			if name == "strict" {
				return // the lowest code of the type exists in QDQ
			}
			mustEqual(t, "QDQ", got, want)
			back, float, err := export.Import(q, s.Config())
			if err != nil {
				t.Fatal(err)
			}
			mustEqual(t, "imported", forward(t, back, feeds), want)
			if i := slices.IndexFunc(float.Graph.Nodes, func(n *onnx.Node) bool { return n.OpType == "Cast" }); i >= 0 {
				t.Errorf("a Cast is left: %s", float.Graph.Nodes[i].Name)
			}
		})
	}
}

// TestWrite checks the files of Write: the float model is the base, and Check finds no error.
func TestWrite(t *testing.T) {
	golden.Each(t, "quantsim", func(t *testing.T, m *golden.Manifest) {
		if m.Case == "residual_frozen_params" {
			t.Skip("has no calibration of its own")
		}
		base, s, feeds := loadCase(t, m, nil)
		for _, v := range []string{"0.6.1", "1.0.0", "2.0.0"} {
			dir := t.TempDir()
			if err := export.Write(s, base, dir, "net", export.Options{Version: v, QDQ: true}); err != nil {
				t.Fatal(err)
			}
			float, err := onnx.Read(filepath.Join(dir, "net.onnx"))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(float.Encode(), base.Encode()) {
				t.Error("the float model is not the base")
			}
			if q, err := onnx.Read(filepath.Join(dir, "net_qdq.onnx")); err != nil || !export.Quantized(q) {
				t.Errorf("no QDQ model: %v", err)
			}
			f, err := encoding.ReadFile(filepath.Join(dir, "net.encodings"))
			if err != nil {
				t.Fatal(err)
			}
			findings, err := export.Check(float, f)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range findings {
				t.Errorf("%s: %s", v, x)
			}
			s2 := newSim(t, float, s.Config())
			if err := s2.LoadEncodings(f, quantsim.LoadOptions{}); err != nil {
				t.Fatalf("%s: %v", v, err)
			}
			mustEqual(t, "loaded from "+v, forward(t, s2, feeds), forward(t, s, feeds))
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 3 {
				t.Errorf("files %v", left)
			}
		}
	})
}

func TestCheckFinds(t *testing.T) {
	m := golden.Load(t, "quantsim", "residual_w8a8_per_channel")
	base, s, _ := loadCase(t, m, nil)
	fresh := func() *encoding.File {
		f, err := s.Encodings(quantsim.OptionsFor("2.0.0"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range f.Entries {
			f.Entries[i].Encoding = f.Entries[i].Encoding.Clone()
		}
		return f
	}
	drop := func(f *encoding.File, name string) {
		f.Entries = slices.DeleteFunc(f.Entries, func(e encoding.Entry) bool { return e.Name == name })
	}
	cases := map[string]struct {
		edit  func(*encoding.File)
		fatal bool
		rule  string
	}{
		"other name": {func(f *encoding.File) { f.Entries[0].Name = "conv7.weight" }, true, "name"},
		"activation scale": {func(f *encoding.File) {
			e := f.Find("relu2")
			e.Scale = append(e.Scale, 1)
			e.Offset = append(e.Offset, 0)
		}, true, "grid"},
		"channel count": {func(f *encoding.File) {
			e := f.Find("conv1.weight")
			e.Scale = e.Scale[:3]
			e.Offset = e.Offset[:3]
			e.Min, e.Max = nil, nil
		}, true, "grid"},
		"axis": {func(f *encoding.File) { f.Find("conv2.weight").Axis = 1 }, true, "axis"},
		"range": {func(f *encoding.File) {
			e := f.Find("fc.weight")
			for i := range e.Scale {
				e.SetScale(i, e.Scale[i]*300)
			}
		}, true, "range"},
		"no input":   {func(f *encoding.File) { drop(f, "x") }, false, "missing"},
		"no output":  {func(f *encoding.File) { drop(f, "y") }, false, "missing"},
		"no weight":  {func(f *encoding.File) { drop(f, "conv2.weight") }, false, "missing"},
		"bias scale": {func(f *encoding.File) { f.Find("fc.bias").Scale[0] *= 2 }, false, "bias"},
		"symmetry":   {func(f *encoding.File) { e := f.Find("conv1.weight"); e.Offset[0] = -100; e.Min, e.Max = nil, nil }, false, "symmetry"},
		"bits":       {func(f *encoding.File) { e := f.Find("relu2"); e.Bits, e.Min, e.Max = 7, nil, nil }, false, "bits"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := fresh()
			c.edit(f)
			found, err := export.Check(base, f)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(found, func(x export.Finding) bool { return x.Rule == c.rule && x.Fatal == c.fatal }) {
				t.Errorf("rule %s (fatal %v) is not among %v", c.rule, c.fatal, found)
			}
		})
	}
	if found, err := export.Check(base, fresh()); err != nil || len(found) > 0 {
		t.Errorf("a good file: %v, %v", found, err)
	}
}

func TestImportErrors(t *testing.T) {
	m := golden.Load(t, "quantsim", "residual_w8a8_per_channel")
	base, s, _ := loadCase(t, m, nil)
	q, err := export.ToQDQ(s, base, export.QDQOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range q.Graph.Nodes {
		if n.OpType == "DequantizeLinear" && strings.HasPrefix(n.Inputs[0], "relu2") {
			q.Graph.Nodes[i].OpType = "Identity"
		}
	}
	if _, _, err := export.FromQDQ(q); err == nil || !strings.Contains(err.Error(), "relu2") {
		t.Errorf("a lone QuantizeLinear: %v", err)
	}
	if _, err := quantsim.New(mustGraph(t, q), quantsim.DefaultConfig()); err == nil || !strings.Contains(err.Error(), "QDQ") {
		t.Errorf("a simulation of a QDQ model: %v", err)
	}
}

// TestCastsThatCompute: Casts between which the model computes, or of whole numbers, are no quantizers; a plain pair is one.
func TestCastsThatCompute(t *testing.T) {
	cast := func(in, out string, to onnx.DataType) *onnx.Node {
		return &onnx.Node{Name: out, OpType: "Cast", Inputs: []string{in}, Outputs: []string{out}, Attributes: []*onnx.Attribute{onnx.IntAttr("to", int64(to))}}
	}
	value := func(name string, t onnx.DataType) *onnx.ValueInfo {
		return &onnx.ValueInfo{Name: name, Type: onnx.NewTensorType(t, 4)}
	}
	m := &onnx.Model{IRVersion: 8, OpsetImport: []*onnx.OpsetID{{Version: 17}}, Graph: &onnx.Graph{
		Inputs:  []*onnx.ValueInfo{value("a", onnx.Float), value("b", onnx.Int64), value("c", onnx.Float)},
		Outputs: []*onnx.ValueInfo{value("y", onnx.Float), value("b_wide", onnx.Float), value("z", onnx.Float)},
		Nodes: []*onnx.Node{
			cast("a", "a_half", onnx.Float16), {Name: "n", OpType: "Neg", Inputs: []string{"a_half"}, Outputs: []string{"n"}}, cast("n", "y", onnx.Float),
			cast("b", "b_half", onnx.Float16), cast("b_half", "b_wide", onnx.Float),
			cast("c", "c_half", onnx.BFloat16), cast("c_half", "c_wide", onnx.Float), {Name: "z", OpType: "Neg", Inputs: []string{"c_wide"}, Outputs: []string{"z"}},
		},
	}}
	float, f, err := export.FromQDQ(m)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Entries) != 1 || f.Entries[0].Name != "c" || f.Entries[0].Type != encoding.BFloat16 {
		t.Errorf("entries: %+v", f.Entries)
	}
	if n := len(float.Graph.Nodes); n != 6 {
		t.Errorf("%d nodes are left, want 6", n)
	}
}

func mustGraph(t *testing.T, m *onnx.Model) *nn.Graph {
	t.Helper()
	g, err := convert.ToGraph(m)
	if err != nil {
		t.Fatal(fmt.Errorf("graph: %w", err))
	}
	return g
}
