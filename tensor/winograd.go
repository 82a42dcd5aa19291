package tensor

import "roundel/asm"

// Winograd's F(2x2, 3x3): a tile of 2x2 outputs of a 3x3 convolution of stride 1 takes 16
// multiplications for each pair of channels instead of 36 (Lavin and Gray, Fast Algorithms
// for Convolutional Neural Networks, CVPR 2016, section 4.1):
//
//	Y = A'[(G g G') * (B' d B)]A
//
// The 16 products of all tiles are matrix products over the input channels. RATIONALE.md
// has what it costs in accuracy.
const (
	winogradTerms  = 16
	winogradFloats = 128 << 10 // transformed input of a chunk (512 KiB)
	winogradCols   = 128       // fewest output channels for which a chunk transforms its input
)

// Winograd reports whether Winograd's algorithm is the faster one for convolutions with p
// of images of h x w (bench/RESULTS.md); their weights must allow it, see PackWinograd.
// It depends on the shape of a layer only, so that results do not depend on the machine.
func (p ConvParams) Winograd(h, w int) bool {
	if p.KH != 3 || p.KW != 3 || p.StrideH != 1 || p.StrideW != 1 || p.DilH != 1 || p.DilW != 1 || p.Groups != 1 ||
		p.InC%16 != 0 || p.OutC%16 != 0 || p.InC*p.OutC < 32*32 {
		return false
	}
	oh, ow := p.OutSize(h, w)
	tiles := ((oh + 1) / 2) * ((ow + 1) / 2)
	return tiles >= 4 && 8*tiles <= 3*oh*ow // at most 2/3 of the multiplications, those of cut tiles included
}

// PackWinograd is PackConv for Winograd's algorithm; p is one for which Winograd reports
// true. Weights of which one is not finite, or so large that its transform might not be,
// are packed as by PackConv.
func PackWinograd(k asm.Kernels, p ConvParams, w []float32) *PackedConv {
	const most = 0x1p126 // the sum of nine such weights, divided by four, is finite
	for _, x := range w[:p.OutC*p.InC*9] {
		if !(x >= -most && x <= most) {
			return PackConv(k, p, w)
		}
	}
	c := &PackedConv{p: p, k: k, winograd: true}
	u := make([]float32, p.InC*winogradTerms)
	c.packPanels(winogradTerms, func(o int) []float32 {
		for i := range p.InC {
			winogradWeights(u[i*winogradTerms:][:winogradTerms], w[(o*p.InC+i)*9:][:9])
		}
		return u
	})
	return c
}

// winogradWeights sets u = G g G', computed in float64 and rounded once.
func winogradWeights(u, g []float32) {
	var s [4][3]float64
	for x := range 3 {
		s[0][x], s[1][x], s[2][x], s[3][x] = winogradWeights1(float64(g[x]), float64(g[3+x]), float64(g[6+x]))
	}
	for y, r := range s {
		a, b, c, d := winogradWeights1(r[0], r[1], r[2])
		u[4*y], u[4*y+1], u[4*y+2], u[4*y+3] = float32(a), float32(b), float32(c), float32(d)
	}
}

func winogradWeights1(a, b, c float64) (float64, float64, float64, float64) {
	return a, (a + b + c) / 2, (a - b + c) / 2, c
}

// winogradPlan is how the tiles of an image are computed.
type winogradPlan struct {
	wide, tiles int // tiles of a row, and in all
	ld          int // floats of a tile's term, input side
	width       int // and output side: columns of the widest panel
	in, out     int // distances between terms
}

func (c *PackedConv) winogradPlan(j *convJob) winogradPlan {
	w := winogradPlan{wide: (j.ow + 1) / 2, ld: c.p.InC + stripPad}
	w.tiles = w.wide * ((j.oh + 1) / 2)
	for _, pn := range c.panels {
		w.width = max(w.width, pn.ld)
	}
	most := max(winogradFloats/(winogradTerms*w.ld), 2*c.k.MR)
	j.rowBlocks = (w.tiles + most - 1) / most
	j.rowsPer = (w.tiles + j.rowBlocks - 1) / j.rowBlocks
	j.rowBlocks = (w.tiles + j.rowsPer - 1) / j.rowsPer
	j.panelsPer = len(c.panels)
	if want := chunksEach * j.p.workers; j.p.workers > 1 && j.rowBlocks < want {
		groups := min((want+j.rowBlocks-1)/j.rowBlocks, max(c.p.OutC/winogradCols, 1))
		j.panelsPer = (len(c.panels) + groups - 1) / groups
	}
	w.in, w.out = j.rowsPer*w.ld+stripPad, j.rowsPer*w.width+stripPad
	return w
}

// scratch returns the floats that a chunk needs: terms of input and output, and one tile.
func (w winogradPlan) scratch() int {
	return winogradTerms * (w.in + w.out + max(w.ld, w.width))
}

// runWinograd is the path of weights packed by PackWinograd.
func (c *PackedConv) runWinograd(dst, src []float32, h, w int, ep Epilogue, p *Pool) {
	j := getConvJob(c, p)
	j.bind(dst, src, h, w, ep)
	j.win = c.winogradPlan(j)
	n := j.rowBlocks * ((len(c.panels) + j.panelsPer - 1) / j.panelsPer)
	if 2*float64(j.win.tiles)*winogradTerms*float64(c.p.OutC)*float64(c.p.InC) < inlineFlops {
		for i := range n {
			j.winogradChunk(0, i)
		}
	} else {
		p.For(n, j.winFn)
	}
	j.release()
}

// winogradChunk computes a run of tiles by a group of panels.
func (j *convJob) winogradChunk(worker, i int) {
	c, w := j.c, &j.win
	from := i % j.rowBlocks * j.rowsPer
	to := min(from+j.rowsPer, w.tiles)
	first := i / j.rowBlocks * j.panelsPer
	panels := c.panels[first:min(first+j.panelsPer, len(c.panels))]
	buf := j.p.borrow(w.scratch())
	defer j.p.giveBack(buf)
	in, out, patch := buf[:winogradTerms*w.in], buf[winogradTerms*w.in:][:winogradTerms*w.out], buf[winogradTerms*(w.in+w.out):]

	t := &j.wins[worker]
	*t = asm.WinogradTiles{N: c.p.InC, Term: w.in, Step: w.ld}
	for q := from; q < to; q += j.run(q, to) {
		j.winogradIn(t, in[(q-from)*w.ld:], patch, q, j.run(q, to))
	}
	*t = asm.WinogradTiles{Term: w.out}
	t.Lo, t.Hi = j.ep.kernelBounds()
	for _, pn := range panels {
		j.winogradProducts(&j.tiles[worker], in, out, pn, to-from)
		t.N, t.Step, t.Bias = pn.cols, pn.ld, j.ep.bias(pn.col, pn.cols)
		for q := from; q < to; q += j.run(q, to) {
			j.winogradOut(t, out[(q-from)*pn.ld:], patch, q, j.run(q, to), pn.col)
		}
	}
	last := panels[len(panels)-1]
	for q := from; q < to; q += j.run(q, to) {
		y, x := 2*(q/w.wide), 2*(q%w.wide)
		for end := min(y+2, j.oh); y < end; y++ {
			j.ep.rest(&c.k, j.dst, c.p.OutC, y*j.ow+x, min(2*j.run(q, to), j.ow-x), panels[0].col, last.col+last.cols-panels[0].col)
		}
	}
}

// run returns how many of the tiles [q, to) lie in one row.
func (j *convJob) run(q, to int) int { return min(to-q, j.win.wide-q%j.win.wide) }

// winogradIn transforms the input of n tiles of a row from tile q on. Those that reach
// over the image are copied to a patch with zeros around them.
func (j *convJob) winogradIn(t *asm.WinogradTiles, terms, patch []float32, q, n int) {
	p, wide := &j.c.p, j.win.wide
	y, x := 2*(q/wide)-p.PadT, 2*(q%wide)-p.PadL
	lo, hi := inside(x, 2, j.w-3, n) // the tiles within the image
	if y < 0 || y+4 > j.h {
		lo, hi = n, n
	}
	for i := range n {
		t.Terms = terms[i*t.Step:]
		switch {
		case i == lo && lo < hi:
			t.Image, t.Tiles = j.src[(y*j.w+x+2*i)*p.InC:], hi-lo
			t.Row, t.Pixel, t.Next = j.w*p.InC, p.InC, 2*p.InC
			j.c.k.WinogradInput(t)
		case i < lo || i >= hi:
			j.winogradPatch(patch, y, x+2*i)
			t.Image, t.Tiles, t.Row, t.Pixel = patch, 1, 4*p.InC, p.InC
			j.c.k.WinogradInput(t)
		}
	}
}

// winogradPatch copies the 4x4 pixels from (y, x) on, zeros outside the image.
func (j *convJob) winogradPatch(patch []float32, y, x int) {
	n := j.c.p.InC
	for i := range winogradTerms {
		d, py, px := patch[i*n:][:n], y+i/4, x+i%4
		if py < 0 || py >= j.h || px < 0 || px >= j.w {
			clear(d)
		} else {
			copy(d, j.src[(py*j.w+px)*n:])
		}
	}
}

// winogradProducts multiplies the 16 terms of a number of tiles by those of a panel.
func (j *convJob) winogradProducts(t *asm.Tile, in, out []float32, pn panel, tiles int) {
	k, w := &j.c.k, &j.win
	most := pn.rows(k)
	*t = asm.Tile{Taps: zeroTap, LDA: w.ld, LDB: pn.ld, LDC: pn.ld, K: j.c.p.InC, Cols: pn.cols, Lo: -inf, Hi: inf}
	pn.next = t.K * pn.ld // the next term's weights
	for term := range winogradTerms {
		t.B = pn.b[term*pn.next:]
		for r := 0; r < tiles; r += t.Rows {
			t.Rows = tileRows(tiles-r, most)
			t.Split = t.Rows
			t.A, t.C = in[term*w.in+r*w.ld:], out[term*w.out+r*pn.ld:]
			t.Ahead = pn.ahead(t, tilesOf(tiles-r-t.Rows, most), tilesOf(tiles, most))
			k.Gemm(t)
		}
	}
}

// winogradOut makes output channels from col on of n tiles of a row from tile q on. A tile
// that reaches over the output goes to a patch first.
func (j *convJob) winogradOut(t *asm.WinogradTiles, terms, patch []float32, q, n, col int) {
	ld, wide := j.c.p.OutC, j.win.wide
	y, x := 2*(q/wide), 2*(q%wide)
	whole := min(n, (j.ow-x)/2)
	if y+2 > j.oh {
		whole = 0
	}
	if whole > 0 {
		t.Image, t.Terms, t.Tiles = j.dst[(y*j.ow+x)*ld+col:], terms, whole
		t.Row, t.Pixel, t.Next = j.ow*ld, ld, 2*ld
		j.c.k.WinogradOutput(t)
	}
	for i := whole; i < n; i++ {
		t.Image, t.Terms, t.Tiles = patch, terms[i*t.Step:], 1
		t.Row, t.Pixel = 2*t.N, t.N
		j.c.k.WinogradOutput(t)
		for at := range 4 {
			if py, px := y+at/2, x+2*i+at%2; py < j.oh && px < j.ow {
				copy(j.dst[(py*j.ow+px)*ld+col:][:t.N], patch[at*t.N:])
			}
		}
	}
}
