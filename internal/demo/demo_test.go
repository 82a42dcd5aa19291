package demo

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"roundel/data"
	"roundel/internal/golden"
	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/tensor"
)

func TestShapes(t *testing.T) {
	if s := Calibration().Shape(); !s.Equal(tensor.Shape{1024, 1, 28, 28}) {
		t.Errorf("calibration images %v", s)
	}
	x, labels := Test()
	if s := x.Shape(); !s.Equal(tensor.Shape{2500, 1, 28, 28}) || len(labels) != 2500 {
		t.Errorf("test images %v with %d labels", s, len(labels))
	}
	var count [10]int
	for _, c := range labels {
		count[c]++
	}
	if slices.Min(count[:]) < 200 {
		t.Errorf("classes are not balanced: %v", count)
	}
	var sum, squares float64
	for _, v := range x.Data() {
		sum += float64(v)
		squares += float64(v) * float64(v)
	}
	mean := sum / float64(x.Len())
	if v := squares/float64(x.Len()) - mean*mean; mean < -0.1 || mean > 0.1 || v < 0.9 || v > 1.1 {
		t.Errorf("mean %.3f and variance %.3f, want 0 and 1", mean, v)
	}
}

// TestSameAsDataSet checks that the images are those that package data reads from the data set, bit for bit.
func TestSameAsDataSet(t *testing.T) {
	dir := golden.Shared(t, "data/fashion-mnist")
	p, err := data.ParsePreprocess("unit,mean=0.286,std=0.353")
	if err != nil {
		t.Fatal(err)
	}
	x, labels := Test()
	for _, c := range []struct {
		file   string
		x      *tensor.Dense[float32]
		labels []int
	}{{"train-images-idx3-ubyte.gz", Calibration(), nil}, {"t10k-images-idx3-ubyte.gz", x, labels}} {
		src, err := data.Open(filepath.Join(dir, c.file), data.Options{Preprocess: &p})
		if err != nil {
			t.Fatal(err)
		}
		n := c.x.Shape()[0]
		for i := range n {
			s, err := src.At(context.Background(), i)
			if err != nil {
				t.Fatal(err)
			}
			if c.labels != nil && c.labels[i] != s.Label {
				t.Fatalf("%s: image %d has label %d, want %d", c.file, i, c.labels[i], s.Label)
			}
			one := tensor.From(c.x.Data()[i*side*side:(i+1)*side*side], 1, 1, side, side)
			if err := golden.Close(one, s.Inputs["input"], 0, 0); err != nil {
				t.Fatalf("%s: image %d: %v", c.file, i, err)
			}
		}
	}
}

// TestModelFile checks what the documentation of Model promises.
func TestModelFile(t *testing.T) {
	m, err := onnx.Decode(Model())
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, n := range m.Graph.Nodes {
		count[n.OpType]++
	}
	if m.Opset("") != 17 || count["BatchNormalization"] != count["Conv"] || count["Clip"] == 0 || count["Add"] == 0 ||
		count["GlobalAveragePool"] != 1 || count["Gemm"] != 1 {
		t.Errorf("opset %d, operators %v", m.Opset(""), count)
	}
	in, out := m.Graph.Inputs[0], m.Graph.Outputs[0]
	if in.Name != "input" || out.Name != "logits" || in.Type.Tensor.Shape.Dims[0].Param != "N" {
		t.Errorf("input %q, output %q, batch dimension %+v", in.Name, out.Name, in.Type.Tensor.Shape.Dims[0])
	}
	if n := len(Model()); n > 400<<10 {
		t.Errorf("%d bytes, want at most 400 KiB", n)
	}
}

// TestModelAccuracy runs the model as users do. The count is exact: the
// kernels give the same bits on every CPU, and so does the training program.
func TestModelAccuracy(t *testing.T) {
	m, err := onnx.Decode(Model())
	if err != nil {
		t.Fatal(err)
	}
	g, err := convert.ToGraph(m)
	if err != nil {
		t.Fatal(err)
	}
	p, err := nn.Compile(t.Context(), g, nn.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	x, labels := Test()
	out, err := p.Run(context.Background(), map[string]tensor.Any{"input": x})
	if err != nil {
		t.Fatal(err)
	}
	logits, err := tensor.As[float32](out["logits"])
	if err != nil {
		t.Fatal(err)
	}
	right := 0
	for i, c := range labels {
		row := logits.Data()[i*10 : (i+1)*10]
		if row[c] == slices.Max(row) {
			right++
		}
	}
	const want = 2277
	if right != want {
		t.Errorf("%d of %d images right, want %d", right, len(labels), want)
	}
}
