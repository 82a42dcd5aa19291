package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A tile of at most 1.5 vectors of columns would leave a quarter of the lanes idle. Its
// rows go in pairs of three vectors instead of four: the first vector of either row,
// and one with the remaining half a vector of both. That one is multiplied by the
// same weights in both halves and by a blend of the two rows' values.

// genGemmPairF32 generates asm.Kernels.Gemm for a tile of rows x 1.5 vectors.
func genGemmPairF32(g *gen, rows int) {
	g.begin(label("gemmPairF32_%dx%d_%s", rows, g.lanes*3/2, g.name), "func(t *byte)")
	g.Load(g.Param("t"), gemmGP.t)
	p := &pairGen{gen: g, rows: rows}
	p.init()
	g.gemmLoop(rows, p.step)
	p.biasAndClamp()
	p.store()
	g.end()
}

// pairGen holds the rows of a kernel of pairs. Vectors: three for each pair and two for
// a single last row from 0 up, weights at the top, operands between.
type pairGen struct {
	*gen
	rows int
}

func (p *pairGen) accs() int { return p.rows + (p.rows+1)/2 }

// first and mixed return the accumulators that hold a row's first vector and its remainder.
func (p *pairGen) first(row int) reg.VecPhysical { return p.regs[row/2*3+row%2*2] }
func (p *pairGen) mixed(row int) reg.VecPhysical { return p.regs[row/2*3+1] }

// operands returns three scratch vectors, others for neighbouring pairs.
func (p *pairGen) operands(row int) (a, b, mix reg.VecPhysical) {
	i := 21 + row/2%2*3
	return p.regs[i], p.regs[i+1], p.regs[i+2]
}

// init starts the chains at zero or at C, and sets the mask of the upper half.
func (p *pairGen) init() {
	g, r := p.gen, gemmGP
	g.MOVL(operand.U32(0xff00), r.tmp.As32())
	g.KMOVW(r.tmp.As32(), reg.K3)
	g.CMPQ(m(r.t, tileAcc), imm(0))
	g.JNE(operand.LabelRef("load"))
	for i := range p.accs() {
		g.zero(g.regs[i])
	}
	g.JMP(operand.LabelRef("start"))
	g.Label("load")
	g.MOVQ(m(r.t, tileCols), reg.RCX)
	g.colMasks(2, reg.RCX, r.tmp)
	g.eachRow(p.rows, func(i int, c reg.GPPhysical) {
		g.VMOVUPS(m(c, 0), p.first(i))
		if i%2 == 0 {
			g.VMOVUPS_Z(m(c, 4*g.lanes), reg.K2, p.mixed(i).AsY())
			return
		}
		half, _, _ := p.operands(0)
		g.VMOVUPS_Z(m(c, 4*g.lanes), reg.K2, half.AsY())
		g.VINSERTF32X8(operand.U8(1), half.AsY(), p.mixed(i), p.mixed(i))
	})
	g.Label("start")
}

// step adds one step of k, disp bytes from the base pointers, to the tile.
func (p *pairGen) step(disp int) {
	g, r := p.gen, gemmGP
	w, both := g.top(3), g.top(2)
	g.VMOVUPS(m(r.b, 0), w)
	g.PREFETCHT0(m(r.b, nearBytes))
	g.VBROADCASTF32X8(m(r.b, 4*g.lanes), both)
	g.PREFETCHT0(m(r.b, nearBytes+4*g.lanes))
	g.ADDQ(r.ldb, r.b)
	for i := 0; i < p.rows; i += 2 {
		a, b, mix := p.operands(i)
		g.VBROADCASTSS(g.rowAddr(i, disp), a)
		g.VFMADD231PS(a, w, p.first(i))
		if i == p.rows-1 {
			g.VFMADD231PS(a, both, p.mixed(i))
			break
		}
		g.VBROADCASTSS(g.rowAddr(i+1, disp), b)
		g.VBLENDMPS(b, a, reg.K3, mix)
		g.VFMADD231PS(b, w, p.first(i+1))
		g.VFMADD231PS(mix, both, p.mixed(i))
	}
}

func (p *pairGen) biasAndClamp() {
	g, r := p.gen, gemmGP
	w, both := g.top(3), g.top(2)
	g.MOVQ(m(r.t, tileCols), reg.RCX)
	g.colMasks(2, reg.RCX, r.tmp)
	g.MOVQ(m(r.t, tileBias), r.b)
	g.TESTQ(r.b, r.b)
	g.JZ(operand.LabelRef("clamp"))
	g.VMOVUPS(m(r.b, 0), w)
	g.VMOVUPS_Z(m(r.b, 4*g.lanes), reg.K2, both.AsY())
	g.VINSERTF32X8(operand.U8(1), both.AsY(), both, both)
	for i := range p.rows {
		g.VADDPS(w, p.first(i), p.first(i))
		if i%2 == 0 {
			g.VADDPS(both, p.mixed(i), p.mixed(i))
		}
	}
	g.Label("clamp")
	g.clampAcc(p.accs())
}

// store writes the accumulators to C. The masks are set.
func (p *pairGen) store() {
	g := p.gen
	g.eachRow(p.rows, func(i int, c reg.GPPhysical) {
		g.VMOVUPS(p.first(i), m(c, 0))
		half := p.mixed(i)
		if i%2 == 1 {
			half, _, _ = p.operands(0)
			g.VEXTRACTF32X8(operand.U8(1), p.mixed(i), half.AsY())
		}
		g.VMOVUPS(half.AsY(), reg.K2, m(c, 4*g.lanes))
	})
}
