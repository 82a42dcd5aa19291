package autograd

import (
	"fmt"

	"roundel/tensor"
)

// Conv is the geometry of a 2-D convolution. Zero strides, dilations and groups mean 1.
type Conv struct {
	Stride, Dilation [2]int // height, width
	Pad              [4]int // top, left, bottom, right
	Groups           int
}

// geom is a Conv with its sizes: x [n, ic, ih, iw], w [oc, ic/g, kh, kw], y [n, oc, oh, ow].
type geom struct {
	n, ic, ih, iw, oc, oh, ow, kh, kw int
	sh, sw, dh, dw, pt, pl, g         int
}

// geometry fills in the defaults of c for the shapes x and w of a convolution.
func (c Conv) geometry(x, w tensor.Shape) geom {
	g := geom{sh: max(1, c.Stride[0]), sw: max(1, c.Stride[1]), dh: max(1, c.Dilation[0]), dw: max(1, c.Dilation[1]),
		pt: c.Pad[0], pl: c.Pad[1], g: max(1, c.Groups)}
	if len(x) != 4 || len(w) != 4 || x[1] != w[1]*g.g || w[0]%g.g != 0 {
		panic(fmt.Sprintf("autograd: convolution of %v with weight %v in %d groups", x, w, g.g))
	}
	g.n, g.ic, g.ih, g.iw, g.oc, g.kh, g.kw = x[0], x[1], x[2], x[3], w[0], w[2], w[3]
	g.oh = (g.ih+c.Pad[0]+c.Pad[2]-(g.kh-1)*g.dh-1)/g.sh + 1
	g.ow = (g.iw+c.Pad[1]+c.Pad[3]-(g.kw-1)*g.dw-1)/g.sw + 1
	return g
}

// Conv2d returns the convolution of x [N, C, H, W] with w [O, C/groups, KH, KW] plus b [O], which may be nil.
func (t *Tape[T]) Conv2d(x, w, b *Value[T], c Conv) *Value[T] {
	s := c.geometry(x.Shape(), w.Shape())
	out := t.zeros(s.n, s.oc, s.oh, s.ow)
	t.convForward(&s, out.Data(), x.X.Data(), w.X.Data())
	t.addBias(out, b)
	return t.record(out, func(g []T) {
		if dx := t.gradOf(x); dx != nil {
			t.convInput(&s, dx, g, w.X.Data())
		}
		if dw := t.gradOf(w); dw != nil {
			t.convWeight(&s, dw, x.X.Data(), g)
		}
		t.biasGrad(out.Shape(), b, g)
	}, x, w, b)
}

// ConvTranspose2d returns the transposed convolution of x [N, C, H, W] with w [C, O/groups, KH, KW] plus b [O]
// (which may be nil): the gradient of the convolution that c describes, so the output extent is
// (H−1)·stride − pads + dilation·(KH−1) + 1 + outPad.
func (t *Tape[T]) ConvTranspose2d(x, w, b *Value[T], c Conv, outPad [2]int) *Value[T] {
	xs, ws, groups := x.Shape(), w.Shape(), max(1, c.Groups)
	oh := (xs[2]-1)*max(1, c.Stride[0]) - c.Pad[0] - c.Pad[2] + max(1, c.Dilation[0])*(ws[2]-1) + 1 + outPad[0]
	ow := (xs[3]-1)*max(1, c.Stride[1]) - c.Pad[1] - c.Pad[3] + max(1, c.Dilation[1])*(ws[3]-1) + 1 + outPad[1]
	out := t.zeros(xs[0], ws[1]*groups, oh, ow)
	s := c.geometry(out.Shape(), ws) // the convolution from y to x
	s.oh, s.ow = xs[2], xs[3]        // exact: outPad adds rows that the last window does not reach
	t.convInput(&s, out.Data(), x.X.Data(), w.X.Data())
	t.addBias(out, b)
	return t.record(out, func(g []T) {
		if dx := t.gradOf(x); dx != nil {
			y := t.grab(len(dx))
			t.convForward(&s, y, g, w.X.Data())
			addTo(dx, y)
			t.release(y)
		}
		if dw := t.gradOf(w); dw != nil {
			t.convWeight(&s, dw, g, x.X.Data())
		}
		t.biasGrad(out.Shape(), b, g)
	}, x, w, b)
}

// convForward writes y = w ∗ x.
func (t *Tape[T]) convForward(s *geom, y, x, w []T) {
	if s.depthwise3() {
		depthwiseForward(t, s, y, x, w)
		return
	}
	icg, ocg, k, p := s.ic/s.g, s.oc/s.g, s.ic/s.g*s.kh*s.kw, s.oh*s.ow
	cols := t.columns(s)
	t.pool.For(s.n*s.g, func(worker, i int) {
		n, g := i/s.g, i%s.g
		col := unfold(s, cols[worker], x[(n*s.ic+g*icg)*s.ih*s.iw:], icg)
		t.gemm(y[(n*s.oc+g*ocg)*p:], w[g*ocg*k:], col, ocg, p, k, false, false, false)
	})
	t.releaseAll(cols)
}

// convInput adds the gradient of x for the gradient y of the output.
func (t *Tape[T]) convInput(s *geom, x, y, w []T) {
	if s.depthwise3() {
		depthwiseInput(t, s, x, y, w)
		return
	}
	icg, ocg, k, p := s.ic/s.g, s.oc/s.g, s.ic/s.g*s.kh*s.kw, s.oh*s.ow
	cols := t.columns(s)
	t.pool.For(s.n*s.g, func(worker, i int) {
		n, g := i/s.g, i%s.g
		dst := x[(n*s.ic+g*icg)*s.ih*s.iw:]
		if s.pointwise() {
			t.gemm(dst, w[g*ocg*k:], y[(n*s.oc+g*ocg)*p:], k, p, ocg, true, false, true)
			return
		}
		t.gemm(cols[worker], w[g*ocg*k:], y[(n*s.oc+g*ocg)*p:], k, p, ocg, true, false, false)
		fold(s, dst, cols[worker], icg)
	})
	t.releaseAll(cols)
}

// weightParts is how many partial sums a weight gradient is split into. It is
// a constant, so that the result does not depend on the number of workers.
const weightParts = 8

// convWeight adds the gradient of w.
func (t *Tape[T]) convWeight(s *geom, w, x, y []T) {
	if s.depthwise3() {
		depthwiseWeight(t, s, w, x, y)
		return
	}
	icg, ocg, k, p := s.ic/s.g, s.oc/s.g, s.ic/s.g*s.kh*s.kw, s.oh*s.ow
	sums := make([][]T, min(s.n, weightParts))
	for i := range sums {
		sums[i] = t.grab(len(w))
	}
	cols := t.columns(s)
	t.pool.For(len(sums), func(worker, part int) {
		for n := part * s.n / len(sums); n < (part+1)*s.n/len(sums); n++ {
			for g := range s.g {
				col := unfold(s, cols[worker], x[(n*s.ic+g*icg)*s.ih*s.iw:], icg)
				t.gemm(sums[part][g*ocg*k:], y[(n*s.oc+g*ocg)*p:], col, ocg, k, p, false, true, true)
			}
		}
	})
	for _, part := range sums {
		addTo(w, part)
	}
	t.releaseAll(sums)
	t.releaseAll(cols)
}

// columns returns one im2col buffer per worker, or nothing when x itself is the column matrix.
func (t *Tape[T]) columns(s *geom) [][]T {
	if s.pointwise() {
		return make([][]T, t.pool.Workers())
	}
	return t.perWorker(s.ic / s.g * s.kh * s.kw * s.oh * s.ow)
}

func (t *Tape[T]) releaseAll(bufs [][]T) {
	for _, b := range bufs {
		if b != nil {
			t.release(b)
		}
	}
}

// pointwise reports whether the column matrix is x itself.
func (s *geom) pointwise() bool {
	return s.kh*s.kw == 1 && s.sh*s.sw == 1 && s.oh == s.ih && s.ow == s.iw && s.pt == 0 && s.pl == 0
}

// span returns the outputs [lo, hi) whose tap at offset k (already dilated, minus padding) lies inside an input of extent in.
func span(k, stride, in, out int) (lo, hi int) {
	if k < 0 {
		lo = (-k + stride - 1) / stride
	}
	if in-1-k >= 0 {
		hi = min(out, (in-1-k)/stride+1)
	}
	return lo, max(lo, hi)
}
