package tensor

import (
	"fmt"

	"roundel/asm"
)

// PackedGemm is the right operand of a matrix product, laid out once for one kernel
// table in panels of NR columns: [N/NR][K][NR].
type PackedGemm struct {
	k      asm.Kernels
	rows   int // K
	cols   int // N
	panels []panel
}

// PackGemm packs b, which is [rows, cols] (rows is the reduction, K), or its
// transpose [cols, rows] if transB. It keeps no reference to b.
func PackGemm(k asm.Kernels, b []float32, rows, cols int, transB bool) *PackedGemm {
	if len(b) < rows*cols {
		panic(fmt.Sprintf("tensor: PackGemm: %d elements for a %dx%d matrix", len(b), rows, cols))
	}
	g := &PackedGemm{k: k, rows: rows, cols: cols}
	g.panels = appendPanels(nil, &g.k, aligned(packedLen(&g.k, rows, cols)), rows, cols, 0)
	for _, pn := range g.panels {
		if transB {
			packCols(pn, b, rows, pn.col, rows)
		} else {
			packRows(pn, b, cols, pn.col, rows)
		}
	}
	return g
}

// Bytes returns the memory the packed operand takes.
func (g *PackedGemm) Bytes() int64 { return 4 * int64(packedLen(&g.k, g.rows, g.cols)) }

// ScratchLen returns how many floats of scratch each worker of a pool needs at most to multiply m rows that are lda apart.
func (g *PackedGemm) ScratchLen(m, lda int) int {
	if m <= 0 || g.cols == 0 {
		return 0
	}
	j := gemmJob{p: &Pool{workers: 1}, k: g.k, m: m, n: g.cols, depth: g.rows, lda: lda, panels: g.panels}
	j.plan()
	return j.stripLen()
}

// Run computes dst = a * B, then the epilogue (its Bias has N elements, its Residual
// the layout of dst). a: [m, K], rows lda apart; dst: [m, N], rows ldc apart.
// Each element is one chain of fused multiply-adds in ascending k. dst must not
// overlap a. It panics if an operand is too short.
func (g *PackedGemm) Run(dst []float32, ldc int, a []float32, lda int, m int, ep Epilogue, p *Pool) {
	if m <= 0 || g.cols == 0 {
		return
	}
	j := getGemmJob(p, g.k)
	j.c, j.ldc, j.a, j.lda = dst, ldc, a, lda
	j.m, j.n, j.depth = m, g.cols, g.rows
	j.panels = append(j.panels, g.panels...)
	j.ep = ep
	j.run()
}

// Gemm computes dst = op(a) * op(b), or dst += op(a) * op(b) if accumulate: dst is
// [m, n] with rows ldc apart, op(a) is [m, k] and op(b) is [k, n]. With transA, a is
// stored as [k, m]; with transB, b is stored as [n, k]. Each element is one chain of
// fused multiply-adds in ascending k that starts at zero or at the old value.
// dst must not overlap a or b. It panics if an operand is too short.
//
// It packs b in each call; a constant right operand belongs in PackGemm.
func Gemm(dst []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n, k int,
	transA, transB, accumulate bool, p *Pool) {
	if m <= 0 || n <= 0 {
		return
	}
	j := getGemmJob(p, p.k)
	j.c, j.ldc, j.a, j.lda = dst, ldc, a, lda
	j.m, j.n, j.depth = m, n, k
	j.tn, j.acc = transA, accumulate
	j.bindB(b, ldb, transB)
	j.run()
}

// GemmScratchLen returns how many floats of scratch Gemm needs at most for each worker of p, with rows k apart in a.
func GemmScratchLen(m, n, k int, p *Pool) int {
	j := gemmJob{p: &Pool{workers: 1}, k: p.k, m: m, n: n, depth: k, lda: k, panels: make([]panel, 2)}
	j.plan()
	return j.stripLen() + packedLen(&p.k, k, n)
}

// GemmTN computes dst = a' * b, or dst += a' * b if accumulate. a: [k, m], b: [k, n],
// dst: [m, n], rows lda, ldb and ldc apart: the shapes of a weight gradient (k runs
// over pixels) and, with a = b, of a Gram matrix. Each element is one chain of fused
// multiply-adds in ascending k; k is never split by workers. dst must not overlap a
// or b. It panics if an operand is too short.
func GemmTN(dst []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n, k int, accumulate bool, p *Pool) {
	wide, tall := m*panelWidth(&p.k, n), n*panelWidth(&p.k, m)
	if k < 256 || 8*tall > 7*wide {
		Gemm(dst, ldc, a, lda, b, ldb, m, n, k, true, false, accumulate, p)
		return
	}
	// Columns would leave lanes idle: compute b' * a, which is the same sums of the
	// same products, and transpose.
	t := p.borrow(n * m)
	defer p.giveBack(t)
	if accumulate {
		transpose(t, m, dst, ldc, m, n)
	}
	Gemm(t, m, b, ldb, a, lda, n, m, k, true, false, accumulate, p)
	transpose(dst, ldc, t, m, n, m)
}

// transpose sets dst[c*ldd+r] = src[r*lds+c] for r < rows, c < cols.
func transpose(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	for r := range rows {
		for c, v := range src[r*lds:][:cols] {
			dst[c*ldd+r] = v
		}
	}
}

// Gram computes dst = a' * a, or dst += a' * a if accumulate: the Gram matrix of the
// columns of a. a: [k, n], dst: [n, n], rows lda and ldc apart. Each element is one
// chain of fused multiply-adds in ascending k. It does half the work of GemmTN and
// gives the same bits; with accumulate, dst must be symmetric before. dst must not
// overlap a. It panics if an operand is too short.
func Gram(dst []float32, ldc int, a []float32, lda int, n, k int, accumulate bool, p *Pool) {
	if n <= 0 {
		return
	}
	j := getGemmJob(p, p.k)
	j.c, j.ldc, j.a, j.lda = dst, ldc, a, lda
	j.m, j.n, j.depth = n, n, k
	j.tn, j.acc, j.gram = true, accumulate, true
	j.bindB(a, lda, false)
	j.run()
	for r := range n {
		for c := range r {
			dst[r*ldc+c] = dst[c*ldc+r]
		}
	}
}
