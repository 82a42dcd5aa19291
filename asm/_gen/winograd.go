package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// winogradGP assigns the general registers of the transforms of asm.WinogradTiles.
// Strides are in bytes; column points to a column of pixels or terms.
var winogradGP = struct {
	t, image, terms, bias, row, row3, pixel, term, term4, term12, tiles, n, column reg.GPPhysical
}{reg.RAX, reg.RSI, reg.RDI, reg.RBX, reg.RDX, reg.R8, reg.RCX, reg.R9, reg.R10, reg.R11, reg.R12, reg.R13, reg.R14}

// winogradLoop generates a transform: block does one vector of channels of a tile.
func winogradLoop(g *gen, name string, block func()) {
	r := winogradGP
	g.begin(label("winograd%sF32_%s", name, g.name), "func(t *byte)")
	g.Load(g.Param("t"), r.t)
	g.MOVQ(m(r.t, winImage), r.image)
	g.MOVQ(m(r.t, winTerms), r.terms)
	g.MOVQ(m(r.t, winTiles), r.tiles)
	g.MOVQ(m(r.t, winRow), r.row)
	g.MOVQ(m(r.t, winPixel), r.pixel)
	g.MOVQ(m(r.t, winTerm), r.term)
	for _, stride := range []reg.GPPhysical{r.row, r.pixel, r.term} {
		g.SHLQ(operand.U8(2), stride)
	}
	g.LEAQ(mi(r.row, 0, r.row, 2), r.row3)
	g.MOVQ(r.term, r.term4)
	g.SHLQ(operand.U8(2), r.term4)
	g.LEAQ(mi(r.term4, 0, r.term4, 2), r.term12)
	g.VBROADCASTSS(m(r.t, winLo), g.top(1))
	g.VBROADCASTSS(m(r.t, winHi), g.top(0))
	g.Label("tile")
	g.MOVQ(m(r.t, winN), r.n)
	g.MOVQ(m(r.t, winBias), r.bias)
	g.Label("block")
	block()
	g.ADDQ(imm(4*g.lanes), r.image)
	g.ADDQ(imm(4*g.lanes), r.terms)
	g.SUBQ(imm(g.lanes), r.n)
	g.JNZ(operand.LabelRef("block"))

	g.Comment("From behind the last channel to the first of the next tile")
	g.MOVQ(m(r.t, winNext), r.n)
	g.SUBQ(m(r.t, winN), r.n)
	g.LEAQ(mi(r.image, 0, r.n, 4), r.image)
	g.MOVQ(m(r.t, winStep), r.n)
	g.SUBQ(m(r.t, winN), r.n)
	g.LEAQ(mi(r.terms, 0, r.n, 4), r.terms)
	g.DECQ(r.tiles)
	g.JNZ(operand.LabelRef("tile"))
	g.end()
}

// genWinogradIn generates asm.Kernels.WinogradInput.
func genWinogradIn(g *gen) {
	r := winogradGP
	// column transforms the pixels at r.column in five registers and returns the four that hold the sums.
	column := func(v []reg.VecPhysical) []reg.VecPhysical {
		g.VMOVUPS(m(r.column, 0), v[0])
		g.VMOVUPS(mi(r.column, 0, r.row, 1), v[1])
		g.VMOVUPS(mi(r.column, 0, r.row, 2), v[2])
		g.VSUBPS(v[2], v[0], v[0])
		g.VSUBPS(mi(r.column, 0, r.row3, 1), v[1], v[3])
		g.VADDPS(v[2], v[1], v[4])
		g.VSUBPS(v[1], v[2], v[2])
		return []reg.VecPhysical{v[0], v[4], v[2], v[3]}
	}
	// store writes a column of terms: lo - hi, or their sum.
	store := func(x int, sum bool, lo, hi, to []reg.VecPhysical) {
		g.MOVQ(r.terms, r.column)
		for range x {
			g.ADDQ(r.term, r.column)
		}
		for y, dst := range []operand.Mem{m(r.column, 0), mi(r.column, 0, r.term4, 1), mi(r.column, 0, r.term4, 2), mi(r.column, 0, r.term12, 1)} {
			if sum {
				g.VADDPS(hi[y], lo[y], to[y])
			} else {
				g.VSUBPS(hi[y], lo[y], to[y])
			}
			g.VMOVUPS(to[y], dst)
		}
	}
	winogradLoop(g, "In", func() {
		g.LEAQ(mi(r.image, 0, r.pixel, 2), r.column)
		c2 := column(g.regs[0:5])
		g.MOVQ(r.image, r.column)
		c0 := column(g.regs[5:10])
		store(0, false, c0, c2, c0)
		g.LEAQ(mi(r.image, 0, r.pixel, 1), r.column)
		c1 := column(g.regs[5:10])
		store(1, true, c1, c2, g.regs[10:14])
		store(2, false, c2, c1, c2)
		g.LEAQ(mi(r.image, 0, r.pixel, 2), r.column)
		g.ADDQ(r.pixel, r.column)
		c3 := column(g.regs[0:5])
		store(3, false, c1, c3, c1)
	})
}

// genWinogradOut generates asm.Kernels.WinogradOutput.
func genWinogradOut(g *gen) {
	r := winogradGP
	// column transforms column x of the terms into v[0] and v[1] and uses v[2].
	column := func(x int, v []reg.VecPhysical) {
		if x == 0 {
			g.MOVQ(r.terms, r.column)
		} else {
			g.ADDQ(r.term, r.column)
		}
		g.VMOVUPS(mi(r.column, 0, r.term4, 1), v[1])
		g.VMOVUPS(mi(r.column, 0, r.term4, 2), v[2])
		g.VADDPS(m(r.column, 0), v[1], v[0])
		g.VADDPS(v[2], v[0], v[0])
		g.VSUBPS(v[2], v[1], v[1])
		g.VSUBPS(mi(r.column, 0, r.term12, 1), v[1], v[1])
	}
	winogradLoop(g, "Out", func() {
		left, right, tmp := g.regs[0:2], g.regs[2:4], g.regs[4:]
		column(0, tmp)
		column(1, tmp[3:])
		for y := range 2 {
			g.VADDPS(tmp[3+y], tmp[y], left[y])
		}
		column(2, tmp)
		for y := range 2 {
			g.VADDPS(tmp[y], left[y], left[y])
			g.VSUBPS(tmp[y], tmp[3+y], right[y])
		}
		column(3, tmp)
		for y := range 2 {
			g.VSUBPS(tmp[y], right[y], right[y])
		}
		g.TESTQ(r.bias, r.bias)
		g.JZ(operand.LabelRef("clamp"))
		for _, v := range g.regs[:4] {
			g.VADDPS(m(r.bias, 0), v, v)
		}
		g.ADDQ(imm(4*g.lanes), r.bias)
		g.Label("clamp")
		for _, v := range g.regs[:4] {
			g.clampVec(v, g.top(1), g.top(0))
		}
		g.VMOVUPS(left[0], m(r.image, 0))
		g.VMOVUPS(right[0], mi(r.image, 0, r.pixel, 1))
		g.VMOVUPS(left[1], mi(r.image, 0, r.row, 1))
		g.LEAQ(mi(r.image, 0, r.row, 1), r.column)
		g.VMOVUPS(right[1], mi(r.column, 0, r.pixel, 1))
	})
}
