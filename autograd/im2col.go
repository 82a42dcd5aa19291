package autograd

import "roundel/tensor"

// unfold returns the column matrix [c·kh·kw, oh·ow] of the c planes at the start of x (im2col), in col.
// For a 1×1 convolution that is x itself.
func unfold[T tensor.Float](s *geom, col, x []T, c int) []T {
	if s.pointwise() {
		return x
	}
	s.taps(c, func(row, plane, ky, kx int) {
		dst, src := col[row*s.oh*s.ow:(row+1)*s.oh*s.ow], x[plane*s.ih*s.iw:(plane+1)*s.ih*s.iw]
		clear(dst)
		ylo, yhi := span(ky, s.sh, s.ih, s.oh)
		xlo, xhi := span(kx, s.sw, s.iw, s.ow)
		for y := ylo; y < yhi; y++ {
			d, in := dst[y*s.ow:], src[(y*s.sh+ky)*s.iw:]
			for i, at := xlo, xlo*s.sw+kx; i < xhi; i, at = i+1, at+s.sw {
				d[i] = in[at]
			}
		}
	})
	return col
}

// fold adds the column matrix col to the c planes at the start of x: the transpose of unfold.
func fold[T tensor.Float](s *geom, x, col []T, c int) {
	s.taps(c, func(row, plane, ky, kx int) {
		src, dst := col[row*s.oh*s.ow:(row+1)*s.oh*s.ow], x[plane*s.ih*s.iw:(plane+1)*s.ih*s.iw]
		ylo, yhi := span(ky, s.sh, s.ih, s.oh)
		xlo, xhi := span(kx, s.sw, s.iw, s.ow)
		for y := ylo; y < yhi; y++ {
			d, in := dst[(y*s.sh+ky)*s.iw:], src[y*s.ow:]
			for i, at := xlo, xlo*s.sw+kx; i < xhi; i, at = i+1, at+s.sw {
				d[at] += in[i]
			}
		}
	})
}

// taps calls f for every row of the column matrix with its plane and the
// position of its tap in the input for the first output, which may be negative.
func (s *geom) taps(c int, f func(row, plane, ky, kx int)) {
	row := 0
	for plane := range c {
		for i := range s.kh {
			for j := range s.kw {
				f(row, plane, i*s.dh-s.pt, j*s.dw-s.pl)
				row++
			}
		}
	}
}
