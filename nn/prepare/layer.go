package prepare

import (
	"errors"
	"fmt"
	"math"

	"roundel/nn"
	"roundel/tensor"
)

// layer is a Conv, ConvTranspose, Gemm or MatMul with constant weights, seen the same way whatever
// the layout of its weights: output channels, input channels in groups, taps.
type layer struct {
	node   *nn.Node
	w      *tensor.Dense[float32]
	bias   []float64 // one per output channel, nil when the node has none
	out    int       // output channels
	in     int       // input channels, of all groups together
	taps   int       // kernel positions
	groups int
	// Strides of the weight tensor over the output channel, the input channel and
	// the tap; for grouped layers channels are counted within their group.
	outStride, inStride, groupStride int
}

var (
	errNotConst = errors.New("its weight is not a float32 constant")
	errShared   = errors.New("its weight is shared with another node")
)

// isLayer reports whether op has weights of the kind that batch-norm folding works on.
func isLayer(op string) bool {
	return op == "Conv" || op == "ConvTranspose" || op == "Gemm" || op == "MatMul"
}

// isConv reports whether op is a convolution, plain or transposed.
func isConv(op string) bool { return op == "Conv" || op == "ConvTranspose" }

// layerOf returns the layer view of n, or an error that says why n cannot be rewritten.
func (e *editor) layerOf(n *nn.Node) (*layer, error) {
	if !isLayer(n.Op) {
		return nil, fmt.Errorf("%s has no weights", n.Op)
	}
	w := e.g.ConstF32(n.In(1))
	if w == nil {
		return nil, errNotConst
	}
	if e.shared(n.In(1)) {
		return nil, errShared
	}
	l := &layer{node: n, w: w, groups: 1, taps: 1}
	if err := l.measure(); err != nil {
		return nil, err
	}
	return l, l.readBias(e)
}

// measure fills in the sizes and strides.
func (l *layer) measure() error {
	s := l.w.Shape()
	want := 2
	if isConv(l.node.Op) {
		want = 3
	}
	if len(s) < want || (want == 2 && len(s) != 2) {
		return fmt.Errorf("its weight has shape %v", s)
	}
	switch {
	case isConv(l.node.Op):
		l.groups = int(l.node.Int("group", 1))
		l.taps = s[2:].Len()
		if l.groups < 1 || s[0]%l.groups != 0 {
			return fmt.Errorf("weight %v cannot be split into %d groups", s, l.groups)
		}
		l.groupStride = l.w.Len() / l.groups
		if l.node.Op == "Conv" {
			l.out, l.in = s[0], s[1]*l.groups
			l.outStride, l.inStride = s[1]*l.taps, l.taps
		} else {
			l.out, l.in = s[1]*l.groups, s[0]
			l.outStride, l.inStride = l.taps, s[1]*l.taps
		}
	case l.node.Int("transB", 0) != 0:
		l.out, l.in, l.outStride, l.inStride = s[0], s[1], s[1], 1
	default:
		l.out, l.in, l.outStride, l.inStride = s[1], s[0], 1, s[1]
	}
	if l.w.Len() == 0 {
		return fmt.Errorf("its weight has shape %v", s)
	}
	return nil
}

// readBias widens a constant bias to one value per output channel. Gemm allows any shape
// that broadcasts to its output; only those with a value per column are a bias.
func (l *layer) readBias(e *editor) error {
	name := l.node.In(2)
	if name == "" {
		return nil
	}
	b := e.g.ConstF32(name)
	if b == nil {
		return errors.New("its bias is not a float32 constant")
	}
	s := b.Shape()
	if b.Len() != 1 && (b.Len() != l.out || s[len(s)-1] != l.out) {
		return fmt.Errorf("its bias of shape %v is not one value per output channel", s)
	}
	l.bias = make([]float64, l.out)
	for o := range l.bias {
		l.bias[o] = float64(b.Data()[o%b.Len()])
	}
	return nil
}

// each calls f for every weight with its output channel, its input channel (counted over all groups)
// and its index in the weight tensor, output channels slowest.
func (l *layer) each(f func(out, in, at int)) {
	og, ig := l.out/l.groups, l.in/l.groups
	for o := range l.out {
		g := o / og
		for i := range ig {
			at := g*l.groupStride + (o%og)*l.outStride + i*l.inStride
			for k := range l.taps {
				f(o, g*ig+i, at+k)
			}
		}
	}
}

// scaled returns the weights with each multiplied by factor(out, in), computed in float64.
func (l *layer) scaled(factor func(out, in int) float64) *tensor.Dense[float32] {
	w := tensor.New[float32](l.w.Shape()...)
	src, dst := l.w.Data(), w.Data()
	l.each(func(o, i, at int) { dst[at] = float32(float64(src[at]) * factor(o, i)) })
	return w
}

// outRange returns max |W| of each output channel; inRange of each input channel.
func (l *layer) outRange() []float64 {
	r := make([]float64, l.out)
	l.each(func(o, _, at int) { r[o] = max(r[o], math.Abs(float64(l.w.Data()[at]))) })
	return r
}

func (l *layer) inRange() []float64 {
	r := make([]float64, l.in)
	l.each(func(_, i, at int) { r[i] = max(r[i], math.Abs(float64(l.w.Data()[at]))) })
	return r
}

// sumTimes returns, for each output channel, Σ W[o,i,k]·x[i] over its inputs and taps: the change of the
// output when input channel i changes by x[i] everywhere (away from zero padding).
func (l *layer) sumTimes(x []float64) []float64 {
	sum := make([]float64, l.out)
	l.each(func(o, i, at int) { sum[o] += float64(float64(l.w.Data()[at]) * x[i]) })
	return sum
}

// store writes weights and bias back to the graph as new constants; a missing bias is created
// under the name "<node>.bias" when b is not nil.
func (l *layer) store(e *editor, w *tensor.Dense[float32], b []float64) {
	if w != nil {
		e.setConst(l.node, 1, w, l.node.Name+".weight")
		l.w = w
	}
	if b != nil {
		t := tensor.New[float32](len(b))
		for i, v := range b {
			t.Data()[i] = float32(v)
		}
		e.setConst(l.node, 2, t, l.node.Name+".bias")
		l.bias = b
	}
	l.node.Origin = 0
}

// toGemm turns a MatMul into the Gemm that means the same, and folds the factors of a Gemm into its
// constants, so that afterwards output = input·W + bias. It reports an error when the inputs are not matrices.
func (l *layer) toGemm(e *editor) error {
	n := l.node
	switch n.Op {
	case "MatMul":
		if r := e.rank(n.In(0)); r != 2 {
			return fmt.Errorf("its input has rank %d (-1: not known); a Gemm needs 2", r)
		}
		n.Op, n.Attrs, n.Origin = "Gemm", map[string]nn.Attr{}, 0
	case "Gemm":
		if alpha := float64(n.Float("alpha", 1)); alpha != 1 {
			l.store(e, l.scaled(func(int, int) float64 { return alpha }), nil)
		}
		if beta := float64(n.Float("beta", 1)); beta != 1 && l.bias != nil {
			b := make([]float64, l.out)
			for i := range b {
				b[i] = l.bias[i] * beta
			}
			l.store(e, nil, b)
		}
		delete(n.Attrs, "alpha")
		delete(n.Attrs, "beta")
	}
	return nil
}
