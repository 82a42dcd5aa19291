package nn

import (
	"math"

	"roundel/tensor"
)

// isProduct reports whether the node has a fast path as a convolution or matrix product with constant weights.
func (b *builder) isProduct(n *Node) bool {
	if !b.isFloat(n.In(0)) || !b.isFloat(n.Out(0)) {
		return false
	}
	w, _ := b.r.consts[n.In(1)].(*tensor.Dense[float32])
	x := b.shapeOf(n.In(0))
	switch {
	case w == nil || x.Len() == 0 || w.Len() == 0:
		return false
	case n.Op == "Conv":
		_, ok := b.convParams(n)
		return ok && b.constOrAbsent(n.In(2))
	case n.Op == "MatMul":
		return len(w.Shape()) == 2 && len(x) >= 2 && b.r.consts[n.In(0)] == nil
	case n.Op == "Gemm":
		return b.gemmBias(n) && n.Int("transA", 0) == 0 && n.Float("alpha", 1) == 1 && (n.In(2) == "" || n.Float("beta", 1) == 1)
	}
	return false
}

func (b *builder) constOrAbsent(name string) bool {
	return name == "" || b.p.floatConst(b.r, name) != nil
}

// floatConst returns a float32 constant, or nil.
func (p *Program) floatConst(r *resolved, name string) *tensor.Dense[float32] {
	c, _ := r.consts[name].(*tensor.Dense[float32])
	return c
}

// gemmBias reports whether the third input of a Gemm is absent or a constant that is the same for all rows.
func (b *builder) gemmBias(n *Node) bool {
	if n.In(2) == "" {
		return true
	}
	c, out := b.p.floatConst(b.r, n.In(2)), b.shapeOf(n.Out(0))
	return c != nil && len(out) == 2 && (c.Len() == 1 || c.Len() == out[1] && c.Shape()[len(c.Shape())-1] == out[1])
}

// convParams returns the geometry of a two-dimensional convolution with constant
// weights; false when it is of another kind.
func (b *builder) convParams(n *Node) (tensor.ConvParams, bool) {
	x, w := b.shapeOf(n.In(0)), b.shapeOf(n.In(1))
	if len(x) != 4 || len(w) != 4 {
		return tensor.ConvParams{}, false
	}
	win, ok := windowOf(n, x, w[2], w[3])
	p := tensor.ConvParams{InC: x[1], OutC: w[0], KH: w[2], KW: w[3], StrideH: win.strideH, StrideW: win.strideW,
		PadT: win.padT, PadL: win.padL, PadB: win.padB, PadR: win.padR, DilH: win.dilH, DilW: win.dilW, Groups: int(n.Int("group", 1))}
	ok = ok && p.Groups > 0 && p.InC%p.Groups == 0 && p.OutC%p.Groups == 0 && w[1] == p.InC/p.Groups
	oh, ow := p.OutSize(x[2], x[3])
	out := b.shapeOf(n.Out(0))
	return p, ok && len(out) == 4 && out[2] == oh && out[3] == ow
}

// window is the geometry of a sliding window over an image.
type window struct {
	kh, kw, strideH, strideW, dilH, dilW int
	padT, padL, padB, padR               int
}

// windowOf reads strides, dilations and padding of a convolution or pooling node
// over images of shape x with a kernel of kh x kw.
func windowOf(n *Node, x tensor.Shape, kh, kw int) (window, bool) {
	s, err := (&InferCtx{node: n}).spatial(2, []int{kh, kw})
	if err != nil || s.kernel[0] != kh || s.kernel[1] != kw {
		return window{}, false
	}
	w := window{kh: kh, kw: kw, strideH: s.stride[0], strideW: s.stride[1], dilH: s.dilation[0], dilW: s.dilation[1]}
	w.padT, w.padB = s.pads(0, x[2])
	w.padL, w.padR = s.pads(1, x[3])
	return w, true
}

// epilogue returns what follows the product of g, its residual in layout l.
// It is called when the step is made, so that conversions come before it.
func (b *builder) epilogue(g *group, l Layout) (ep tensor.Epilogue, residual *buffer) {
	if g.clamp {
		ep.Act, ep.Lo, ep.Hi = tensor.ActClamp, g.lo, g.hi
	}
	if g.residual != "" {
		residual = b.in(b.value(g.residual), l)
	}
	ep.Quant = b.finalQuant(g)
	return ep, residual
}

// lowerConv adds the step of a convolution group.
func lowerConv(b *builder, g *group) (bool, error) {
	n := g.head
	if !b.isProduct(n) {
		return false, nil
	}
	params, _ := b.convParams(n)
	w := b.p.floatConst(b.r, n.In(1))
	x := b.value(n.In(0))
	src := b.inNHWC(x)
	ep, residual := b.epilogue(g, NHWC)
	if g.bias != "" {
		ep.Bias = b.p.floatConst(b.r, g.bias).Data()
	} else if c := b.p.floatConst(b.r, n.In(2)); c != nil {
		ep.Bias = c.Data()
	}
	if g.bn != nil {
		var err error
		if w, ep.Bias, err = b.foldBN(g, w); err != nil {
			return false, err
		}
	}
	h, wd, images := x.shape[2], x.shape[3], x.shape[0]
	packed := b.p.cache.packConv(b.p.k, params, w, !b.p.o.Direct && params.Winograd(h, wd))
	oh, ow := params.OutSize(h, wd)
	in, out := h*wd*params.InC, oh*ow*params.OutC
	dst := b.newBuf(images * out)
	s := &step{node: g.tail, reads: []*buffer{src}, writes: []*buffer{dst}, borrows: packed.ScratchLen(h, wd)}
	if residual != nil {
		s.reads = append(s.reads, residual)
	}
	s.run = func(m *machine) error {
		d, x, e := m.f32(dst), m.f32(src), ep
		var r []float32
		if residual != nil {
			r = m.f32(residual)
		}
		for i := range images {
			if r != nil {
				e.Residual = r[i*out : (i+1)*out]
			}
			packed.Run(d[i*out:(i+1)*out], x[i*in:(i+1)*in], h, wd, e, m.pool)
		}
		return nil
	}
	b.add(s)
	b.define(g.out, NHWC, dst)
	return true, nil
}

// foldBN returns weights and bias of the convolution of g with its BatchNormalization folded in:
// w' = w·γ/√(σ²+ε), b' = (b-μ)·γ/√(σ²+ε) + β, each computed in float64 and rounded once.
func (b *builder) foldBN(g *group, w *tensor.Dense[float32]) (*tensor.Dense[float32], []float32, error) {
	conv, bn := g.head, g.bn
	inputs := []tensor.Any{w, b.r.consts[conv.In(2)]}
	for i := 1; i <= 4; i++ {
		inputs = append(inputs, b.r.consts[bn.In(i)])
	}
	out, err := b.p.cache.fold(bn, "bn", inputs, func() ([]tensor.Any, error) {
		s, _ := b.batchNorm(bn)
		folded := w.Clone()
		bias := tensor.New[float32](len(s.gain))
		per := w.Len() / len(s.gain)
		old := b.p.floatConst(b.r, conv.In(2))
		for c, gain := range s.gain {
			for i := c * per; i < (c+1)*per; i++ {
				folded.Data()[i] = float32(float64(w.Data()[i]) * gain)
			}
			v := -s.mean[c]
			if old != nil {
				v += float64(old.Data()[c])
			}
			bias.Data()[c] = float32(float64(v*gain) + s.beta[c])
		}
		return []tensor.Any{folded, bias}, nil
	})
	if err != nil {
		return nil, nil, err
	}
	return out[0].(*tensor.Dense[float32]), out[1].(*tensor.Dense[float32]).Data(), nil
}

// normParams are those of an inference BatchNormalization, (x-mean)·gain + beta.
type normParams struct{ gain, mean, beta []float64 }

// batchNorm returns the parameters of a BatchNormalization over constants at inference.
func (b *builder) batchNorm(n *Node) (normParams, bool) {
	x := b.shapeOf(n.In(0))
	if len(x) < 2 || n.Int("training_mode", 0) != 0 {
		return normParams{}, false
	}
	for _, out := range n.Outputs[1:] {
		if out != "" {
			return normParams{}, false
		}
	}
	var in [4][]float32
	for i := range in {
		c := b.p.floatConst(b.r, n.In(i+1))
		if c == nil || c.Len() != x[1] {
			return normParams{}, false
		}
		in[i] = c.Data()
	}
	eps := float64(n.Float("epsilon", 1e-5))
	p := normParams{make([]float64, x[1]), make([]float64, x[1]), make([]float64, x[1])}
	for c := range p.gain {
		p.gain[c] = float64(in[0][c]) / math.Sqrt(float64(in[3][c])+eps)
		p.beta[c], p.mean[c] = float64(in[1][c]), float64(in[2][c])
	}
	return p, true
}

// lowerProduct adds the step of a Gemm or MatMul group, with a constant right operand, or of a MatMul of two values.
func lowerProduct(b *builder, g *group) (bool, error) {
	n := g.head
	if !b.isProduct(n) {
		return b.matmul(g), nil
	}
	w := b.p.floatConst(b.r, n.In(1))
	transB := n.Op == "Gemm" && n.Int("transB", 0) != 0
	packed := b.p.cache.packGemm(b.p.k, w, transB)
	depth, cols := w.Shape()[0], w.Shape()[1]
	if transB {
		depth, cols = cols, depth
	}
	x := b.value(n.In(0))
	src := b.inRowMajor(x)
	rows := x.shape.Len() / depth
	ep, residual := b.epilogue(g, RowMajor)
	switch bias := n.In(2); {
	case g.bias != "":
		ep.Bias = b.p.floatConst(b.r, g.bias).Data()
	case n.Op == "Gemm" && bias != "":
		ep.Bias = b.p.floatConst(b.r, bias).Data()
		if len(ep.Bias) != cols {
			ep.Bias = filled(cols, ep.Bias[0])
		}
	}
	dst := b.newBuf(rows * cols)
	s := &step{node: g.tail, reads: []*buffer{src}, writes: []*buffer{dst}, borrows: packed.ScratchLen(rows, depth)}
	if residual != nil {
		s.reads = append(s.reads, residual)
	}
	s.run = func(m *machine) error {
		e := ep
		if residual != nil {
			e.Residual = m.f32(residual)
		}
		packed.Run(m.f32(dst), cols, m.f32(src), depth, rows, e, m.pool)
		return nil
	}
	b.add(s)
	b.define(g.out, RowMajor, dst)
	return true, nil
}

// matmul adds the step of a MatMul of two computed values whose leading dimensions agree.
func (b *builder) matmul(g *group) bool {
	n := g.head
	x, y := b.floatValue(n.In(0)), b.floatValue(n.In(1))
	if n.Op != "MatMul" || x == nil || y == nil || len(x.shape) < 2 || len(x.shape) != len(y.shape) {
		return false
	}
	lead := len(x.shape) - 2
	if !x.shape[:lead].Equal(y.shape[:lead]) || x.shape.Len() == 0 || y.shape.Len() == 0 {
		return false
	}
	rows, depth, cols, count := x.shape[lead], x.shape[lead+1], y.shape[lead+1], x.shape[:lead].Len()
	xs, ys, dst := b.inRowMajor(x), b.inRowMajor(y), b.newBuf(count*rows*cols)
	borrows := tensor.GemmScratchLen(rows, cols, depth, b.p.pool)
	b.add(&step{node: n, reads: []*buffer{xs, ys}, writes: []*buffer{dst}, borrows: borrows, run: func(m *machine) error {
		d, x, y := m.f32(dst), m.f32(xs), m.f32(ys)
		for i := range count {
			tensor.Gemm(d[i*rows*cols:], cols, x[i*rows*depth:], depth, y[i*depth*cols:], cols, rows, cols, depth, false, false, false, m.pool)
		}
		return nil
	}})
	b.define(g.out, RowMajor, dst)
	return true
}

// filled returns n copies of v.
func filled(n int, v float32) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = v
	}
	return s
}
