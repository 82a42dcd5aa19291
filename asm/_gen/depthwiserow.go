package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// window is a kernel width and column stride of asm.Kernels.DepthwiseRow.
type window struct{ width, stride int }

// windows is in the order of asm.rowWindows.
var windows = []window{{3, 1}, {3, 2}, {5, 1}, {5, 2}}

// inputs returns how many input pixels the window of pix output pixels covers.
func (w window) inputs(pix int) int { return (pix-1)*w.stride + w.width }

// uses calls f for each output pixel and weight that input i of pix pixels meets.
func (w window) uses(i, pix int, f func(p, x int)) {
	for p := range pix {
		if x := i - p*w.stride; 0 <= x && x < w.width {
			f(p, x)
		}
	}
}

// genDepthwiseRowF32 generates asm.Kernels.DepthwiseRow for pix pixels: weights of a
// kernel row stay in registers while the inputs slide by, each loaded once.
func genDepthwiseRowF32(g *gen, w window, pix int) {
	g.begin(label("dwRowF32_%dx%ds%d_%s", pix, w.width, w.stride, g.name), "func(t *byte)")
	d := &rowGen{gen: g, window: w, pix: pix,
		t: reg.RDI, src: reg.RSI, w: reg.RDX, at: reg.RCX, stride: reg.R8, stride3: reg.R9, tap: reg.RAX, tapEnd: reg.RBX,
		in: reg.R10, ldw: reg.R11, tmp: reg.R14, row: reg.R15}
	g.Load(g.Param("t"), d.t)
	g.MOVQ(m(d.t, dwOff), d.src)
	g.SHLQ(operand.U8(2), d.src)
	g.ADDQ(m(d.t, dwSrc), d.src)
	g.MOVQ(m(d.t, dwW), d.w)
	g.MOVQ(m(d.t, dwLDS), d.stride)
	g.SHLQ(operand.U8(2), d.stride)
	g.LEAQ(mi(d.stride, 0, d.stride, 2), d.stride3)
	g.MOVQ(m(d.t, dwLDW), d.ldw)
	g.SHLQ(operand.U8(2), d.ldw)
	g.MOVQ(m(d.t, dwTaps+8), d.tapEnd)
	g.SHLQ(operand.U8(3), d.tapEnd)
	g.ADDQ(m(d.t, dwTaps), d.tapEnd)
	g.channels(d.t, d.at, d.tmp, d.block)
	g.end()
}

// rowGen holds the registers of a row kernel. Vectors: pixels from 0 up; from the top
// the mask, two inputs, then the weights.
type rowGen struct {
	*gen
	window
	pix                                                            int
	t, src, w, at, stride, stride3, tap, tapEnd, in, ldw, tmp, row reg.GPPhysical
}

func (d *rowGen) input(i int) reg.VecPhysical  { return d.top(1 + i%2) }
func (d *rowGen) weight(x int) reg.VecPhysical { return d.top(3 + x) }

// block computes one vector of channels of all pixels.
func (d *rowGen) block() {
	g := d.gen
	for p := range d.pix {
		g.zero(g.regs[p])
	}
	g.MOVQ(m(d.t, dwTaps), d.tap)
	g.CMPQ(d.tap, d.tapEnd)
	g.JEQ(operand.LabelRef("bias"))
	g.Label("row")
	d.loadWeights()
	g.MOVQ(m(d.tap, 0), d.tmp)
	g.ADDQ(d.at, d.tmp)
	g.LEAQ(mi(d.src, 0, d.tmp, 4), d.in)
	n := d.inputs(d.pix)
	for i := range n {
		if i > 0 && i%3 == 0 {
			g.ADDQ(d.stride3, d.in)
		}
		skip := label("skip%d", i)
		outside := false
		if i < d.width-1 {
			g.CMPQ(m(d.t, dwFirst), imm(i))
			g.JG(operand.LabelRef(skip))
			outside = true
		}
		if i >= n-d.width+1 {
			g.CMPQ(m(d.t, dwLast), imm(i))
			g.JLE(operand.LabelRef(skip))
			outside = true
		}
		src := m(d.in, 0)
		if i%3 > 0 {
			src = mi(d.in, 0, d.stride, uint8(i%3))
		}
		g.loadChannels(src, d.input(i))
		d.uses(i, d.pix, func(p, x int) {
			g.VFMADD231PS(d.input(i), d.weight(x), g.regs[p])
		})
		if outside {
			g.Label(skip)
		}
	}
	g.ADDQ(imm(16), d.tap)
	g.CMPQ(d.tap, d.tapEnd)
	g.JNE(operand.LabelRef("row"))
	g.Label("bias")
	g.dwFinish(d.t, d.at, d.tmp, d.in, d.row, d.pix)
}

// loadWeights loads the weights of one kernel row.
func (d *rowGen) loadWeights() {
	g := d.gen
	g.MOVQ(m(d.tap, 8), d.tmp)
	g.ADDQ(d.at, d.tmp)
	g.LEAQ(mi(d.w, 0, d.tmp, 4), d.row)
	for x := range d.width {
		if x == 3 {
			g.LEAQ(mi(d.row, 0, d.ldw, 2), d.row)
			g.ADDQ(d.ldw, d.row)
		}
		src := m(d.row, 0)
		if x%3 > 0 {
			src = mi(d.row, 0, d.ldw, uint8(x%3))
		}
		g.loadChannels(src, d.weight(x))
	}
}
