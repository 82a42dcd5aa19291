package tensor

import (
	"math"
	"slices"
)

// Reductions and everything else that works on lines: the elements of a tensor
// along some of its axes. A line is gathered into a buffer in row-major order of
// the axes, so each operator is a function of a plain slice.

// lines returns the offsets of the first elements of all lines of shape along
// axes, in row-major order of the other axes, and the offsets inside a line.
func lines(shape Shape, axes []int) (starts, inner []int) {
	var dims [2]Shape
	var strides [2][]int
	for i, st := range shape.Strides() {
		k := 0
		if slices.Contains(axes, i) {
			k = 1
		}
		dims[k], strides[k] = append(dims[k], shape[i]), append(strides[k], st)
	}
	return offsets(dims[0], strides[0]), offsets(dims[1], strides[1])
}

// ReducedShape returns shape without axes, or with extent one there if keep is set.
func ReducedShape(shape Shape, axes []int, keep bool) Shape {
	out := Shape{}
	for i, d := range shape {
		switch {
		case !slices.Contains(axes, i):
			out = append(out, d)
		case keep:
			out = append(out, 1)
		}
	}
	return out
}

// ReduceLines replaces every line of x along axes by f of it. A is the type of
// the buffer: float64 for float tensors. f must not keep the slice; it may change it.
func ReduceLines[A, T, D Number](x *Dense[T], axes []int, keep bool, f func(line []A) D) *Dense[D] {
	starts, inner := lines(x.shape, axes)
	out := New[D](ReducedShape(x.shape, axes, keep)...)
	buf := make([]A, len(inner))
	for i, s := range starts {
		for j, o := range inner {
			buf[j] = A(x.data[s+o])
		}
		out.data[i] = f(buf)
	}
	return out
}

// MapLines changes every line of x along axes by f, in float64, rounded once.
func MapLines[T Float](x *Dense[T], axes []int, f func(line []float64)) *Dense[T] {
	starts, inner := lines(x.shape, axes)
	out := New[T](x.shape...)
	buf := make([]float64, len(inner))
	for _, s := range starts {
		for j, o := range inner {
			buf[j] = float64(x.data[s+o])
		}
		f(buf)
		for j, o := range inner {
			out.data[s+o] = T(buf[j])
		}
	}
	return out
}

// Sum returns the sum of a line, first to last.
func Sum[A Number](line []A) (s A) {
	for _, v := range line {
		s += v
	}
	return s
}

// Product returns the product of a line.
func Product[A Number](line []A) A {
	p := A(1)
	for _, v := range line {
		p *= v
	}
	return p
}

// SumSquares returns Σ x².
func SumSquares[A Number](line []A) (s A) {
	for _, v := range line {
		s += A(v * v)
	}
	return s
}

// SumAbs returns Σ |x|.
func SumAbs[A Number](line []A) (s A) {
	for _, v := range line {
		if v < 0 {
			v = -v
		}
		s += v
	}
	return s
}

// Mean returns the mean of a line, NaN for an empty one.
func Mean(line []float64) float64 { return Sum(line) / float64(len(line)) }

// Variance returns the mean and the mean squared distance from it.
func Variance(line []float64) (mean, variance float64) {
	mean = Mean(line)
	for _, v := range line {
		d := v - mean
		variance += float64(d * d)
	}
	return mean, variance / float64(len(line))
}

// LogSumExp returns log Σ eˣ without overflow, -∞ for an empty line.
func LogSumExp(line []float64) float64 {
	if len(line) == 0 {
		return math.Inf(-1)
	}
	m, s := lineMax(line), 0.0
	if math.IsInf(m, 0) {
		return m
	}
	for _, v := range line {
		s += Exp(v - m)
	}
	return m + Log(s)
}

// ArgBest returns the index of the element that is better than all before it: the
// first of equals, or the last one if last is set.
func ArgBest[A Number](line []A, better func(a, b A) bool, last bool) int64 {
	best := 0
	for i, v := range line {
		if better(v, line[best]) || last && v == line[best] {
			best = i
		}
	}
	return int64(best)
}

// CumSum returns the running sums of x along axis, from the end if reverse is
// set, and without the element itself if exclusive is.
func CumSum[A, T Number](x *Dense[T], axis int, exclusive, reverse bool) *Dense[T] {
	return scan[A](x, axis, exclusive, reverse, 0, func(acc, v A) A { return acc + v })
}

// CumProd is CumSum with products.
func CumProd[A, T Number](x *Dense[T], axis int, exclusive, reverse bool) *Dense[T] {
	return scan[A](x, axis, exclusive, reverse, 1, func(acc, v A) A { return acc * v })
}

func scan[A, T Number](x *Dense[T], axis int, exclusive, reverse bool, acc0 A, f func(acc, v A) A) *Dense[T] {
	starts, inner := lines(x.shape, []int{axis})
	out := New[T](x.shape...)
	if reverse {
		slices.Reverse(inner)
	}
	for _, s := range starts {
		acc := acc0
		for _, o := range inner {
			next := f(acc, A(x.data[s+o]))
			if !exclusive {
				acc = next
			}
			out.data[s+o] = T(acc)
			acc = next
		}
	}
	return out
}

// TopK returns the k largest (or smallest) elements of x along axis, best first,
// and their indices; of equal elements the one with the lower index is first.
func TopK[T Number](x *Dense[T], axis, k int, largest bool) (*Dense[T], *Dense[int64]) {
	shape := x.shape.Clone()
	shape[axis] = k
	vals, idx := New[T](shape...), New[int64](shape...)
	from, inner := lines(x.shape, []int{axis})
	to, innerTo := lines(shape, []int{axis})
	order := make([]int, len(inner))
	for i, s := range from {
		for j := range order {
			order[j] = j
		}
		slices.SortStableFunc(order, func(a, b int) int {
			c := compareNumbers(x.data[s+inner[a]], x.data[s+inner[b]])
			if largest {
				return -c
			}
			return c
		})
		for j, o := range innerTo {
			vals.data[to[i]+o] = x.data[s+inner[order[j]]]
			idx.data[to[i]+o] = int64(order[j])
		}
	}
	return vals, idx
}

// compareNumbers orders NaN above everything, so that sorting stays total.
func compareNumbers[T Number](a, b T) int {
	switch {
	case a < b || b != b && a == a:
		return -1
	case a > b || a != a && b == b:
		return 1
	}
	return 0
}

// LpNorm returns (Σ |x|ᵖ)^(1/p).
func LpNorm(line []float64, p float64) float64 {
	switch p {
	case 1:
		return SumAbs(line)
	case 2:
		return math.Sqrt(SumSquares(line))
	}
	s := 0.0
	for _, v := range line {
		s += Pow(math.Abs(v), p)
	}
	return Pow(s, 1/p)
}
