package autograd

import (
	"fmt"

	"roundel/tensor"
)

// MatMul returns a·b as NumPy does: [..., M, K]·[..., K, N] with broadcast
// leading dimensions; an operand of rank 1 is a row (left) or column (right) that is dropped from the result.
func (t *Tape[T]) MatMul(a, b *Value[T]) *Value[T] {
	as, bs := a.Shape(), b.Shape()
	if len(as) == 1 || len(bs) == 1 {
		return t.matVec(a, b)
	}
	m, k, n := as[len(as)-2], as[len(as)-1], bs[len(bs)-1]
	if len(as) < 2 || len(bs) < 2 || bs[len(bs)-2] != k {
		panic(fmt.Sprintf("autograd: product of %v and %v", as, bs))
	}
	ab, bb := as[:len(as)-2], bs[:len(bs)-2]
	batch := broadcast(ab, bb)
	out := t.zeros(append(batch.Clone(), m, n)...)
	w := newWalk(batch, ab, bb)
	x, y, o := a.X.Data(), b.X.Data(), out.Data()
	each := func(f func(at, ia, ib int)) {
		w.each(func(at, ia, ib int) {
			for range w.run {
				f(at*m*n, ia*m*k, ib*k*n)
				at, ia, ib = at+1, ia+w.da, ib+w.db
			}
		})
	}
	each(func(at, ia, ib int) { t.gemm(o[at:], x[ia:], y[ib:], m, n, k, false, false, false) })
	return t.record(out, func(g []T) {
		ga, gb := t.gradOf(a), t.gradOf(b)
		each(func(at, ia, ib int) {
			if ga != nil {
				t.gemm(ga[ia:], g[at:], y[ib:], m, k, n, false, true, true)
			}
			if gb != nil {
				t.gemm(gb[ib:], x[ia:], g[at:], k, n, m, true, false, true)
			}
		})
	}, a, b)
}

// matVec is MatMul where an operand has rank 1.
func (t *Tape[T]) matVec(a, b *Value[T]) *Value[T] {
	var drop []int
	if s := b.Shape(); len(s) == 1 {
		b, drop = t.Reshape(b, s[0], 1), append(drop, -1)
	}
	if s := a.Shape(); len(s) == 1 {
		a, drop = t.Reshape(a, 1, s[0]), append(drop, -2)
	}
	y := t.MatMul(a, b)
	shape, full := tensor.Shape{}, y.Shape()
	for i, d := range full {
		if i == len(full)-2 && drop[len(drop)-1] == -2 || i == len(full)-1 && drop[0] == -1 {
			continue
		}
		shape = append(shape, d)
	}
	return t.Reshape(y, shape...)
}

// Linear returns x·wᵀ + b for x [..., K], w [N, K] and b [N], which may be nil.
func (t *Tape[T]) Linear(x, w, b *Value[T]) *Value[T] {
	xs := x.Shape()
	n, k := w.Shape()[0], w.Shape()[1]
	if xs[len(xs)-1] != k {
		panic(fmt.Sprintf("autograd: linear layer of %v with weight %v", xs, w.Shape()))
	}
	m := x.X.Len() / k
	out := t.zeros(append(xs[:len(xs)-1].Clone(), n)...)
	t.gemm(out.Data(), x.X.Data(), w.X.Data(), m, n, k, false, true, false)
	y := t.record(out, func(g []T) {
		if dx := t.gradOf(x); dx != nil {
			t.gemm(dx, g, w.X.Data(), m, k, n, false, false, true)
		}
		if dw := t.gradOf(w); dw != nil {
			t.gemm(dw, g, x.X.Data(), n, k, m, true, false, true)
		}
	}, x, w)
	if b == nil {
		return y
	}
	return t.Add(y, b)
}

// addBias adds b [C], which may be nil, to the channels of y [N, C, ...].
func (t *Tape[T]) addBias(y *tensor.Dense[T], b *Value[T]) {
	if b == nil {
		return
	}
	eachPlane(y.Shape(), func(c, lo, hi int) {
		v := b.X.Data()[c]
		for i := lo; i < hi; i++ {
			y.Data()[i] += v
		}
	})
}

// biasGrad adds the gradient g of an output of the given shape to b, which may be nil.
func (t *Tape[T]) biasGrad(shape tensor.Shape, b *Value[T], g []T) {
	db := t.gradOf(b)
	if db == nil {
		return
	}
	acc := make([]float64, len(db))
	eachPlane(shape, func(c, lo, hi int) { acc[c] += float64(sum(g[lo:hi])) })
	addRounded(db, acc)
}

// eachPlane calls f with the channel and the element range of every plane of [N, C, ...].
func eachPlane(shape tensor.Shape, f func(c, lo, hi int)) {
	n, c := shape[0], shape[1]
	size := shape[2:].Len()
	for i := range n * c {
		f(i%c, i*size, (i+1)*size)
	}
}
