package nn

import (
	"context"
	"testing"

	"roundel/asm"
	"roundel/tensor"
)

// TestProgramIf runs both branches of an If, whose nodes read outer values and
// constants, for several shapes, and compares with the reference.
func TestProgramIf(t *testing.T) {
	f32 := func(dims ...Dim) Type { return Type{DType: tensor.Float32, Dims: dims, Ranked: true} }
	r := newSketch(3, tensor.Shape{1})
	branch := func(op, out string) *Graph {
		return &Graph{Name: op, Outputs: []ValueInfo{{Name: out}}, Consts: map[string]tensor.Any{}, Nodes: []*Node{
			{Name: op + "1", Op: "MatMul", Inputs: []string{"y", "w"}, Outputs: []string{op + "t"}},
			{Name: op + "2", Op: op, Inputs: []string{op + "t"}, Outputs: []string{out}}}}
	}
	g := &Graph{Name: "if", Consts: map[string]tensor.Any{"w": r.random(6, 5)},
		Inputs: []ValueInfo{{"x", f32(Dim{Size: -1, Sym: "N"}, Known(6))}, {"c", Type{DType: tensor.Bool, Dims: []Dim{}, Ranked: true}}},
		Nodes: []*Node{{Name: "relu", Op: "Relu", Inputs: []string{"x"}, Outputs: []string{"y"}},
			{Name: "if", Op: "If", Inputs: []string{"c"}, Outputs: []string{"z"}, Attrs: map[string]Attr{
				"then_branch": {Kind: AttrGraph, G: branch("Sigmoid", "a")}, "else_branch": {Kind: AttrGraph, G: branch("Tanh", "b")}}}},
		Outputs: []ValueInfo{{Name: "z"}}}
	if err := Verify(g); err != nil {
		t.Fatal(err)
	}
	p, err := Compile(g, CompileOptions{Pool: tensor.NewPool(2, asm.Best())})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		feeds := map[string]tensor.Any{"x": r.random(1+i%3, 6), "c": tensor.Scalar(i%2 == 0)}
		want, err := Eval(context.Background(), g, feeds)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Run(context.Background(), feeds)
		if err != nil {
			t.Fatal(err)
		}
		compareNear(t, "z", got["z"], want["z"], 1e-6)
	}
}
