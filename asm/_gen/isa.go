package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa describes an instruction set to the kernel templates. Accumulators take the
// registers from 0 up; the last four are operands.
type isa struct {
	name  string
	title string // for identifiers
	lanes int    // float32 per vector
	mr    int    // rows of the largest tile
	wide  int    // rows of the largest tile of wideVec vectors, 0 for none
	mw    int    // pixels of the largest depthwise row tile
	split int    // rows of a tile that share one base pointer; see rowAddr
	regs  []reg.VecPhysical
	masks bool // has lane masks (AVX-512)
}

var isas = map[string]isa{
	"avx2": {name: "avx2", title: "AVX2", lanes: 8, mr: 6, wide: 4, mw: 8, regs: []reg.VecPhysical{
		reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7,
		reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15}},
	"avx512": {name: "avx512", title: "AVX512", lanes: 16, mr: 14, mw: 12, split: 7, masks: true, regs: []reg.VecPhysical{
		reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
		reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
		reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
		reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31}},
}

const (
	maxVecs = 2  // vectors of a full panel
	wideVec = 3  // vectors of a wide panel (AVX2), which has tiles of few rows
	maxPix  = 12 // pixels of a depthwise tile
)

// gen is a build context with the instruction set it generates for.
type gen struct {
	*build.Context
	isa
	data operand.Mem // AVX2: the lane mask table
}

// operand registers, counted from the end of the register file
func (g *gen) top(i int) reg.VecPhysical { return g.regs[len(g.regs)-1-i] }

// m is a memory operand.
func m(base reg.Register, disp int) operand.Mem {
	return operand.Mem{Base: base, Disp: disp}
}

// mi is a memory operand with a scaled index.
func mi(base reg.Register, disp int, index reg.Register, scale uint8) operand.Mem {
	return operand.Mem{Base: base, Disp: disp, Index: index, Scale: scale}
}

func imm(n int) operand.Constant { return operand.I32(int32(n)) }

// label makes a label that is unique within its function by its name.
func label(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// begin starts a function of the given signature without a frame.
func (g *gen) begin(name, signature string) {
	g.Function(name)
	g.Attributes(attr.NOSPLIT)
	g.SignatureExpr(signature)
}

// end returns to Go code, which uses SSE.
func (g *gen) end() {
	g.VZEROUPPER()
	g.RET()
}

// Lane masks of a partial vector: K1.. on AVX-512, the last vectors on AVX2.

// colMasks sets the masks of the n vectors of a tile from a number of columns in
// cols, which it may change. tmp is scratch.
func (g *gen) colMasks(n int, cols, tmp reg.GPPhysical) {
	if g.masks {
		// (1 << cols) - 1; the shift count must be in CL.
		g.MOVQ(imm(1), tmp)
		g.SHLQ(reg.CL, tmp)
		g.DECQ(tmp)
		g.KMOVW(tmp.As32(), reg.K1)
		if n > 1 {
			g.SHRQ(operand.U8(16), tmp)
			g.KMOVW(tmp.As32(), reg.K2)
		}
		return
	}
	g.LEAQ(g.data.Offset(4*maxVecs*g.lanes), tmp)
	g.SHLQ(operand.U8(2), cols)
	g.SUBQ(cols, tmp)
	for i := max(n-maxVecs, 0); i < n; i++ {
		g.VMOVUPS(m(tmp, 32*i), g.top(i))
	}
}

// loadMasked loads the lanes of vector i's mask and zeroes the others.
func (g *gen) loadMasked(src operand.Mem, i int, dst reg.VecPhysical) {
	if g.masks {
		g.VMOVUPS_Z(src, kmask(i), dst)
		return
	}
	g.VMASKMOVPS(src, g.top(i), dst)
}

// storeMasked stores the lanes of vector i's mask.
func (g *gen) storeMasked(src reg.VecPhysical, i int, dst operand.Mem) {
	if g.masks {
		g.VMOVUPS(src, kmask(i), dst)
		return
	}
	g.VMASKMOVPS(src, g.top(i), dst)
}

func kmask(i int) reg.Register { return []reg.Register{reg.K1, reg.K2}[i] }

// zero clears a vector.
func (g *gen) zero(v reg.VecPhysical) {
	if g.masks {
		g.VPXORD(v, v, v)
		return
	}
	g.VXORPS(v, v, v)
}

// clampVec sets x = clamp(x, lo, hi). With x as the second source (first in Go's
// order) MAXPS and MINPS return x when it is a NaN or when both are zero.
func (g *gen) clampVec(x, lo, hi reg.VecPhysical) {
	g.VMAXPS(x, lo, x)
	g.VMINPS(x, hi, x)
}

// skipUnlessClamp jumps to the label if the bounds at t are infinite.
func (g *gen) skipUnlessClamp(t reg.Register, lo, hi int, skip string) {
	do := skip + "_do"
	g.CMPL(m(t, lo), operand.U32(0xff800000))
	g.JNE(operand.LabelRef(do))
	g.CMPL(m(t, hi), operand.U32(0x7f800000))
	g.JEQ(operand.LabelRef(skip))
	g.Label(do)
}
