package tensor

import "roundel/asm"

// stripFloats bounds the padded rows that a worker holds at a time (256 KiB).
const stripFloats = 64 << 10

// convJob is the state of one dense, grouped or depthwise convolution. Jobs are
// reused, so that a call allocates nothing in the steady state.
type convJob struct {
	c        *PackedConv
	p        *Pool
	dst, src []float32
	h, w     int
	oh, ow   int
	ep       Epilogue

	rowsPer   int // output rows of a chunk
	rowBlocks int
	panelsPer int // panels of a chunk

	pitch int // floats from one input row to the next, as the kernel sees it
	tiles []asm.Tile
	dws   []asm.DwTile
	wins  []asm.WinogradTiles
	taps  [][]int // by worker
	fn    func(worker, i int)
	dwFn  func(worker, i int)
	farFn func(worker, i int)
	winFn func(worker, i int)
	win   winogradPlan
}

func getConvJob(c *PackedConv, p *Pool) *convJob {
	j := reuse(p, &p.convs)
	if j == nil {
		j = &convJob{}
		j.fn, j.dwFn, j.farFn, j.winFn = j.chunk, j.dwChunk, j.reached, j.winogradChunk
	}
	j.c, j.p = c, p
	if len(j.tiles) < p.workers {
		j.tiles, j.dws = make([]asm.Tile, p.workers), make([]asm.DwTile, p.workers)
		j.wins, j.taps = make([]asm.WinogradTiles, p.workers), make([][]int, p.workers)
	}
	return j
}

func (j *convJob) release() {
	p := j.p
	clear(j.tiles)
	clear(j.dws)
	clear(j.wins)
	*j = convJob{tiles: j.tiles, dws: j.dws, wins: j.wins, taps: j.taps, fn: j.fn, dwFn: j.dwFn, farFn: j.farFn, winFn: j.winFn}
	keep(p, &p.convs, j)
}

func (j *convJob) bind(dst, src []float32, h, w int, ep Epilogue) {
	j.dst, j.src, j.h, j.w, j.ep = dst, src, h, w, ep
	j.oh, j.ow = j.c.p.OutSize(h, w)
}

// runTaps is the path of all convolutions that are neither pointwise nor depthwise.
func (c *PackedConv) runTaps(dst, src []float32, h, w int, ep Epilogue, p *Pool) {
	j := getConvJob(c, p)
	j.bind(dst, src, h, w, ep)
	j.pitch = (w + c.p.PadL + c.p.PadR) * c.p.InC
	j.plan()
	groups := (len(c.panels) + j.panelsPer - 1) / j.panelsPer
	n := j.rowBlocks * groups
	if 2*float64(j.oh*j.ow)*float64(c.p.OutC)*float64(c.taps*c.depth) < inlineFlops {
		for i := range n {
			j.chunk(0, i)
		}
	} else {
		p.For(n, j.fn)
	}
	j.release()
}

// plan cuts the output into blocks of rows whose input fits the strip, and, while
// there are too few for the workers, into smaller ones and groups of panels.
func (j *convJob) plan() {
	p, c := &j.c.p, j.c
	span := (p.KH-1)*p.DilH + 1
	rows := max((stripFloats/j.pitch-span)/p.StrideH+1, 1)
	rows = min(rows, j.oh)
	j.panelsPer = len(c.panels)
	if w := j.p.workers; w > 1 {
		want := chunksEach * w
		// A block should keep tiles full and its halo small.
		least := max((2*j.c.k.MR+j.ow-1)/j.ow, 2)
		rows = max(min(rows, (j.oh+want-1)/want), min(least, rows))
		if have := (j.oh + rows - 1) / rows; have < want {
			groups := min((want+have-1)/have, len(c.panels))
			j.panelsPer = (len(c.panels) + groups - 1) / groups
		}
	}
	blocks := (j.oh + rows - 1) / rows
	j.rowsPer = (j.oh + blocks - 1) / blocks
	j.rowBlocks = (j.oh + j.rowsPer - 1) / j.rowsPer
}

// chunk computes one block of output rows by one group of panels.
func (j *convJob) chunk(worker, i int) {
	p, c := &j.c.p, j.c
	r0 := i % j.rowBlocks * j.rowsPer
	r1 := min(r0+j.rowsPer, j.oh)
	first := i / j.rowBlocks * j.panelsPer
	panels := c.panels[first:min(first+j.panelsPer, len(c.panels))]

	var src []float32
	if !p.padded() {
		src = j.src[r0*p.StrideH*j.pitch:]
	} else {
		n := (r1-r0-1)*p.StrideH + (p.KH-1)*p.DilH + 1
		src = j.p.borrow(n * j.pitch)
		j.pad(src, r0*p.StrideH-p.PadT, n)
		defer j.p.giveBack(src)
	}
	t := &j.tiles[worker]
	t.K, t.LDC, t.Acc = c.depth, p.OutC, 0
	t.LDA = p.StrideW * p.InC
	t.Lo, t.Hi = j.ep.kernelBounds()
	for _, pn := range panels {
		t.B, t.LDB, t.Cols, t.Bias = pn.b, pn.ld, pn.cols, j.ep.bias(pn.col, pn.cols)
		j.taps[worker] = c.appendTaps(j.taps[worker][:0], pn.col, j.pitch)
		t.Taps = j.taps[worker]
		j.pixels(t, src, r0, r1, pn)
	}
	col := panels[0].col
	end := panels[len(panels)-1].col + panels[len(panels)-1].cols
	j.ep.rest(&c.k, j.dst, p.OutC, r0*j.ow, (r1-r0)*j.ow, col, end-col)
}

// appendTaps appends the offsets, from the first input value of an output pixel, of
// the taps of the group that makes output channel col.
func (c *PackedConv) appendTaps(taps []int, col, pitch int) []int {
	p := &c.p
	at := col / (p.OutC / p.Groups) * (p.InC / p.Groups)
	for y := range p.KH {
		row := at + y*p.DilH*pitch
		if c.taps == p.KH {
			taps = append(taps, row)
			continue
		}
		for x := range p.KW {
			taps = append(taps, row+x*p.DilW*p.InC)
		}
	}
	return taps
}

// pixels runs the tiles of output rows [r0, r1) against the panel in t. A tile
// covers neighbouring pixels of one row, or of two where the kernel can split there.
func (j *convJob) pixels(t *asm.Tile, src []float32, r0, r1 int, pn panel) {
	p, k := &j.c.p, &j.c.k
	most := pn.rows(k)
	skip := p.StrideH*j.pitch - j.ow*t.LDA // from the end of a row of pixels to the next
	q, end := 0, (r1-r0)*j.ow
	for q < end {
		y, x := q/j.ow, q%j.ow
		left := j.ow - x // pixels to the end of this row
		n := tileRows(left, most)
		t.Split, t.Skip = n, 0
		if next := min(end-q-left, j.ow); next > 0 && left < most && (k.SplitAt == 0 || k.SplitAt == left) {
			n = min(most, left+next)
			t.Split, t.Skip = left, skip
		}
		t.Rows = n
		t.A = src[y*p.StrideH*j.pitch+x*t.LDA:]
		t.C = j.dst[(r0*j.ow+q)*t.LDC+pn.col:]
		q += n
		t.Ahead = pn.ahead(t, tilesOf(end-q, most), tilesOf(end, most))
		k.Gemm(t)
	}
}

// pad copies n input rows starting at row y0 (which may lie outside) into strip with
// their zero borders.
func (j *convJob) pad(strip []float32, y0, n int) {
	p := &j.c.p
	left, width := p.PadL*p.InC, j.w*p.InC
	for i := range n {
		row, y := strip[i*j.pitch:][:j.pitch], y0+i
		if y < 0 || y >= j.h {
			clear(row)
			continue
		}
		clear(row[:left])
		copy(row[left:], j.src[y*width:][:width])
		clear(row[left+width:])
	}
}
