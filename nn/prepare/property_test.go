package prepare

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"roundel/internal/golden"
	"roundel/nn"
	"roundel/tensor"
)

// random fills constants with values whose folding would show a mistake: no symmetry, variances away from 1.
type random struct{ *rand.Rand }

func (r random) values(n int, lo, hi float32) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = lo + (hi-lo)*r.Float32()
	}
	return v
}

func (r random) weight(b *builder, name string, shape ...int) {
	b.constant(name, r.values(tensor.Shape(shape).Len(), -1, 1), shape...)
}

// norm adds a batch normalisation of n channels.
func (r random) norm(b *builder, out, in string, n int) {
	b.bn(out, in, [4][]float32{r.values(n, -2, 2), r.values(n, -1, 1), r.values(n, -1, 1), r.values(n, 0.1, 3)})
}

func ints(v ...int64) nn.Attr { return nn.Attr{Kind: nn.AttrInts, Ints: v} }
func integer(v int64) nn.Attr { return nn.Attr{Kind: nn.AttrInt, I: v} }
func float(v float32) nn.Attr { return nn.Attr{Kind: nn.AttrFloat, F: v} }
func group(g int64) attrs     { return attrs{"group": integer(g)} }
func (b *builder) i64(name string, v ...int64) *builder {
	b.g.Consts[name] = tensor.From(v, len(v))
	return b
}

type attrs = map[string]nn.Attr

// preserved lists graphs that every rewrite of the given configuration must leave with the same output. ops is
// what should remain afterwards, "" where that does not matter.
var preserved = []struct {
	name  string
	build func(r random) *nn.Graph
	ops   []string
}{
	{"conv, bn", func(r random) *nn.Graph {
		b := newGraph("x", 2, 3, 5, 5)
		r.weight(b, "w", 4, 3, 3, 3)
		r.weight(b, "b", 4)
		b.node("c", "Conv", attrs{"pads": ints(1, 1, 1, 1)}, "x", "w", "b")
		r.norm(b, "n", "c", 4)
		return b.node("y", "Relu", nil, "n").output("y")
	}, []string{"Conv", "Relu"}},
	{"conv, scalar mul, per-channel add, div, sub", func(r random) *nn.Graph {
		b := newGraph("x", 2, 4, 5, 5)
		r.weight(b, "w", 6, 2, 3, 3)
		r.weight(b, "b", 6)
		b.node("c", "Conv", group(2), "x", "w", "b")
		r.norm(b, "n", "c", 6)
		b.constant("s", []float32{-1.7}, 1).constant("d", r.values(6, 0.5, 2), 6, 1, 1)
		r.weight(b, "a", 1, 6, 1, 1)
		r.weight(b, "e", 6, 1, 1)
		b.node("m", "Mul", nil, "s", "n").node("p", "Add", nil, "m", "a").node("q", "Div", nil, "p", "d").node("y", "Sub", nil, "q", "e")
		return b.output("y")
	}, []string{"Conv"}},
	{"a constant divided or diminished by a layer stays", func(r random) *nn.Graph {
		b := newGraph("x", 3, 4)
		r.weight(b, "w", 4, 5)
		b.constant("s", []float32{3}, 1)
		return b.node("c", "MatMul", nil, "x", "w").node("m", "Mul", nil, "c", "s").node("d", "Sub", nil, "s", "m").node("y", "Div", nil, "s", "d").output("y")
	}, []string{"MatMul", "Sub", "Div"}},
	{"weights behind Identity, Transpose and Reshape", func(r random) *nn.Graph {
		b := newGraph("x", 1, 2, 4, 4)
		r.weight(b, "w", 3, 2, 1, 1)
		r.weight(b, "v", 5, 48)
		b.i64("flat", 1, 48).i64("shape", 3, 2, 1, 1)
		b.node("wi", "Identity", nil, "w").node("wr", "Reshape", nil, "wi", "shape").node("c", "Conv", nil, "x", "wr").node("f", "Reshape", nil, "c", "flat")
		return b.node("vt", "Transpose", attrs{"perm": ints(1, 0)}, "v").node("y", "MatMul", nil, "f", "vt").output("y")
	}, []string{"Conv", "Reshape", "MatMul"}},
	{"division by zero stays", func(r random) *nn.Graph {
		b := newGraph("x", 1, 2, 4, 4)
		r.weight(b, "w", 2, 2, 1, 1)
		b.constant("z", []float32{1, 0}, 2, 1, 1)
		return b.node("c", "Conv", nil, "x", "w").node("y", "Div", nil, "c", "z").output("y")
	}, []string{"Conv", "Div"}},
	{"grouped conv without bias, bn as output", func(r random) *nn.Graph {
		b := newGraph("x", 1, 4, 5, 5)
		r.weight(b, "w", 6, 2, 3, 3)
		b.node("c", "Conv", group(2), "x", "w")
		r.norm(b, "y", "c", 6)
		return b.output("y")
	}, []string{"Conv"}},
	{"conv read twice keeps its bn", func(r random) *nn.Graph {
		b := newGraph("x", 1, 2, 4, 4)
		r.weight(b, "w", 2, 2, 1, 1)
		b.node("c", "Conv", nil, "x", "w")
		r.norm(b, "n", "c", 2)
		return b.node("y", "Add", nil, "n", "c").output("y")
	}, []string{"Conv", "BatchNormalization", "Add"}},
	{"conv that is an output keeps its bn", func(r random) *nn.Graph {
		b := newGraph("x", 1, 2, 4, 4)
		r.weight(b, "w", 2, 2, 1, 1)
		b.node("c", "Conv", nil, "x", "w")
		r.norm(b, "y", "c", 2)
		return b.output("y", "c")
	}, []string{"Conv", "BatchNormalization"}},
	{"shared weight keeps its bn", func(r random) *nn.Graph {
		b := newGraph("x", 1, 2, 4, 4)
		r.weight(b, "w", 2, 2, 1, 1)
		b.node("c", "Conv", nil, "x", "w")
		r.norm(b, "n", "c", 2)
		return b.node("y", "Conv", nil, "n", "w").output("y")
	}, []string{"Conv", "BatchNormalization", "Conv"}},
	{"shared bias", func(r random) *nn.Graph {
		b := newGraph("x", 1, 2, 4, 4)
		r.weight(b, "w", 2, 2, 1, 1)
		r.weight(b, "v", 2, 2, 1, 1)
		r.weight(b, "b", 2)
		b.node("c", "Conv", nil, "x", "w", "b")
		r.norm(b, "n", "c", 2)
		return b.node("y", "Conv", nil, "n", "v", "b").output("y")
	}, []string{"Conv", "Conv"}},
	{"shared batch norm constants", func(r random) *nn.Graph {
		b := newGraph("x", 1, 2, 4, 4)
		r.norm(b, "n", "x", 2)
		b.node("s", "Sigmoid", nil, "n")
		return b.node("y", "BatchNormalization", attrs{"epsilon": float(0.5)}, "s", "n.gamma", "n.gamma", "n.mean", "n.var").output("y")
	}, []string{"BatchNormalization", "Sigmoid", "BatchNormalization"}},
	{"conv transpose", func(r random) *nn.Graph {
		b := newGraph("x", 2, 3, 4, 4)
		r.weight(b, "w", 3, 4, 3, 3)
		b.node("c", "ConvTranspose", attrs{"strides": ints(2, 2)}, "x", "w")
		r.norm(b, "y", "c", 4)
		return b.output("y")
	}, []string{"ConvTranspose"}},
	{"depthwise conv transpose with multiplier", func(r random) *nn.Graph {
		b := newGraph("x", 2, 3, 4, 4)
		r.weight(b, "w", 3, 2, 3, 3)
		b.node("c", "ConvTranspose", group(3), "x", "w")
		r.norm(b, "y", "c", 6)
		return b.output("y")
	}, []string{"ConvTranspose"}},
	{"grouped conv transpose keeps its bn", func(r random) *nn.Graph {
		b := newGraph("x", 2, 4, 4, 4)
		r.weight(b, "w", 4, 2, 3, 3)
		b.node("c", "ConvTranspose", group(2), "x", "w")
		r.norm(b, "y", "c", 4)
		return b.output("y")
	}, []string{"ConvTranspose", "BatchNormalization"}},
	{"bn, conv", func(r random) *nn.Graph {
		b := newGraph("x", 2, 3, 5, 5)
		r.norm(b, "n", "x", 3)
		r.weight(b, "w", 4, 3, 3, 3)
		return b.node("y", "Conv", nil, "n", "w").output("y")
	}, []string{"Conv"}},
	{"bn, padded conv", func(r random) *nn.Graph {
		b := newGraph("x", 2, 3, 5, 5)
		r.norm(b, "n", "x", 3)
		r.weight(b, "w", 4, 3, 3, 3)
		return b.node("y", "Conv", attrs{"pads": ints(0, 1, 0, 0)}, "n", "w").output("y")
	}, []string{"BatchNormalization", "Conv"}},
	{"bn, grouped conv", func(r random) *nn.Graph {
		b := newGraph("x", 2, 4, 5, 5)
		r.norm(b, "n", "x", 4)
		r.weight(b, "w", 4, 2, 3, 3)
		return b.node("y", "Conv", group(2), "n", "w").output("y")
	}, []string{"BatchNormalization", "Conv"}},
	{"bn, conv transpose", func(r random) *nn.Graph {
		b := newGraph("x", 2, 4, 5, 5)
		r.norm(b, "n", "x", 4)
		r.weight(b, "w", 4, 2, 3, 3)
		return b.node("y", "ConvTranspose", nil, "n", "w").output("y")
	}, []string{"BatchNormalization", "ConvTranspose"}},
	{"bn, conv with automatic padding", func(r random) *nn.Graph {
		b := newGraph("x", 2, 3, 5, 5)
		r.norm(b, "n", "x", 3)
		r.weight(b, "w", 4, 3, 3, 3)
		return b.node("y", "Conv", attrs{"auto_pad": {Kind: nn.AttrString, S: "SAME_UPPER"}}, "n", "w").output("y")
	}, []string{"BatchNormalization", "Conv"}},
	{"bn, conv, bn", func(r random) *nn.Graph {
		b := newGraph("x", 2, 3, 5, 5)
		r.norm(b, "n", "x", 3)
		r.weight(b, "w", 4, 3, 1, 1)
		r.weight(b, "b", 4)
		b.node("c", "Conv", nil, "n", "w", "b")
		r.norm(b, "y", "c", 4)
		return b.output("y")
	}, []string{"Conv"}},
	{"bn, flatten, gemm", func(r random) *nn.Graph {
		b := newGraph("x", 2, 3, 2, 2)
		r.norm(b, "n", "x", 3)
		b.node("f", "Flatten", nil, "n")
		r.weight(b, "w", 5, 12)
		r.weight(b, "b", 5)
		return b.node("y", "Gemm", attrs{"transB": integer(1)}, "f", "w", "b").output("y")
	}, []string{"Flatten", "Gemm"}},
	{"bn, reshape, matmul", func(r random) *nn.Graph {
		b := newGraph("x", 2, 3, 2, 2).i64("shape", 2, 12)
		r.norm(b, "n", "x", 3)
		b.node("f", "Reshape", nil, "n", "shape")
		r.weight(b, "w", 12, 5)
		return b.node("y", "MatMul", nil, "f", "w").output("y")
	}, []string{"Reshape", "Gemm"}},
	{"bn, reshape that mixes samples, matmul", func(r random) *nn.Graph {
		b := newGraph("x", 2, 3, 2, 2).i64("shape", 4, 6)
		r.norm(b, "n", "x", 3)
		b.node("f", "Reshape", nil, "n", "shape")
		r.weight(b, "w", 6, 5)
		return b.node("y", "MatMul", nil, "f", "w").output("y")
	}, []string{"BatchNormalization", "Reshape", "MatMul"}},
	{"gemm with factors", func(r random) *nn.Graph {
		b := newGraph("x", 3, 4)
		r.weight(b, "w", 4, 5)
		r.weight(b, "b", 1)
		b.node("g", "Gemm", attrs{"alpha": float(0.5), "beta": float(-2)}, "x", "w", "b")
		r.norm(b, "y", "g", 5)
		return b.output("y")
	}, []string{"Gemm"}},
	{"gemm with a bias per row keeps its bn", func(r random) *nn.Graph {
		b := newGraph("x", 3, 4)
		r.weight(b, "w", 4, 3)
		r.weight(b, "b", 3, 1)
		b.node("g", "Gemm", nil, "x", "w", "b")
		r.norm(b, "y", "g", 3)
		return b.output("y")
	}, []string{"Gemm", "BatchNormalization"}},
	{"transposed gemm", func(r random) *nn.Graph {
		b := newGraph("x", 3, 3)
		r.norm(b, "n", "x", 3)
		r.weight(b, "w", 3, 3)
		b.node("g", "Gemm", attrs{"transA": integer(1)}, "n", "w")
		r.norm(b, "y", "g", 3)
		return b.output("y")
	}, []string{"BatchNormalization", "Gemm"}},
	{"matmul of three dimensions keeps its bn and add", func(r random) *nn.Graph {
		b := newGraph("x", 2, 3, 4)
		r.weight(b, "w", 4, 3)
		r.weight(b, "v", 3, 3)
		r.weight(b, "c", 3)
		b.node("m", "MatMul", nil, "x", "w")
		r.norm(b, "n", "m", 3)
		b.node("k", "MatMul", nil, "n", "v")
		return b.node("y", "Add", nil, "k", "c").output("y")
	}, []string{"MatMul", "BatchNormalization", "MatMul", "Add"}},
	{"matmul from the left is not a layer", func(r random) *nn.Graph {
		b := newGraph("x", 4, 3)
		r.weight(b, "w", 3, 4)
		b.node("m", "MatMul", nil, "w", "x")
		r.norm(b, "y", "m", 3)
		return b.output("y")
	}, []string{"MatMul", "BatchNormalization"}},
	{"additions", func(r random) *nn.Graph {
		b := newGraph("x", 2, 3, 4, 4)
		r.weight(b, "w", 5, 3, 1, 1)
		r.weight(b, "a1", 5, 1, 1)
		r.weight(b, "a2", 1, 5, 1, 1)
		r.weight(b, "a3")
		r.weight(b, "a4", 1, 1, 4)
		b.node("c", "Conv", nil, "x", "w").node("s1", "Add", nil, "c", "a1").node("s2", "Add", nil, "a2", "s1")
		r.norm(b, "n", "s2", 5)
		return b.node("s3", "Add", nil, "n", "a3").node("y", "Add", nil, "s3", "a4").output("y")
	}, []string{"Conv", "Add"}},
	{"matmul, add", func(r random) *nn.Graph {
		b := newGraph("x", 2, 3)
		r.weight(b, "w", 3, 2)
		r.weight(b, "row", 2)
		r.weight(b, "column", 2, 1)
		b.node("m", "MatMul", nil, "x", "w").node("s", "Add", nil, "row", "m")
		return b.node("y", "Add", nil, "s", "column").output("y")
	}, []string{"Gemm", "Add"}},
	{"weights behind movement", func(r random) *nn.Graph {
		b := newGraph("x", 2, 3, 4, 4).i64("shape", 4, 3, 1, 1)
		r.weight(b, "w", 3, 4)
		r.weight(b, "b", 4)
		b.node("wi", "Identity", nil, "w").node("wt", "Transpose", attrs{"perm": ints(1, 0)}, "wi").node("wr", "Reshape", nil, "wt", "shape")
		b.node("bi", "Identity", nil, "b").node("c", "Conv", nil, "x", "wr", "bi")
		r.norm(b, "n", "c", 4)
		return b.node("y", "Identity", nil, "n").output("y")
	}, []string{"Conv"}},
	{"an output that is constant or an input", func(r random) *nn.Graph {
		b := newGraph("x", 2, 2)
		r.weight(b, "w", 2, 2)
		return b.node("y", "Identity", nil, "x").node("z", "Identity", nil, "w").node("t", "Transpose", nil, "w").output("y", "z", "t")
	}, nil},
	{"dropout", func(r random) *nn.Graph {
		b := newGraph("x", 2, 3)
		b.constant("ratio", []float32{0.5})
		return b.node("s", "Relu", nil, "x").node("d", "Dropout", nil, "s", "ratio").node("y", "Relu", nil, "d").output("y")
	}, []string{"Relu", "Relu"}},
	{"a constant that would grow", func(r random) *nn.Graph {
		b := newGraph("x", 1).i64("shape", 1<<17)
		r.weight(b, "w", 1)
		return b.node("e", "Expand", nil, "w", "shape").node("y", "Add", nil, "x", "e").output("y")
	}, []string{"Expand", "Add"}},
	{"chain to equalise", func(r random) *nn.Graph {
		b := newGraph("x", 1, 3, 8, 8)
		r.weight(b, "w1", 6, 3, 3, 3)
		r.weight(b, "b1", 6)
		r.weight(b, "w2", 6, 1, 3, 3)
		r.weight(b, "b2", 6)
		r.weight(b, "w3", 5, 6, 1, 1)
		r.weight(b, "slope", 5, 1, 1)
		r.weight(b, "w4", 5, 2, 2, 2)
		r.weight(b, "w5", 2, 2, 1, 1)
		b.node("c1", "Conv", nil, "x", "w1", "b1").node("r1", "Relu", nil, "c1").node("c2", "Conv", group(6), "r1", "w2", "b2")
		b.node("c3", "Conv", nil, "c2", "w3").node("r3", "PRelu", nil, "c3", "slope").node("c4", "ConvTranspose", nil, "r3", "w4")
		return b.node("c5", "Conv", nil, "c4", "w5").node("y", "Add", nil, "c5", "c4").output("y")
	}, []string{"Conv", "Relu", "Conv", "Conv", "PRelu", "ConvTranspose", "Conv", "Add"}},
	{"layer with a dead channel", func(r random) *nn.Graph {
		b := newGraph("x", 1, 1, 2, 2)
		b.constant("w1", []float32{0, 3, -2}, 3, 1, 1, 1).constant("w2", []float32{5, 0, 7}, 1, 3, 1, 1)
		return b.node("c", "Conv", nil, "x", "w1").node("y", "Conv", nil, "c", "w2").output("y")
	}, []string{"Conv", "Conv"}},
}

func TestOutputsPreserved(t *testing.T) {
	every := DefaultConfig()
	every.Equalize = true
	configs := map[string]Config{"default": DefaultConfig(), "every": every, "constants": {FoldConstants: true}, "bias": {FuseBias: true},
		"batch norm": {FoldBatchNorm: true}, "normalize": {NormalizeBatchNorm: true}, "equalize": {Equalize: true}, "none": {}}
	for _, tt := range preserved {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(3) {
				g := tt.build(random{rand.New(rand.NewPCG(seed, 7))})
				for i := range g.Outputs {
					g.Outputs[i].Type.DType = tensor.Float32
				}
				if err := nn.Verify(g); err != nil {
					t.Fatal(err)
				}
				shape, _ := g.Inputs[0].Type.Shape()
				x := tensor.From(random{rand.New(rand.NewPCG(seed, 8))}.values(shape.Len(), -2, 2), shape...)
				want := eval(t, g, x)
				for name, c := range configs {
					out, _ := apply(t, g, c)
					for i, y := range eval(t, out, x) {
						if err := golden.Close(y, want[i], 1e-4, 1e-4); err != nil {
							t.Errorf("seed %d, %s: output %s: %v\n%v", seed, name, g.Outputs[i].Name, err, text(out))
						}
					}
					if ops := opsOf(out); name == "every" && tt.ops != nil && !slices.Equal(ops, tt.ops) {
						t.Errorf("left with %v, want %v", ops, tt.ops)
					} else if name == "none" && fmt.Sprint(text(out)) != fmt.Sprint(text(g)) {
						t.Errorf("changed without any rewrite: %v", text(out))
					}
				}
			}
		})
	}
}

func opsOf(g *nn.Graph) []string {
	var ops []string
	for _, n := range g.Nodes {
		ops = append(ops, n.Op)
	}
	return ops
}

func eval(t *testing.T, g *nn.Graph, x tensor.Any) []tensor.Any {
	t.Helper()
	res, err := nn.Eval(t.Context(), g, map[string]tensor.Any{"x": x})
	if err != nil {
		t.Fatalf("%v\n%v", err, text(g))
	}
	var out []tensor.Any
	for _, o := range g.Outputs {
		out = append(out, res[o.Name])
	}
	return out
}

// TestEqualizedRanges checks what equalisation is for: both sides of a pair, and all three of a triple, end with the
// same range in every channel (the pairs that follow disturb only the last layer's outputs).
func TestEqualizedRanges(t *testing.T) {
	r := random{rand.New(rand.NewPCG(3, 4))}
	b := newGraph("x", 1, 3, 8, 8)
	r.weight(b, "w1", 6, 3, 1, 1)
	r.weight(b, "w2", 6, 1, 3, 3)
	r.weight(b, "w3", 4, 6, 1, 1)
	r.weight(b, "w4", 2, 4, 1, 1)
	g := b.node("a", "Conv", nil, "x", "w1").node("b", "Conv", group(6), "a", "w2").node("c", "Conv", nil, "b", "w3").node("y", "Conv", nil, "c", "w4").output("y")
	out, rep := apply(t, g, Config{Equalize: true})
	e := edit(out, rep)
	var l []*layer
	for _, n := range out.Nodes {
		v, err := e.layerOf(n)
		if err != nil {
			t.Fatal(err)
		}
		l = append(l, v)
	}
	near := func(what string, a, b []float64) {
		for i := range a {
			if d := a[i]/b[i] - 1; max(d, -d) > 1e-6 {
				t.Errorf("%s: channel %d has ranges %v and %v", what, i, a[i], b[i])
			}
		}
	}
	near("pair", l[2].outRange(), l[3].inRange())
	near("triple, first and second", l[0].outRange(), l[1].outRange())
	if len(rep.Equalized) != 3 {
		t.Errorf("%d pairs were equalised, want 3", len(rep.Equalized))
	}
}

func TestSets(t *testing.T) {
	kinds := map[rune]*layer{'C': {groups: 1, in: 4, out: 4}, 'D': {groups: 4, in: 4, out: 4}, 'U': {groups: 2, in: 4, out: 4}}
	for in, want := range map[string]string{
		"CC": "[0 1]", "CCC": "[0 1] [1 2]", "CDC": "[0 1 2]", "DC": "[0 1]", "CD": "", "D": "", "CDDC": "[2 3]", "CUC": "", "UCC": "[1 2]",
		"CDCDC": "[0 1 2] [2 3 4]", "CDUCC": "[3 4]", "DDC": "[1 2]", "CDDDC": "[3 4]", "CCDC": "[0 1] [1 2 3]",
	} {
		var c chain
		index := map[*layer]int{}
		for i, k := range in {
			l := *kinds[k]
			c.layers, c.acts = append(c.layers, &l), append(c.acts, false)
			index[&l] = i
		}
		got := ""
		for _, s := range c.sets() {
			var at []int
			for _, l := range s.layers {
				at = append(at, index[l])
			}
			got += fmt.Sprint(at) + " "
		}
		if got = trim(got); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func trim(s string) string {
	if s == "" {
		return s
	}
	return s[:len(s)-1]
}

func TestCubeRoot(t *testing.T) {
	for _, x := range []float64{0, 1, 8, 27, 1e-300, 1e300, 3.7, 1e-3, 5e-324} {
		y := cubeRoot(x)
		if d := y*y*y - x; max(d, -d) > 4e-16*x {
			t.Errorf("cubeRoot(%g) = %g, whose cube is off by %g", x, y, d)
		}
	}
}
