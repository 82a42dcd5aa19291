package autograd

import (
	"fmt"
	"slices"

	"roundel/tensor"
)

// Reshape returns x with another shape of as many elements, over the same memory.
func (t *Tape[T]) Reshape(x *Value[T], shape ...int) *Value[T] {
	return t.record(x.X.Reshape(shape...), func(g []T) { addTo(t.gradOf(x), g) }, x)
}

// Flatten returns x with its dimensions from axis on merged into one.
func (t *Tape[T]) Flatten(x *Value[T], axis int) *Value[T] {
	s := x.Shape()
	return t.Reshape(x, append(s[:axis].Clone(), s[axis:].Len())...)
}

// Transpose returns x with dimension i taken from dimension perm[i].
func (t *Tape[T]) Transpose(x *Value[T], perm ...int) *Value[T] {
	s, st := x.Shape(), x.Shape().Strides()
	shape, strides := make(tensor.Shape, len(s)), make([]int, len(s))
	for i, p := range perm {
		shape[i], strides[i] = s[p], st[p]
	}
	return t.gather(x, shape, 0, strides)
}

// Slice returns x[start:end:step] in every dimension; steps are positive, nil steps mean 1.
func (t *Tape[T]) Slice(x *Value[T], start, end, step []int) *Value[T] {
	s, st := x.Shape(), x.Shape().Strides()
	shape, strides, first := make(tensor.Shape, len(s)), slices.Clone(st), 0
	for i := range s {
		by := 1
		if step != nil {
			by = step[i]
		}
		shape[i], strides[i] = max(0, (end[i]-start[i]+by-1)/by), st[i]*by
		first += start[i] * st[i]
	}
	return t.gather(x, shape, first, strides)
}

// gather returns the strided view of x as a tensor of its own.
func (t *Tape[T]) gather(x *Value[T], shape tensor.Shape, first int, strides []int) *Value[T] {
	out := t.zeros(shape...)
	y, in := out.Data(), x.X.Data()
	strided(shape, first, strides, func(i, at int) { y[i] = in[at] })
	return t.record(out, func(g []T) {
		dx := t.gradOf(x)
		strided(shape, first, strides, func(i, at int) { dx[at] += g[i] })
	}, x)
}

// Pad surrounds x with value: before[i] elements before dimension i and after[i] behind it.
func (t *Tape[T]) Pad(x *Value[T], before, after []int, value float64) *Value[T] {
	s := x.Shape()
	shape := s.Clone()
	for i := range s {
		shape[i] += before[i] + after[i]
	}
	out := t.zeros(shape...)
	y, in := out.Data(), x.X.Data()
	for i := range y {
		y[i] = T(value)
	}
	strides, first := shape.Strides(), 0
	for i, b := range before {
		first += b * strides[i]
	}
	strided(s, first, strides, func(i, at int) { y[at] = in[i] })
	return t.record(out, func(g []T) {
		dx := t.gradOf(x)
		strided(s, first, strides, func(i, at int) { dx[i] += g[at] })
	}, x)
}

// Concat joins values along an axis; all other dimensions are equal.
func (t *Tape[T]) Concat(ax int, xs ...*Value[T]) *Value[T] {
	shape := xs[0].Shape().Clone()
	ax = axis(ax, len(shape))
	outer, total := shape[:ax].Len(), 0
	for _, x := range xs {
		if len(x.Shape()) != len(shape) || !x.Shape()[:ax].Equal(shape[:ax]) || !x.Shape()[ax+1:].Equal(shape[ax+1:]) {
			panic(fmt.Sprintf("autograd: joining %v and %v along axis %d", shape, x.Shape(), ax))
		}
		total += x.Shape()[ax]
	}
	shape[ax] = total
	out := t.zeros(shape...)
	row := shape[ax:].Len()
	// each visits the block of every operand within every outer row.
	each := func(f func(x *Value[T], own, at, n int)) {
		off := 0
		for _, x := range xs {
			n := x.Shape()[ax:].Len()
			for o := range outer {
				f(x, o*n, o*row+off, n)
			}
			off += n
		}
	}
	each(func(x *Value[T], own, at, n int) { copy(out.Data()[at:at+n], x.X.Data()[own:]) })
	return t.record(out, func(g []T) {
		each(func(x *Value[T], own, at, n int) {
			if dx := t.gradOf(x); dx != nil {
				addTo(dx[own:own+n], g[at:at+n])
			}
		})
	}, xs...)
}

// strided calls f with the row-major index and the offset of every element of a strided view.
func strided(shape tensor.Shape, first int, strides []int, f func(i, at int)) {
	idx, at := make([]int, len(shape)), first
	for i := range shape.Len() {
		f(i, at)
		for d := len(shape) - 1; d >= 0; d-- {
			at += strides[d]
			if idx[d]++; idx[d] < shape[d] {
				break
			}
			at, idx[d] = at-strides[d]*shape[d], 0
		}
	}
}
