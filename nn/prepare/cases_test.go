package prepare

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"roundel/internal/golden"
	"roundel/nn"
	"roundel/tensor"
)

func TestUsable(t *testing.T) {
	for _, v := range []float64{0, math.NaN(), math.Inf(1)} {
		if usable(v) != 1 {
			t.Errorf("usable(%v) = %v", v, usable(v))
		}
	}
	if usable(0.25) != 0.25 {
		t.Error("a good factor was replaced")
	}
}

// absorbing is a network of two layers in which every activation lies well above μ − 3σ, so that moving the
// bias is exact.
func absorbing(second string, a attrs, relu bool) *nn.Graph {
	r := random{rand.New(rand.NewPCG(5, 6))}
	b := newGraph("x", 1, 2, 4, 4)
	b.constant("w1", []float32{0.1, 0.2, 0.3, -0.1}, 2, 2, 1, 1)
	b.node("c1", "Conv", nil, "x", "w1").bn("n", "c1", [4][]float32{{0.5, 0.25}, {9, 5}, {0, 0}, {1, 1}})
	in := "n"
	if relu {
		b.node("r", "Relu", nil, "n")
		in = "r"
	}
	r.weight(b, "w2", 2, 2, 2, 2)
	r.weight(b, "b2", 2)
	return b.node("y", second, a, in, "w2", "b2").output("y")
}

func TestAbsorbBias(t *testing.T) {
	c := DefaultConfig()
	c.Equalize, c.AbsorbBias = true, true
	for _, tt := range []struct {
		name     string
		g        *nn.Graph
		absorbed bool
	}{
		{"relu", absorbing("Conv", nil, true), true},
		{"linear", absorbing("Conv", nil, false), true},
		{"conv transpose with a stride", absorbing("ConvTranspose", attrs{"strides": ints(2, 2)}, true), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, rep := apply(t, tt.g, c)
			x := tensor.From(random{rand.New(rand.NewPCG(1, 1))}.values(32, -1, 1), 1, 2, 4, 4)
			if err := golden.Close(eval(t, out, x)[0], eval(t, tt.g, x)[0], 1e-4, 1e-4); err != nil {
				t.Error(err)
			}
			found := false
			for _, d := range rep.Done {
				found = found || d.Rewrite == "absorb bias"
			}
			if found != tt.absorbed {
				t.Errorf("absorbed: %v, want %v\n%v", found, tt.absorbed, rep.Done)
			}
		})
	}
}

func TestReLU6(t *testing.T) {
	b := newGraph("x", 1, 1, 2, 2).constant("lo", []float32{0}).constant("hi", []float32{6}).constant("low", []float32{-1})
	b.constant("w1", []float32{4}, 1, 1, 1, 1).constant("w2", []float32{1}, 1, 1, 1, 1).constant("w3", []float32{1}, 1, 1, 1, 1)
	g := b.node("c1", "Conv", nil, "x", "w1").node("k", "Clip", nil, "c1", "lo", "hi").node("c2", "Conv", nil, "k", "w2").
		node("m", "Clip", nil, "c2", "low", "hi").node("c3", "Conv", nil, "m", "w3").node("y", "Clip", nil, "c3", "lo", "hi").output("y")
	c := Config{Equalize: true}
	out, rep := apply(t, g, c)
	if d := cmp.Diff([]string{"Conv", "Clip", "Conv", "Clip", "Conv", "Clip"}, opsOf(out)); d != "" || len(rep.Equalized) > 0 {
		t.Errorf("ReLU6Keep changed the graph: %v %v", d, rep.Equalized)
	}
	c.ReLU6 = ReLU6ToReLU
	out, rep = apply(t, g, c)
	if d := cmp.Diff([]string{"Conv", "Relu", "Conv", "Clip", "Conv", "Clip"}, opsOf(out)); d != "" || len(rep.Equalized) != 1 {
		t.Errorf("ReLU6ToReLU: %v %v", d, rep.Equalized)
	}
	checkConst(t, out, "w1", 2)
	checkConst(t, out, "w2", 2)
}

// TestDropout checks that only a dropout that cannot be active is removed.
func TestDropout(t *testing.T) {
	for name, want := range map[string]bool{"inference": true, "absent": true, "training": false, "x": false} {
		b := newGraph("x", 2).constant("ratio", []float32{0.5})
		b.g.Consts["training"], b.g.Consts["inference"] = tensor.Scalar(true), tensor.Scalar(false)
		in := []string{"x", "ratio", name}
		if name == "absent" {
			in = in[:1]
		}
		g := b.node("d", "Dropout", nil, in...).node("y", "Relu", nil, "d").output("y")
		e := edit(g, &Report{})
		if got := e.passes(g.Nodes[0]); got != want {
			t.Errorf("training mode %s: removed %v, want %v", name, got, want)
		}
	}
}

func TestBatchNormLeftAlone(t *testing.T) {
	for _, tt := range []struct {
		name, why string
		change    func(bn *nn.Node, g *nn.Graph)
	}{
		{"training", "training mode", func(bn *nn.Node, g *nn.Graph) { bn.Attrs["training_mode"] = integer(1) }},
		{"variance", "variance -1", func(bn *nn.Node, g *nn.Graph) { g.Consts["n.var"] = tensor.From([]float32{-1, 1}, 2) }},
		{"variable", `"x"`, func(bn *nn.Node, g *nn.Graph) { bn.Inputs[3] = "x" }},
		{"lengths", "2 channels of the batch norm, 3", func(bn *nn.Node, g *nn.Graph) { g.Consts["w"] = tensor.New[float32](3, 2, 1, 1) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newGraph("x", 1, 2, 2, 2).constant("w", []float32{1, 2, 3, 4}, 2, 2, 1, 1)
			b.node("c", "Conv", nil, "x", "w").bn("n", "c", [4][]float32{{1, 1}, {0, 0}, {0, 0}, {1, 1}})
			g := b.node("y", "Relu", nil, "n").output("y")
			tt.change(g.Nodes[1], g)
			rep := &Report{Moments: map[string]Moments{}}
			e := edit(g.Clone(), rep)
			e.foldBatchNorms()
			if len(rep.Done) > 0 || len(rep.Skipped) != 1 || !strings.Contains(rep.Skipped[0].String(), tt.why) {
				t.Errorf("done %v, skipped %v; want a reason with %q", rep.Done, rep.Skipped, tt.why)
			}
			if d := cmp.Diff(text(g), text(e.g)); d != "" {
				t.Errorf("changed:\n%s", d)
			}
		})
	}
}

// TestCapturedValues checks that values which a subgraph reads keep their names.
func TestCapturedValues(t *testing.T) {
	b := newGraph("x", 1, 2, 2, 2).constant("w", []float32{1, 2, 3, 4}, 2, 2, 1, 1)
	b.node("c", "Conv", nil, "x", "w").bn("n", "c", [4][]float32{{1, 1}, {0, 0}, {0, 0}, {1, 1}})
	inner := &nn.Graph{Nodes: []*nn.Node{{Name: "i", Op: "Relu", Inputs: []string{"c"}, Outputs: []string{"r"}}}, Outputs: []nn.ValueInfo{{Name: "r"}}}
	g := b.node("y", "If", attrs{"then_branch": {Kind: nn.AttrGraph, G: inner}}, "n").output("y")
	e := edit(g.Clone(), &Report{Moments: map[string]Moments{}})
	e.foldBatchNorms()
	if d := cmp.Diff(text(g), text(e.g)); d != "" {
		t.Errorf("folded although a subgraph reads the layer's output:\n%s", d)
	}
}

func TestApplyErrors(t *testing.T) {
	g := newGraph("x", 1).node("y", "Relu", nil, "x").output("y")
	if _, _, err := Apply(t.Context(), g, Config{AbsorbBias: true}); err == nil || !strings.Contains(err.Error(), "AbsorbBias") {
		t.Errorf("AbsorbBias alone: %v", err)
	}
	if _, _, err := Apply(t.Context(), g, Config{ReLU6: 9}); err == nil || !strings.Contains(err.Error(), "ReLU6") {
		t.Errorf("ReLU6 9: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Apply(ctx, g, DefaultConfig()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	bad := newGraph("x", 1).node("y", "Relu", nil, "nowhere").output("y")
	if _, _, err := Apply(t.Context(), bad, DefaultConfig()); err == nil || !strings.HasPrefix(err.Error(), "prepare: ") {
		t.Errorf("invalid graph: %v", err)
	}
}

func TestLint(t *testing.T) {
	nan := float32(math.NaN())
	spread := make([]float32, 100)
	for i := range spread {
		spread[i] = 1 + float32(i%3)
	}
	spread[0] = 200
	outlier := make([]float32, 1000)
	for i := range outlier {
		outlier[i] = 0.01
	}
	outlier[500] = 1
	b := newGraph("x", 1, 1, 4, 4)
	b.constant("fine", []float32{1, 2}, 2, 1, 1, 1).constant("spread", spread, 50, 2, 1, 1).constant("nan", []float32{nan}, 1, 1, 1, 1)
	b.constant("outlier", outlier, 1, 1, 1, 1000).constant("dead", []float32{1, 0, 2}, 3, 1, 1, 1).constant("odd", []float32{1}, 1)
	b.node("ok", "Conv", nil, "x", "fine").node("wide", "Conv", nil, "ok", "spread").node("broken", "Conv", nil, "x", "nan")
	b.node("spike", "Conv", nil, "x", "outlier").node("zero", "Conv", nil, "x", "dead").node("s1", "Conv", nil, "x", "sh").node("s2", "Conv", nil, "x", "sh")
	b.constant("sh", []float32{1}, 1, 1, 1, 1)
	b.node("var", "Conv", nil, "x", "x").node("mm", "MatMul", nil, "x", "x").node("strange", "Conv", nil, "x", "odd")
	b.bn("n", "x", [4][]float32{{1}, {1}, {1}, {1}}).node("e", "Elu", nil, "n").node("ex", "Exp", nil, "x").node("d", "Div", nil, "x", "x").node("q", "Div", nil, "x", "sh")
	var got []string
	for _, f := range Lint(b.output("e")) {
		got = append(got, f.Node+" "+f.Rule)
		if f.Advice == "" || !strings.Contains(f.String(), f.Detail) {
			t.Errorf("finding without advice: %v", f)
		}
	}
	want := []string{"n_wide channel-range", "n_broken not-finite", "n_spike weight-outlier", "n_zero dead-channel", "n_s1 shared-weight", "n_s2 shared-weight",
		"n_var variable-weight", "n_strange odd-layer", "n_n standalone-batch-norm", "n_e unbounded-activation", "n_ex wide-range", "n_d wide-range"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("findings (-want +got):\n%s", d)
	}
}
