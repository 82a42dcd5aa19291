package nn

import (
	"slices"

	"roundel/asm"
	"roundel/tensor"
)

// pool is a step over output pixels of NHWC images: average or maximum of a window.
type pool struct {
	window
	k            asm.Kernels
	images       int
	h, w, oh, ow int
	c            int
	max          bool
	countPad     bool // average: divide by the window's size even at the border
	src, dst     *buffer
	weights      []float32 // average: row i is the inverse of a number of pixels in all channels, the last of all
	scratch      *buffer   // maximum: a row for each worker
	quant        *tensor.FakeQuant

	m  *machine
	fn func(worker, i int)
}

// lowerPool lowers MaxPool and AveragePool of images.
func lowerPool(b *builder, g *group) (bool, error) {
	n := g.head
	x, out := b.floatValue(n.In(0)), b.shapeOf(n.Out(0))
	kernel := n.Ints("kernel_shape")
	if x == nil || len(x.shape) != 4 || len(out) != 4 || len(kernel) != 2 || n.Out(1) != "" || out.Len() == 0 {
		return false, nil
	}
	win, ok := windowOf(n, x.shape, int(kernel[0]), int(kernel[1]))
	if !ok {
		return false, nil
	}
	p := &pool{window: win, k: b.p.k, images: out[0], h: x.shape[2], w: x.shape[3], oh: out[2], ow: out[3], c: out[1],
		max: n.Op == "MaxPool", countPad: n.Int("count_include_pad", 0) != 0}
	if p.countPad && n.Int("ceil_mode", 0) != 0 && !p.max || !p.covered() {
		return false, nil
	}
	b.addPool(g, x, p)
	return true, nil
}

// covered reports whether every window has a pixel of the image in it.
func (p *pool) covered() bool {
	for y := range p.oh {
		if lo, hi := taps(y*p.strideH-p.padT, p.kh, p.dilH, p.h); lo >= hi {
			return false
		}
	}
	for x := range p.ow {
		if lo, hi := taps(x*p.strideW-p.padL, p.kw, p.dilW, p.w); lo >= hi {
			return false
		}
	}
	return true
}

// taps returns the range of i in [0, k) for which start + i·dil lies in [0, size).
func taps(start, k, dil, size int) (lo, hi int) {
	for lo < k && start+lo*dil < 0 {
		lo++
	}
	hi = k
	for hi > lo && start+(hi-1)*dil >= size {
		hi--
	}
	return lo, hi
}

// lowerGlobalPool lowers GlobalAveragePool and ReduceMean over height and width.
func lowerGlobalPool(b *builder, g *group) (bool, error) {
	n := g.head
	x := b.floatValue(n.In(0))
	if x == nil || len(x.shape) != 4 || x.shape.Len() == 0 {
		return false, nil
	}
	if n.Op == "ReduceMean" {
		axes := slices.Clone(intList(b.r.consts[n.In(1)]))
		for i, a := range axes {
			if a < 0 {
				axes[i] = a + 4
			}
		}
		slices.Sort(axes)
		if !slices.Equal(axes, []int64{2, 3}) {
			return false, nil
		}
	}
	h, w := x.shape[2], x.shape[3]
	b.addPool(g, x, &pool{window: window{kh: h, kw: w, strideH: 1, strideW: 1, dilH: 1, dilW: 1}, k: b.p.k, images: x.shape[0],
		h: h, w: w, oh: 1, ow: 1, c: x.shape[1]})
	return true, nil
}

func (b *builder) addPool(g *group, x *operand, p *pool) {
	p.src, p.dst = b.inNHWC(x), b.newBuf(b.shapeOf(g.out).Len())
	p.quant = b.finalQuant(g)
	if !p.max {
		p.weights = p.inverses()
	}
	p.fn = func(worker, i int) { p.row(p.m, worker, i) }
	l := NHWC
	if len(b.shapeOf(g.out)) != 4 {
		l = RowMajor // [N, C] after a reduction that drops the other dimensions
	}
	s := &step{node: g.tail, reads: []*buffer{p.src}, writes: []*buffer{p.dst}, run: p.run}
	if p.max {
		p.scratch = b.newBuf(b.p.pool.Workers() * p.w * p.c)
		s.scratch = []*buffer{p.scratch}
	}
	b.add(s)
	b.define(g.out, l, p.dst)
}

// inverses returns rows of 1/n for the numbers of pixels that a window may average over, ending with all.
func (p *pool) inverses() []float32 {
	area, least := p.kh*p.kw, 1
	inside := p.padT|p.padL == 0 && (p.oh-1)*p.strideH+(p.kh-1)*p.dilH < p.h && (p.ow-1)*p.strideW+(p.kw-1)*p.dilW < p.w
	if inside || p.countPad {
		least = area
	}
	out := make([]float32, 0, (area-least+1)*p.c)
	for n := least; n <= area; n++ {
		out = append(out, filled(p.c, 1/float32(n))...)
	}
	return out
}

func (p *pool) run(m *machine) error {
	rows := p.images * p.oh
	if m.pool.Workers() == 1 || p.images*p.oh*p.ow*p.c*p.kh*p.kw < 4*grainFloats {
		for i := range rows {
			p.row(m, 0, i)
		}
		return nil
	}
	p.m = m
	m.pool.For(rows, p.fn)
	p.m = nil
	return nil
}

// row makes output row i, counted over all images.
func (p *pool) row(m *machine, worker, i int) {
	img, y := i/p.oh, i%p.oh
	src := m.f32(p.src)[img*p.h*p.w*p.c:][:p.h*p.w*p.c]
	dst := m.f32(p.dst)[i*p.ow*p.c:][:p.ow*p.c]
	if p.max {
		p.maxRow(m, worker, dst, src, y)
	} else {
		p.averageRow(m, worker, dst, src, y)
	}
	if p.quant != nil {
		tensor.QuantDequant(dst, dst, *p.quant, p.k)
	}
}

// averageRow sums each window, scaled, as one chain over rows, then columns.
func (p *pool) averageRow(m *machine, worker int, dst, src []float32, y int) {
	t := &m.tiles[worker]
	*t = asm.DwTile{W: p.weights, Src: src, LDD: p.c, LDS: p.strideW * p.c, N: p.c, Lo: negInf, Hi: posInf}
	y0 := y*p.strideH - p.padT
	ya, yb := taps(y0, p.kh, p.dilH, p.h)
	list := m.taps[worker]
	lastA, lastB := -1, -1
	for x := 0; x < p.ow; x += t.Pix {
		x0 := x*p.strideW - p.padL
		xa, xb := taps(x0, p.kw, p.dilW, p.w)
		t.Pix = 1
		for t.Pix < min(p.k.MP, p.ow-x) { // neighbours with the same taps
			a, b := taps(x0+t.Pix*p.strideW, p.kw, p.dilW, p.w)
			if a != xa || b != xb {
				break
			}
			t.Pix++
		}
		if xa != lastA || xb != lastB {
			lastA, lastB = xa, xb
			row := len(p.weights)/p.c - 1 // the whole window
			if !p.countPad {
				row -= p.kh*p.kw - (yb-ya)*(xb-xa)
			}
			list = list[:0]
			for ky := ya; ky < yb; ky++ {
				for kx := xa; kx < xb; kx++ {
					list = append(list, (ky*p.dilH*p.w+kx*p.dilW)*p.c, row*p.c)
				}
			}
			t.Taps = list
		}
		t.Off = (y0*p.w + x0) * p.c
		t.Dst = dst[x*p.c:]
		p.k.Depthwise(t)
	}
	m.taps[worker] = list
}

// maxRow takes the maximum of each window: down the rows into a scratch row first, then along it.
func (p *pool) maxRow(m *machine, worker int, dst, src []float32, y int) {
	line := p.w * p.c
	y0 := y*p.strideH - p.padT
	ya, yb := taps(y0, p.kh, p.dilH, p.h)
	at := func(ky int) []float32 { return src[(y0+ky*p.dilH)*line:][:line] }
	row := at(ya)
	if yb-ya > 1 {
		tmp := m.f32(p.scratch)[worker*line:][:line]
		p.k.Max(tmp, row, at(ya+1))
		for ky := ya + 2; ky < yb; ky++ {
			p.k.Max(tmp, tmp, at(ky))
		}
		row = tmp
	}
	for x := 0; x < p.ow; {
		x0 := x*p.strideW - p.padL
		xa, xb := taps(x0, p.kw, p.dilW, p.w)
		n := 1
		if p.strideW == 1 && xb-xa == p.kw { // neighbours up to the right border
			n = max(min(p.w-(p.kw-1)*p.dilW-x0, p.ow-x), 1)
		}
		d := dst[x*p.c:][:n*p.c]
		first := row[(x0+xa*p.dilW)*p.c:]
		if xb-xa == 1 {
			copy(d, first)
		}
		for kx := xa + 1; kx < xb; kx++ {
			p.k.Max(d, first, row[(x0+kx*p.dilW)*p.c:])
			first = d
		}
		x += n
	}
}
