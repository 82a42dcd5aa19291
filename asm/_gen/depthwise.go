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
	g.channels(d.t, d.at, d.tmp, d.block)
	g.end()
}

// channels runs block for each vector of channels, at channel at. The last one is
// masked (AVX-512) or overlaps the one before it (AVX2, where N is at least a vector).
// at must be RCX.
func (g *gen) channels(t, at, tmp reg.GPPhysical, block func()) {
	g.XORQ(at, at)
	if g.masks {
		g.KXNORW(reg.K1, reg.K1, reg.K1)
	}
	g.Label("block")
	g.LEAQ(m(at, g.lanes), tmp)
	g.CMPQ(tmp, m(t, dwN))
	g.JLE(operand.LabelRef("whole"))
	if g.masks {
		g.MOVQ(at, reg.R13)
		g.NEGQ(at)
		g.ADDQ(m(t, dwN), at)
		g.colMasks(1, at, tmp)
		g.MOVQ(reg.R13, at)
	} else {
		g.MOVQ(m(t, dwN), at)
		g.SUBQ(imm(g.lanes), at)
	}
	g.Label("whole")
	block()
	g.ADDQ(imm(g.lanes), at)
	g.CMPQ(at, m(t, dwN))
	g.JL(operand.LabelRef("block"))
}

// loadChannels loads one vector of channels.
func (g *gen) loadChannels(src operand.Mem, dst reg.VecPhysical) {
	if g.masks {
		g.loadMasked(src, 0, dst)
		return
	}
	g.VMOVUPS(src, dst)
}

// dwGen holds the registers of a depthwise kernel.
type dwGen struct {
	*gen
	pix                                              int
	t, src, w, at, stride, stride3, tap, tapEnd, tmp reg.GPPhysical
	base                                             []reg.GPPhysical
}

// block computes one vector of channels of all pixels.
func (d *dwGen) block() {
	g := d.gen
	weight := g.top(3)
	for p := range d.pix {
		g.zero(g.regs[p])
	}
	g.MOVQ(m(d.t, dwTaps), d.tap)
	g.CMPQ(d.tap, d.tapEnd)
	g.JEQ(operand.LabelRef("bias"))
	g.Label("tap")
	g.MOVQ(m(d.tap, 8), d.tmp)
	g.ADDQ(d.at, d.tmp)
	g.loadChannels(mi(d.w, 0, d.tmp, 4), weight)
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
		if g.masks {
			g.VFMADD231PS(src, weight, reg.K1, g.regs[p])
		} else {
			g.VFMADD231PS(src, weight, g.regs[p])
		}
	}
	g.ADDQ(imm(16), d.tap)
	g.CMPQ(d.tap, d.tapEnd)
	g.JNE(operand.LabelRef("tap"))

	g.Label("bias")
	g.dwFinish(d.t, d.at, d.tmp, d.base[0], d.base[1], d.pix)
}

// dwFinish adds the bias to the accumulators of pix pixels, clamps and stores them.
// It uses the last two vectors but two as scratch, and the registers tmp, out and ldd.
func (g *gen) dwFinish(t, at, tmp, out, ldd reg.GPPhysical, pix int) {
	a, b := g.top(3), g.top(2)
	g.MOVQ(m(t, dwBias), tmp)
	g.TESTQ(tmp, tmp)
	g.JZ(operand.LabelRef("clamp"))
	g.loadChannels(mi(tmp, 0, at, 4), a)
	for p := range pix {
		g.VADDPS(a, g.regs[p], g.regs[p])
	}
	g.Label("clamp")
	g.skipUnlessClamp(t, dwLo, dwHi, "store")
	g.VBROADCASTSS(m(t, dwLo), a)
	g.VBROADCASTSS(m(t, dwHi), b)
	for p := range pix {
		g.clampVec(g.regs[p], a, b)
	}
	g.Label("store")
	g.MOVQ(m(t, dwDst), out)
	g.LEAQ(mi(out, 0, at, 4), out)
	g.MOVQ(m(t, dwLDD), ldd)
	g.SHLQ(operand.U8(2), ldd)
	for p := range pix {
		if g.masks {
			g.storeMasked(g.regs[p], 0, m(out, 0))
		} else {
			g.VMOVUPS(g.regs[p], m(out, 0))
		}
		if p < pix-1 {
			g.ADDQ(ldd, out)
		}
	}
}
