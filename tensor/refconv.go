package tensor

// Window is how a kernel slides over up to three spatial axes. The axes are
// aligned at the end; those in front have extent, kernel, stride and dilation one.
type Window struct {
	Kernel, Stride, Dilation [3]int
	Before, After            [3]int // padding in front of each axis and behind it
}

// spatial3 returns the extents behind the batch and channel axes, with ones in front.
func spatial3(s Shape) (d [3]int) {
	d = [3]int{1, 1, 1}
	copy(d[3-len(s)+2:], s[2:])
	return d
}

// valid returns the range of window positions for which tap k of axis a lies inside an extent of in.
func (w *Window) valid(a, k, in, out int) (from, to int) {
	shift := k*w.Dilation[a] - w.Before[a] // coordinate = position·stride + shift
	s := w.Stride[a]
	if shift < 0 {
		from = (-shift + s - 1) / s
	}
	if shift >= in {
		return 0, 0
	}
	return from, min(out, (in-1-shift)/s+1)
}

// each calls f for every tap of the kernel, in row-major order, and every row of
// window positions in which the tap is inside the input: for n positions from pos
// on, the tap lies at coordinate at, at+step, … of an input plane of extents in.
// out are the extents of the positions.
func (w *Window) each(in, out [3]int, f func(tap, pos, at, n, step int)) {
	tap := 0
	for a := range w.Kernel[0] {
		a0, a1 := w.valid(0, a, in[0], out[0])
		for b := range w.Kernel[1] {
			b0, b1 := w.valid(1, b, in[1], out[1])
			for c := range w.Kernel[2] {
				c0, c1 := w.valid(2, c, in[2], out[2])
				for i := a0; i < a1 && c0 < c1; i++ {
					za := i*w.Stride[0] + a*w.Dilation[0] - w.Before[0]
					for j := b0; j < b1; j++ {
						zb := j*w.Stride[1] + b*w.Dilation[1] - w.Before[1]
						zc := c0*w.Stride[2] + c*w.Dilation[2] - w.Before[2]
						f(tap, (i*out[1]+j)*out[2]+c0, (za*in[1]+zb)*in[2]+zc, c1-c0, w.Stride[2])
					}
				}
				tap++
			}
		}
	}
}

// ConvND is the convolution (cross-correlation) of ONNX on 1 to 3 spatial axes.
//
//	x: [N, C, spatial…]   w: [M, C/groups, kernel…]   bias: [M] or nil   result: [N, M, out…]
//	y[n,m,o] = bias[m] + Σ_c Σ_k w[m,c,k] · x[n, g(m)·C/groups+c, o·stride + k·dilation - before]
//
// summed in float64 and rounded once.
func ConvND[T Float](x, w, bias *Dense[T], win Window, groups int, out Shape) *Dense[T] {
	y := New[T](out...)
	in, o := spatial3(x.shape), spatial3(out)
	cg, m := w.shape[1], out[1]
	inLen, kLen := volume(in), volume(win.Kernel)
	acc := make([]float64, volume(o))
	for plane := range out[0] * m {
		n, oc := plane/m, plane%m
		startAt(acc, bias, oc)
		for c := range cg {
			src := x.data[(n*x.shape[1]+oc/(m/groups)*cg+c)*inLen:][:inLen]
			taps := w.data[(oc*cg+c)*kLen:][:kLen]
			win.each(in, o, func(tap, pos, at, n, step int) {
				wv := float64(taps[tap])
				for i := range n {
					acc[pos+i] += float64(wv * float64(src[at+i*step]))
				}
			})
		}
		store(y.data[plane*len(acc):], acc)
	}
	return y
}

// ConvTransposeND is the transposed convolution of ONNX on 1 to 3 spatial axes,
// the gradient of ConvND with respect to its input.
//
//	x: [N, C, spatial…]   w: [C, M/groups, kernel…]   bias: [M] or nil   result: [N, M, out…]
//	y[n,m,i·stride + k·dilation - before] += w[c,m,k] · x[n,c,i]
//
// summed in float64 and rounded once.
func ConvTransposeND[T Float](x, w, bias *Dense[T], win Window, groups int, out Shape) *Dense[T] {
	y := New[T](out...)
	in, o := spatial3(x.shape), spatial3(out)
	c, m := x.shape[1], out[1]
	cg, mg := c/groups, m/groups
	inLen, kLen := volume(in), volume(win.Kernel)
	acc := make([]float64, volume(o))
	for plane := range out[0] * m {
		n, oc := plane/m, plane%m
		startAt(acc, bias, oc)
		for ic := oc / mg * cg; ic < (oc/mg+1)*cg; ic++ {
			src := x.data[(n*c+ic)*inLen:][:inLen]
			taps := w.data[(ic*mg+oc%mg)*kLen:][:kLen]
			win.each(o, in, func(tap, pos, at, n, step int) {
				wv := float64(taps[tap])
				for i := range n {
					acc[at+i*step] += float64(wv * float64(src[pos+i]))
				}
			})
		}
		store(y.data[plane*len(acc):], acc)
	}
	return y
}

// startAt fills acc with the bias of a channel, or zero.
func startAt[T Float](acc []float64, bias *Dense[T], channel int) {
	b := 0.0
	if bias != nil {
		b = float64(bias.data[channel])
	}
	for i := range acc {
		acc[i] = b
	}
}

func store[T Float](dst []T, acc []float64) {
	for i, v := range acc {
		dst[i] = T(v)
	}
}

func volume(d [3]int) int { return d[0] * d[1] * d[2] }
