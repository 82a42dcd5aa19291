package autograd

import "roundel/tensor"

// Sum adds x over the given axes (all of them when there are none; negative axes count from the end).
// The sums are taken in float64, in row-major order. With keep the reduced axes stay with extent 1.
func (t *Tape[T]) Sum(x *Value[T], keep bool, axes ...int) *Value[T] {
	return t.reduce(x, keep, axes, 1)
}

// Mean is Sum divided by the number of elements that were added.
func (t *Tape[T]) Mean(x *Value[T], keep bool, axes ...int) *Value[T] {
	n := 1
	for i, r := range reduced(x.Shape(), axes) {
		if r {
			n *= x.Shape()[i]
		}
	}
	return t.reduce(x, keep, axes, float64(n))
}

// reduce sums over axes and divides by div.
func (t *Tape[T]) reduce(x *Value[T], keep bool, axes []int, div float64) *Value[T] {
	kept, final := x.Shape().Clone(), tensor.Shape{}
	for i, r := range reduced(x.Shape(), axes) {
		if r {
			kept[i] = 1
		}
		if keep || !r {
			final = append(final, kept[i])
		}
	}
	w := newWalk(x.Shape(), x.Shape(), kept)
	acc := make([]float64, kept.Len())
	in := x.X.Data()
	w.each(func(at, _, o int) {
		for range w.run {
			acc[o] += float64(in[at])
			at, o = at+1, o+w.db
		}
	})
	out := t.zeros(final...)
	for i, s := range acc {
		out.Data()[i] = T(s / div)
	}
	return t.record(out, func(g []T) {
		dx := t.gradOf(x)
		w.each(func(at, _, o int) {
			for range w.run {
				dx[at] += T(float64(g[o]) / div)
				at, o = at+1, o+w.db
			}
		})
	}, x)
}

// reduced marks the axes of s that are named; none named means all.
func reduced(s tensor.Shape, axes []int) []bool {
	r := make([]bool, len(s))
	for i := range r {
		r[i] = len(axes) == 0
	}
	for _, a := range axes {
		r[axis(a, len(s))] = true
	}
	return r
}

// axis resolves a negative axis.
func axis(a, rank int) int {
	if a < 0 {
		return a + rank
	}
	return a
}
