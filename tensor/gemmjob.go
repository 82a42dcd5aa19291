package tensor

import (
	"sync"

	"roundel/asm"
)

// Blocking of the GEMM drivers, in floats. They matter for speed only: an element's
// chain continues through dst from one block of k to the next.
const (
	depthBlock  = 512       // longest block of k
	blockFloats = 80 << 10  // left operand and output of one block of rows: 320 KiB of L2
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
	scratch []float32 // packed right operand, borrowed from p

	rowsPer   int // rows of a block
	rowBlocks int
	panelsPer int // panels of a chunk
	depthPer  int

	tiles []asm.Tile // by worker
	fn    func(worker, i int)
}

var gemmJobs sync.Pool

var zeroTap = []int{0}

func getGemmJob(p *Pool, k asm.Kernels) *gemmJob {
	j, _ := gemmJobs.Get().(*gemmJob)
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
	if j.scratch != nil {
		j.p.giveBack(j.scratch)
	}
	clear(j.tiles)
	clear(j.panels)
	*j = gemmJob{panels: j.panels[:0], tiles: j.tiles, fn: j.fn}
	gemmJobs.Put(j)
}

// bindB makes panels of a right operand that is not packed.
func (j *gemmJob) bindB(b []float32, ldb int, trans bool) {
	j.scratch = j.p.borrow(packedLen(&j.k, j.depth, j.n))
	j.panels = appendPanels(j.panels, &j.k, j.scratch, j.depth, j.n, 0)
	for _, pn := range j.panels {
		if trans {
			packCols(pn, b, ldb, pn.col, j.depth)
		} else {
			packRows(pn, b, ldb, pn.col, j.depth)
		}
	}
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
	rows := max(blockFloats/(j.depthPer+j.n)/mr, 1) * mr
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
	t.LDC, t.LDA, t.Taps = j.ldc, j.lda, zeroTap
	for k0 := 0; k0 < j.depth || k0 == 0; k0 += j.depthPer {
		t.K = min(j.depthPer, j.depth-k0)
		t.Acc = 0
		if j.acc || k0 > 0 {
			t.Acc = 1
		}
		t.Lo, t.Hi = -inf, inf
		last := k0+t.K >= j.depth
		if last {
			t.Lo, t.Hi = j.ep.kernelBounds()
		}
		for _, pn := range panels {
			t.B, t.LDB, t.Cols = pn.b[k0*pn.ld:], pn.ld, pn.cols
			t.Bias = nil
			if last {
				t.Bias = j.ep.bias(pn.col, pn.cols)
			}
			j.rows(t, row, end, k0, pn.col)
		}
		if last {
			break
		}
	}
	col := panels[0].col
	j.ep.rest(&j.k, j.c, j.ldc, row, end-row, col, panels[len(panels)-1].col+panels[len(panels)-1].cols-col)
}

// rows runs the tiles of rows [row, end) against the panel in t.
func (j *gemmJob) rows(t *asm.Tile, row, end, k0, col int) {
	for row < end {
		t.Rows = tileRows(end-row, j.k.MR)
		t.Split = t.Rows
		t.C = j.c[row*j.ldc+col:]
		if t.K == 0 {
			t.A = nil
			j.k.Gemm(t)
		} else if j.tn {
			t.A = j.a[k0*j.lda+row:]
			j.k.GemmTN(t)
		} else {
			t.A = j.a[row*j.lda+k0:]
			j.k.Gemm(t)
		}
		row += t.Rows
	}
}

// tileRows returns the rows of the next tile when n are left: tiles of nearly equal
// height, as a short one cannot hide the latency of its multiply-adds.
func tileRows(n, most int) int {
	tiles := (n + most - 1) / most
	return (n + tiles - 1) / tiles
}
