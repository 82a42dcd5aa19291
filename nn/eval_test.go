package nn

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"roundel/tensor"
)

func f32s(v ...float32) tensor.Any { return tensor.From(v, len(v)) }

// TestEvalByHand has the operators that ops.json lacks, with results worked out by hand.
func TestEvalByHand(t *testing.T) {
	sig := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	col := func(v ...float32) tensor.Any { return tensor.From(v, len(v), 1) }
	for _, c := range []struct {
		name, node string
		in         map[string]tensor.Any
		want       tensor.Any
	}{
		{"identity", "y = Identity(a)", map[string]tensor.Any{"a": i64s(3, 4)}, i64s(3, 4)},
		{"dropout", "y = Dropout(a)", map[string]tensor.Any{"a": f32s(3, 4)}, f32s(3, 4)},
		{"dropout mask", "z, y = Dropout(a)", map[string]tensor.Any{"a": f32s(3, 4)}, tensor.From([]bool{true, true}, 2)},
		{"cast like", "y = CastLike(a, b)", map[string]tensor.Any{"a": f32s(1.9, -1.9), "b": i64s(0)}, i64s(1, -1)},
		{"swish", "y = Swish(a)", map[string]tensor.Any{"a": f32s(0, 2)}, f32s(0, float32(2*sig(2)))},
		{"swiglu", "y = SwiGLU(a, b)", map[string]tensor.Any{"a": f32s(1, 2), "b": f32s(3, -1)}, f32s(float32(3*sig(1)), float32(-2*sig(2)))},
		{"cumulative product", "y = CumProd(a, k) reverse=1", map[string]tensor.Any{"a": f32s(2, 3, 4), "k": i64(0)}, f32s(24, 12, 4)},
		{"rms norm", "y = RMSNormalization(a, b)", map[string]tensor.Any{"a": f32s(3, 4), "b": f32s(1, 10)},
			f32s(float32(3/math.Sqrt(12.5+1e-5)), float32(40/math.Sqrt(12.5+1e-5)))},
		{"affine grid", "y = AffineGrid(a, k)", map[string]tensor.Any{"a": tensor.From([]float32{2, 0, 1, 0, 1, 0}, 1, 2, 3), "k": i64s(1, 1, 1, 2)},
			tensor.From([]float32{0, 0, 2, 0}, 1, 1, 2, 2)},
		{"max unpool", "y = MaxUnpool(a, k) kernel_shape=[2] strides=[2]", map[string]tensor.Any{"a": tensor.From([]float32{5, 6}, 1, 1, 2), "k": tensor.From([]int64{1, 2}, 1, 1, 2)},
			tensor.From([]float32{0, 5, 6, 0}, 1, 1, 4)},
		{"centre crop and pad", "y = CenterCropPad(a, k)", map[string]tensor.Any{"a": tensor.From([]float32{1, 2, 3, 4, 5, 6}, 2, 3), "k": i64s(3, 2)},
			tensor.From([]float32{1, 2, 4, 5, 0, 0}, 3, 2)},
		{"scatter", "y = Scatter(a, k, b)", map[string]tensor.Any{"a": f32s(1, 2, 3), "k": i64s(2), "b": f32s(9)}, f32s(1, 2, 9)},
		{"cast to int4 wraps", "y = Cast(a) to=22", map[string]tensor.Any{"a": f32s(7.9, 8, -9)}, tensor.From([]int8{7, -8, 7}, 3)},
		{"quantize rounds half to even", "y = QuantizeLinear(a, s, z)", map[string]tensor.Any{"a": f32s(0.25, 0.75, 1.25, -9), "s": tensor.Scalar[float32](0.5), "z": tensor.Scalar[int8](1)},
			tensor.From([]int8{1, 3, 3, -17}, 4)},
		{"quantize to int4", "y = QuantizeLinear(a, s) output_dtype=22", map[string]tensor.Any{"a": f32s(100, -100, 3), "s": tensor.Scalar[float32](1)}, tensor.From([]int8{7, -8, 3}, 3)},
		{"softmax over the rest", "y = Softmax(a) coerce2d=1 axis=0", map[string]tensor.Any{"a": tensor.From([]float32{1, 1, 1, 1}, 2, 2)}, tensor.From([]float32{.25, .25, .25, .25}, 2, 2)},
		{"half sums in float32", "y = ReduceSum(a, k)", map[string]tensor.Any{"a": tensor.Cast(col(2048, 1, 1, 1), tensor.Float16), "k": i64s(0)},
			tensor.ReshapeAny(tensor.Cast(f32s(2052), tensor.Float16), tensor.Shape{1, 1})}, // 2051 rounded half to even
		{"uint8 wraps", "y = Add(a, b)", map[string]tensor.Any{"a": tensor.From([]uint8{250, 3}, 2), "b": tensor.From([]uint8{10, 4}, 2)}, tensor.From([]uint8{4, 7}, 2)},
		{"uint64 keeps its range", "y = Max(a, b)", map[string]tensor.Any{"a": tensor.From([]uint64{1 << 63}, 1), "b": tensor.From([]uint64{5}, 1)}, tensor.From([]uint64{1 << 63}, 1)},
		{"empty maximum", "y = ReduceMax(a, k)", map[string]tensor.Any{"a": tensor.New[float32](0, 2), "k": i64s(0)}, tensor.From([]float32{float32(math.Inf(-1)), float32(math.Inf(-1))}, 1, 2)},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := parseGraph(t, c.node+"\n-> y", nil)
			for name, x := range c.in {
				g.Inputs = append(g.Inputs, ValueInfo{name, typeOf(x)})
			}
			got, err := Eval(context.Background(), g, c.in)
			if err != nil {
				t.Fatal(err)
			}
			if d := differs(got["y"], c.want, 1e-6, 1e-7); d != "" {
				t.Error(d)
			}
			n := g.Nodes[0]
			var in []tensor.Any
			for _, name := range n.Inputs {
				in = append(in, c.in[name])
			}
			out, err := evalNode(n, in)
			if err != nil {
				t.Fatal(err)
			}
			checkStatic(t, n, in, out)
		})
	}
}

// body makes a graph attribute.
func body(t *testing.T, text string, consts map[string]tensor.Any) Attr {
	return Attr{Kind: AttrGraph, G: parseGraph(t, text, consts)}
}

func TestIf(t *testing.T) {
	g := parseGraph(t, "c: bool[]\n x: float32[N 2]\n d = Abs(x)\n y = If(c)\n -> y", nil)
	g.Nodes[1].Attrs["then_branch"] = body(t, "t = Neg(d)\n -> t", nil)
	g.Nodes[1].Attrs["else_branch"] = body(t, "u = Add(d, one)\n -> u", map[string]tensor.Any{"one": f32s(1)})
	if err := Verify(g); err != nil {
		t.Fatal(err)
	}
	if got := g.Types["y"].String(); got != "float32[N 2]" {
		t.Errorf("inferred %s", got)
	}
	if got := reads(g.Nodes[1]); !slices.Equal(got, []string{"c", "d"}) {
		t.Errorf("the If reads %v", got)
	}
	if got := g.Consumers("d"); len(got) != 1 || got[0] != g.Nodes[1] {
		t.Errorf("the consumers of d, which only a branch reads, are %v", got)
	}
	x := tensor.From([]float32{-1, 2}, 1, 2)
	for _, c := range []struct {
		cond bool
		want tensor.Any
	}{{true, tensor.From([]float32{-1, -2}, 1, 2)}, {false, tensor.From([]float32{2, 3}, 1, 2)}} {
		got, err := Eval(context.Background(), g, map[string]tensor.Any{"c": tensor.Scalar(c.cond), "x": x})
		if err != nil {
			t.Fatal(err)
		}
		if d := differs(got["y"], c.want, 0, 0); d != "" {
			t.Errorf("condition %v: %s", c.cond, d)
		}
		one, err := evalNode(g.Nodes[1], []tensor.Any{tensor.Scalar(c.cond), tensor.From([]float32{1, 2}, 1, 2)})
		if err != nil || differs(one[0], c.want, 0, 0) != "" {
			t.Errorf("evalNode with the outer value: %v, %v", one, err)
		}
	}
}

func TestLoop(t *testing.T) {
	// sum += i; stop after the sum passes 5; every sum is a scan output.
	g := parseGraph(t, "m: int64[]\n s: int64[]\n z, ys = Loop(m, , s)\n -> z ys", nil)
	g.Nodes[0].Attrs["body"] = body(t, `i: int64[]
		go: bool[]
		a: int64[]
		b = Add(a, i)
		more = Less(b, five)
		-> more b b`, map[string]tensor.Any{"five": i64(5)})
	if err := Verify(g); err != nil {
		t.Fatal(err)
	}
	if got := g.Types["ys"].String(); got != "int64[?]" {
		t.Errorf("inferred %s", got)
	}
	for _, c := range []struct{ trips, sum, n int64 }{{10, 6, 4}, {2, 1, 2}, {0, 0, 0}} {
		got, err := Eval(context.Background(), g, map[string]tensor.Any{"m": i64(c.trips), "s": i64(0)})
		if err != nil {
			t.Fatal(err)
		}
		if d := differs(got["z"], i64(c.sum), 0, 0); d != "" {
			t.Errorf("%d trips: %s", c.trips, d)
		}
		if got["ys"].Len() != int(c.n) {
			t.Errorf("%d trips: %d rounds, want %d", c.trips, got["ys"].Len(), c.n)
		}
	}
	// A state that grows is inferred without its extent.
	g = parseGraph(t, "m: int64[]\n x: float32[1]\n y = Loop(m, , x)\n -> y", nil)
	g.Nodes[0].Attrs["body"] = body(t, "i: int64[]\n go: bool[]\n a: float32[?]\n b = Concat(a, a) axis=0\n c = Identity(go)\n -> c b", nil)
	if err := Verify(g); err != nil {
		t.Fatal(err)
	}
	if got := g.Types["y"].String(); got != "float32[?]" {
		t.Errorf("inferred %s", got)
	}
	got, err := Eval(context.Background(), g, map[string]tensor.Any{"m": i64(3), "x": f32s(7)})
	if err != nil || got["y"].Len() != 8 {
		t.Errorf("three doublings: %v, %v", got, err)
	}
}

func TestScan(t *testing.T) {
	// Running sums along axis 1, backwards, put along axis 1 again.
	g := parseGraph(t, "h: float32[2]\n x: float32[2 3]\n z, y = Scan(h, x) num_scan_inputs=1 scan_input_axes=[1] scan_output_axes=[1] scan_input_directions=[1] scan_output_directions=[1]\n -> z y", nil)
	g.Nodes[0].Attrs["body"] = body(t, "a: float32[2]\n b: float32[2]\n c = Add(a, b)\n -> c c", nil)
	if err := Verify(g); err != nil {
		t.Fatal(err)
	}
	if got := g.Types["y"].String(); got != "float32[2 3]" {
		t.Errorf("inferred %s", got)
	}
	got, err := Eval(context.Background(), g, map[string]tensor.Any{"h": f32s(0, 10), "x": tensor.From([]float32{1, 2, 3, 4, 5, 6}, 2, 3)})
	if err != nil {
		t.Fatal(err)
	}
	if d := differs(got["y"], tensor.From([]float32{6, 5, 3, 25, 21, 16}, 2, 3), 0, 0); d != "" {
		t.Error(d)
	}
	if d := differs(got["z"], f32s(6, 25), 0, 0); d != "" {
		t.Error(d)
	}
}

func TestControlErrors(t *testing.T) {
	g := parseGraph(t, "c: bool[]\n x: float32[2]\n y = If(c)\n -> y", nil)
	g.Nodes[0].Attrs["then_branch"] = body(t, "t = Neg(x)\n -> t", nil)
	g.Nodes[0].Attrs["else_branch"] = body(t, "u = Frob(x)\n v = Sqrt(w)\n -> v", nil)
	err := Infer(g)
	for _, want := range []string{"Frob", `node "n1" (Sqrt)`, `"w" is neither`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q: %v", want, err)
		}
	}
	g.Nodes[0].Attrs["else_branch"] = body(t, "u = Cast(x) to=7\n -> u", nil)
	if err := Infer(g); err == nil || !strings.Contains(err.Error(), "once float32[2], once int64[2]") {
		t.Errorf("branches of different types: %v", err)
	}
	delete(g.Nodes[0].Attrs, "else_branch")
	if err := Infer(g); err == nil || !strings.Contains(err.Error(), "else_branch is no graph") {
		t.Errorf("a missing branch: %v", err)
	}
}

// TestNestedLoops keeps the inference of loops in loops from taking exponential time, and from deep recursion.
func TestNestedLoops(t *testing.T) {
	for _, depth := range []int{3, 14, 40} {
		inner := "b = Concat(a, a) axis=0\n"
		g := (*Graph)(nil)
		for range depth {
			text := "i: int64[]\n go: bool[]\n a: float32[?]\n " + inner + " c = Identity(go)\n -> c b"
			next := parseGraph(t, text, nil)
			if g != nil {
				next.Nodes[0].Attrs["body"] = Attr{Kind: AttrGraph, G: g}
			}
			g, inner = next, "b = Loop(, go, a)\n"
		}
		top := parseGraph(t, "m: int64[]\n x: float32[1]\n y = Loop(m, , x)\n -> y", nil)
		top.Nodes[0].Attrs["body"] = Attr{Kind: AttrGraph, G: g}
		err := Infer(top)
		if depth == 3 && err != nil || depth > maxSubgraph && err == nil {
			t.Errorf("%d loops deep: %v", depth, err)
		}
	}
	g := parseGraph(t, "m: int64[]\n y = Loop(m, , )\n -> y", nil)
	g.Nodes[0].Inputs = []string{"m", "", ""}
	g.Nodes[0].Attrs["body"] = body(t, "i: int64[]\n go: bool[]\n a: float32[?]\n -> go a", nil)
	if err := Infer(g); err == nil || !strings.Contains(err.Error(), "input 2 is absent") {
		t.Errorf("an absent state: %v", err)
	}
	if _, err := Eval(context.Background(), g, map[string]tensor.Any{"m": i64(1)}); err == nil {
		t.Error("an absent state is evaluated")
	}
}

// TestIfOfOtherShapes runs an If of which one branch is impossible for the shapes of the run, as exporters leave them for
// a squeeze; the condition is known from the shapes, or is not.
func TestIfOfOtherShapes(t *testing.T) {
	one := map[string]tensor.Any{"axis": tensor.From([]int64{1}, 1)}
	for _, c := range []struct{ name, cond string }{
		{"known", "s = Shape(x)\n k = Gather(s, two)\n c = Equal(k, unit)"},
		{"unknown", "m = ReduceMax(x) keepdims=0\n c = Less(m, zero)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := parseGraph(t, "x: float32[N K]\n "+c.cond+"\n y = If(c)\n z = Neg(y)\n -> z", map[string]tensor.Any{
				"two": tensor.Scalar(int64(1)), "unit": tensor.Scalar(int64(1)), "zero": tensor.Scalar(float32(0))})
			i := len(g.Nodes) - 2
			g.Nodes[i].Attrs["then_branch"] = body(t, "t = Squeeze(x, axis)\n -> t", one)
			g.Nodes[i].Attrs["else_branch"] = body(t, "u = Identity(x)\n -> u", nil)
			if err := Verify(g); err != nil {
				t.Fatal(err)
			}
			p, err := Compile(t.Context(), g, CompileOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Run(context.Background(), map[string]tensor.Any{"x": tensor.From([]float32{1, 2, 3, 4}, 2, 2)})
			if err != nil {
				t.Fatal(err)
			}
			if d := differs(got["z"], tensor.From([]float32{-1, -2, -3, -4}, 2, 2), 0, 0); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestViewOfReference runs operators without a fast path on a Squeeze, Unsqueeze or Reshape of what another such operator
// made: they have to see the new shape.
func TestViewOfReference(t *testing.T) {
	g := parseGraph(t, "x: float32[N 2 3]\n a = CumSum(x, two)\n b = Unsqueeze(a, axis)\n c = CumSum(b, three)\n d = Reshape(c, flat)\n e = CumSum(d, one)\n -> e",
		map[string]tensor.Any{"two": tensor.Scalar(int64(2)), "three": tensor.Scalar(int64(3)), "one": tensor.Scalar(int64(1)),
			"axis": tensor.From([]int64{1}, 1), "flat": tensor.From([]int64{0, -1}, 2)})
	feeds := map[string]tensor.Any{"x": tensor.From([]float32{1, 2, 3, 4, 5, 6}, 1, 2, 3)}
	want, err := Eval(context.Background(), g, feeds)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(t.Context(), g, CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Run(context.Background(), feeds)
	if err != nil {
		t.Fatal(err)
	}
	if d := differs(got["e"], want["e"], 0, 0); d != "" {
		t.Error(d)
	}
}
