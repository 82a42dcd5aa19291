package autograd

import (
	"math"
)

// Window is the geometry of a pooling operation. A zero stride means the kernel's extent.
type Window struct {
	Kernel, Stride [2]int // height, width
	Pad            [4]int // top, left, bottom, right
	Ceil           bool   // round the output extent up; a window must still start inside the input or its leading border
	ExcludePad     bool   // AvgPool divides by the number of elements inside the input
}

// extent returns the number of windows along one dimension.
func (w Window) extent(d, in int) int {
	k, s, padded := w.Kernel[d], w.step(d), in+w.Pad[d]+w.Pad[d+2]
	if !w.Ceil {
		return (padded-k)/s + 1
	}
	n := (padded-k+s-1)/s + 1
	if (n-1)*s >= in+w.Pad[d] {
		n--
	}
	return n
}

func (w Window) step(d int) int {
	if w.Stride[d] == 0 {
		return w.Kernel[d]
	}
	return w.Stride[d]
}

// reach returns the part of window o that lies inside the input, and how many elements of it lie inside the padded input.
func (w Window) reach(d, o, in int) (lo, hi, padded int) {
	start := o*w.step(d) - w.Pad[d]
	end := min(start+w.Kernel[d], in+w.Pad[d+2])
	return max(start, 0), min(end, in), end - start
}

// MaxPool returns the largest element of each window of x [N, C, H, W]. The
// gradient goes to the first largest in row-major order; a NaN is larger than anything.
func (t *Tape[T]) MaxPool(x *Value[T], w Window) *Value[T] {
	s := x.Shape()
	planes, h, wd := s[0]*s[1], s[2], s[3]
	oh, ow := w.extent(0, h), w.extent(1, wd)
	out := t.zeros(s[0], s[1], oh, ow)
	from := make([]int32, out.Len())
	in := x.X.Data()
	t.pool.For(planes, func(_, p int) {
		for o := range oh * ow {
			y0, y1, _ := w.reach(0, o/ow, h)
			x0, x1, _ := w.reach(1, o%ow, wd)
			best, at := T(math.Inf(-1)), p*h*wd+y0*wd+x0
			for y := y0; y < y1; y++ {
				for i := p*h*wd + y*wd + x0; i < p*h*wd+y*wd+x1; i++ {
					if v := in[i]; v > best || v != v && best == best {
						best, at = v, i
					}
				}
			}
			out.Data()[p*oh*ow+o], from[p*oh*ow+o] = best, int32(at)
		}
	})
	return t.record(out, func(g []T) {
		dx := t.gradOf(x)
		for i, at := range from {
			dx[at] += g[i]
		}
	}, x)
}

// AvgPool returns the mean of each window of x [N, C, H, W]; padding counts as zeros unless w.ExcludePad.
func (t *Tape[T]) AvgPool(x *Value[T], w Window) *Value[T] {
	h, wd := x.Shape()[2], x.Shape()[3]
	return t.average(x, w.extent(0, h), w.extent(1, wd), func(d, o int) (lo, hi, count int) {
		lo, hi, count = w.reach(d, o, []int{h, wd}[d])
		if w.ExcludePad {
			count = hi - lo
		}
		return lo, hi, count
	})
}

// AdaptiveAvgPool averages x [N, C, H, W] to oh×ow: output i covers rows ⌊i·H/oh⌋ up to ⌈(i+1)·H/oh⌉.
func (t *Tape[T]) AdaptiveAvgPool(x *Value[T], oh, ow int) *Value[T] {
	in, out := x.Shape()[2:], [2]int{oh, ow}
	return t.average(x, oh, ow, func(d, o int) (lo, hi, count int) {
		lo, hi = o*in[d]/out[d], ((o+1)*in[d]+out[d]-1)/out[d]
		return lo, hi, hi - lo
	})
}

// average averages windows: reach gives the input range of output o along dimension d and the count to divide by.
func (t *Tape[T]) average(x *Value[T], oh, ow int, reach func(d, o int) (lo, hi, count int)) *Value[T] {
	s := x.Shape()
	planes, size, wd := s[0]*s[1], s[2]*s[3], s[3]
	out := t.zeros(s[0], s[1], oh, ow)
	in := x.X.Data()
	each := func(f func(o, count, row, n int)) { // f for every input row of n elements of every window
		for o := range oh * ow {
			y0, y1, cy := reach(0, o/ow)
			x0, x1, cx := reach(1, o%ow)
			for y := y0; y < y1; y++ {
				f(o, cy*cx, y*wd+x0, x1-x0)
			}
		}
	}
	t.pool.For(planes, func(_, p int) {
		dst, src := out.Data()[p*oh*ow:], in[p*size:]
		each(func(o, count, row, n int) { dst[o] += sum(src[row:row+n]) / T(count) })
	})
	return t.record(out, func(g []T) {
		dx := t.gradOf(x)
		t.pool.For(planes, func(_, p int) {
			src, dst := g[p*oh*ow:], dx[p*size:]
			each(func(o, count, row, n int) {
				v := src[o] / T(count)
				for i := row; i < row+n; i++ {
					dst[i] += v
				}
			})
		})
	}, x)
}

// tap is a source row or column of an interpolation with its weight.
type tap struct {
	at     int
	weight float64
}

// ResizeNearest resizes x [N, C, H, W] to oh×ow: output i takes input ⌊i·H/oh⌋.
func (t *Tape[T]) ResizeNearest(x *Value[T], oh, ow int) *Value[T] {
	return t.resize(x, oh, ow, func(o, in, out int) [2]tap { return [2]tap{{o * in / out, 1}} })
}

// ResizeBilinear resizes x [N, C, H, W] to oh×ow with half-pixel centres: output
// i lies at (i + ½)·H/oh − ½, not below 0, between its two neighbours.
func (t *Tape[T]) ResizeBilinear(x *Value[T], oh, ow int) *Value[T] {
	return t.resize(x, oh, ow, func(o, in, out int) [2]tap {
		pos := max(0, float64((float64(o)+0.5)*float64(in)/float64(out))-0.5)
		lo := min(int(pos), in-1)
		f := pos - float64(lo)
		return [2]tap{{lo, 1 - f}, {min(lo+1, in-1), f}}
	})
}

func (t *Tape[T]) resize(x *Value[T], oh, ow int, taps func(o, in, out int) [2]tap) *Value[T] {
	s := x.Shape()
	out := t.zeros(s[0], s[1], oh, ow)
	in, y := x.X.Data(), out.Data()
	each := func(f func(o, i int, w T)) {
		for o := range out.Len() {
			p := o / (oh * ow)
			for _, v := range taps(o/ow%oh, s[2], oh) {
				for _, h := range taps(o%ow, s[3], ow) {
					if w := v.weight * h.weight; w != 0 {
						f(o, (p*s[2]+v.at)*s[3]+h.at, T(w))
					}
				}
			}
		}
	}
	each(func(o, i int, w T) { y[o] += T(in[i] * w) })
	return t.record(out, func(g []T) {
		dx := t.gradOf(x)
		each(func(o, i int, w T) { dx[i] += T(g[o] * w) })
	}, x)
}
