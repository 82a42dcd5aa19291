package autograd

import "roundel/tensor"

// depthwise3 reports whether the convolution is the common depthwise 3×3, which
// has its own loops: as a matrix product with one row it would waste the kernels.
func (s *geom) depthwise3() bool {
	return s.g == s.ic && s.ic == s.oc && s.kh == 3 && s.kw == 3 && s.dh*s.dw == 1 && s.sh == s.sw && s.g > 1
}

// padded returns the extents of a plane with its border: all that the windows reach.
func (s *geom) padded() (h, w int) { return (s.oh-1)*s.sh + 3, (s.ow-1)*s.sw + 3 }

// depthwiseForward adds w ∗ x to y.
func depthwiseForward[T tensor.Float](t *Tape[T], s *geom, y, x, w []T) {
	ph, pw := s.padded()
	pads := t.perWorker(ph * pw)
	t.pool.For(s.n*s.ic, func(worker, i int) {
		pad := pads[worker]
		clear(pad)
		place(pad, ph, pw, x[i*s.ih*s.iw:], s.ih, s.iw, s.pt, s.pl, 1)
		correlate3(y[i*s.oh*s.ow:], s.oh, s.ow, pad, pw, s.sh, (*[9]T)(w[i%s.ic*9:]))
	})
	t.releaseAll(pads)
}

// depthwiseInput adds the gradient of x: the mirrored weights over the output gradient, spread by the stride.
func depthwiseInput[T tensor.Float](t *Tape[T], s *geom, x, y, w []T) {
	ph, pw := s.ih+2, s.iw+2
	pads := t.perWorker(ph * pw)
	t.pool.For(s.n*s.ic, func(worker, i int) {
		pad := pads[worker]
		clear(pad)
		place(pad, ph, pw, y[i*s.oh*s.ow:], s.oh, s.ow, 2-s.pt, 2-s.pl, s.sh)
		var mirrored [9]T
		for k := range mirrored {
			mirrored[k] = w[i%s.ic*9+8-k]
		}
		correlate3(x[i*s.ih*s.iw:], s.ih, s.iw, pad, pw, 1, &mirrored)
	})
	t.releaseAll(pads)
}

// depthwiseWeight adds the gradient of w. Each channel sums its planes in order.
func depthwiseWeight[T tensor.Float](t *Tape[T], s *geom, w, x, y []T) {
	ph, pw := s.padded()
	pads := t.perWorker(ph * pw)
	t.pool.For(s.ic, func(worker, c int) {
		pad := pads[worker]
		var sum [9]float64
		for n := range s.n {
			i := n*s.ic + c
			clear(pad)
			place(pad, ph, pw, x[i*s.ih*s.iw:], s.ih, s.iw, s.pt, s.pl, 1)
			for k, v := range products3(y[i*s.oh*s.ow:], s.oh, s.ow, pad, pw, s.sh) {
				sum[k] += float64(v)
			}
		}
		for k, v := range sum {
			w[c*9+k] += T(v)
		}
	})
	t.releaseAll(pads)
}

// perWorker returns a buffer of n elements for each worker.
func (t *Tape[T]) perWorker(n int) [][]T {
	bufs := make([][]T, t.pool.Workers())
	for i := range bufs {
		bufs[i] = t.grab(n)
	}
	return bufs
}

// place copies the plane src [h, w] into dst [ph, pw] with its origin at (top, left), which may be
// negative, and its rows and columns step apart; what falls outside is dropped.
func place[T tensor.Float](dst []T, ph, pw int, src []T, h, w, top, left, step int) {
	xlo, xhi := span(left, step, pw, w)
	ylo, yhi := span(top, step, ph, h)
	for y := ylo; y < yhi; y++ {
		d, s := dst[(y*step+top)*pw:][:pw], src[y*w:][:w]
		if step == 1 {
			copy(d[xlo+left:], s[xlo:xhi])
			continue
		}
		for x := xlo; x < xhi; x++ {
			d[x*step+left] = s[x]
		}
	}
}

// correlate3 is y[i][j] += Σₐᵦ k[a][b]·x[i·stride+a][j·stride+b] for y [h, w] and x with rows of pw elements.
func correlate3[T tensor.Float](y []T, h, w int, x []T, pw, stride int, k *[9]T) {
	for i := range h {
		dst := y[i*w:][:w]
		r0, r1, r2 := x[i*stride*pw:][:pw], x[(i*stride+1)*pw:][:pw], x[(i*stride+2)*pw:][:pw]
		if stride != 1 {
			for j := range dst {
				a := j * stride
				s := T(k[0]*r0[a]) + T(k[1]*r0[a+1]) + T(k[2]*r0[a+2])
				s = s + T(k[3]*r1[a]) + T(k[4]*r1[a+1]) + T(k[5]*r1[a+2])
				dst[j] += s + T(k[6]*r2[a]) + T(k[7]*r2[a+1]) + T(k[8]*r2[a+2])
			}
			continue
		}
		// The window slides along three rows; only its right column is loaded anew.
		a0, a1, b0, b1, c0, c1 := r0[0], r0[1], r1[0], r1[1], r2[0], r2[1]
		r0, r1, r2 = r0[2:][:len(dst)], r1[2:][:len(dst)], r2[2:][:len(dst)]
		for j := range dst {
			a2, b2, c2 := r0[j], r1[j], r2[j]
			s := T(k[0]*a0) + T(k[1]*a1) + T(k[2]*a2)
			s = s + T(k[3]*b0) + T(k[4]*b1) + T(k[5]*b2)
			dst[j] += s + T(k[6]*c0) + T(k[7]*c1) + T(k[8]*c2)
			a0, a1, b0, b1, c0, c1 = a1, a2, b1, b2, c1, c2
		}
	}
}

// products3 returns the nine sums Σᵢⱼ y[i][j]·x[i·stride+a][j·stride+b].
func products3[T tensor.Float](y []T, h, w int, x []T, pw, stride int) [9]T {
	var s0, s1, s2, s3, s4, s5, s6, s7, s8 T
	for i := range h {
		src := y[i*w:][:w]
		r0, r1, r2 := x[i*stride*pw:][:pw], x[(i*stride+1)*pw:][:pw], x[(i*stride+2)*pw:][:pw]
		for j, g := range src {
			a := j * stride
			u, v, z := r0[a:a+3:a+3], r1[a:a+3:a+3], r2[a:a+3:a+3]
			s0, s1, s2 = s0+T(g*u[0]), s1+T(g*u[1]), s2+T(g*u[2])
			s3, s4, s5 = s3+T(g*v[0]), s4+T(g*v[1]), s5+T(g*v[2])
			s6, s7, s8 = s6+T(g*z[0]), s7+T(g*z[1]), s8+T(g*z[2])
		}
	}
	return [9]T{s0, s1, s2, s3, s4, s5, s6, s7, s8}
}
