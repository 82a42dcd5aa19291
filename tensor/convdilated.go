package tensor

import "roundel/asm"

// skipsPadding reports whether a dilated convolution of an h x w image reads so much
// padding that it is better computed tap by tap, each on the pixels it reaches.
func (c *PackedConv) skipsPadding(h, w int) bool {
	p := &c.p
	if p.Groups != 1 || p.DilW == 1 || c.taps != p.KH*p.KW {
		return false
	}
	oh, ow := p.OutSize(h, w)
	work := 0
	for y := range p.KH {
		for x := range p.KW {
			r := c.reach(y, x, h, w)
			work += max(r.y1-r.y0, 0) * max(r.x1-r.x0, 0)
		}
	}
	return 4*work < 3*oh*ow*c.taps
}

// rect is a range of output pixels.
type rect struct{ y0, y1, x0, x1 int }

// reach returns the output pixels for which tap (ky, kx) lies inside the image.
func (c *PackedConv) reach(ky, kx, h, w int) (r rect) {
	p := &c.p
	oh, ow := p.OutSize(h, w)
	r.y0, r.y1 = inside(ky*p.DilH-p.PadT, p.StrideH, h, oh)
	r.x0, r.x1 = inside(kx*p.DilW-p.PadL, p.StrideW, w, ow)
	return r
}

// inside returns the range of i in [0, n) for which 0 ≤ from + i·step < size.
func inside(from, step, size, n int) (lo, hi int) {
	if from < 0 {
		lo = (-from + step - 1) / step
	}
	if from < size {
		hi = min((size-1-from)/step+1, n)
	}
	return lo, max(lo, hi)
}

// runReached computes tap after tap. The chains are those of runTaps without the
// products with padding, which add nothing.
func (c *PackedConv) runReached(dst, src []float32, h, w int, ep Epilogue, p *Pool) {
	j := getConvJob(c, p)
	j.bind(dst, src, h, w, ep)
	p.For(len(c.panels), j.farFn)
	j.release()
}

// reached computes the columns of panel i.
func (j *convJob) reached(worker, i int) {
	c, pn, n := j.c, j.c.panels[i], j.oh*j.ow
	ld := c.p.OutC
	for q := range n {
		clear(j.dst[q*ld+pn.col:][:pn.cols])
	}
	for tap := range c.taps {
		j.reachedTap(&j.tiles[worker], tap, pn)
	}
	lo, hi := j.ep.kernelBounds()
	for q := range n {
		d := j.dst[q*ld+pn.col:][:pn.cols]
		if j.ep.Bias != nil {
			c.k.AddClamp(d, d, j.ep.bias(pn.col, pn.cols), lo, hi)
		} else {
			c.k.Clamp(d, d, lo, hi)
		}
	}
	j.ep.rest(&c.k, j.dst, ld, 0, n, pn.col, pn.cols)
}

// reachedTap adds the products of one tap to the columns of a panel.
func (j *convJob) reachedTap(t *asm.Tile, tap int, pn panel) {
	c, p := j.c, &j.c.p
	ky, kx := tap/p.KW, tap%p.KW
	r := c.reach(ky, kx, j.h, j.w)
	*t = asm.Tile{B: pn.b[tap*c.depth*pn.ld:], LDB: pn.ld, Cols: pn.cols, K: c.depth, Taps: zeroTap, LDC: p.OutC, LDA: p.StrideW * p.InC,
		Acc: 1, Lo: -inf, Hi: inf, Ahead: pn.next}
	width := r.x1 - r.x0
	if width == j.ow && j.w == j.ow && p.StrideW == 1 && p.StrideH == 1 { // rows without a gap
		width, r.y1 = width*(r.y1-r.y0), min(r.y1, r.y0+1)
	}
	for y := r.y0; y < r.y1; y++ {
		iy, ix := y*p.StrideH+ky*p.DilH-p.PadT, r.x0*p.StrideW+kx*p.DilW-p.PadL
		for x := 0; x < width; x += t.Rows {
			t.Rows = tileRows(width-x, pn.rows(&c.k))
			t.Split = t.Rows
			t.A = j.src[(iy*j.w+ix)*p.InC+x*t.LDA:]
			t.C = j.dst[(y*j.ow+r.x0+x)*p.OutC+pn.col:]
			c.k.Gemm(t)
		}
	}
}
