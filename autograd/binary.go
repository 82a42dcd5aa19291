package autograd

import (
	"fmt"

	"roundel/tensor"
)

// Add returns a + b with NumPy broadcasting.
func (t *Tape[T]) Add(a, b *Value[T]) *Value[T] {
	return t.binary(a, b, func(x, y T) T { return x + y }, func(x, y, g T) (T, T) { return g, g })
}

// Sub returns a − b with NumPy broadcasting.
func (t *Tape[T]) Sub(a, b *Value[T]) *Value[T] {
	return t.binary(a, b, func(x, y T) T { return x - y }, func(x, y, g T) (T, T) { return g, -g })
}

// Mul returns a·b with NumPy broadcasting.
func (t *Tape[T]) Mul(a, b *Value[T]) *Value[T] {
	return t.binary(a, b, func(x, y T) T { return x * y }, func(x, y, g T) (T, T) { return T(g * y), T(g * x) })
}

// Div returns a/b with NumPy broadcasting; d(a/b) = da/b − (a/b)·db/b.
func (t *Tape[T]) Div(a, b *Value[T]) *Value[T] {
	return t.binary(a, b, func(x, y T) T { return x / y },
		func(x, y, g T) (T, T) { d := g / y; return d, -T(d * (x / y)) })
}

// binary applies f elementwise; df returns the two gradients for operands x, y and output gradient g.
func (t *Tape[T]) binary(a, b *Value[T], f func(x, y T) T, df func(x, y, g T) (T, T)) *Value[T] {
	shape := broadcast(a.Shape(), b.Shape())
	out := t.zeros(shape...)
	w := newWalk(shape, a.Shape(), b.Shape())
	x, y, o := a.X.Data(), b.X.Data(), out.Data()
	w.each(func(at, ia, ib int) {
		for range w.run {
			o[at] = f(x[ia], y[ib])
			at, ia, ib = at+1, ia+w.da, ib+w.db
		}
	})
	return t.record(out, func(g []T) {
		ga, gb := t.gradOf(a), t.gradOf(b)
		w.each(func(at, ia, ib int) {
			for range w.run {
				da, db := df(x[ia], y[ib], g[at])
				if ga != nil {
					ga[ia] += da
				}
				if gb != nil {
					gb[ib] += db
				}
				at, ia, ib = at+1, ia+w.da, ib+w.db
			}
		})
	}, a, b)
}

// broadcast returns the common shape of a and b; it panics when there is none.
func broadcast(a, b tensor.Shape) tensor.Shape {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := a.Clone()
	for i, d := range b {
		j := len(a) - len(b) + i
		switch {
		case out[j] == 1:
			out[j] = d
		case d != 1 && d != out[j]:
			panic(fmt.Sprintf("autograd: shapes %v and %v do not broadcast", a, b))
		}
	}
	return out
}

// walk visits all elements of a shape in row-major order together with the
// elements of two operands broadcast to it, in runs along the innermost dimension.
type walk struct {
	dims   []int // outer dimensions
	sa, sb []int // their strides in the operands, 0 where broadcast
	run    int   // length of the innermost run
	da, db int   // operand steps within a run, 0 or 1
}

// newWalk merges neighbouring dimensions where both operands allow it, so that runs are long.
func newWalk(shape, a, b tensor.Shape) *walk {
	var dims, sa, sb []int
	fa, fb := broadcastStrides(shape, a), broadcastStrides(shape, b)
	for i, d := range shape {
		if d == 1 {
			continue
		}
		if k := len(dims) - 1; k >= 0 && sa[k] == fa[i]*d && sb[k] == fb[i]*d {
			dims[k], sa[k], sb[k] = dims[k]*d, fa[i], fb[i]
			continue
		}
		dims, sa, sb = append(dims, d), append(sa, fa[i]), append(sb, fb[i])
	}
	k := len(dims) - 1
	if k < 0 {
		return &walk{run: 1}
	}
	return &walk{dims: dims[:k], sa: sa[:k], sb: sb[:k], run: dims[k], da: sa[k], db: sb[k]}
}

// broadcastStrides returns the strides of shape s seen as the larger shape out.
func broadcastStrides(out, s tensor.Shape) []int {
	st, own, lead := make([]int, len(out)), s.Strides(), len(out)-len(s)
	for i, d := range s {
		if d != 1 {
			st[lead+i] = own[i]
		}
	}
	return st
}

// each calls f with the offset of every run in the walked shape and in both operands.
func (w *walk) each(f func(at, a, b int)) {
	if tensor.Shape(w.dims).Len() == 0 || w.run == 0 {
		return
	}
	idx := make([]int, len(w.dims))
	at, a, b := 0, 0, 0
	for {
		f(at, a, b)
		at += w.run
		i := len(idx) - 1
		for ; i >= 0; i-- {
			a, b = a+w.sa[i], b+w.sb[i]
			if idx[i]++; idx[i] < w.dims[i] {
				break
			}
			a, b, idx[i] = a-w.sa[i]*w.dims[i], b-w.sb[i]*w.dims[i], 0
		}
		if i < 0 {
			return
		}
	}
}
