package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const (
	gemmUnroll   = 4    // steps of k per round of the main loop
	nearBytes    = 2048 // of B are fetched into L1 ahead of their use: about the latency of L2
	farLines     = 4    // cache lines at Ahead are fetched into L2 in each round
	tnAheadShift = 4    // GemmTN prefetches 1<<tnAheadShift steps of k ahead
)

// gemmRegs assigns the general registers of the GEMM kernels.
type gemmRegs struct {
	t, b, ldb, k, stride, taps, ntaps, tmp reg.GPPhysical
	base                                   []reg.GPPhysical
}

// CX counts shifts and is scratch outside the loops.
var gemmGP = gemmRegs{
	t: reg.RDI, b: reg.RSI, ldb: reg.RAX, k: reg.RCX, stride: reg.RDX, taps: reg.RBX, ntaps: reg.R15, tmp: reg.R14,
	base: []reg.GPPhysical{reg.R8, reg.R9, reg.R10, reg.R11, reg.R12, reg.R13},
}

// rowAddr returns the address of A for a row. With few registers (AVX-512: 14 rows)
// three rows share a base pointer, at 0, 1 and 2 strides; rows from the split on
// have their own bases, so they may continue on another image row.
func (g *gen) rowAddr(row, disp int) operand.Mem {
	if g.split == 0 {
		return m(gemmGP.base[row], disp)
	}
	half, i := row/g.split, row%g.split
	base := gemmGP.base[half*3+i/3]
	if i%3 == 0 {
		return m(base, disp)
	}
	return mi(base, disp, gemmGP.stride, uint8(i%3))
}

// bases returns the base registers that rows need.
func (g *gen) bases(rows int) []reg.GPPhysical {
	if g.split == 0 {
		return gemmGP.base[:rows]
	}
	n := (min(rows, g.split) + 2) / 3
	if rows > g.split {
		n = 3 + (rows-g.split+2)/3
	}
	return gemmGP.base[:n]
}

// genGemmF32 generates asm.Kernels.Gemm for a tile of rows x vecs vectors.
func genGemmF32(g *gen, rows, vecs int) {
	g.begin(label("gemmF32_%dx%d_%s", rows, vecs*g.lanes, g.name), "func(t *byte)")
	g.Load(g.Param("t"), gemmGP.t)
	g.initAcc(rows, vecs)
	g.gemmLoop(rows, func(disp int) { g.gemmStep(rows, vecs, disp) })
	g.biasAndClamp(rows, vecs)
	g.storeTile(rows, vecs)
	g.end()
}

// gemmLoop runs over taps and k. step adds one step of k, disp bytes from the base
// pointers.
func (g *gen) gemmLoop(rows int, step func(disp int)) {
	r := gemmGP
	g.gemmBases(rows)
	g.MOVQ(m(r.t, tileB), r.b)
	g.MOVQ(m(r.t, tileLDB), r.ldb)
	g.SHLQ(operand.U8(2), r.ldb)
	g.MOVQ(m(r.t, tileAhead), r.tmp)
	g.LEAQ(mi(r.b, 0, r.tmp, 4), r.tmp)

	g.Comment("Loop over taps")
	g.Label("tap")
	g.MOVQ(m(r.t, tileK), r.k)
	g.SUBQ(imm(gemmUnroll), r.k)
	g.JL(operand.LabelRef("tail"))
	g.Label("loop")
	for u := range gemmUnroll {
		step(4 * u)
		if u < farLines {
			g.PREFETCHT1(m(r.tmp, 64*u))
		}
	}
	g.ADDQ(imm(64*farLines), r.tmp)
	for _, b := range g.bases(rows) {
		g.ADDQ(imm(4*gemmUnroll), b)
	}
	g.SUBQ(imm(gemmUnroll), r.k)
	g.JGE(operand.LabelRef("loop"))
	g.Label("tail")
	g.ADDQ(imm(gemmUnroll), r.k)
	g.JZ(operand.LabelRef("next"))
	g.Label("single")
	step(0)
	for _, b := range g.bases(rows) {
		g.ADDQ(imm(4), b)
	}
	g.DECQ(r.k)
	g.JNZ(operand.LabelRef("single"))

	g.Label("next")
	g.DECQ(r.ntaps)
	g.JZ(operand.LabelRef("finish"))
	g.Comment("Move from the end of this tap to the start of the next")
	g.MOVQ(m(r.taps, 8), r.k)
	g.SUBQ(m(r.taps, 0), r.k)
	g.SUBQ(m(r.t, tileK), r.k)
	g.SHLQ(operand.U8(2), r.k)
	g.ADDQ(imm(8), r.taps)
	for _, b := range g.bases(rows) {
		g.ADDQ(r.k, b)
	}
	g.JMP(operand.LabelRef("tap"))
	g.Label("finish")
}

// gemmBases points the base registers at the rows of A for the first tap.
func (g *gen) gemmBases(rows int) {
	r := gemmGP
	b := g.bases(rows)
	g.Comment("Row pointers")
	g.MOVQ(m(r.t, tileTaps), r.taps)
	g.MOVQ(m(r.t, tileTaps+8), r.ntaps)
	g.MOVQ(m(r.t, tileLDA), r.stride)
	g.SHLQ(operand.U8(2), r.stride)
	g.MOVQ(m(r.taps, 0), r.tmp)
	g.SHLQ(operand.U8(2), r.tmp)
	g.ADDQ(m(r.t, tileA), r.tmp)
	g.MOVQ(r.tmp, b[0])
	if g.split == 0 {
		g.MOVQ(m(r.t, tileSkip), r.ldb)
		g.SHLQ(operand.U8(2), r.ldb)
		for i := 1; i < rows; i++ {
			// r.tmp walks the rows and steps over the skip at the split.
			g.ADDQ(r.stride, r.tmp)
			g.XORL(r.k.As32(), r.k.As32())
			g.CMPQ(m(r.t, tileSplit), imm(i))
			g.CMOVQEQ(r.ldb, r.k)
			g.ADDQ(r.k, r.tmp)
			g.MOVQ(r.tmp, b[i])
		}
		return
	}
	g.LEAQ(mi(r.stride, 0, r.stride, 2), r.ldb) // three strides
	for i := 1; i < min(len(b), 3); i++ {
		g.LEAQ(mi(b[i-1], 0, r.ldb, 1), b[i])
	}
	if len(b) > 3 {
		g.Comment("Rows from the split on")
		g.MOVQ(m(r.t, tileSkip), r.k)
		g.LEAQ(mi(b[0], 0, r.ldb, 2), b[3])
		g.ADDQ(r.stride, b[3])
		g.LEAQ(mi(b[3], 0, r.k, 4), b[3])
		for i := 4; i < len(b); i++ {
			g.LEAQ(mi(b[i-1], 0, r.ldb, 1), b[i])
		}
	}
}

// acc is the accumulator of a row and vector.
func (g *gen) acc(row, vec, vecs int) reg.VecPhysical { return g.regs[row*vecs+vec] }

// loadB loads the columns of one step of k and moves on. Weights stream from L2 when
// a panel does not fit L1, so it also fetches those that come soon.
func (g *gen) loadB(vecs int) {
	r := gemmGP
	for v := range vecs {
		g.VMOVUPS(m(r.b, v*4*g.lanes), g.top(3-v))
		if v*4*g.lanes%64 == 0 {
			g.PREFETCHT0(m(r.b, nearBytes+v*4*g.lanes))
		}
	}
	g.ADDQ(r.ldb, r.b)
}

// gemmStep adds one step of k, disp bytes from the base pointers, to the tile.
func (g *gen) gemmStep(rows, vecs, disp int) {
	g.loadB(vecs)
	for i := range rows {
		g.mulRow(i, vecs, g.rowAddr(i, disp))
	}
}

// mulRow adds the product of the value at src and the loaded columns to row i.
func (g *gen) mulRow(i, vecs int, src operand.Mem) {
	if g.masks && vecs == 1 {
		g.VFMADD231PS_BCST(src, g.top(3), g.acc(i, 0, vecs))
		return
	}
	a := g.top(1 - i%2) // alternate, so that a broadcast need not wait
	if vecs == wideVec {
		a = g.top(0)
	}
	g.VBROADCASTSS(src, a)
	for v := range vecs {
		g.VFMADD231PS(a, g.top(3-v), g.acc(i, v, vecs))
	}
}

// initAcc starts the chains at zero or at C.
func (g *gen) initAcc(rows, vecs int) {
	r := gemmGP
	g.Comment("Start the chains")
	g.CMPQ(m(r.t, tileAcc), imm(0))
	g.JNE(operand.LabelRef("load"))
	for i := range rows * vecs {
		g.zero(g.regs[i])
	}
	g.JMP(operand.LabelRef("start"))
	g.Label("load")
	g.MOVQ(m(r.t, tileCols), reg.RCX)
	g.colMasks(vecs, reg.RCX, r.tmp)
	g.eachRow(rows, func(i int, c reg.GPPhysical) {
		for v := range vecs - 1 {
			g.VMOVUPS(m(c, v*4*g.lanes), g.acc(i, v, vecs))
		}
		g.loadMasked(m(c, (vecs-1)*4*g.lanes), vecs-1, g.acc(i, vecs-1, vecs))
	})
	g.Label("start")
}

// eachRow calls f for the rows of C with their addresses. It uses two base registers.
func (g *gen) eachRow(rows int, f func(i int, c reg.GPPhysical)) {
	c, ldc := gemmGP.base[0], gemmGP.base[1]
	g.MOVQ(m(gemmGP.t, tileC), c)
	g.MOVQ(m(gemmGP.t, tileLDC), ldc)
	g.SHLQ(operand.U8(2), ldc)
	for i := range rows {
		f(i, c)
		if i < rows-1 {
			g.ADDQ(ldc, c)
		}
	}
}

// biasAndClamp finishes the accumulators.
func (g *gen) biasAndClamp(rows, vecs int) {
	r := gemmGP
	g.Comment("Bias")
	g.MOVQ(m(r.t, tileBias), r.b)
	g.TESTQ(r.b, r.b)
	g.JZ(operand.LabelRef("clamp"))
	g.MOVQ(m(r.t, tileCols), reg.RCX)
	g.colMasks(vecs, reg.RCX, r.tmp)
	g.loadMasked(m(r.b, (vecs-1)*4*g.lanes), vecs-1, g.top(4-vecs)) // first, as it needs a mask that the others overwrite
	for v := range vecs - 1 {
		g.VMOVUPS(m(r.b, v*4*g.lanes), g.top(3-v))
	}
	for i := range rows {
		for v := range vecs {
			g.VADDPS(g.top(3-v), g.acc(i, v, vecs), g.acc(i, v, vecs))
		}
	}
	g.Label("clamp")
	g.clampAcc(rows * vecs)
}

// clampAcc clamps the first n accumulators if the tile's bounds are finite.
func (g *gen) clampAcc(n int) {
	r := gemmGP
	g.skipUnlessClamp(r.t, tileLo, tileHi, "store")
	g.VBROADCASTSS(m(r.t, tileLo), g.top(3))
	g.VBROADCASTSS(m(r.t, tileHi), g.top(2))
	for i := range n {
		g.clampVec(g.regs[i], g.top(3), g.top(2))
	}
	g.Label("store")
}

// storeTile writes the accumulators to C.
func (g *gen) storeTile(rows, vecs int) {
	r := gemmGP
	g.Comment("Store, all columns or by masks")
	g.MOVQ(m(r.t, tileCols), reg.RCX)
	g.CMPQ(reg.RCX, imm(vecs*g.lanes))
	g.JNE(operand.LabelRef("partial"))
	g.eachRow(rows, func(i int, c reg.GPPhysical) {
		for v := range vecs {
			g.VMOVUPS(g.acc(i, v, vecs), m(c, v*4*g.lanes))
		}
	})
	g.end()
	g.Label("partial")
	g.colMasks(vecs, reg.RCX, r.tmp)
	g.eachRow(rows, func(i int, c reg.GPPhysical) {
		for v := range vecs - 1 { // a tile has no vector without columns
			g.VMOVUPS(g.acc(i, v, vecs), m(c, v*4*g.lanes))
		}
		g.storeMasked(g.acc(i, vecs-1, vecs), vecs-1, m(c, (vecs-1)*4*g.lanes))
	})
}

// genGemmTNF32 generates asm.Kernels.GemmTN for a tile of rows x vecs vectors.
func genGemmTNF32(g *gen, rows, vecs int) {
	r := gemmGP
	a, lda := r.base[2], r.stride
	g.begin(label("gemmTNF32_%dx%d_%s", rows, vecs*g.lanes, g.name), "func(t *byte)")
	g.Load(g.Param("t"), r.t)
	g.initAcc(rows, vecs)
	g.MOVQ(m(r.t, tileA), a)
	g.MOVQ(m(r.t, tileLDA), lda)
	g.SHLQ(operand.U8(2), lda)
	g.MOVQ(m(r.t, tileB), r.b)
	g.MOVQ(m(r.t, tileLDB), r.ldb)
	g.SHLQ(operand.U8(2), r.ldb)
	g.MOVQ(m(r.t, tileK), r.k)
	g.Comment("Fetch some rows ahead: they are far apart, which hides them from the hardware")
	aheadA, aheadB := r.base[3], r.base[4]
	g.MOVQ(lda, aheadA)
	g.SHLQ(operand.U8(tnAheadShift), aheadA)
	g.MOVQ(r.ldb, aheadB)
	g.SHLQ(operand.U8(tnAheadShift), aheadB)
	step := func() {
		for v := range vecs {
			g.VMOVUPS(m(r.b, v*4*g.lanes), g.top(3-v))
			if v*4*g.lanes%64 == 0 {
				g.PREFETCHT0(mi(r.b, v*4*g.lanes, aheadB, 1))
			}
		}
		g.PREFETCHT0(mi(a, 0, aheadA, 1))
		g.ADDQ(r.ldb, r.b)
		for i := range rows {
			g.mulRow(i, vecs, m(a, 4*i))
		}
		g.ADDQ(lda, a)
	}
	g.SUBQ(imm(2), r.k)
	g.JL(operand.LabelRef("tail"))
	g.Label("loop")
	step()
	step()
	g.SUBQ(imm(2), r.k)
	g.JGE(operand.LabelRef("loop"))
	g.Label("tail")
	g.ADDQ(imm(2), r.k)
	g.JZ(operand.LabelRef("finish"))
	step()
	g.Label("finish")
	g.storeTile(rows, vecs)
	g.end()
}
