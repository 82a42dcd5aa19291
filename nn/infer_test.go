package nn

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"roundel/tensor"
)

// parseGraph builds a graph from lines such as "y = Conv(x, w) strides=[2 2] pads=[1 1 1 1]",
// "x: float32[N 3 8 8]" for inputs and "-> y" for outputs. Constants are given apart.
func parseGraph(t *testing.T, text string, consts map[string]tensor.Any) *Graph {
	t.Helper()
	g := &Graph{Name: t.Name(), Consts: map[string]tensor.Any{}}
	maps.Copy(g.Consts, consts)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name, rest, isInput := strings.Cut(line, ": ")
		out, expr, isNode := strings.Cut(line, " = ")
		switch {
		case line == "":
		case strings.HasPrefix(line, "-> "):
			for _, o := range strings.Fields(line[3:]) {
				g.Outputs = append(g.Outputs, ValueInfo{Name: o})
			}
		case isNode:
			op, args, _ := strings.Cut(expr, "(")
			args, attrs, _ := strings.Cut(args, ")")
			n := &Node{Name: fmt.Sprintf("n%d", len(g.Nodes)), Op: op, Attrs: map[string]Attr{}}
			n.Outputs = strings.Split(out, ", ")
			for a := range strings.SplitSeq(args, ",") {
				if a = strings.TrimSpace(a); a != "" || strings.Contains(args, ",") {
					n.Inputs = append(n.Inputs, a)
				}
			}
			parseAttrs(t, n, attrs)
			g.Nodes = append(g.Nodes, n)
		case isInput:
			g.Inputs = append(g.Inputs, ValueInfo{name, parseType(rest)})
		default:
			t.Fatalf("line %q", line)
		}
	}
	return g
}

func parseAttrs(t *testing.T, n *Node, text string) {
	for len(strings.TrimSpace(text)) > 0 {
		name, rest, _ := strings.Cut(strings.TrimSpace(text), "=")
		if strings.HasPrefix(rest, "[") {
			list, tail, _ := strings.Cut(rest[1:], "]")
			a := Attr{Kind: AttrInts, Ints: []int64{}}
			for f := range strings.FieldsSeq(list) {
				var v int64
				if _, err := fmt.Sscan(f, &v); err != nil {
					t.Fatal(err)
				}
				a.Ints = append(a.Ints, v)
			}
			n.Attrs[name], text = a, tail
			continue
		}
		value, tail, _ := strings.Cut(rest, " ")
		var v int64
		if _, err := fmt.Sscan(value, &v); err == nil {
			n.Attrs[name] = Attr{Kind: AttrInt, I: v}
		} else {
			n.Attrs[name] = Attr{Kind: AttrString, S: value}
		}
		text = tail
	}
}

// parseType reads "float32[N 3 ? 8]" or "float32" for an unknown rank.
func parseType(s string) Type {
	name, dims, ranked := strings.Cut(s, "[")
	ty := Type{Ranked: ranked}
	for d := tensor.Float32; d <= tensor.Bool; d++ {
		if d.String() == name {
			ty.DType = d
		}
	}
	for d := range strings.FieldsSeq(strings.TrimSuffix(dims, "]")) {
		n := 0
		switch _, err := fmt.Sscan(d, &n); {
		case err == nil:
			ty.Dims = append(ty.Dims, Known(n))
		case d == "?":
			ty.Dims = append(ty.Dims, Dim{Size: -1})
		default:
			ty.Dims = append(ty.Dims, Dim{Size: -1, Sym: d})
		}
	}
	return ty
}

func i64s(v ...int64) tensor.Any    { return tensor.From(v, len(v)) }
func i64(v int64) tensor.Any        { return tensor.Scalar(v) }
func zeros(shape ...int) tensor.Any { return tensor.New[float32](shape...) }

// TestInferSymbolic follows shape arithmetic as exporters write it. Every graph is also evaluated, with the
// symbols replaced by numbers, and the inferred types must hold.
func TestInferSymbolic(t *testing.T) {
	consts := map[string]tensor.Any{"0": i64(0), "1": i64(1), "[0]": i64s(0), "[1]": i64s(1), "[2]": i64s(2), "[4]": i64s(4), "[-1]": i64s(-1),
		"[12]": i64s(12), "[64]": i64s(64), "12": i64(12), "w3": zeros(4, 3, 3, 3), "w1": zeros(4, 3, 1, 1), "[-1;4]": i64s(-1, 4),
		"[0;0;12;64]": i64s(0, 0, 12, 64), "two": tensor.From([]float32{1, 1, 2, 2}, 4), "three": i64(3), "5": i64s(5),
		"1000": i64s(1000), "pos": zeros(1, 50, 8)}
	for _, c := range []struct{ name, graph, want string }{
		{"flatten by shape", `x: float32[N 3 4 5]
			s = Shape(x)
			b = Gather(s, 0)
			u = Unsqueeze(b, [0])
			c = Concat(u, [-1]) axis=0
			y = Reshape(x, c)
			-> y`, "float32[N 60]"},
		{"flatten", "x: float32[N 3 4 5]\n y = Flatten(x)\n -> y", "float32[N 60]"},
		{"flatten a symbolic image", "x: float32[N 3 H W]\n y = Flatten(x)\n -> y", "float32[N 3*H*W]"},
		{"reshape with zeros", "x: float32[N L 768]\n y = Reshape(x, [0;0;12;64])\n -> y", "float32[N L 12 64]"},
		{"attention heads", `x: float32[N L 768]
			s = Shape(x)
			n = Slice(s, [0], [1])
			l = Slice(s, [1], [2])
			c = Concat(n, l, [12], [64]) axis=0
			r = Reshape(x, c)
			t = Transpose(r) perm=[0 2 1 3]
			m = Mul(n, [12])
			d = Concat(m, l, [64]) axis=0
			y = Reshape(t, d)
			-> y`, "float32[12*N L 64]"},
		{"heads and back", `x: float32[N 7 768]
			s = Shape(x)
			n = Gather(s, 0)
			m = Mul(n, 12)
			mu = Unsqueeze(m, [0])
			c = Concat(mu, [-1], [64]) axis=0
			r = Reshape(x, c)
			rs = Shape(r)
			rm = Gather(rs, 0)
			back = Div(rm, 12)
			bu = Unsqueeze(back, [0])
			d = Concat(bu, [-1]) axis=0
			y = Reshape(r, d)
			-> y`, "float32[N 5376]"},
		{"resize to the size of another", `x: float32[N 3 H W]
			y0 = Conv(x, w3) strides=[2 2] pads=[1 1 1 1]
			s = Shape(x)
			hw = Slice(s, [2], [4])
			ys = Shape(y0)
			nc = Slice(ys, [0], [2])
			size = Concat(nc, hw) axis=0
			y = Resize(y0, , , size)
			-> y`, "float32[N 4 H W]"},
		{"resize by two", "x: float32[N 3 H 5]\n y = Resize(x, , two)\n -> y", "float32[N 3 2*H 10]"},
		{"same convolution", "x: float32[N 3 H W]\n y = Conv(x, w3) pads=[1 1 1 1]\n -> y", "float32[N 4 H W]"},
		{"valid convolution", "x: float32[N 3 H W]\n y = Conv(x, w3)\n -> y", "float32[N 4 H-2 W-2]"},
		{"strided convolution", "x: float32[N 3 H 8]\n y = Conv(x, w3) strides=[2 2]\n -> y", "float32[N 4 ? 3]"},
		{"expand with -1", `x: float32[1 L 8]
			s = Shape(x)
			one = Gather(s, [0])
			l = Gather(s, [1])
			want = Concat(l, [-1], [-1]) axis=0
			n = Shape(want)
			ones = ConstantOfShape(n)
			oi = Cast(ones) to=7
			minus = Mul(oi, [-1])
			isMinus = Equal(want, minus)
			zero = Where(isMinus, oi, want)
			y = Reshape(zero, [-1])
			-> y`, "int64[3]"},
		{"class token", `x: float32[N 49 8]
			s = Shape(x)
			n = Gather(s, [0])
			e = Concat(n, [1], [1]) axis=0
			tok = Expand(x1, e)
			y = Concat(tok, x) axis=1
			p = Add(y, pos)
			x1: float32[1 1 8]
			-> p`, "float32[N 50 8]"},
		{"range", `x: float32[N L]
			s = Shape(x)
			l = Gather(s, 1)
			y = Range(0, l, 1)
			-> y`, "int64[L]"},
		{"slice to a symbol", `x: float32[N L]
			p: float32[512 8]
			s = Shape(x)
			l = Gather(s, [1])
			y = Slice(p, [0], l, [0])
			-> y`, "float32[L 8]"},
		{"drop the last", "x: float32[N L]\n y = Slice(x, [0], [-1], [1])\n -> y", "float32[N L-1]"},
		{"broadcast keeps symbols", "x: float32[N 1 L]\n z: float32[N 8 1]\n y = Add(x, z)\n -> y", "float32[N 8 L]"},
		{"matmul", "x: float32[N 12 L 64]\n z: float32[N 12 64 L]\n y = MatMul(x, z)\n -> y", "float32[N 12 L L]"},
		{"size over extent", `x: float32[N 4 6]
			n = Size(x)
			s = Shape(x)
			b = Gather(s, 0)
			q = Div(n, b)
			u = Unsqueeze(q, [0])
			c = Concat([-1], u) axis=0
			y = Reshape(x, c)
			-> y`, "float32[N 24]"},
		{"split", "x: float32[N 6]\n a, y = Split(x) axis=1\n -> y", "float32[N 3]"},
		{"topk", "x: float32[N 8]\n y, i = TopK(x, [4])\n -> i", "int64[N 4]"},
		{"unknown rank", "x: float32\n y = Relu(x)\n -> y", "float32[?]"},
		{"reshape of an unknown rank", "x: float32\n y = Reshape(x, [-1;4])\n -> y", "float32[? 4]"},
		{"einsum", "x: float32[N 3 5]\n z: float32[N 5 4]\n y = Einsum(x, z) equation=bij,bjk->bik\n -> y", "float32[N 3 4]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := parseGraph(t, c.graph, consts)
			for _, in := range slices.Clone(g.Inputs) {
				if in.Name == "x1" { // written after its use to keep the sketch short
					g.Inputs = slices.DeleteFunc(g.Inputs, func(v ValueInfo) bool { return v.Name == "x1" })
					g.Inputs = append([]ValueInfo{in}, g.Inputs...)
				}
			}
			if err := Infer(g); err != nil {
				t.Fatal(err)
			}
			out := g.Outputs[0].Name
			if got := g.Types[out].String(); got != c.want {
				t.Errorf("%s is %s, want %s", out, got, c.want)
			}
			evalSymbols(t, g)
		})
	}
}

// evalSymbols evaluates g with numbers for the symbols and compares the types of the outputs.
func evalSymbols(t *testing.T, g *Graph) {
	t.Helper()
	size := map[string]int{"N": 2, "L": 7, "H": 9, "W": 6, "?": 4}
	feeds := map[string]tensor.Any{}
	for _, in := range g.Inputs {
		if !in.Type.Ranked {
			in.Type.Dims = []Dim{Known(2), Known(4)}
		}
		var s []int
		for _, d := range in.Type.Dims {
			if d.IsKnown() {
				s = append(s, d.Size)
			} else {
				s = append(s, size[d.String()])
			}
		}
		feeds[in.Name] = tensor.Zeros(in.Type.DType, s...)
	}
	got, err := Eval(context.Background(), g, feeds)
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range got {
		for i, d := range g.Types[name].Dims {
			want := d.Size
			if d.Sym != "" {
				e := dimExpr(d)
				want = int(e.mul)
				for f := range strings.SplitSeq(e.sym, "*") {
					want *= size[f]
				}
				want += int(e.add)
			}
			if want >= 0 && v.Shape()[i] != want {
				t.Errorf("%s is %v at run time, inferred as %v", name, v.Shape(), g.Types[name])
			}
		}
	}
}

// TestInferErrors wants every problem of a graph named at once.
func TestInferErrors(t *testing.T) {
	consts := map[string]tensor.Any{"w": zeros(4, 3, 3, 3), "v": zeros(4), "neg": i64s(-5, 2), "huge": i64s(1<<31-1, 1<<31-1, 4), "nine": i64s(9), "i": i64(1)}
	for _, c := range []struct {
		name, graph string
		want        []string
	}{
		{"order", "x: float32[2]\n b = Relu(a)\n a = Relu(x)\n -> b", []string{`node "n0" (Relu)`, `"a" is made only later, by node "n1"`}},
		{"cycle", "x: float32[2]\n a = Add(a, x)\n -> a", []string{`made only later, by node "n0"`}},
		{"nothing makes it", "x: float32[2]\n a = Add(q, r)\n -> z", []string{`"q" is neither an input nor a constant`, `"r" is neither`, `output "z" is made by no node`}},
		{"twice", "x: float32[2]\n a = Relu(x)\n a = Abs(x)\n x = Relu(a)\n -> a", []string{`node "n1" (Abs): output "a": the name is taken`, `output "x": the name is taken`}},
		{"unsupported", "x: float32[2]\n a = Frob(x)\n b = com.foo::Bar(a)\n c = Frob(b)\n -> c", []string{`Frob (2, first at node "n0"), com.foo::Bar (1, first at node "n1")`, "needs a row in the operator table"}},
		{"several", "x: float32[N 5 8 8]\n a = Conv(x, w)\n y: int32[3]\n b = Sqrt(y)\n -> a b",
			[]string{`node "n0" (Conv)`, "5 channels, 3 times 1 wanted", `node "n1" (Sqrt)`, "is int32; it has to be a float tensor"}},
		{"types differ", "x: float32[2]\n y: float64[2]\n a = Add(x, y)\n -> a", []string{"input 1 (\"y\") is float64, but input 0 is float32; insert a Cast"}},
		{"broadcast", "x: float32[2 3]\n y: float32[2]\n a = Add(x, y)\n -> a", []string{"do not broadcast"}},
		{"negative shape", "x: float32[10]\n a = Reshape(x, neg)\n -> a", []string{"negative dimension"}},
		{"element count", "x: float32[10]\n a = Reshape(x, nine)\n -> a", []string{"10 elements, 9 wanted"}},
		{"absurd size", "x: float32[1]\n a = ConstantOfShape(huge)\n -> a", []string{"elements"}},
		{"absurd input", "x: float32[2000000000 2000000000 2000000000]\n a = Relu(x)\n -> a", []string{"input \"x\""}},
		{"kernel too large", "x: float32[1 3 2 2]\n a = Conv(x, w)\n -> a", []string{"a window of 3 does not fit a padded extent of 2"}},
		{"too many inputs", "x: float32[2]\n a = Relu(x, x)\n -> a", []string{"at most 1"}},
		{"missing input", "x: float32[2]\n a = MatMul(x)\n -> a", []string{"input 1 is missing"}},
		{"too many outputs", "x: float32[2]\n a, b = Relu(x)\n -> a", []string{"has 2 outputs; the operator makes fewer"}},
		{"bad index", "x: float32[2]\n s = Shape(x)\n a = Gather(s, nine)\n -> a", []string{"index 9 is outside an axis of extent 1"}},
		{"bad axis", "x: float32[2 3]\n a = Softmax(x) axis=2\n -> a", []string{"axis 2 is outside a tensor of 2 dimensions"}},
		{"inner extent", "x: float32[2 3]\n y: float32[4 5]\n a = MatMul(x, y)\n -> a", []string{"3 columns, 4 rows"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Infer(parseGraph(t, c.graph, consts))
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error lacks %q:\n%v", w, err)
				}
			}
		})
	}
}

func TestErrorsCarryTheNode(t *testing.T) {
	err := Infer(parseGraph(t, "x: int32[2]\n a = Sqrt(x)\n b = Nope(x)\n c = Relu(b)\n -> c", nil))
	var ne *NodeError
	if !errors.As(err, &ne) || ne.Node != "n0" || ne.Op != "Sqrt" {
		t.Errorf("no NodeError in %v", err)
	}
	var ue *UnsupportedError
	if !errors.As(err, &ue) || len(ue.Ops["Nope"]) != 1 {
		t.Errorf("no UnsupportedError in %v", err)
	}
	if strings.Contains(err.Error(), `"n2"`) {
		t.Errorf("a consequence is reported as a problem of its own: %v", err)
	}
}

func TestVerify(t *testing.T) {
	g := parseGraph(t, "x: float32[2]\n a = Relu(x)\n b = Abs(a)\n -> b", nil)
	if err := Verify(g); err != nil {
		t.Fatal(err)
	}
	if g.Types["b"].String() != "float32[2]" {
		t.Errorf("Types after Verify: %v", g.Types)
	}
	g.Nodes[1].Name = "n0"
	g.Outputs[0].Type.DType = tensor.Int32
	err := Verify(g)
	if err == nil || !strings.Contains(err.Error(), "another node has the same name") || !strings.Contains(err.Error(), "declared as int32 but is float32") {
		t.Errorf("Verify = %v", err)
	}
}

func TestEvalErrors(t *testing.T) {
	ctx := context.Background()
	consts := map[string]tensor.Any{"seven": i64(7), "zero": i64s(0)}
	g := parseGraph(t, "x: float32[N 3]\n y = Gather(x, k)\n k: int64[]\n -> y", consts)
	g.Inputs[1].Type = Type{DType: tensor.Int64, Dims: []Dim{}, Ranked: true}
	x := tensor.New[float32](2, 3)
	for _, c := range []struct {
		name, want string
		feeds      map[string]tensor.Any
	}{
		{"missing", `no tensor for graph input "k"`, map[string]tensor.Any{"x": x}},
		{"wrong type", "declared as float32[N 3]", map[string]tensor.Any{"x": i64s(1, 2), "k": i64(0)}},
		{"wrong shape", "declared as float32[N 3]", map[string]tensor.Any{"x": tensor.New[float32](2, 4), "k": i64(0)}},
		{"index", `node "n0" (Gather): index 2 is outside an axis of extent 2`, map[string]tensor.Any{"x": x, "k": i64(2)}},
	} {
		if _, err := Eval(ctx, g, c.feeds); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Eval(stopped, g, map[string]tensor.Any{"x": x, "k": i64(1)}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context gives %v", err)
	}
	d := parseGraph(t, "x: int64[2]\n y: int64[2]\n z = Div(x, y)\n -> z", nil)
	if _, err := Eval(ctx, d, map[string]tensor.Any{"x": i64s(1, 2), "y": i64s(1, 0)}); err == nil || !strings.Contains(err.Error(), "division by zero") {
		t.Errorf("division by zero: %v", err)
	}
}
