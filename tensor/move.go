package tensor

// Movement: copies of elements without arithmetic, for every element type. A
// tensor of unknown type is handled through methods of Dense, so no type is
// spelled out here.

// mover has the movement primitives of a Dense of any element type.
type mover interface {
	like(shape Shape) Any
	reshaped(shape Shape) Any
	strided(shape Shape, off int, strides []int) Any
	take(shape Shape, idx []int, block int, fill Any) Any
	put(idx []int, block int, src Any)
	copyRun(to int, src Any, from, n int)
	clone() Any
}

func (d *Dense[T]) like(shape Shape) Any     { return New[T](shape...) }
func (d *Dense[T]) reshaped(shape Shape) Any { return From(d.data, shape...) }
func (d *Dense[T]) clone() Any               { return d.Clone() }

// strided returns the elements off + Σ i·strides in row-major order of shape.
func (d *Dense[T]) strided(shape Shape, off int, strides []int) Any {
	out := New[T](shape...)
	eachRun(shape, [][]int{strides}, func(o int, at []int, n int, inc []int) {
		dst, p := out.data[o:o+n], off+at[0]
		switch inc[0] {
		case 1:
			copy(dst, d.data[p:])
		default:
			for i := range dst {
				dst[i] = d.data[p]
				p += inc[0]
			}
		}
	})
	return out
}

// take returns blocks idx[0], idx[1], …, each of block elements; a negative index gives fill, or zeros if it is nil.
func (d *Dense[T]) take(shape Shape, idx []int, block int, fill Any) Any {
	out := New[T](shape...)
	var f T
	if fill != nil {
		f = fill.(*Dense[T]).data[0]
	}
	for i, j := range idx {
		dst := out.data[i*block : (i+1)*block]
		if j >= 0 {
			copy(dst, d.data[j*block:])
			continue
		}
		for k := range dst {
			dst[k] = f
		}
	}
	return out
}

// put stores block i of src as block idx[i] of d, in order.
func (d *Dense[T]) put(idx []int, block int, src Any) {
	s := src.(*Dense[T]).data
	for i, j := range idx {
		copy(d.data[j*block:(j+1)*block], s[i*block:])
	}
}

// copyRun stores src[from:from+n] at d[to:].
func (d *Dense[T]) copyRun(to int, src Any, from, n int) {
	copy(d.data[to:to+n], src.(*Dense[T]).data[from:])
}

// eachRun walks shape in row-major order for several operands with their own
// strides and calls f once per innermost run of n elements: o is the position of
// the run in a contiguous result, at[k] its offset in operand k and inc[k] the
// step there. Neighbouring axes are merged where every operand allows it.
func eachRun(shape Shape, strides [][]int, f func(o int, at []int, n int, inc []int)) {
	dims, steps := MergeAxes(shape, strides)
	last := len(dims) - 1
	at, inc := make([]int, len(strides)), make([]int, len(strides))
	n := dims[last]
	for k := range steps {
		inc[k] = steps[k][last]
	}
	pos := make([]int, last)
	for o, end := 0, shape.Len(); o < end; o += n {
		f(o, at, n, inc)
		for i := last - 1; i >= 0; i-- {
			pos[i]++
			for k := range at {
				at[k] += steps[k][i]
			}
			if pos[i] < dims[i] {
				break
			}
			for k := range at {
				at[k] -= dims[i] * steps[k][i]
			}
			pos[i] = 0
		}
	}
}

// MergeAxes drops axes of extent one and joins neighbours that every operand steps through evenly.
func MergeAxes(shape Shape, strides [][]int) (dims []int, steps [][]int) {
	steps = make([][]int, len(strides))
	for i, d := range shape {
		if d == 1 {
			continue
		}
		j := len(dims) - 1
		joins := j >= 0
		for k := range strides {
			joins = joins && steps[k][j] == strides[k][i]*d
		}
		if joins {
			dims[j] *= d
			for k := range strides {
				steps[k][j] = strides[k][i]
			}
			continue
		}
		dims = append(dims, d)
		for k := range strides {
			steps[k] = append(steps[k], strides[k][i])
		}
	}
	if len(dims) == 0 {
		dims = []int{1}
		for k := range steps {
			steps[k] = []int{1}
		}
	}
	return dims, steps
}

// ReshapeAny returns x with another shape over the same elements; the counts must agree.
func ReshapeAny(x Any, shape Shape) Any { return x.(mover).reshaped(shape) }

// CloneAny returns a deep copy of x.
func CloneAny(x Any) Any { return x.(mover).clone() }

// Strided returns the elements off + Σ i·strides[i] of x in row-major order of
// shape. Transposition, slices with any step, broadcasting (stride 0) and
// blocks are all of this form.
func Strided(x Any, shape Shape, off int, strides []int) Any {
	if shape.Len() == 0 {
		return x.(mover).like(shape)
	}
	return x.(mover).strided(shape, off, strides)
}

// Take returns a tensor of the given shape made of blocks of x: entry i of idx
// names the block of block elements that becomes block i of the result. A
// negative entry gives copies of the single element of fill, or zeros if fill is nil.
func Take(x Any, shape Shape, idx []int, block int, fill Any) Any {
	return x.(mover).take(shape, idx, block, fill)
}

// Put returns a copy of x in which block idx[i] is block i of src, in order; src has the type of x.
func Put(x Any, idx []int, block int, src Any) Any {
	y := CloneAny(x)
	y.(mover).put(idx, block, src)
	return y
}

// Transpose permutes the axes: axis i of the result is axis perm[i] of x.
func Transpose(x Any, perm []int) Any {
	st := x.Shape().Strides()
	shape, strides := make(Shape, len(perm)), make([]int, len(perm))
	for i, p := range perm {
		shape[i], strides[i] = x.Shape()[p], st[p]
	}
	return Strided(x, shape, 0, strides)
}

// Expand broadcasts x to shape; axes are aligned at the end.
func Expand(x Any, shape Shape) Any { return Strided(x, shape, 0, broadcastStrides(x.Shape(), shape)) }

// broadcastStrides returns the strides of a tensor of shape s seen as shape to: 0 where it is repeated.
func broadcastStrides(s, to Shape) []int {
	st, out := s.Strides(), make([]int, len(to))
	for i := range s {
		if s[i] != 1 {
			out[len(to)-len(s)+i] = st[i]
		}
	}
	return out
}

// Concat joins tensors of one type along axis; the other dimensions must agree.
func Concat(xs []Any, axis int) Any {
	shape := xs[0].Shape().Clone()
	shape[axis] = 0
	for _, x := range xs {
		shape[axis] += x.Shape()[axis]
	}
	out := xs[0].(mover).like(shape)
	outer, row := Shape(shape[:axis]).Len(), Shape(shape[axis:]).Len()
	at := 0
	for _, x := range xs {
		n := Shape(x.Shape()[axis:]).Len()
		for o := range outer {
			out.(mover).copyRun(o*row+at, x, o*n, n)
		}
		at += n
	}
	return out
}

// SliceAxis returns elements from, from+step, … (n of them) of x along axis.
func SliceAxis(x Any, axis, from, n, step int) Any {
	shape, st := x.Shape().Clone(), x.Shape().Strides()
	shape[axis] = n
	off := from * st[axis]
	st[axis] *= step
	return Strided(x, shape, off, st)
}
