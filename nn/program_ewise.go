package nn

import (
	"math"

	"roundel/asm"
	"roundel/tensor"
)

// Pieces of elementwise work, in floats.
const (
	chunkFloats = 4 << 10  // one pass of each operator over this much, so that it stays in the first-level cache
	grainFloats = 32 << 10 // what a worker claims at a time
)

var posInf, negInf = float32(math.Inf(1)), float32(math.Inf(-1))

// elementwise is a step that fills dst piece by piece, with what follows (clamp,
// fake-quantize) applied to each piece while it is in cache.
type elementwise struct {
	dst   *buffer
	n     int // floats in dst
	unit  int // pieces are multiples of this many floats; 0 means 1
	k     asm.Kernels
	f     func(m *machine, worker int, d []float32, lo, hi int) // makes d, which is dst[lo:hi]
	clamp bool
	lo,
	hi float32
	quant *tensor.FakeQuant

	scratch []*buffer // what f needs besides

	grain int
	m     *machine // while run with several workers
	fn    func(worker, i int)
}

// init prepares e and returns the function of its step.
func (e *elementwise) init() func(*machine) error {
	e.unit = max(e.unit, 1)
	e.grain = max(grainFloats/e.unit, 1) * e.unit
	e.fn = func(worker, i int) { e.span(e.m, worker, e.m.f32(e.dst), i*e.grain, min((i+1)*e.grain, e.n)) }
	return e.run
}

func (e *elementwise) run(m *machine) error {
	if m.pool.Workers() == 1 || e.n <= 2*e.grain {
		e.span(m, 0, m.f32(e.dst), 0, e.n)
		return nil
	}
	e.m = m // only one machine at a time has several workers
	m.pool.For((e.n+e.grain-1)/e.grain, e.fn)
	e.m = nil
	return nil
}

// span makes dst[lo:hi].
func (e *elementwise) span(m *machine, worker int, dst []float32, lo, hi int) {
	chunk := max(chunkFloats/e.unit, 1) * e.unit
	for ; lo < hi; lo += chunk {
		end := min(lo+chunk, hi)
		d := dst[lo:end]
		e.f(m, worker, d, lo, end)
		if e.clamp {
			e.k.Clamp(d, d, e.lo, e.hi)
		}
		if e.quant != nil {
			tensor.QuantDequant(d, d, *e.quant, e.k)
		}
	}
}

// emit adds e as the step of group g, and defines its result in layout l. The
// inputs in inplace are those whose place the result may take over.
func (b *builder) emit(g *group, e *elementwise, l Layout, reads, inplace []*buffer) {
	e.k = b.p.k
	e.dst = b.newBuf(b.shapeOf(g.out).Len())
	e.n = e.dst.n
	e.quant = b.finalQuant(g)
	b.add(&step{node: g.tail, reads: reads, writes: []*buffer{e.dst}, scratch: e.scratch, inplace: inplace, run: e.init()})
	b.define(g.out, l, e.dst)
}

// withClamp makes e clamp as g asks, after its function.
func (e *elementwise) withClamp(g *group) *elementwise {
	e.clamp, e.lo, e.hi = g.clamp, g.lo, g.hi
	return e
}

// clampable reports whether the node is an elementwise operator that a clamp may follow in the same step.
func (b *builder) clampable(n *Node) bool {
	switch n.Op {
	case "Add", "Sub", "Mul", "Div", "BatchNormalization":
		return b.isFloat(n.In(0)) && b.isFloat(n.Out(0))
	}
	return false
}

// lowerClamp is the step of a Relu or Clip on its own.
func lowerClamp(b *builder, g *group) (bool, error) {
	lo, hi, ok := b.clampOf(g.head)
	x := b.floatValue(g.head.In(0))
	if !ok || x == nil {
		return false, nil
	}
	l := x.layout()
	src := b.in(x, l)
	k := b.p.k
	b.emit(g, &elementwise{f: func(m *machine, _ int, d []float32, from, to int) {
		k.Clamp(d, m.f32(src)[from:to], lo, hi)
	}}, l, []*buffer{src}, []*buffer{src})
	return true, nil
}

// oneTap is the tap list of a depthwise tile that only scales.
var oneTap = []int{0, 0}

// scalesInPlace reports whether the output of scaleRows with rows of c elements
// may be one of its inputs. With others a kernel may process the last elements of
// a row twice, in two overlapping vectors.
func scalesInPlace(c int) bool { return c%8 == 0 }

// scaleRows sets dst = clamp(src·w + bias) for rows of len(w) elements; bias may
// be nil. For dst = src or dst = w see scalesInPlace.
func scaleRows(k *asm.Kernels, t *asm.DwTile, dst, src, w, bias []float32, lo, hi float32) {
	c := len(w)
	*t = asm.DwTile{W: w, Bias: bias, Taps: oneTap, LDD: c, LDS: c, N: c, Lo: lo, Hi: hi}
	for len(dst) > 0 {
		t.Pix = min(k.MP, len(dst)/c)
		t.Dst, t.Src = dst, src
		k.Depthwise(t)
		dst, src = dst[t.Pix*c:], src[t.Pix*c:]
	}
}

// lowerBatchNorm is scale and shift per channel.
func lowerBatchNorm(b *builder, g *group) (bool, error) {
	n := g.head
	p, ok := b.batchNorm(n)
	x := b.floatValue(n.In(0))
	if !ok || x == nil || len(x.shape) != 4 && len(x.shape) != 2 {
		return false, nil
	}
	w, bias := make([]float32, len(p.gain)), make([]float32, len(p.gain))
	for c, gain := range p.gain {
		w[c], bias[c] = float32(gain), float32(p.beta[c]-float64(p.mean[c]*gain))
	}
	l := RowMajor
	if len(x.shape) == 4 {
		l = NHWC
	}
	b.scale(g, x, l, w, bias)
	return true, nil
}

// scale adds the step x·w + bias, then the clamp of g, over rows of len(w) elements in layout l.
func (b *builder) scale(g *group, x *operand, l Layout, w, bias []float32) {
	src := b.in(x, l)
	k := b.p.k
	lo, hi := g.lo, g.hi
	var inplace []*buffer
	if scalesInPlace(len(w)) {
		inplace = []*buffer{src}
	}
	b.emit(g, &elementwise{unit: len(w), f: func(m *machine, worker int, d []float32, from, to int) {
		scaleRows(&k, &m.tiles[worker], d, m.f32(src)[from:to], w, bias, lo, hi)
	}}, l, []*buffer{src}, inplace)
}

// lowerBinary lowers Add, Sub, Mul and Div of equal shapes, or with a scalar or a vector along the channels.
func lowerBinary(b *builder, g *group) (bool, error) {
	n := g.head
	x, y := b.floatValue(n.In(0)), b.floatValue(n.In(1))
	out := b.shapeOf(n.Out(0))
	switch {
	case x == nil || y == nil || out == nil || out.Len() == 0:
		return false, nil
	case x.shape.Equal(out) && y.shape.Equal(out):
		b.sameShapes(g, x, y)
		return true, nil
	case x.shape.Equal(out):
		return b.withVector(g, x, y, false), nil
	case y.shape.Equal(out):
		return b.withVector(g, y, x, true), nil
	}
	return false, nil
}

// sameShapes adds the step x op y for equal shapes.
func (b *builder) sameShapes(g *group, x, y *operand) {
	l := x.layout()
	if l == RowMajor && y.cnst == nil {
		l = y.layout()
	}
	if x.cnst != nil {
		l = y.layout()
	}
	xs, ys := b.in(x, l), b.in(y, l)
	k := b.p.k
	lo, hi := g.lo, g.hi
	inplace := []*buffer{xs, ys}
	e := &elementwise{}
	switch g.head.Op {
	case "Add":
		e.f = func(m *machine, _ int, d []float32, from, to int) {
			k.AddClamp(d, m.f32(xs)[from:to], m.f32(ys)[from:to], lo, hi)
		}
	case "Mul":
		if !scalesInPlace(x.shape.Len()) {
			inplace = nil
		}
		e.f = func(m *machine, worker int, d []float32, from, to int) {
			scaleRows(&k, &m.tiles[worker], d, m.f32(xs)[from:to], m.f32(ys)[from:to], nil, lo, hi)
		}
	case "Sub":
		inplace = inplace[:1] // d is written before y is read
		e.withClamp(g).f = func(m *machine, _ int, d []float32, from, to int) {
			copy(d, m.f32(xs)[from:to])
			k.Axpy(d, m.f32(ys)[from:to], -1)
		}
	case "Div":
		e.withClamp(g).f = func(m *machine, _ int, d []float32, from, to int) {
			k.Divide(d, m.f32(xs)[from:to], m.f32(ys)[from:to])
		}
	}
	b.emit(g, e, l, []*buffer{xs, ys}, inplace)
}

// vectorLayout returns the layout of an array of the given shape in which v is a
// vector along the innermost dimension, and that dimension; false when there is
// none. A scalar goes with any layout, and has length 1.
func vectorLayout(v, shape tensor.Shape, prefer Layout) (Layout, int, bool) {
	if v.Len() == 1 {
		return prefer, 1, len(v) <= len(shape)
	}
	at, pad := -1, len(shape)-len(v)
	for i, d := range v {
		if d != 1 && at >= 0 || pad < 0 {
			return 0, 0, false
		}
		if d != 1 {
			at = i + pad
		}
	}
	switch {
	case v.Len() != shape[at]:
	case at == 1 && len(shape) == 4:
		return NHWC, shape[1], true
	case at == len(shape)-1:
		return RowMajor, shape[at], true
	}
	return 0, 0, false
}

// withVector adds the step x op v, or v op x when swapped, where v is a vector or a scalar.
func (b *builder) withVector(g *group, x, v *operand, swapped bool) bool {
	l, c, ok := vectorLayout(v.shape, x.shape, x.layout())
	op := g.head.Op
	if !ok || v.cnst == nil && (c == 1 || op != "Add" && op != "Mul") {
		return false
	}
	if v.cnst == nil {
		b.withDynamicVector(g, x, v, l, c)
		return true
	}
	vec := v.rowMajor.data
	if c == 1 {
		c = min(chunkFloats, x.shape.Len())
		if x.shape.Len()%c != 0 {
			c = x.shape[len(x.shape)-1] // any divisor of the length will do
			if l == NHWC {
				c = x.shape[1]
			}
		}
		vec = filled(c, vec[0])
	}
	ones := filled(c, 1)
	switch {
	case op == "Add":
		b.scale(g, x, l, ones, vec)
	case op == "Mul":
		b.scale(g, x, l, vec, nil)
	case op == "Sub" && swapped:
		b.scale(g, x, l, filled(c, -1), vec)
	case op == "Sub":
		neg := make([]float32, c)
		for i, v := range vec {
			neg[i] = -v
		}
		b.scale(g, x, l, ones, neg)
	default:
		b.divideRows(g, x, l, vec, swapped)
	}
	return true
}

// withDynamicVector adds the step x + v or x · v for a vector that is computed.
func (b *builder) withDynamicVector(g *group, x, v *operand, l Layout, c int) {
	src, vec := b.in(x, l), b.inRowMajor(v)
	k := b.p.k
	lo, hi := g.lo, g.hi
	var ones []float32
	if g.head.Op == "Add" {
		ones = filled(c, 1)
	}
	e := &elementwise{unit: c, f: func(m *machine, worker int, d []float32, from, to int) {
		w, bias := m.f32(vec), []float32(nil)
		if ones != nil {
			w, bias = ones, w
		}
		scaleRows(&k, &m.tiles[worker], d, m.f32(src)[from:to], w, bias, lo, hi)
	}}
	var inplace []*buffer
	if scalesInPlace(c) {
		inplace = []*buffer{src}
	}
	b.emit(g, e, l, []*buffer{src, vec}, inplace)
}

// divideRows adds the step x/vec, or vec/x when swapped, over rows in layout l.
func (b *builder) divideRows(g *group, x *operand, l Layout, vec []float32, swapped bool) {
	src, k := b.in(x, l), b.p.k
	e := (&elementwise{unit: len(vec), f: func(m *machine, _ int, d []float32, from, to int) {
		s := m.f32(src)[from:to]
		for ; len(d) > 0; d, s = d[len(vec):], s[len(vec):] {
			if swapped {
				k.Divide(d[:len(vec)], vec, s)
			} else {
				k.Divide(d[:len(vec)], s, vec)
			}
		}
	}}).withClamp(g)
	b.emit(g, e, l, []*buffer{src}, []*buffer{src})
}
