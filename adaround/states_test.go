package adaround

import (
	"context"
	"math/rand/v2"
	"testing"

	"roundel/nn"
	"roundel/tensor"
)

// TestNoCutAtShapeArithmetic: between two layers an integer value, made of the shape of the input, is alive. The
// networks cannot be cut there, and the layers must be rounded all the same.
func TestNoCutAtShapeArithmetic(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	typ := nn.Type{DType: tensor.Float32, Ranked: true, Dims: []nn.Dim{{Size: -1, Sym: "N"}, {Size: -1, Sym: "T"}, nn.Known(6)}}
	g := &nn.Graph{Inputs: []nn.ValueInfo{{Name: "x", Type: typ}}, Outputs: []nn.ValueInfo{{Name: "y"}}, Consts: map[string]tensor.Any{
		"w0": randomTensor(r, 6, 8), "w1": randomTensor(r, 8, 4), "flat": tensor.From([]int64{-1, 8}, 2), "two": tensor.From([]int64{0, 1}, 2),
		"last": tensor.From([]int64{4}, 1), "w2": randomTensor(r, 4, 3)}}
	add := func(op, out string, in ...string) {
		g.Nodes = append(g.Nodes, &nn.Node{Name: out, Op: op, Inputs: in, Outputs: []string{out}, Attrs: map[string]nn.Attr{"axis": integer(0)}})
	}
	add("Shape", "s", "x")
	add("Gather", "nt", "s", "two")
	add("Concat", "back", "nt", "last")
	add("MatMul", "a", "x", "w0")
	add("Relu", "b", "a")
	add("Reshape", "c", "b", "flat")
	add("MatMul", "d", "c", "w1")
	add("Reshape", "e", "d", "back") // so "back" is alive before d
	add("MatMul", "y", "e", "w2")
	for _, n := range g.Nodes {
		if n.Op != "Gather" && n.Op != "Concat" {
			n.Attrs = nil
		}
	}
	l := testLoader{name: "x"}
	for range 12 {
		l.batches = append(l.batches, randomTensor(r, 1, 5, 6))
	}
	rounded(t, g, l, 3)
}

type mapLoader []Batch

func (l mapLoader) Len() int                                       { return len(l) }
func (l mapLoader) Sample(_ context.Context, i int) (Batch, error) { return l[i], nil }

// TestStates rounds a layer of a network with a state [2, N, C] and a number that counts nothing.
func TestStates(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	open, float := nn.Dim{Size: -1, Sym: "N"}, func(dims ...nn.Dim) nn.Type { return nn.Type{DType: tensor.Float32, Ranked: true, Dims: dims} }
	g := &nn.Graph{Outputs: []nn.ValueInfo{{Name: "y"}}, Consts: map[string]tensor.Any{"w": randomTensor(r, 6, 4), "axis": tensor.From([]int64{0}, 1)},
		Inputs: []nn.ValueInfo{{Name: "x", Type: float(open, nn.Known(6))}, {Name: "s", Type: float(nn.Known(2), open, nn.Known(6))}, {Name: "r", Type: float()}},
		Nodes: []*nn.Node{{Name: "m", Op: "ReduceMean", Inputs: []string{"s", "axis"}, Outputs: []string{"m"}, Attrs: map[string]nn.Attr{"keepdims": integer(0)}},
			{Name: "a", Op: "Add", Inputs: []string{"x", "m"}, Outputs: []string{"a"}}, {Name: "b", Op: "Mul", Inputs: []string{"a", "r"}, Outputs: []string{"b"}},
			{Name: "l", Op: "MatMul", Inputs: []string{"b", "w"}, Outputs: []string{"y"}}}}
	var l mapLoader
	for range 12 {
		l = append(l, Batch{"x": randomTensor(r, 1, 6), "s": randomTensor(r, 2, 1, 6), "r": tensor.Scalar[float32](0.5)})
	}
	rounded(t, g, l, 1)
	l[3] = Batch{"x": randomTensor(r, 2, 6), "s": randomTensor(r, 2, 2, 6), "r": tensor.Scalar[float32](0.5)}
	cfg := DefaultConfig()
	cfg.DataLoader = l
	if _, err := Apply(context.Background(), g, cfg); err == nil {
		t.Error("two samples in a batch with a state were accepted")
	}
}

func rounded(t *testing.T, g *nn.Graph, l DataLoader, layers int) {
	t.Helper()
	if err := nn.Verify(g); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.DataLoader = l
	res, err := Apply(context.Background(), g, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Layers) != layers {
		t.Fatalf("%d layers were rounded, want %d", len(res.Layers), layers)
	}
	for _, r := range res.Layers {
		if !(r.Final.HeldOut <= r.Nearest.HeldOut) || r.Positions == 0 {
			t.Errorf("%s: %+v", r.Name, r)
		}
	}
}
