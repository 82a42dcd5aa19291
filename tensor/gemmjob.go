package tensor

import "roundel/asm"

// Blocking of the GEMM drivers, in floats. They matter for speed only: an element's
// chain continues through dst from one block of k to the next.
const (
	depthBlock  = 512       // longest block of k
	blockFloats = 96 << 10  // left operand of one block of rows: 384 KiB of L2
	restFloats  = 64 << 10  // output of one block of rows that is visited again for its epilogue
	inlineFlops = 2_000_000 // below this, waking workers costs more than it gains
	chunksEach  = 4         // chunks per worker, to even out a busy machine
)

// gemmJob is the state of one product. Jobs are reused, so that a call allocates
// nothing in the steady state.
type gemmJob struct {
	p       *Pool
	k       asm.Kernels
	c, a    []float32
	ldc     int
	lda     int
	m, n    int
	depth   int
	panels  []panel
	ep      Epilogue
	tn, acc bool
	gram    bool      // only the tiles that touch the upper triangle are wanted
	scratch []float32 // packed right operand, borrowed from p

	rowsPer   int // rows of a block
	rowBlocks int
	panelsPer int // panels of a chunk
	depthPer  int

	tiles []asm.Tile // by worker
	fn    func(worker, i int)
}

var zeroTap = []int{0}

func getGemmJob(p *Pool, k asm.Kernels) *gemmJob {
	j := reuse(p, &p.gemms)
	if j == nil {
		j = &gemmJob{}
		j.fn = j.chunk
	}
	j.p, j.k = p, k
	if len(j.tiles) < p.workers {
		j.tiles = make([]asm.Tile, p.workers)
	}
	return j
}

// release returns what the job holds and forgets its operands.
func (j *gemmJob) release() {
	p := j.p
	if j.scratch != nil {
		p.giveBack(j.scratch)
	}
	clear(j.tiles)
	clear(j.panels)
	*j = gemmJob{panels: j.panels[:0], tiles: j.tiles, fn: j.fn}
	keep(p, &p.gemms, j)
}

func (j *gemmJob) run() {
	j.plan()
	groups := (len(j.panels) + j.panelsPer - 1) / j.panelsPer
	if n := j.rowBlocks * groups; 2*float64(j.m)*float64(j.n)*float64(j.depth) < inlineFlops {
		for i := range n {
			j.chunk(0, i)
		}
	} else {
		j.p.For(n, j.fn)
	}
	j.release()
}

// plan cuts the output into chunks: blocks of rows that stay in L2, then, while
// there are too few for the workers, smaller blocks and groups of panels.
func (j *gemmJob) plan() {
	mr := j.k.MR
	blocks := (j.depth + depthBlock - 1) / depthBlock
	j.depthPer = (j.depth + max(blocks, 1) - 1) / max(blocks, 1)
	if j.m <= mr { // a panel is used once
		j.depthPer = j.depth
	}
	rows := max(blockFloats/max(j.depthPer, 1)/mr, 1) * mr
	if j.ep.Residual != nil || j.ep.Quant != nil {
		rows = min(rows, max(restFloats/j.n/mr, 1)*mr)
	}
	j.panelsPer = len(j.panels)
	if w := j.p.workers; w > 1 {
		want := chunksEach * w
		rows = min(rows, max((j.m/want+mr-1)/mr, 1)*mr)
		if have := (j.m + rows - 1) / rows; have < want {
			groups := min((want+have-1)/have, len(j.panels))
			j.panelsPer = (len(j.panels) + groups - 1) / groups
		}
	}
	j.rowsPer = rows
	j.rowBlocks = (j.m + rows - 1) / rows
}

// chunk computes one block of rows by one group of panels.
func (j *gemmJob) chunk(worker, i int) {
	first := i / j.rowBlocks * j.panelsPer
	panels := j.panels[first:min(first+j.panelsPer, len(j.panels))]
	row := i % j.rowBlocks * j.rowsPer
	end := min(row+j.rowsPer, j.m)
	t := &j.tiles[worker]
	t.LDC, t.Taps = j.ldc, zeroTap
	var strip []float32
	if n := j.stripLen(); n > 0 && len(panels) > 1 {
		strip = j.p.borrow(n)
		defer j.p.giveBack(strip)
	}
	for k0 := 0; k0 < j.depth || k0 == 0; k0 += max(j.depthPer, 1) {
		k1 := min(k0+j.depthPer, j.depth)
		a := j.left(t, strip, row, end, k0, k1)
		for i := j.rowPanels(t, a, row, end, k0, k1, panels); i < len(panels); i++ {
			pn := panels[i]
			t.Cols = pn.cols
			mid := min(k1, max(k0, j.depth-pn.last))
			if mid > k0 || k1 == k0 {
				t.B, t.LDB = pn.b[min(k0*pn.ld, len(pn.b)):], pn.ld
				j.multiply(t, a, row, end, k0, mid, pn)
			}
			if k1 > mid {
				t.B, t.LDB = pn.end[(mid-(j.depth-pn.last))*pn.endLD:], pn.endLD
				j.multiply(t, a[(mid-k0)*j.aStep(t):], row, end, mid, k1, pn)
			}
		}
	}
	col := panels[0].col
	j.ep.rest(&j.k, j.c, j.ldc, row, end-row, col, panels[len(panels)-1].col+panels[len(panels)-1].cols-col)
}

// aStep returns the distance of neighbouring k in the left operand of t.
func (j *gemmJob) aStep(t *asm.Tile) int {
	if j.tn {
		return t.LDA
	}
	return 1
}

// multiply runs the tiles of rows [row, end) over steps [k0, k1) against the panel in
// t. a holds the left operand from row and k0 on.
func (j *gemmJob) multiply(t *asm.Tile, a []float32, row, end, k0, k1 int, pn panel) {
	j.span(t, k0, k1, pn.col, pn.cols)
	if j.gram {
		end = min(end, pn.col+pn.cols) // the rest is below the diagonal
	}
	most := pn.rows(&j.k)
	for r := row; r < end; r += t.Rows {
		t.Rows = tileRows(end-r, most)
		t.Split = t.Rows
		t.C = j.c[r*j.ldc+pn.col:]
		t.Ahead = pn.ahead(t, tilesOf(end-r-t.Rows, most), tilesOf(end-row, most))
		switch {
		case t.K == 0:
			t.A = nil
			j.k.Gemm(t)
		case j.tn:
			t.A = a[r-row:]
			j.k.GemmTN(t)
		default:
			t.A = a[(r-row)*t.LDA:]
			j.k.Gemm(t)
		}
	}
}

// rowPanels multiplies a single row by as many panels as it can take several at a time
// and returns their number.
func (j *gemmJob) rowPanels(t *asm.Tile, a []float32, row, end, k0, k1 int, panels []panel) (done int) {
	n := j.k.RowPanels
	if n == 0 || end-row != 1 || j.tn || j.gram || k1 == k0 {
		return 0
	}
	for ; len(panels)-done >= n; done += n {
		pn, last := panels[done], panels[done+n-1]
		if pn.next == 0 || last.cols != j.k.NR {
			break
		}
		// The panels lie one after the other in one buffer.
		t.A, t.LDA, t.Cols, t.LDB = a, pn.next, n*j.k.NR, pn.ld
		t.B = pn.b[:n*pn.next][k0*pn.ld:]
		t.C = j.c[row*j.ldc+pn.col:]
		j.span(t, k0, k1, pn.col, t.Cols)
		j.k.GemmRow(t)
	}
	return done
}

// span sets the fields of t that tell what comes before and after steps [k0, k1).
func (j *gemmJob) span(t *asm.Tile, k0, k1, col, cols int) {
	t.K, t.Acc, t.Bias = k1-k0, 0, nil
	if j.acc || k0 > 0 {
		t.Acc = 1
	}
	t.Lo, t.Hi = -inf, inf
	if k1 >= j.depth {
		t.Lo, t.Hi = j.ep.kernelBounds()
		t.Bias = j.ep.bias(col, cols)
	}
}

// tileRows returns the rows of the next tile when n are left: tiles of nearly equal
// height, as a short one cannot hide the latency of its multiply-adds.
func tileRows(n, most int) int {
	tiles := tilesOf(n, most)
	return (n + tiles - 1) / tiles
}

func tilesOf(n, most int) int { return (n + most - 1) / most }
