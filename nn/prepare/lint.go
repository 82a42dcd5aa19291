package prepare

import (
	"fmt"
	"math"
	"slices"

	"roundel/nn"
)

// Finding is something about a graph that makes quantization harder, and what helps.
type Finding struct {
	Rule   string // a short fixed name, such as "channel-range"
	Node   string
	Detail string // what was found, with numbers
	Advice string // what to do about it
}

// String formats the finding as one line.
func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s; %s", f.Rule, f.Node, f.Detail, f.Advice)
}

// maxSpread is the ratio between the widest and the median channel above which a weight tensor that
// is quantized as a whole loses its narrow channels: the median channel then has fewer than 32 steps either
// side at 8 bits, and fewer than two at 4. The depthwise layers of MobileNetV2, known to fail in this way, are at 3 to 8.
const maxSpread = 4

// maxOutlier is the ratio of the largest weight of a channel to its root mean square above which a few
// weights decide the step of all others.
const maxOutlier = 24

// Lint looks at a graph, preferably one that Apply has prepared, for what would cost accuracy or
// could not be quantized. It does not run the graph. Findings are in the order of the nodes.
func Lint(g *nn.Graph) []Finding {
	out := g.Clone()
	nn.Infer(out) // what cannot be inferred is reported by nn.Verify, not here
	e := edit(out, &Report{})
	var found []Finding
	for _, n := range e.g.Nodes {
		add := func(rule, detail, advice string) { found = append(found, Finding{rule, n.Name, detail, advice}) }
		switch {
		case n.Op == "BatchNormalization":
			add("standalone-batch-norm", "the batch norm is not part of a layer", "fold it (prepare does where that is exact); otherwise its scale is quantized as a weight")
		case isLayer(n.Op):
			e.lintLayer(n, add)
		case slices.Contains(unbounded, n.Op):
			add("unbounded-activation", n.Op+" has no upper bound and a few large outputs can take up the range", "calibrate with a percentile or tf_enhanced rather than min_max")
		case n.Op == "Exp" || n.Op == "Pow" || n.Op == "Div" && e.g.Consts[n.In(1)] == nil:
			add("wide-range", n.Op+" can span many orders of magnitude", "keep its output at 16 bits or in float; the default rules leave what is divided by in float")
		case slices.Contains(controlOps, n.Op):
			add("control-flow", n.Op+" runs a subgraph, which stays in float", "export the model with static control flow")
		}
	}
	return found
}

var (
	unbounded  = []string{"Elu", "Celu", "Selu", "Softplus", "Gelu", "HardSwish", "Mish", "LeakyRelu", "PRelu"}
	controlOps = []string{"If", "Loop", "Scan"}
)

func (e *editor) lintLayer(n *nn.Node, add func(rule, detail, advice string)) {
	l, err := e.layerOf(n)
	switch err {
	case nil:
	case errShared:
		add("shared-weight", err.Error(), "batch norm folding and equalisation leave it alone, AdaRound rounds it for its first use; duplicate the weight to treat each use on its own")
		return
	case errNotConst:
		if n.Op != "MatMul" && n.Op != "Gemm" { // products of two activations are ordinary
			add("variable-weight", err.Error(), "it is quantized like an activation; export the model with constant weights")
		}
		return
	default:
		add("odd-layer", err.Error(), "it is left as it is")
		return
	}
	if c, ok := l.notFinite(); ok {
		add("not-finite", fmt.Sprintf("output channel %d has a weight or bias that is not finite", c), "repair the model; the layer cannot be quantized")
		return
	}
	r := l.outRange()
	sorted := slices.Sorted(slices.Values(r))
	widest, median := sorted[len(sorted)-1], sorted[len(sorted)/2]
	if dead := slices.IndexFunc(sorted, func(v float64) bool { return v > 0 }); dead != 0 {
		if dead < 0 {
			dead = len(sorted)
		}
		add("dead-channel", fmt.Sprintf("%d of %d output channels have only zero weights", dead, l.out), "prune them; they take no part in calibration")
	}
	if median > 0 && widest > maxSpread*median {
		add("channel-range", fmt.Sprintf("its widest channel (%.3g) is %.3g times the median one (%.3g)", widest, widest/median, median),
			"quantize its weights per channel, or equalise (prepare.Config.Equalize)")
	}
	if c, ratio := l.worstOutlier(r); ratio > maxOutlier {
		add("weight-outlier", fmt.Sprintf("the largest weight of channel %d is %.3g times its root mean square", c, ratio), "calibrate weights with tf_enhanced or mse, or give the layer more bits")
	}
}

// notFinite returns the first output channel with a NaN or an infinity.
func (l *layer) notFinite() (int, bool) {
	bad := -1
	l.each(func(o, _, at int) {
		if v := l.w.Data()[at]; bad < 0 && v-v != 0 {
			bad = o
		}
	})
	for o, v := range l.bias {
		if v-v != 0 && (bad < 0 || o < bad) {
			bad = o
		}
	}
	return bad, bad >= 0
}

// worstOutlier returns the channel with the largest ratio of its range to its root mean square, which for
// n weights is at most √n.
func (l *layer) worstOutlier(ranges []float64) (int, float64) {
	squares := make([]float64, l.out)
	l.each(func(o, _, at int) {
		v := float64(l.w.Data()[at])
		squares[o] += float64(v * v)
	})
	n := float64(l.w.Len() / l.out)
	channel, worst := 0, 0.0
	for o, s := range squares {
		if s > 0 {
			if r := ranges[o] / math.Sqrt(s/n); r > worst {
				channel, worst = o, r
			}
		}
	}
	return channel, worst
}
