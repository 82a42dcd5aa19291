package main

import "github.com/mmcloughlin/avo/operand"

// rowPanels is how many panels asm.Kernels.GemmRow multiplies at a time. A single row
// of one panel is two chains, too few to hide the latency of an addition.
const (
	rowPanels = 4
	rowAhead  = 2048 // bytes that each panel is prefetched ahead
)

// genGemmRowF32 generates asm.Kernels.GemmRow: weights are read once, so they stream
// from L3 and are operands in memory.
func genGemmRowF32(g *gen) {
	r := gemmGP
	vecs := rowPanels * maxVecs
	g.begin(label("gemmRowF32_%s", g.name), "func(t *byte)")
	g.Load(g.Param("t"), r.t)
	g.MOVQ(m(r.t, tileC), r.tmp)
	g.CMPQ(m(r.t, tileAcc), imm(0))
	g.JNE(operand.LabelRef("load"))
	for v := range vecs {
		g.zero(g.regs[v])
	}
	g.JMP(operand.LabelRef("start"))
	g.Label("load")
	for v := range vecs {
		g.VMOVUPS(m(r.tmp, 4*g.lanes*v), g.regs[v])
	}
	g.Label("start")
	b := r.base[:rowPanels]
	g.MOVQ(m(r.t, tileB), b[0])
	g.MOVQ(m(r.t, tileLDA), r.stride)
	for p := 1; p < rowPanels; p++ {
		g.LEAQ(mi(b[p-1], 0, r.stride, 4), b[p])
	}
	g.MOVQ(m(r.t, tileLDB), r.ldb)
	g.SHLQ(operand.U8(2), r.ldb)
	g.MOVQ(m(r.t, tileA), r.taps)
	g.MOVQ(m(r.t, tileK), r.k)
	g.Label("loop")
	a := g.top(0)
	g.VBROADCASTSS(m(r.taps, 0), a)
	g.ADDQ(imm(4), r.taps)
	for v := range vecs {
		src := m(b[v/maxVecs], v%maxVecs*4*g.lanes)
		g.VFMADD231PS(src, a, g.regs[v])
		if src.Disp%64 == 0 {
			g.PREFETCHT0(m(b[v/maxVecs], rowAhead+src.Disp))
		}
	}
	for _, p := range b {
		g.ADDQ(r.ldb, p)
	}
	g.DECQ(r.k)
	g.JNZ(operand.LabelRef("loop"))

	g.MOVQ(m(r.t, tileBias), r.b)
	g.TESTQ(r.b, r.b)
	g.JZ(operand.LabelRef("clamp"))
	for v := range vecs {
		g.VADDPS(m(r.b, 4*g.lanes*v), g.regs[v], g.regs[v])
	}
	g.Label("clamp")
	g.clampAcc(vecs)
	for v := range vecs {
		g.VMOVUPS(g.regs[v], m(r.tmp, 4*g.lanes*v))
	}
	g.end()
}
