package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// genDepthwiseF32 generates asm.Kernels.Depthwise for pix output pixels: channels on
// the vector axis, one accumulator per pixel, taps inside the loop over channels.
func genDepthwiseF32(g *gen, pix int) {
	g.begin(label("dwF32_%d_%s", pix, g.name), "func(t *byte)")
	d := &dwGen{gen: g, pix: pix,
		t: reg.RDI, src: reg.RSI, w: reg.RDX, at: reg.RCX, stride: reg.R8, stride3: reg.R9,
		tap: reg.RAX, tapEnd: reg.RBX, tmp: reg.R14,
		base: []reg.GPPhysical{reg.R10, reg.R11, reg.R12, reg.R13}}
	g.Load(g.Param("t"), d.t)
	g.MOVQ(m(d.t, dwOff), d.src)
	g.SHLQ(operand.U8(2), d.src)
	g.ADDQ(m(d.t, dwSrc), d.src)
	g.MOVQ(m(d.t, dwW), d.w)
	g.MOVQ(m(d.t, dwLDS), d.stride)
	g.SHLQ(operand.U8(2), d.stride)
	g.LEAQ(mi(d.stride, 0, d.stride, 2), d.stride3)
	g.MOVQ(m(d.t, dwTaps+8), d.tapEnd)
	g.SHLQ(operand.U8(3), d.tapEnd)
	g.ADDQ(m(d.t, dwTaps), d.tapEnd)
	g.XORQ(d.at, d.at)

	g.Comment("Full vectors of channels")
	g.Label("block")
	g.LEAQ(m(d.at, g.lanes), d.tmp)
	g.CMPQ(d.tmp, m(d.t, dwN))
	g.JG(operand.LabelRef("tail"))
	d.block("block", false)
	g.ADDQ(imm(g.lanes), d.at)
	g.JMP(operand.LabelRef("block"))

	g.Comment("The last, partial vector")
	g.Label("tail")
	g.CMPQ(d.at, m(d.t, dwN))
	g.JGE(operand.LabelRef("done"))
	g.MOVQ(d.at, d.base[0])
	g.MOVQ(m(d.t, dwN), reg.RCX)
	g.SUBQ(d.base[0], reg.RCX)
	g.colMasks(1, reg.RCX, d.tmp)
	g.MOVQ(d.base[0], d.at)
	d.block("tail", true)
	g.Label("done")
	g.end()
}

// dwGen holds the registers of a depthwise kernel. The mask, if any, is the first.
type dwGen struct {
	*gen
	pix                                              int
	t, src, w, at, stride, stride3, tap, tapEnd, tmp reg.GPPhysical
	base                                             []reg.GPPhysical
}

// block computes one vector of channels of all pixels.
func (d *dwGen) block(name string, masked bool) {
	g := d.gen
	weight, value := g.top(3), g.top(2)
	for p := range d.pix {
		g.zero(g.regs[p])
	}
	g.MOVQ(m(d.t, dwTaps), d.tap)
	g.CMPQ(d.tap, d.tapEnd)
	g.JEQ(operand.LabelRef(name + "_bias"))
	g.Label(name + "_tap")
	g.MOVQ(m(d.tap, 8), d.tmp)
	g.ADDQ(d.at, d.tmp)
	d.load(mi(d.w, 0, d.tmp, 4), masked, weight)
	g.MOVQ(m(d.tap, 0), d.tmp)
	g.ADDQ(d.at, d.tmp)
	g.LEAQ(mi(d.src, 0, d.tmp, 4), d.base[0])
	for i := 1; i < (d.pix+2)/3; i++ {
		g.LEAQ(mi(d.base[i-1], 0, d.stride3, 1), d.base[i])
	}
	for p := range d.pix {
		src := m(d.base[p/3], 0)
		if p%3 > 0 {
			src = mi(d.base[p/3], 0, d.stride, uint8(p%3))
		}
		if masked {
			d.load(src, true, value)
			g.VFMADD231PS(value, weight, g.regs[p])
		} else {
			g.VFMADD231PS(src, weight, g.regs[p])
		}
	}
	g.ADDQ(imm(16), d.tap)
	g.CMPQ(d.tap, d.tapEnd)
	g.JNE(operand.LabelRef(name + "_tap"))

	g.Label(name + "_bias")
	g.MOVQ(m(d.t, dwBias), d.tmp)
	g.TESTQ(d.tmp, d.tmp)
	g.JZ(operand.LabelRef(name + "_clamp"))
	d.load(mi(d.tmp, 0, d.at, 4), masked, weight)
	for p := range d.pix {
		g.VADDPS(weight, g.regs[p], g.regs[p])
	}
	g.Label(name + "_clamp")
	g.skipUnlessClamp(d.t, dwLo, dwHi, name+"_store")
	g.VBROADCASTSS(m(d.t, dwLo), weight)
	g.VBROADCASTSS(m(d.t, dwHi), value)
	for p := range d.pix {
		g.clampVec(g.regs[p], weight, value)
	}
	g.Label(name + "_store")
	g.MOVQ(m(d.t, dwDst), d.base[0])
	g.LEAQ(mi(d.base[0], 0, d.at, 4), d.base[0])
	g.MOVQ(m(d.t, dwLDD), d.base[1])
	g.SHLQ(operand.U8(2), d.base[1])
	for p := range d.pix {
		if masked {
			g.storeMasked(g.regs[p], 0, m(d.base[0], 0))
		} else {
			g.VMOVUPS(g.regs[p], m(d.base[0], 0))
		}
		if p < d.pix-1 {
			g.ADDQ(d.base[1], d.base[0])
		}
	}
}

func (d *dwGen) load(src operand.Mem, masked bool, dst reg.VecPhysical) {
	if masked {
		d.loadMasked(src, 0, dst)
		return
	}
	d.VMOVUPS(src, dst)
}
