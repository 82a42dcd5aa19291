package convert

import (
	"bytes"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"roundel/nn"
	"roundel/onnx"
	"roundel/tensor"
)

// TestUnchangedGraphGivesTheSameBytes writes graphs back that nothing has changed.
func TestUnchangedGraphGivesTheSameBytes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.onnx")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	other := map[string]string{"function17": "functions are inlined", "unsorted": "nodes are sorted", "foreign": "refused", "cycle": "refused",
		"function_recursive": "refused", "dropout12_train": "refused", "bn14_train": "refused", "external": "not loaded"}
	t.Run("committed", func(t *testing.T) {
		for _, f := range files {
			if other[strings.TrimSuffix(filepath.Base(f), ".onnx")] == "" {
				checkSame(t, f)
			}
		}
	})
	t.Run("shared", func(t *testing.T) {
		for _, f := range sharedModels(t) {
			checkSame(t, f)
		}
	})
}

func checkSame(t *testing.T, f string) {
	t.Helper()
	m := load(t, f)
	before := m.Encode()
	g, err := ToGraph(m)
	if err != nil {
		t.Errorf("%s: %v", f, err)
		return
	}
	out, err := ToModel(g.Clone(), m)
	if err != nil {
		t.Errorf("%s: %v", f, err)
		return
	}
	if !bytes.Equal(out.Encode(), before) {
		t.Errorf("%s: changed on the way", f)
	}
	if !bytes.Equal(m.Encode(), before) {
		t.Errorf("%s: base was changed", f)
	}
}

// TestEveryOpset writes each test graph as new nodes for each opset, and reads it back.
func TestEveryOpset(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.onnx")
	written := 0
	for _, f := range files {
		m := load(t, f)
		g, err := ToGraph(m)
		if err != nil {
			continue // TestRefused
		}
		want := text(g)
		for _, n := range g.Nodes {
			n.Origin = 0
		}
		for v := int64(MinOpset); v <= MaxOpset; v++ {
			base := &onnx.Model{IRVersion: 10, Graph: &onnx.Graph{}}
			base.SetOpset("", v)
			out, err := ToModel(g, base)
			var u *onnx.UnsupportedError
			if errors.As(err, &u) {
				continue
			}
			if err != nil {
				t.Errorf("%s, opset %d: %v", f, v, err)
				continue
			}
			written++
			back, err := ToGraph(out)
			if err != nil {
				t.Errorf("%s, opset %d, read back: %v", f, v, err)
			} else if got := text(back); normal(got) != normal(want) {
				t.Errorf("%s, opset %d: got\n%s\nwant\n%s", f, v, got, want)
			}
		}
	}
	if written < 700 {
		t.Errorf("only %d models written", written)
	}
}

// normal drops attributes that say what is the default, which some opsets cannot say or must.
func normal(s string) string {
	for _, a := range []string{" training_mode=0", " axis=-1", " num_outputs=2", " nearest_mode=floor",
		" coordinate_transformation_mode=output_half_pixel", " mode=linear", " mode=bilinear", " keepdims=1"} {
		s = strings.ReplaceAll(s, a, "")
	}
	return s
}

// fold folds the Add of ir3.onnx into the bias of its Conv, as BatchNorm folding does.
func fold(t *testing.T) (*nn.Graph, *onnx.Model) {
	t.Helper()
	m := load(t, filepath.Join("testdata", "ir3.onnx"))
	g, err := ToGraph(m)
	if err != nil {
		t.Fatal(err)
	}
	conv := g.Nodes[0]
	conv.Inputs, conv.Outputs = append(conv.Inputs, "bias"), []string{"y"}
	g.Consts["bias"] = g.Consts["b"]
	g.Consts["w"] = tensor.From([]float32{3}, 1, 1, 1, 1)
	delete(g.Consts, "b")
	g.Nodes = g.Nodes[:1]
	return g, m
}

func TestRewrittenGraph(t *testing.T) {
	g, m := fold(t)
	m.Metadata = []*onnx.StringEntry{{Key: "k", Value: "v"}}
	m.Graph.Nodes[0].DocString = "kept"
	m.Graph.ValueInfo = []*onnx.ValueInfo{{Name: "c"}, {Name: "y"}}
	out, err := ToModel(g, m)
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Graph.Nodes) != 1 || out.Graph.Nodes[0].DocString != "kept" || out.Graph.Nodes[0] == m.Graph.Nodes[0] {
		t.Errorf("nodes %+v", out.Graph.Nodes)
	}
	if out.ProducerName != "make.py" || len(out.Metadata) != 1 || out.IRVersion != 3 {
		t.Errorf("metadata %q %v", out.ProducerName, out.Metadata)
	}
	if len(out.Graph.ValueInfo) != 1 || out.Graph.ValueInfo[0].Name != "y" {
		t.Errorf("value_info %v", out.Graph.ValueInfo)
	}
	names := func(list []*onnx.ValueInfo) (s []string) {
		for _, v := range list {
			s = append(s, v.Name)
		}
		return s
	}
	if got := names(out.Graph.Inputs); !slices.Equal(got, []string{"x", "w", "bias"}) {
		t.Errorf("inputs %v; IR 3 has initializers among them", got)
	}
	back, err := ToGraph(decoded(t, out))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := text(back), "conv: Conv(x, float32[1 1 1 1][3], float32[1][1]) -> y"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if len(m.Graph.Nodes) != 2 || m.Graph.FindInitializer("b") == nil {
		t.Error("base was changed")
	}
}

// decoded writes m and reads it.
func decoded(t *testing.T, m *onnx.Model) *onnx.Model {
	t.Helper()
	back, err := onnx.Decode(m.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return back
}

func TestChangedConstants(t *testing.T) {
	open := func(name string) (*nn.Graph, *onnx.Model) {
		m := load(t, filepath.Join("testdata", name+".onnx"))
		g, err := ToGraph(m)
		if err != nil {
			t.Fatal(err)
		}
		return g, m
	}
	t.Run("Constant nodes", func(t *testing.T) {
		g, m := open("constants13")
		g.Consts["a"], g.Consts["b"] = tensor.From([]float32{4, 5, 6}, 3), tensor.Scalar[float32](2)
		out, err := ToModel(g, m)
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Graph.Nodes) != len(m.Graph.Nodes) || len(out.Graph.Initializers) != 0 {
			t.Errorf("%d nodes, %d initializers", len(out.Graph.Nodes), len(out.Graph.Initializers))
		}
		back, err := ToGraph(decoded(t, out))
		if err != nil || text(back) != text(g) {
			t.Errorf("%v\n%s", err, text(back))
		}
	})
	t.Run("packed", func(t *testing.T) {
		g, m := open("qdq21_int4")
		g.Consts["w_q"] = tensor.From([]int8{-8, 7, 6, 5, 4, 3}, 2, 3)
		out, err := ToModel(g, m)
		if err != nil {
			t.Fatal(err)
		}
		if w := out.Graph.FindInitializer("w_q"); w.DataType != onnx.Int4 || len(w.RawData) != 3 {
			t.Errorf("%v, %d bytes", w.DataType, len(w.RawData))
		}
		g.Consts["w_q"] = tensor.From([]int8{-9, 7, 6, 5, 4, 3}, 2, 3)
		if _, err := ToModel(g, m); err == nil || !strings.Contains(err.Error(), `tensor "w_q": element 0 is -9`) {
			t.Errorf("out of range: %v", err)
		}
	})
	t.Run("sparse", func(t *testing.T) {
		g, m := open("sparse13")
		g.Consts["sp"] = tensor.New[float32](2, 3)
		out, err := ToModel(g, m)
		if err != nil || len(out.Graph.SparseInitializers) != 0 || out.Graph.FindInitializer("sp") == nil {
			t.Errorf("%v, %+v", err, out.Graph)
		}
	})
	t.Run("made by an upgrade", func(t *testing.T) {
		g, m := open("clip7")
		g.Consts[g.Nodes[0].Inputs[1]] = tensor.Scalar[float32](-2)
		out, err := ToModel(g, m)
		if err != nil {
			t.Fatal(err)
		}
		if p := out.Graph.Nodes[0]; p.Attribute("min").F != -2 || p.Attribute("max").F != 1.5 || len(p.Inputs) != 1 {
			t.Errorf("%+v", p)
		}
	})
	t.Run("unused stay", func(t *testing.T) {
		g, m := open("unused")
		g.Nodes[0].Inputs[1] = "w2"
		g.Consts = map[string]tensor.Any{"w2": tensor.From([]float32{3, 4}, 2)}
		out, err := ToModel(g, m)
		var names []string
		for _, i := range out.Graph.Initializers {
			names = append(names, i.Name)
		}
		if err != nil || !slices.Equal(names, []string{"nobody", "text", "w2"}) {
			t.Errorf("%v, %v", names, err)
		}
	})
	t.Run("inner graph", func(t *testing.T) {
		g, m := open("if11")
		branch := g.Nodes[2]
		els := branch.Attrs["else_branch"]
		els.G = els.G.Clone()
		maps.DeleteFunc(els.G.Consts, func(_ string, v tensor.Any) bool { return v.DType() == tensor.Float32 })
		els.G.Consts["k"] = tensor.From([]float32{20}, 1)
		branch.Attrs["else_branch"] = els
		out, err := ToModel(g, m)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ToGraph(decoded(t, out))
		if err != nil || text(back) != text(g) {
			t.Errorf("%v\n%s\nwant\n%s", err, text(back), text(g))
		}
		if out.Graph.Nodes[2].Attribute("then_branch").G == nil || m.Graph.Nodes[2].Attribute("else_branch").G.Nodes[0].Attribute("value").T.RawData[3] != 0x41 {
			t.Error("base was changed")
		}
	})
	t.Run("nothing makes it", func(t *testing.T) {
		g, m := open("unused")
		delete(g.Consts, "w")
		if _, err := ToModel(g, m); err == nil || !strings.Contains(err.Error(), `value "w" is read and nothing makes it`) {
			t.Error(err)
		}
	})
}

func TestNewNodes(t *testing.T) {
	m := load(t, filepath.Join("testdata", "names.onnx"))
	m.SetOpset("", 9)
	g, err := ToGraph(m)
	if err != nil {
		t.Fatal(err)
	}
	g.Nodes = append(g.Nodes[:1], append([]*nn.Node{{Name: "new", Op: "Clip", Inputs: []string{"a", "lo", "hi"}, Outputs: []string{"a2"}}}, g.Nodes[1:]...)...)
	g.Consts["lo"], g.Consts["hi"] = tensor.Scalar[float32](0), tensor.Scalar[float32](6)
	g.Nodes[2].Inputs[0] = "a2"
	out, err := ToModel(g, m)
	if err != nil {
		t.Fatal(err)
	}
	p := out.Graph.Nodes[1]
	if p.OpType != "Clip" || p.Attribute("max").F != 6 || len(p.Inputs) != 1 || len(out.Graph.Initializers) != 0 {
		t.Errorf("%+v", p)
	}
	if q := out.Graph.Nodes[2]; q.Inputs[0] != "a2" || q.Name != "same" {
		t.Errorf("%+v", q)
	}
	delete(g.Consts, "hi")
	g.Inputs = append(g.Inputs, nn.ValueInfo{Name: "hi", Type: nn.Type{DType: tensor.Float32, Ranked: true}})
	if _, err = ToModel(g, m); err == nil || !strings.Contains(err.Error(), `node "new" (Clip): onnx: not supported: max that is not a constant needs opset 11`) {
		t.Error(err)
	}
	g.Nodes[1].Op = "Gelu"
	if _, err = ToModel(g, m); err == nil || !strings.Contains(err.Error(), "Gelu needs opset 20") {
		t.Error(err)
	}
}

func TestSetInitializer(t *testing.T) {
	v := tensor.From([]float32{9}, 1)
	for _, tt := range []struct{ model, name string }{{"ir3", "b"}, {"constants13", "a"}, {"ir3", "new"}} {
		m := load(t, filepath.Join("testdata", tt.model+".onnx"))
		SetInitializer(m, tt.name, v)
		got, err := FindConstant(decoded(t, m), tt.name)
		if err != nil || got == nil || !equal(got, v) {
			t.Errorf("%s %s: %v, %v", tt.model, tt.name, got, err)
		}
	}
	m := load(t, filepath.Join("testdata", "sparse13.onnx"))
	if got, err := FindConstant(m, "sp"); err != nil || got.Len() != 6 {
		t.Errorf("sparse: %v, %v", got, err)
	}
	if got, err := FindConstant(m, "x"); got != nil || err != nil {
		t.Errorf("an input: %v, %v", got, err)
	}
}

// TestSoftmaxOfTheLastAxis writes a Softmax of opset 12, whose rank was not known when it was read, in opset 13.
func TestSoftmaxOfTheLastAxis(t *testing.T) {
	g := &nn.Graph{Types: map[string]nn.Type{"x": {DType: tensor.Float32, Dims: make([]nn.Dim, 3), Ranked: true}}}
	for axis, ok := range map[int64]bool{2: true, 1: false} {
		n := &nn.Node{Op: "Softmax", Inputs: []string{"x"}, Outputs: []string{"y"}, Attrs: map[string]nn.Attr{
			"axis": {Kind: nn.AttrInt, I: axis}, "coerce2d": {Kind: nn.AttrInt, I: 1}}}
		l := &level{exporter: &exporter{opset: 13}, g: g}
		if err := l.lowerSoftmax(n); (err == nil) != ok {
			t.Errorf("axis %d of 3: %v", axis, err)
		}
		if ok && (n.Int("axis", 0) != axis || n.Int("coerce2d", 0) != 0) {
			t.Errorf("axis %d of 3: attributes %v", axis, n.Attrs)
		}
	}
}
