package integer

import (
	"fmt"
	"math"

	"roundel/nn"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// weights are the codes of a weight, its scale per output channel, and how they lie.
type weights struct {
	name   string
	codes  []float32
	shape  tensor.Shape
	axis   int // of the output channels
	scales []float32
}

// product is Conv, Gemm or MatMul by a constant: whole sums, then one multiplication per element,
//
//	k = rne((sum + bias) * (sx sw / sy)),   bias = rne(b / (sx sw)), all in float32
//
// Without an integer form it does nothing and returns the reason.
func (l *lowering) product(n *nn.Node) (reason string, err error) {
	in, ok := l.codes[n.In(0)]
	if !ok {
		return fmt.Sprintf("its input %q is not quantized", n.In(0)), nil
	}
	w, reason, err := l.weights(n)
	if reason != "" || err != nil {
		return reason, err
	}
	channels := w.shape[w.axis]
	bias := make([]float32, channels)
	if len(n.Inputs) > 2 && n.In(2) != "" {
		b := l.from.ConstF32(n.In(2))
		if b == nil || b.Len() != channels {
			return fmt.Sprintf("its bias %q is not a constant of %d elements", n.In(2), channels), nil
		}
		for c := range bias {
			bias[c] = float32(math.RoundToEven(float64(b.Data()[c] / float32(in.scale*w.scales[c]))))
		}
	}
	parts := w.split(in, bias)
	if parts == nil {
		return fmt.Sprintf("sums of its %d products with the bias exceed twice 2^24", len(w.codes)/channels), nil
	}
	out, g, quantized := l.target(n)
	if !quantized {
		out = n.Out(0)
	}
	wide := tensor.Shape{channels}
	if n.Op == "Conv" {
		wide = tensor.Shape{1, channels}
		for range len(w.shape) - 2 {
			wide = append(wide, 1)
		}
	}
	sum := l.sums(n, w, parts, bias, out, wide)
	factor := make([]float32, channels)
	for c := range factor {
		factor[c] = in.scale * w.scales[c]
		if quantized {
			factor[c] /= g.scale
		}
	}
	to := out
	if quantized {
		to = code(out)
		l.round(to, g.lo, g.hi)
		l.codes[out] = g
	} else {
		l.float[out] = true
	}
	l.emit("Mul", to, nil, sum, l.constant(out+".factor", factor, wide...))
	return "", nil
}

// weights reads the codes of the weight of n, or returns the reason why they do not fit.
func (l *lowering) weights(n *nn.Node) (w *weights, reason string, err error) {
	w = &weights{name: n.In(1)}
	c := l.from.ConstF32(w.name)
	st, ok := l.sim.State(w.name)
	switch e := st.Encoding; {
	case c == nil:
		return nil, fmt.Sprintf("its weight %q is not a constant", w.name), nil
	case !ok || !st.Enabled || e == nil || e.Type != encoding.Int:
		return nil, fmt.Sprintf("its weight %q is not quantized to integers", w.name), nil
	case e.Bits > 8:
		return nil, fmt.Sprintf("its weight %q has %d bits, integer kernels have 8 at most", w.name, e.Bits), nil
	case e.BlockSize > 0:
		return nil, fmt.Sprintf("its weight %q has a scale per block, integer kernels have one per channel", w.name), nil
	}
	if a, b := n.Attrs["alpha"], n.Attrs["beta"]; a.Kind == nn.AttrFloat && a.F != 1 || b.Kind == nn.AttrFloat && b.F != 1 || n.Attrs["transA"].I != 0 {
		return nil, "it has alpha, beta or transA", nil
	}
	w.shape = c.Shape()
	switch {
	case n.Op == "Conv":
	case len(w.shape) != 2:
		return nil, fmt.Sprintf("its weight %q of shape %v is not a matrix", w.name, w.shape), nil
	case n.Op == "Gemm" && n.Attrs["transB"].I != 0:
	default:
		w.axis = 1
	}
	e := st.Encoding
	if len(e.Scale) > 1 && e.Axis != w.axis {
		return nil, fmt.Sprintf("its weight %q has scales along axis %d, integer kernels have them along %d", w.name, e.Axis, w.axis), nil
	}
	k, err := e.Quantize(c.Data(), w.shape)
	if err != nil {
		return nil, "", err
	}
	for _, v := range k {
		w.codes = append(w.codes, float32(v))
	}
	for c := range w.shape[w.axis] {
		w.scales = append(w.scales, float32(e.Scale[min(c, len(e.Scale)-1)]))
	}
	return w, "", nil
}

// split cuts the weights into one or two parts of which every sum of some products of a channel, in any order, stays
// below 2^24; nil if that is impossible. The bias goes with the first part as far as it fits.
func (w *weights) split(in grid, bias []float32) [][]float32 {
	for n := 1; n <= 2; n++ {
		parts := make([][]float32, n)
		for i := range parts {
			parts[i] = make([]float32, len(w.codes))
		}
		inner := 1
		for _, d := range w.shape[w.axis+1:] {
			inner *= d
		}
		channels := w.shape[w.axis]
		seen, each := make([]int, channels), len(w.codes)/channels
		low, high := make([]float64, channels*n), make([]float64, channels*n)
		for i, v := range w.codes {
			c := i / inner % channels
			p := seen[c] * n / each
			seen[c]++
			parts[p][i] = v
			a, b := float64(v*in.lo), float64(v*in.hi)
			low[c*n+p] += min(a, b, 0)
			high[c*n+p] += max(a, b, 0)
		}
		fits := true
		for i := range low {
			room := 0.0
			if i%n == 0 {
				room = math.Abs(float64(bias[i/n]))
			}
			fits = fits && -low[i]+room < exact && high[i]+room < exact
		}
		if fits {
			return parts
		}
	}
	return nil
}

// sums emits the sum of products and bias: exact, or where two parts are added the float32 nearest to it.
func (l *lowering) sums(n *nn.Node, w *weights, parts [][]float32, bias []float32, out string, wide tensor.Shape) string {
	var names []string
	for i, p := range parts {
		name := out + []string{".sum", ".rest"}[i]
		weight := l.constant(name+".weight", p, w.shape...)
		inputs := []string{code(n.In(0)), weight}
		if i == 0 && n.Op != "MatMul" {
			inputs = append(inputs, l.constant(name+".bias", bias, len(bias)))
		}
		names = append(names, l.emit(n.Op, name, n.Attrs, inputs...))
	}
	if len(names) == 1 {
		return names[0]
	}
	return l.emit("Add", out+".both", nil, names...)
}
