package main

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"roundel/data"
	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// waves repeats no value, so that no two weights are alike.
func waves(name string, dims ...int64) *onnx.Tensor {
	v := make([]float32, 0, 1024)
	for i := range 1024 {
		v = append(v, float32(math.Sin(float64(3*i*i+len(name)))/3))
	}
	return f32(name, dims, v...)
}

func integers(name string, v ...int64) *onnx.Attribute {
	return &onnx.Attribute{Name: name, Type: onnx.AttributeInts, Ints: v}
}

// odd is a model of opset 11 with, all at once, what real files have: an open batch; weights that are Constant nodes, and such that lie behind
// Identity, Transpose and Reshape; a weight of two layers; values, constants and a second output that nobody reads; an If whose branches see outer
// values and that hangs on the batch; nodes without names and with equal ones.
func odd() *onnx.Model {
	weight := waves("", 4, 3, 3, 3)
	pads := integers("pads", 1, 1, 1, 1)
	branch := func(name string, nodes ...*onnx.Node) *onnx.Attribute {
		return &onnx.Attribute{Name: name, Type: onnx.AttributeGraph,
			G: &onnx.Graph{Name: name, Nodes: nodes, Outputs: []*onnx.ValueInfo{{Name: nodes[len(nodes)-1].Outputs[0]}}}}
	}
	nodes := []*onnx.Node{
		node("Constant", "", "cw", &onnx.Attribute{Name: "value", Type: onnx.AttributeTensor, T: weight}),
		node("Conv", "x cw", "a", pads), node("Relu", "a", "b"),
		node("Identity", "w_one", "one"), node("Conv", "b one bias", "c", pads),
		node("Conv", "b w_two", "d"), node("Conv", "c w_two", "e"), // one weight, two layers
		node("Add", "d e", "f"), node("Dropout", "f", "g mask"),
		node("Split", "f", "half rest", &onnx.Attribute{Name: "axis", Type: onnx.AttributeInt, I: 1}), node("Sin", "rest", "unread"),
		node("Shape", "x", "shape"), node("Gather", "shape first", "batch"), node("Greater", "batch none", "many"),
		node("If", "many", "h", branch("then_branch", node("Mul", "g two", "t"), node("Relu", "t", "u")), branch("else_branch", node("Identity", "a", "v"))),
		node("GlobalAveragePool", "h", "p"), node("Reshape", "p flat", "q"),
		node("Transpose", "w_ten", "turned"), node("Reshape", "turned same", "shaped"), node("MatMul", "q shaped", "y"),
	}
	for i, n := range nodes {
		n.Name = []string{"", "twice", n.Name}[i%3]
	}
	m := tiny(nodes, waves("w_one", 4, 4, 3, 3), f32("bias", []int64{4}, 0.1, -0.2, 0.3, 0), waves("w_two", 4, 4, 1, 1), waves("w_ten", 10, 4),
		f32("two", []int64{1}, 2), i64("flat", 0, -1), i64("same", 4, 10), i64("first", 0), i64("none", 0), waves("forgotten", 2, 2))
	m.SetOpset("", 11)
	in := onnx.NewTensorType(onnx.Float, 1, 3, 8, 8)
	*in.Tensor.Shape.Dims[0] = onnx.Dim{Param: "n"}
	m.Graph.Inputs[0].Type, m.Graph.Outputs[0].Type = in, onnx.NewTensorType(onnx.Float, 1, 10)
	*m.Graph.Outputs[0].Type.Tensor.Shape.Dims[0] = onnx.Dim{Param: "n"}
	return m
}

// TestOdditiesTogether quantizes a model with everything that real files have: all layers are rounded, and both files it writes load again and compute
// what the simulation computes.
func TestOdditiesTogether(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := onnx.Write(at("odd.onnx"), odd()); err != nil {
		t.Fatal(err)
	}
	x := tensor.New[float32](12, 3, 8, 8)
	for i := range x.Data() {
		x.Data()[i] = float32(math.Sin(float64(i) * float64(i%7)))
	}
	if err := data.WriteNpy(at("x.npy"), x); err != nil {
		t.Fatal(err)
	}
	if _, stdout, _ := cli(t, "inspect", at("odd.onnx")); !strings.Contains(stdout, "5 layers with weights, 308 weights") {
		t.Errorf("inspect says\n%s", stdout)
	}
	code, stdout, stderr := cli(t, "quantize", at("odd.onnx"), "--calib", at("x.npy"), "-o", at("out"), "--positions", "100", "--progress", "off")
	if code != exitOK {
		t.Fatalf("%s%s", stdout, stderr)
	}
	files := []string{at("out/odd_w4a8.onnx"), at("out/odd_w4a8.encodings")}
	if code, stdout, stderr := cli(t, append([]string{"check"}, files...)...); code != exitOK {
		t.Fatalf("check: %s%s", stdout, stderr)
	}
	f, err := encoding.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	sim, err := quantsim.New(oddGraph(t, files[0]), quantsim.DefaultConfig())
	if err == nil {
		err = sim.LoadEncodings(f, quantsim.LoadOptions{Reconfigure: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	g := sim.Graph()
	for _, batch := range []int{12, 1} { // with the batch of the calibration and another
		feeds := map[string]tensor.Any{"x": tensor.From(x.Data()[:batch*192], batch, 3, 8, 8)}
		want, err := sim.Forward(context.Background(), feeds)
		if err != nil {
			t.Fatal(err)
		}
		got, err := nn.Eval(context.Background(), oddGraph(t, at("out/odd_w4a8_qdq.onnx")), feeds)
		if err != nil {
			t.Fatal(err)
		}
		y, w := tensor.Float64s(got["y"]), tensor.Float64s(want["y"])
		if len(y) != 10*batch || slices.Max(w) < 0.1 {
			t.Fatalf("%d values up to %v", len(y), slices.Max(w))
		}
		for i := range w {
			if d := math.Abs(y[i] - w[i]); d > 1e-6 {
				t.Errorf("batch %d: value %d is %v, %v when simulated", batch, i, y[i], w[i])
			}
		}
	}
	layers := 0
	for _, o := range g.Nodes {
		e := f.Find(o.In(1))
		if o.Op != "Conv" && o.Op != "MatMul" {
			continue
		}
		layers++
		w := tensor.Float64s(g.Consts[o.In(1)])
		for i, v := range w {
			channel := i * 4 / len(w)
			if o.Op == "MatMul" {
				channel = i % 10
			}
			if steps := v / e.Scale[channel]; e.Bits != 4 || math.Abs(steps-math.Round(steps)) > 1e-4 {
				t.Fatalf("node %q: value %d of the weight %q is %v steps of %d bits", o.Name, i, o.In(1), steps, e.Bits)
			}
		}
	}
	if layers != 5 {
		t.Errorf("%d layers, want four convolutions and the product", layers)
	}
}

// oddGraph reads an export.
func oddGraph(t *testing.T, path string) *nn.Graph {
	t.Helper()
	m, err := onnx.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	g, err := convert.ToGraph(m)
	if err == nil {
		err = nn.Verify(g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}
