package fuzz

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
)

// maxModel bounds the inputs of the model targets: small ones reach everything.
const maxModel = 1 << 16

// models returns the test models of onnx/convert.
func models(f *testing.F) (out [][]byte) {
	files, err := filepath.Glob(filepath.Join("..", "onnx", "convert", "testdata", "*.onnx"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no seed models: %v", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// allocated runs body and returns the bytes that it allocated.
func allocated(body func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	body()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// FuzzOnnxDecode checks that what decodes is written and read again without a
// change, and that memory is bounded by the size of the input.
func FuzzOnnxDecode(f *testing.F) {
	for _, b := range models(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxModel {
			return
		}
		var m *onnx.Model
		var err error
		if n := allocated(func() { m, err = onnx.Decode(b) }); n > uint64(512*len(b))+1<<16 {
			t.Fatalf("%d bytes of input took %d bytes of memory", len(b), n)
		}
		if err != nil {
			return
		}
		first := m.Encode()
		if m.Size() != len(first) {
			t.Fatalf("Size says %d, the model has %d bytes", m.Size(), len(first))
		}
		again, err := onnx.Decode(first)
		if err != nil {
			t.Fatalf("what was written does not decode: %v", err)
		}
		if second := again.Encode(); !bytes.Equal(first, second) {
			t.Fatalf("not a fixed point:\n%x\n%x", first, second)
		}
	})
}

// FuzzOnnxExternal checks that no reference to external data leads out of the
// model's directory: every file in it holds 'd', every file outside 's'.
func FuzzOnnxExternal(f *testing.F) {
	root := f.TempDir()
	dir := filepath.Join(root, "model")
	for name, content := range map[string]string{"model/data": "dddddddddddddddd", "model/sub/data": "dddd", "secret": "ssssssss", "other/data": "ssss"} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			f.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			f.Fatal(err)
		}
	}
	for link, to := range map[string]string{"out": "../secret", "up": "..", "in": "data", "abs": filepath.Join(root, "secret")} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			f.Skip(err)
		}
	}
	for _, loc := range []string{"data", "sub/data", "in", "out", "up/secret", "abs", "../secret", "sub/../../secret", "/etc/hostname", `..\secret`, "", "."} {
		f.Add(loc, "0", "4", int64(4))
	}
	f.Add("data", "12", "", int64(4))
	f.Add("data", "-1", "9223372036854775807", int64(-1))
	f.Fuzz(func(t *testing.T, location, offset, length string, dim int64) {
		w := &onnx.Tensor{Name: "w", DataType: onnx.Uint8, Dims: []int64{dim}, DataLocation: onnx.LocationExternal,
			ExternalData: []*onnx.StringEntry{{Key: "location", Value: location}, {Key: "offset", Value: offset}, {Key: "length", Value: length}}}
		if length == "" {
			w.ExternalData = w.ExternalData[:2]
		}
		err := onnx.LoadExternal(&onnx.Model{Graph: &onnx.Graph{Initializers: []*onnx.Tensor{w}}}, dir)
		if err == nil && len(bytes.Trim(w.RawData, "d")) > 0 {
			t.Fatalf("location %q gave %q", location, w.RawData)
		}
		if err != nil && w.RawData != nil {
			t.Fatalf("data in spite of %v", err)
		}
	})
}

// FuzzConvert checks that no model makes the converter or nn.Verify panic, and that a graph
// that was not changed is written back to one that is accepted again. Changed bytes
// rarely make a well-formed model, so edits of the messages follow, chosen by seed.
func FuzzConvert(f *testing.F) {
	for _, b := range models(f) {
		for seed := range uint64(20) {
			f.Add(b, seed)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		if len(b) > maxModel {
			return
		}
		m, err := onnx.Decode(b)
		if err != nil {
			return
		}
		if m.Graph != nil && seed > 0 {
			edit(m, rand.New(rand.NewPCG(seed, 0)))
		}
		g, err := convert.ToGraph(m)
		if err != nil {
			return
		}
		_ = nn.Verify(g) // an error is fine, a panic is not
		out, err := convert.ToModel(g, m)
		if err != nil {
			if len(m.Functions) == 0 { // the body of a function may be of a newer opset
				t.Fatalf("not written back: %v", err)
			}
			return
		}
		again, err := convert.ToGraph(out)
		if err != nil {
			t.Fatalf("written back, it is refused: %v", err)
		}
		if a, b := outline(g), outline(again); len(m.Functions) == 0 && a != b {
			t.Fatalf("written back, it is another graph:\n%s\n%s", a, b)
		}
	})
}

// outline returns the operators of g with their values, but not their names: made-up names depend on the order in the file.
func outline(g *nn.Graph) string {
	var b strings.Builder
	for _, n := range g.Nodes {
		fmt.Fprintf(&b, "%s %q %q %d\n", n.Op, n.Inputs, n.Outputs, len(n.Attrs))
	}
	for _, name := range slices.Sorted(maps.Keys(g.Consts)) {
		fmt.Fprintf(&b, "%s %v\n", name, g.Consts[name])
	}
	return b.String()
}

// edit makes a few random changes to m that leave it a well-formed protobuf.
func edit(m *onnx.Model, r *rand.Rand) {
	ops := []string{"Relu", "Clip", "Softmax", "Resize", "Upsample", "Dropout", "BatchNormalization", "GroupNormalization", "Pad", "Slice",
		"Split", "TopK", "Squeeze", "ReduceSum", "QuantizeLinear", "DequantizeLinear", "Scatter", "GridSample", "If", "Constant", "DFT", "Scaled"}
	names := []string{"", "x", "y", "w", "new"}
	nodes := m.Graph.Nodes
	for _, fn := range m.Functions {
		nodes = append(nodes[:len(nodes):len(nodes)], fn.Nodes...)
	}
	for _, n := range nodes {
		names = append(append(names, n.Inputs...), n.Outputs...)
	}
	pick := func(list []string) string { return list[r.IntN(len(list))] }
	for range 1 + r.IntN(3) {
		n := &onnx.Node{}
		if len(nodes) > 0 {
			n = nodes[r.IntN(len(nodes))]
		}
		switch r.IntN(9) {
		case 0:
			m.SetOpset("", int64(7+r.IntN(18)))
		case 1:
			n.OpType = pick(ops)
		case 2:
			n.Inputs = append(n.Inputs, pick(names))
		case 3:
			if len(n.Inputs) > 0 {
				n.Inputs[r.IntN(len(n.Inputs))] = pick(names)
			}
		case 4:
			n.Outputs = append(n.Outputs, pick(names))
		case 5:
			n.Attributes = append(n.Attributes, editAttribute(r))
		case 6:
			n.Attributes = nil
		case 7:
			m.Graph.Initializers = append(m.Graph.Initializers, editTensor(r, pick(names)))
		case 8:
			m.Graph.Outputs = append(m.Graph.Outputs, &onnx.ValueInfo{Name: pick(names)})
		}
	}
}

func editAttribute(r *rand.Rand) *onnx.Attribute {
	names := []string{"axes", "axis", "pads", "min", "max", "k", "split", "starts", "ends", "scales", "mode", "value", "num_groups", "alpha"}
	a := &onnx.Attribute{Name: names[r.IntN(len(names))], Type: onnx.AttributeType(r.IntN(16)), I: int64(r.IntN(5)) - 2, F: r.Float32(),
		S: []byte("linear")}
	for range r.IntN(4) {
		a.Ints, a.Floats = append(a.Ints, int64(r.IntN(9))-4), append(a.Floats, r.Float32())
	}
	if r.IntN(2) == 0 {
		a.T = editTensor(r, "t")
	}
	return a
}

func editTensor(r *rand.Rand, name string) *onnx.Tensor {
	t := &onnx.Tensor{Name: name, DataType: onnx.DataType(r.IntN(28))}
	n := 1
	for range r.IntN(3) {
		d := r.IntN(4)
		t.Dims, n = append(t.Dims, int64(d)), n*d
	}
	t.RawData = make([]byte, (n*t.DataType.Bits()+7)/8)
	for i := range t.RawData {
		t.RawData[i] = byte(r.Uint32())
	}
	return t
}
