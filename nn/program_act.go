package nn

import (
	"math"

	"roundel/tensor"
)

// lowerScalar applies the reference function of one element, in whatever layout
// the input has. It is the lowering of all operators whose row has one.
func lowerScalar(b *builder, g *group) (bool, error) {
	x := b.floatValue(g.head.In(0))
	if x == nil || !b.isFloat(g.out) {
		return false, nil
	}
	f := lookup(g.head.Op).scalar(g.head)
	b.emitUnary(g, x, true, func(_ *machine, _ int, d, s []float32) {
		for i, v := range s[:len(d)] {
			d[i] = float32(f(float64(v)))
		}
	})
	return true, nil
}

// emitUnary adds the step that calls f for pieces of x, in the layout it has. The
// result may take the place of x if f writes each element after reading it.
func (b *builder) emitUnary(g *group, x *operand, inplace bool, f func(m *machine, worker int, d, s []float32)) {
	l := x.layout()
	src := b.in(x, l)
	var over []*buffer
	if inplace {
		over = []*buffer{src}
	}
	b.emit(g, &elementwise{f: func(m *machine, worker int, d []float32, from, to int) {
		f(m, worker, d, m.f32(src)[from:to])
	}}, l, []*buffer{src}, over)
}

// lowerHardSigmoid is clamp(alpha·x + beta, 0, 1), in float32 unlike the reference.
func lowerHardSigmoid(b *builder, g *group) (bool, error) {
	x := b.floatValue(g.head.In(0))
	if x == nil || !b.isFloat(g.out) {
		return false, nil
	}
	k := b.p.k
	alpha, beta := filled(chunkFloats, g.head.Float("alpha", 0.2)), filled(chunkFloats, g.head.Float("beta", 0.5))
	b.emitUnary(g, x, scalesInPlace(x.shape.Len()), func(m *machine, worker int, d, s []float32) {
		scaleRows(&k, &m.tiles[worker], d, s, alpha[:len(d)], beta, 0, 1)
	})
	return true, nil
}

// lowerHardSwish is x·clamp(x/6 + 1/2, 0, 1).
func lowerHardSwish(b *builder, g *group) (bool, error) {
	x := b.floatValue(g.head.In(0))
	if x == nil || !b.isFloat(g.out) {
		return false, nil
	}
	k := b.p.k
	sixth, half := filled(chunkFloats, 1.0/6), filled(chunkFloats, 0.5)
	b.emitUnary(g, x, scalesInPlace(x.shape.Len()), func(m *machine, worker int, d, s []float32) {
		gate := m.chunk(worker, len(d))
		scaleRows(&k, &m.tiles[worker], gate, s, sixth[:len(d)], half, 0, 1)
		scaleRows(&k, &m.tiles[worker], d, s, gate, nil, negInf, posInf)
	})
	return true, nil
}

// lowerLeakyRelu is max(x, alpha·x) when 0 < alpha ≤ 1.
func lowerLeakyRelu(b *builder, g *group) (bool, error) {
	x := b.floatValue(g.head.In(0))
	alpha := g.head.Float("alpha", 0.01)
	if x == nil || !b.isFloat(g.out) || !(alpha > 0 && alpha <= 1) {
		return lowerScalar(b, g)
	}
	k := b.p.k
	slope := filled(chunkFloats, alpha)
	b.emitUnary(g, x, true, func(m *machine, worker int, d, s []float32) {
		leak := m.chunk(worker, len(d))
		scaleRows(&k, &m.tiles[worker], leak, s, slope[:len(d)], nil, negInf, posInf)
		k.Max(d, s, leak)
	})
	return true, nil
}

// lowerPRelu is LeakyRelu with a constant slope per channel.
func lowerPRelu(b *builder, g *group) (bool, error) {
	x, slope := b.floatValue(g.head.In(0)), b.p.floatConst(b.r, g.head.In(1))
	if x == nil || slope == nil || !b.isFloat(g.out) || slope.Len() == 0 {
		return false, nil
	}
	for _, v := range slope.Data() {
		if !(v > 0 && v <= 1) {
			return false, nil
		}
	}
	l, c, ok := vectorLayout(slope.Shape(), x.shape, x.layout())
	if !ok || c == 1 || c > chunkFloats {
		return false, nil
	}
	src, k := b.in(x, l), b.p.k
	b.emit(g, &elementwise{unit: c, f: func(m *machine, worker int, d []float32, from, to int) {
		s, leak := m.f32(src)[from:to], m.chunk(worker, len(d))
		scaleRows(&k, &m.tiles[worker], leak, s, slope.Data(), nil, negInf, posInf)
		k.Max(d, s, leak)
	}}, l, []*buffer{src}, []*buffer{src})
	return true, nil
}

// quantPair reports whether q is a QuantizeLinear with constant scale for the whole
// tensor, read by nothing but a DequantizeLinear with the same parameters; together they are a FakeQuant.
func (b *builder) quantPair(q *Node, consumer map[string]*Node) (*Node, *tensor.FakeQuant) {
	if q == nil || q.Op != "QuantizeLinear" || !b.isFloat(q.In(0)) || !b.p.private(q.Out(0)) {
		return nil, nil
	}
	d := consumer[q.Out(0)]
	if d == nil || d.Op != "DequantizeLinear" || d.In(0) != q.Out(0) || !b.isFloat(d.Out(0)) || b.fused[d] != nil {
		return nil, nil
	}
	scale, zero, ok := b.quantParams(q)
	scaleD, zeroD, okD := b.quantParams(d)
	c := &InferCtx{node: q, in: []Type{b.r.types[q.In(0)], b.r.types[q.In(1)], b.r.types[q.In(2)]}}
	_, lo, hi, err := c.quantRange()
	if !ok || !okD || scale != scaleD || zero != zeroD || !(scale > 0) || math.IsInf(float64(scale), 0) || err != nil {
		return nil, nil
	}
	return d, &tensor.FakeQuant{Scale: scale, ZeroPoint: zero, QMin: float32(lo), QMax: float32(hi)}
}

// quantParams returns the constant scale and zero point of a Quantize- or DequantizeLinear for whole tensors.
func (b *builder) quantParams(n *Node) (scale, zero float32, ok bool) {
	s := b.p.floatConst(b.r, n.In(1))
	if s == nil || s.Len() != 1 || len(s.Shape()) > 1 {
		return 0, 0, false
	}
	if n.In(2) != "" {
		z := b.r.consts[n.In(2)]
		if z == nil || z.Len() != 1 {
			return 0, 0, false
		}
		zero = float32(tensor.Float64s(z)[0])
	}
	return s.Data()[0], zero, true
}

// lowerQuantPair quantizes and dequantizes in one step.
func lowerQuantPair(b *builder, g *group) (bool, error) {
	x := b.floatValue(g.head.In(0))
	if g.quant == nil || x == nil {
		return false, nil
	}
	q, k := *g.quant, b.p.k
	g.quant = nil
	b.emitUnary(g, x, true, func(_ *machine, _ int, d, s []float32) { tensor.QuantDequant(d, s, q, k) })
	return true, nil
}
