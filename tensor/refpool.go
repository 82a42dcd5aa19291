package tensor

import "math"

// MaxPoolND returns the largest element under each window position; padding does not take part.
//
//	x: [N, C, spatial…]   result: [N, C, out…]
//
// The second result, made if wantIndices is set, has the position of that element (the
// first of equals in row-major order of the window) in x as a flat slice, or, if
// columnMajor is set, with the spatial axes counted in column-major order.
func MaxPoolND[T Number](x *Dense[T], win Window, out Shape, wantIndices, columnMajor bool) (*Dense[T], *Dense[int64]) {
	y := New[T](out...)
	var idx *Dense[int64]
	if wantIndices {
		idx = New[int64](out...)
	}
	in, o := spatial3(x.shape), spatial3(out)
	inLen, oLen := volume(in), volume(o)
	best := make([]int, oLen)
	for plane := range out[0] * out[1] {
		src := x.data[plane*inLen:][:inLen]
		for i := range best {
			best[i] = -1
		}
		win.each(in, o, func(_, pos, at, n, step int) {
			for i := range n {
				if b := best[pos+i]; b < 0 || src[at+i*step] > src[b] {
					best[pos+i] = at + i*step
				}
			}
		})
		for i, b := range best {
			if b < 0 { // a window that sees nothing but padding
				y.data[plane*oLen+i] = lowest[T]()
				continue
			}
			y.data[plane*oLen+i] = src[b]
			if wantIndices {
				if columnMajor {
					b = b%in[2]*in[1]*in[0] + b/in[2]%in[1]*in[0] + b/in[2]/in[1]
				}
				idx.data[plane*oLen+i] = int64(plane*inLen + b)
			}
		}
	}
	return y, idx
}

// lowest returns -∞ for floats and the smallest value of 64-bit integers.
func lowest[T Number]() (v T) {
	switch p := any(&v).(type) {
	case *float32:
		*p = float32(math.Inf(-1))
	case *float64:
		*p = math.Inf(-1)
	case *int64:
		*p = math.MinInt64
	}
	return v
}

// AveragePoolND returns the mean under each window position. With includePad the
// divisor counts the positions in the padding too (but not those behind it, which
// a rounded-up output size can reach), otherwise only those inside x.
func AveragePoolND[T Float](x *Dense[T], win Window, out Shape, includePad bool) *Dense[T] {
	in, o := spatial3(x.shape), spatial3(out)
	count := make([]float64, volume(o))
	box, wide := in, win
	if includePad {
		for a := range box {
			box[a] += win.Before[a] + win.After[a]
			wide.Before[a] = 0
		}
	}
	wide.each(box, o, func(_, pos, _, n, _ int) {
		for i := range n {
			count[pos+i]++
		}
	})
	return poolSums(x, win, out, func(v float64) float64 { return v }, func(pos int, sum float64) float64 { return sum / count[pos] })
}

// LpPoolND returns (Σ |x|ᵖ)^(1/p) under each window position.
func LpPoolND[T Float](x *Dense[T], win Window, out Shape, p float64) *Dense[T] {
	return poolSums(x, win, out, func(v float64) float64 { return Pow(math.Abs(v), p) }, func(_ int, sum float64) float64 { return Pow(sum, 1/p) })
}

// poolSums adds f of the elements under each window position and finishes the sum.
func poolSums[T Float](x *Dense[T], win Window, out Shape, f func(float64) float64, finish func(pos int, sum float64) float64) *Dense[T] {
	y := New[T](out...)
	in, o := spatial3(x.shape), spatial3(out)
	inLen, oLen := volume(in), volume(o)
	acc := make([]float64, oLen)
	for plane := range out[0] * out[1] {
		src := x.data[plane*inLen:][:inLen]
		clear(acc)
		win.each(in, o, func(_, pos, at, n, step int) {
			for i := range n {
				acc[pos+i] += f(float64(src[at+i*step]))
			}
		})
		for i, v := range acc {
			y.data[plane*oLen+i] = T(finish(i, v))
		}
	}
	return y
}
