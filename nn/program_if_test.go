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
	p, err := Compile(t.Context(), g, CompileOptions{Pool: tensor.NewPool(2, asm.Best())})
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

// nestedIf returns a graph with an If whose branches both hold an If on whether x has one row, and in that one another: that
// squeezes the row away, which only fits one row, and the inner values have the same names in both. Of the branches that the
// condition c takes one adds, one multiplies.
func nestedIf(r *sketch) *Graph {
	f32 := func(dims ...Dim) Type { return Type{DType: tensor.Float32, Dims: dims, Ranked: true} }
	node := func(op, out string, ins ...string) *Node {
		return &Node{Name: op + out, Op: op, Inputs: ins, Outputs: []string{out}}
	}
	graph := func(out string, nodes ...*Node) *Graph {
		return &Graph{Name: out, Outputs: []ValueInfo{{Name: out}}, Consts: map[string]tensor.Any{}, Nodes: nodes}
	}
	choice := func(cond, out string, yes, no *Graph) *Node {
		n := node("If", out, cond)
		n.Attrs = map[string]Attr{"then_branch": {Kind: AttrGraph, G: yes}, "else_branch": {Kind: AttrGraph, G: no}}
		return n
	}
	branch := func(op string) *Graph {
		squeeze := graph("v", node("Squeeze", "t", "y", "zero"), node("Tanh", "v", "t"))
		again := graph("u", choice("one", "u", squeeze, graph("v", node("Identity", "v", "y"))))
		wide := graph("u", node("ReduceMax", "t", "y", "zero"), node("Squeeze", "u", "t", "zero"))
		return graph(op+"z", node("Shape", op+"s", "y"), node("Gather", op+"n", op+"s", "zero"), node("Equal", "one", op+"n", "ones"),
			choice("one", op+"k", again, wide), node(op, op+"z", op+"k", "w"))
	}
	return &Graph{Name: "nested", Consts: map[string]tensor.Any{"w": r.random(5),
		"zero": tensor.From([]int64{0}, 1), "ones": tensor.From([]int64{1}, 1)},
		Inputs: []ValueInfo{{"x", f32(Dim{Size: -1, Sym: "N"}, Known(5))}, {"c", Type{DType: tensor.Bool, Dims: []Dim{}, Ranked: true}}},
		Nodes:  []*Node{node("Relu", "y", "x"), choice("c", "z", branch("Add"), branch("Mul"))}, Outputs: []ValueInfo{{Name: "z"}}}
}

// TestProgramNestedIf runs an If inside an If, whose condition follows from the shapes, for shapes in turn, and compares with the
// reference. What is taken for a shape is planned once and flat, and only so many shapes are kept.
func TestProgramNestedIf(t *testing.T) {
	r := newSketch(5, tensor.Shape{1})
	g := nestedIf(r)
	if err := Verify(g); err != nil {
		t.Fatal(err)
	}
	p, err := Compile(t.Context(), g, CompileOptions{Pool: tensor.NewPool(2, asm.Best())})
	if err != nil {
		t.Fatal(err)
	}
	one, err := p.resolve(t.Context(), []tensor.Shape{{1, 5}, {}})
	if err != nil {
		t.Fatal(err)
	}
	br := (&builder{p: p, r: one}).newBranches(g.Nodes[1])
	run := func(rows int, cond bool) {
		feeds := map[string]tensor.Any{"x": r.random(rows, 5), "c": tensor.Scalar(cond)}
		vals, err := Eval(context.Background(), &Graph{Inputs: g.Inputs, Consts: g.Consts, Nodes: g.Nodes, Outputs: []ValueInfo{{Name: "y"}, {Name: "z"}}}, feeds)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Run(context.Background(), feeds)
		if err != nil {
			t.Fatal(err)
		}
		compareNear(t, "z", got["z"], vals["z"], 1e-6)
		args := make([]tensor.Any, len(br.names))
		for i, name := range br.names {
			if args[i] = vals[name]; name == "c" {
				args[i] = feeds["c"]
			} else if c := g.Consts[name]; c != nil {
				args[i] = c
			}
		}
		res, err := br.eval(args)
		if err != nil {
			t.Fatal(err)
		}
		compareNear(t, "the branch", res[0], vals["z"], 1e-6)
	}
	for i := range 12 {
		run(1+i%2*2, i/2%2 == 0)
		if len(br.taken) != min(i+1, 4) {
			t.Fatalf("after %d runs with two shapes and both conditions there are %d programs", i+1, len(br.taken))
		}
	}
	checkFlat(t, br)
	for i := range 6 * maxVariants {
		run(1+i/2%(2*maxVariants), i%2 == 0)
	}
	if len(br.taken) != 2*maxVariants {
		t.Errorf("%d programs are kept", len(br.taken))
	}
}

// checkFlat reports branches that do not compile or hold an If.
func checkFlat(t *testing.T, br *branches) {
	t.Helper()
	for _, b := range br.taken {
		if b.p == nil {
			t.Fatalf("the branch for %v, %v does not compile", b.cond, b.shapes)
		}
		for _, m := range b.p.nodes {
			if m.Op == "If" {
				t.Errorf("the branch for %v, %v still has the If %s", b.cond, b.shapes, m.Name)
			}
		}
	}
}
