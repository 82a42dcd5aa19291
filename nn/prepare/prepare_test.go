package prepare

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"roundel/nn"
	"roundel/tensor"
)

// graphOf builds a graph from lines of text such as "c1 = Conv(x, w, b) group=2": the node is named as its
// output. Consts are float32.
type builder struct{ g *nn.Graph }

func newGraph(input string, shape ...int) *builder {
	g := &nn.Graph{Name: "test", Consts: map[string]tensor.Any{}, Types: map[string]nn.Type{}}
	t := nn.Type{DType: tensor.Float32, Ranked: true}
	for _, d := range shape {
		t.Dims = append(t.Dims, nn.Known(d))
	}
	g.Inputs = []nn.ValueInfo{{Name: input, Type: t}}
	return &builder{g}
}

func (b *builder) constant(name string, data []float32, shape ...int) *builder {
	b.g.Consts[name] = tensor.From(data, shape...)
	return b
}

func (b *builder) node(out, op string, attrs map[string]nn.Attr, inputs ...string) *builder {
	if attrs == nil {
		attrs = map[string]nn.Attr{}
	}
	b.g.Nodes = append(b.g.Nodes, &nn.Node{Name: "n_" + out, Op: op, Inputs: inputs, Outputs: []string{out}, Attrs: attrs, Origin: len(b.g.Nodes) + 1})
	return b
}

// bn adds a batch normalisation with the given γ, β, μ and σ²+ε (epsilon 0).
func (b *builder) bn(out, in string, p [4][]float32) *builder {
	for i, s := range []string{"gamma", "beta", "mean", "var"} {
		b.constant(out+"."+s, p[i], len(p[i]))
	}
	return b.node(out, "BatchNormalization", map[string]nn.Attr{"epsilon": {Kind: nn.AttrFloat}}, in, out+".gamma", out+".beta", out+".mean", out+".var")
}

func (b *builder) output(names ...string) *nn.Graph {
	for _, n := range names {
		b.g.Outputs = append(b.g.Outputs, nn.ValueInfo{Name: n})
	}
	return b.g
}

func text(g *nn.Graph) []string {
	var lines []string
	for _, n := range g.Nodes {
		lines = append(lines, fmt.Sprintf("%s: %v = %s%v", n.Name, n.Outputs, n.Op, n.Inputs))
	}
	return lines
}

func apply(t *testing.T, g *nn.Graph, c Config) (*nn.Graph, *Report) {
	t.Helper()
	before := text(g)
	out, r, err := Apply(t.Context(), g, c)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, text(g)); d != "" {
		t.Errorf("Apply changed its input:\n%s", d)
	}
	return out, r
}

func checkConst(t *testing.T, g *nn.Graph, name string, want ...float32) {
	t.Helper()
	c := g.ConstF32(name)
	if c == nil {
		t.Errorf("no constant %q", name)
		return
	}
	if d := cmp.Diff(want, c.Data()); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}

// TestEqualizeWorkedExample is the worked example of the specification, measured with the reference implementation:
// scales [2, 1], weights [2, 1] on both sides, absorbed bias [1, 0].
func TestEqualizeWorkedExample(t *testing.T) {
	g := newGraph("x", 1, 1, 4, 4).
		constant("w1", []float32{4, 1}, 2, 1, 1, 1).constant("b1", []float32{0, 0}, 2).
		constant("w2", []float32{1, 1}, 1, 2, 1, 1).constant("b2", []float32{0}, 1).
		node("c1", "Conv", nil, "x", "w1", "b1").
		bn("bn", "c1", [4][]float32{{1, 1}, {5, 1}, {0, 0}, {1, 1}}).
		node("r", "Relu", nil, "bn").
		node("y", "Conv", nil, "r", "w2", "b2").output("y")
	c := DefaultConfig()
	c.Equalize = true
	scaled, _ := apply(t, g, c)
	checkConst(t, scaled, "b1", 2.5, 1)
	c.AbsorbBias = true
	out, r := apply(t, g, c)
	checkConst(t, out, "w1", 2, 1)
	checkConst(t, out, "w2", 2, 1)
	checkConst(t, out, "b1", 1.5, 1)
	checkConst(t, out, "b2", 2)
	want := []Equalized{{First: "n_c1", Second: "n_y", Scale: []float64{2, 1}, Activation: true}}
	if d := cmp.Diff(want, r.Equalized); d != "" {
		t.Errorf("Equalized (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"n_c1: [c1] = Conv[x w1 b1]", "n_r: [r] = Relu[c1]", "n_y: [y] = Conv[r w2 b2]"}, text(out)); d != "" {
		t.Errorf("nodes (-want +got):\n%s", d)
	}
}

func TestFoldBackwardCreatesBiasAndKeepsOutputName(t *testing.T) {
	g := newGraph("x", 1, 2, 4, 4).
		constant("w", []float32{1, 2, 3, 4}, 2, 2, 1, 1).
		node("c", "Conv", nil, "x", "w").
		bn("y", "c", [4][]float32{{2, 3}, {1, -1}, {4, 1}, {4, 9}}).output("y")
	out, r := apply(t, g, DefaultConfig())
	checkConst(t, out, "w", 1, 2, 3, 4)
	checkConst(t, out, "n_c.bias", 1-4, -1-1)
	if d := cmp.Diff([]string{"n_c: [y] = Conv[x w n_c.bias]"}, text(out)); d != "" {
		t.Errorf("nodes (-want +got):\n%s", d)
	}
	if out.Nodes[0].Origin != 0 {
		t.Error("a changed node keeps its Origin")
	}
	if d := cmp.Diff(map[string]Moments{"n_c": {Mean: []float64{1, -1}, Std: []float64{2, 3}}}, r.Moments); d != "" {
		t.Errorf("Moments (-want +got):\n%s", d)
	}
	if len(out.Consts) != 2 {
		t.Errorf("constants left: %v", out.Consts)
	}
	checkConst(t, g, "w", 1, 2, 3, 4)
}
