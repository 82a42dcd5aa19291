package autograd

import (
	"math"

	"roundel/tensor"
)

// Grid is the set of integer codes of a fake-quantiser.
type Grid struct {
	QMin, QMax float64
	Symmetric  bool // the offset is fixed to the middle of the codes instead of following the range
}

// FakeQuantize quantizes and dequantizes x with a trainable range: the grid's scale and offset follow lo and hi,
// which have one element (per tensor) or broadcast to x, such as [C, 1, 1, 1] (per channel).
// Gradients pass through the rounding unchanged (straight-through estimator).
func (t *Tape[T]) FakeQuantize(x, lo, hi *Value[T], g Grid) *Value[T] {
	scale, offset := t.GridOf(lo, hi, g)
	return t.QuantDequant(x, scale, offset, g)
}

// GridOf returns scale = |hi − lo|/(QMax − QMin), not below min(2⁻²³, 0.01/(QMax − QMin)), and the additive
// offset = clamp(round(lo/scale) − QMin, −QMax, −QMin), or −⌈(QMin + QMax)/2⌉ for a symmetric grid.
func (t *Tape[T]) GridOf(lo, hi *Value[T], g Grid) (scale, offset *Value[T]) {
	n := g.QMax - g.QMin
	steps, least := T(n), T(min(1.0/(1<<23), 0.01/n))
	scale = t.binary(lo, hi, func(a, b T) T { return max(T(math.Abs(float64(b-a)))/steps, least) },
		func(a, b, d T) (T, T) {
			d /= steps
			if b < a {
				d = -d
			}
			if T(math.Abs(float64(b-a)))/steps < least {
				d = 0
			}
			return -d, d
		})
	if g.Symmetric {
		o := t.zeros(scale.Shape()...)
		for i := range o.Data() {
			o.Data()[i] = T(-math.Ceil((g.QMin + g.QMax) / 2))
		}
		return scale, Const(o)
	}
	raw := func(a, s T) T { return rint(a/s) - T(g.QMin) }
	offset = t.binary(lo, scale, func(a, s T) T { return min(max(raw(a, s), T(-g.QMax)), T(-g.QMin)) },
		func(a, s, d T) (T, T) {
			if o := raw(a, s); o < T(-g.QMax) || o > T(-g.QMin) {
				return 0, 0
			}
			return d / s, -T(d * a / s / s)
		})
	return scale, offset
}

// QuantDequant returns (clamp(round(x/scale) − offset, QMin, QMax) + offset)·scale, rounding half to even.
// scale and offset broadcast to x. With q = round(x/scale) − offset the gradients are, where q is on the grid,
// dx = g and dscale = g·(round(x/scale) − x/scale), and elsewhere dscale = g·(clamp(q) + offset) and doffset = g·scale.
func (t *Tape[T]) QuantDequant(x, scale, offset *Value[T], g Grid) *Value[T] {
	out := t.zeros(x.Shape()...)
	w := newWalk(x.Shape(), scale.Shape(), offset.Shape())
	in, y, sc, of := x.X.Data(), out.Data(), scale.X.Data(), offset.X.Data()
	lo, hi := T(g.QMin), T(g.QMax)
	w.each(func(at, is, io int) {
		for range w.run {
			s, o := sc[is], of[io]
			y[at] = (min(max(rint(in[at]/s)-o, lo), hi) + o) * s
			at, is, io = at+1, is+w.da, io+w.db
		}
	})
	return t.record(out, func(gy []T) {
		dx := t.gradOf(x)
		ds, do := make([]float64, len(sc)), make([]float64, len(of))
		w.each(func(at, is, io int) {
			for range w.run {
				s, o := sc[is], of[io]
				r := rint(in[at] / s)
				if q := r - o; q < lo || q > hi {
					ds[is] += float64(gy[at] * (min(max(q, lo), hi) + o))
					do[io] += float64(gy[at] * s)
				} else {
					ds[is] += float64(gy[at] * (r - in[at]/s))
					if dx != nil {
						dx[at] += gy[at]
					}
				}
				at, is, io = at+1, is+w.da, io+w.db
			}
		})
		addRounded(t.gradOf(scale), ds)
		addRounded(t.gradOf(offset), do)
	}, x, scale, offset)
}

// addRounded is dst[i] += src[i]; a nil dst takes nothing.
func addRounded[T tensor.Float](dst []T, src []float64) {
	for i := range dst {
		dst[i] += T(src[i])
	}
}

// rint rounds half to even.
func rint[T tensor.Float](x T) T { return T(math.RoundToEven(float64(x))) }
