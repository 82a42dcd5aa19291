package adaround

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"roundel/nn"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// layer is a node with a constant weight to round.
type layer struct {
	node   *nn.Node
	at     int    // index of the node
	weight string // name of the constant
	input  string // name of the other operand
	geo    *geometry
	rows   []float32 // the weight as [O][K]
	bias   []float32 // [O] or nil
	// ownBias says that the bias constant has one value per output and no other reader, so that it may be changed.
	ownBias bool
	act     Activation
	bits    int
	enc     *encoding.Encoding
	shared  []string // other nodes that read the same constant
}

// outputs is O, the number of outputs over all groups.
func (l *layer) outputs() int { return l.geo.groups * l.geo.outs }

// Skip is a node with a weight that Apply leaves in float, and why.
type Skip struct{ Node, Reason string }

// findLayers returns the layers of g in execution order, and the nodes with weights that cannot be rounded; fewer when ctx is done.
func findLayers(ctx context.Context, g *nn.Graph) (layers []*layer, skips []Skip) {
	byWeight := map[string]*layer{}
	for i, n := range g.Nodes {
		if ctx.Err() != nil {
			break
		}
		l, reason := newLayer(g, n, i)
		switch {
		case reason != "":
			skips = append(skips, Skip{n.Name, reason})
		case l == nil:
		case byWeight[l.weight] != nil:
			first := byWeight[l.weight]
			first.shared = append(first.shared, n.Name)
			first.ownBias = false // the other users have biases of their own
		default:
			byWeight[l.weight] = l
			layers = append(layers, l)
		}
	}
	return layers, skips
}

// newLayer returns the layer of node n, nil when it has no weight, or the reason why its weight cannot be rounded.
func newLayer(g *nn.Graph, n *nn.Node, at int) (*layer, string) {
	wi := -1
	switch n.Op {
	case "Conv", "ConvTranspose":
		wi = 1
	case "MatMul", "Gemm":
		wi = 1
		if g.Consts[n.In(1)] == nil {
			wi = 0
		}
	}
	if wi < 0 || g.Consts[n.In(wi)] == nil {
		return nil, ""
	}
	w := g.ConstF32(n.In(wi))
	switch {
	case g.Consts[n.In(1-wi)] != nil:
		return nil, "" // constant folding would remove it
	case w == nil:
		return nil, fmt.Sprintf("its weight is %v", g.Consts[n.In(wi)].DType())
	case w.Len() == 0:
		return nil, "its weight is empty"
	}
	geo, err := newGeometry(n, w.Shape(), wi)
	if err != nil {
		return nil, err.Error()
	}
	l := &layer{node: n, at: at, weight: n.In(wi), input: n.In(1 - wi), geo: geo}
	if n.Op == "Conv" || n.Op == "ConvTranspose" {
		l.input = n.In(0)
	}
	l.rows = geo.rows(w.Data())
	if !allFinite(l.rows) {
		return nil, "its weight has values that are not finite"
	}
	ok := l.setBias(g)
	if ok {
		l.act = followingActivation(g, n.Out(0), l.outputs())
	}
	return l, ""
}

func allFinite(x []float32) bool {
	for _, v := range x {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return false
		}
	}
	return true
}

// setBias finds the constant bias per output. It reports false when something else
// is added: then neither the bias nor the activation can be part of the loss, which
// without activation does not need the bias.
func (l *layer) setBias(g *nn.Graph) bool {
	name := l.node.In(2)
	if name == "" || l.node.Op == "MatMul" {
		return true
	}
	b := g.ConstF32(name)
	if b == nil {
		return false
	}
	o := l.outputs()
	shape := b.Shape()
	perOutput := len(shape) > 0 && shape[len(shape)-1] == o && b.Len() == o
	if l.geo.weightLeft { // outputs are rows
		perOutput = len(shape) == 2 && shape[0] == o && b.Len() == o
	}
	beta := float32(1)
	if l.node.Op == "Gemm" {
		beta = l.node.Float("beta", 1)
	}
	switch {
	case perOutput:
		for _, v := range b.Data() {
			l.bias = append(l.bias, beta*v)
		}
		l.ownBias = beta != 0 && len(g.Consumers(name)) == 1 && len(l.node.Inputs) == 3 && !g.IsOutput(name)
	case b.Len() == 1:
		l.bias = slices.Repeat([]float32{beta * b.Data()[0]}, o)
	default:
		return false
	}
	return true
}

// followingActivation returns the activation that alone reads the value, or the identity.
// x·sigmoid(x) and x·hardsigmoid(x) count as SiLU and HardSwish.
func followingActivation(g *nn.Graph, value string, outputs int) Activation {
	users := g.Consumers(value)
	none := Activation{}
	if g.IsOutput(value) || len(users) == 0 || len(users) > 2 {
		return none
	}
	n := users[0]
	if len(users) == 2 {
		mul := users[1]
		gate := mul.Op == "Mul" && slices.Contains(mul.Inputs, value) && slices.Contains(mul.Inputs, n.Out(0)) && n.In(0) == value
		switch {
		case gate && n.Op == "Sigmoid":
			return Activation{Kind: ActSiLU}
		case gate && n.Op == "HardSigmoid" && n.Float("beta", 0.5) == 0.5 && math.Abs(float64(n.Float("alpha", 0.2))-1.0/6) < 1e-6:
			return Activation{Kind: ActHardSwish}
		}
		return none
	}
	if n.In(0) != value {
		return none
	}
	switch n.Op {
	case "Relu":
		return Activation{Kind: ActClamp, Hi: posInf}
	case "Clip":
		return clipActivation(g, n)
	case "LeakyRelu":
		return Activation{Kind: ActPRelu, Slope: []float32{n.Float("alpha", 0.01)}}
	case "PRelu":
		if s := g.ConstF32(n.In(1)); s != nil && (s.Len() == 1 || s.Len() == outputs) {
			return Activation{Kind: ActPRelu, Slope: s.Data()}
		}
	case "Sigmoid":
		return Activation{Kind: ActSigmoid}
	case "Tanh":
		return Activation{Kind: ActTanh}
	case "HardSwish":
		return Activation{Kind: ActHardSwish}
	case "Gelu":
		if n.Str("approximate", "none") == "tanh" {
			return Activation{Kind: ActGELUTanh}
		}
		return Activation{Kind: ActGELU}
	}
	return none
}

// clipActivation reads the real bounds of a Clip; absent ones are infinite.
func clipActivation(g *nn.Graph, n *nn.Node) Activation {
	a := Activation{Kind: ActClamp, Lo: negInf, Hi: posInf}
	for i, bound := range []*float32{&a.Lo, &a.Hi} {
		name := n.In(i + 1)
		if name == "" {
			continue
		}
		c := g.ConstF32(name)
		if c == nil || c.Len() != 1 {
			return Activation{}
		}
		*bound = c.Data()[0]
	}
	if !(a.Lo < a.Hi) {
		return Activation{}
	}
	return a
}

// chooseLayers applies the ignore list and the overrides of bits, and reports every name that fits no layer.
func chooseLayers(cfg Config, layers []*layer) (chosen []*layer, ignored []Skip, err error) {
	var errs []error
	drop := map[int]bool{}
	for _, name := range cfg.IgnoreOps {
		hits, err := matchNames(name, layers)
		if err != nil {
			errs = append(errs, fmt.Errorf("adaround: IgnoreOps: %w", err))
		}
		for _, i := range hits {
			drop[i] = true
		}
	}
	for _, l := range layers {
		l.bits = cfg.ParamBits
	}
	names := sortedKeys(cfg.ParamBitsOverrides)
	slices.SortStableFunc(names, func(a, b string) int { // patterns first: a full name wins
		return cmp.Compare(strings.Count(b, "*"), strings.Count(a, "*"))
	})
	for _, name := range names {
		hits, err := matchNames(name, layers)
		if err != nil {
			errs = append(errs, fmt.Errorf("adaround: ParamBitsOverrides: %w", err))
		}
		for _, i := range hits {
			layers[i].bits = cfg.ParamBitsOverrides[name]
		}
	}
	for i, l := range layers {
		if drop[i] {
			ignored = append(ignored, Skip{l.node.Name, "ignored by request"})
			continue
		}
		chosen = append(chosen, l)
	}
	return chosen, ignored, errors.Join(errs...)
}

// encode computes the weight encodings of the layers by the rules; a layer whose weight the rules leave in float is skipped.
func encode(ctx context.Context, cfg Config, g *nn.Graph, layers []*layer, pool *tensor.Pool) (chosen []*layer, skips []Skip, err error) {
	rules, err := quantsim.LoadRules(cfg.ConfigFile)
	if err != nil {
		return nil, nil, fmt.Errorf("adaround: ConfigFile: %w", err)
	}
	errs := make([]error, len(layers))
	quantized := make([]bool, len(layers))
	pool.For(len(layers), func(_, i int) {
		l := layers[i]
		w := g.ConstF32(l.weight)
		var grid encoding.Grid
		if grid, quantized[i] = weightGrid(rules, l); quantized[i] {
			l.enc, errs[i] = encoding.Compute(ctx, l.weight, w.Data(), w.Shape(), grid, encoding.Method{Scheme: cfg.Scheme})
		}
	})
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("adaround: stopped while the ranges of the weights were computed: %w", err)
	}
	for i, l := range layers {
		if quantized[i] {
			chosen = append(chosen, l)
		} else {
			skips = append(skips, Skip{l.node.Name, "the rules do not quantize its weight"})
		}
	}
	return chosen, skips, errors.Join(errs...)
}

// weightGrid returns the grid that the rules give the layer's weight, and false when they leave it in float.
func weightGrid(r *quantsim.Rules, l *layer) (encoding.Grid, bool) {
	grid := encoding.Grid{Bits: l.bits, Symmetric: r.ParamsSymmetric, Strict: r.Strict, Unsigned: r.Unsigned, Axis: encoding.PerTensor}
	quantized, perChannel := r.ParamsQuantized, r.PerChannel
	apply := func(p quantsim.ParamRule) {
		if p.Quantized != nil {
			quantized = *p.Quantized
		}
		if p.Symmetric != nil {
			grid.Symmetric = *p.Symmetric
		}
	}
	apply(r.ParamTypes["weight"])
	op := r.OpTypes[l.node.Op]
	if op.PerChannel != nil {
		perChannel = *op.PerChannel
	}
	apply(op.Params["weight"])
	if perChannel && !(l.node.Op == "ConvTranspose" && l.geo.groups > 1) {
		grid.Axis = l.geo.channelAxis()
	}
	return grid, quantized
}

// problem returns the rounding problem of the layer, without samples, on the grid of enc.
func (l *layer) problem() *Problem {
	p := &Problem{Groups: l.geo.groups, K: l.geo.k, O: l.outputs(), Weight: l.rows, Bias: l.bias, Act: l.act,
		SharedScale: len(l.enc.Scale) == 1}
	for o := range p.O {
		i := o % len(l.enc.Scale)
		lo, hi := l.enc.Bounds(i)
		p.Scale = append(p.Scale, float32(l.enc.Scale[i]))
		p.Lo, p.Hi = append(p.Lo, int32(lo)), append(p.Hi, int32(hi))
	}
	return p
}
