package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const elemUnroll = 4 // vectors per round of the elementwise loops

// elemwise generates a loop over the float32 slices named in args, the first of
// which is the output and gives the length. constants loads the operands that stay in
// registers; op gets the vectors of one position (without the output's unless read)
// and returns the result, or nil if there is nothing to store.
type elemwise struct {
	name      string
	signature string
	slices    []string
	store     bool // the first slice is written
	read      bool // the first slice is read, too
	constants func(g *gen)
	op        func(g *gen, u int, in []reg.VecPhysical, masked bool) reg.VecPhysical
	finish    func(g *gen)
}

func (e elemwise) generate(g *gen) {
	ptrs := []reg.GPPhysical{reg.RDI, reg.RSI, reg.RDX}[:len(e.slices)]
	n := reg.RCX
	g.begin(label("%sF32_%s", e.name, g.name), e.signature)
	for i, s := range e.slices {
		g.Load(g.Param(s).Base(), ptrs[i])
	}
	g.Load(g.Param(e.slices[0]).Len(), n)
	e.constants(g)
	step := elemUnroll * g.lanes

	g.Comment("Several vectors at a time")
	g.SUBQ(imm(step), n)
	g.JL(operand.LabelRef("one"))
	g.Label("loop")
	for u := range elemUnroll {
		e.vector(g, ptrs, u, false)
	}
	for _, p := range ptrs {
		g.ADDQ(imm(4*step), p)
	}
	g.SUBQ(imm(step), n)
	g.JGE(operand.LabelRef("loop"))

	g.Comment("One vector at a time")
	g.Label("one")
	g.ADDQ(imm(step-g.lanes), n)
	g.JL(operand.LabelRef("tail"))
	g.Label("single")
	e.vector(g, ptrs, 0, false)
	for _, p := range ptrs {
		g.ADDQ(imm(4*g.lanes), p)
	}
	g.SUBQ(imm(g.lanes), n)
	g.JGE(operand.LabelRef("single"))

	g.Comment("The last, partial vector")
	g.Label("tail")
	g.ADDQ(imm(g.lanes), n)
	g.JZ(operand.LabelRef("done"))
	g.colMasks(1, n, reg.RAX)
	e.vector(g, ptrs, 0, true)
	g.Label("done")
	if e.finish != nil {
		e.finish(g)
	}
	g.end()
}

// vector processes vector u of the current position. Inputs are in registers 2u and
// 2u+1.
func (e elemwise) vector(g *gen, ptrs []reg.GPPhysical, u int, masked bool) {
	var in []reg.VecPhysical
	for i, p := range ptrs {
		if i == 0 && e.store && !e.read {
			continue
		}
		v := g.regs[2*u+len(in)]
		in = append(in, v)
		if masked {
			g.loadMasked(m(p, 4*g.lanes*u), 0, v)
		} else {
			g.VMOVUPS(m(p, 4*g.lanes*u), v)
		}
	}
	out := e.op(g, u, in, masked)
	if !e.store {
		return
	}
	if masked {
		g.storeMasked(out, 0, m(ptrs[0], 4*g.lanes*u))
	} else {
		g.VMOVUPS(out, m(ptrs[0], 4*g.lanes*u))
	}
}

// constant returns the register of constant i; the last vector is AVX2's mask.
func (g *gen) constant(i int) reg.VecPhysical { return g.top(1 + i) }

// params broadcasts scalar parameters to constants 0, 1, ...
func params(names ...string) func(g *gen) {
	return func(g *gen) {
		for i, n := range names {
			a, err := g.Param(n).Resolve()
			if err != nil {
				panic(err)
			}
			g.VBROADCASTSS(a.Addr, g.constant(i))
		}
	}
}

var elementwise = []elemwise{
	{
		name: "addClamp", signature: "func(dst, a, b []float32, lo, hi float32)",
		slices: []string{"dst", "a", "b"}, store: true, constants: params("lo", "hi"),
		op: func(g *gen, _ int, in []reg.VecPhysical, _ bool) reg.VecPhysical {
			g.VADDPS(in[1], in[0], in[0])
			g.clampVec(in[0], g.constant(0), g.constant(1))
			return in[0]
		},
	},
	{
		name: "larger", signature: "func(dst, a, b []float32)",
		slices: []string{"dst", "a", "b"}, store: true, constants: params(),
		op: func(g *gen, _ int, in []reg.VecPhysical, _ bool) reg.VecPhysical {
			g.VMAXPS(in[0], in[1], in[0]) // a, the second source, when one is a NaN or both are zero
			return in[0]
		},
	},
	{
		name: "clamp", signature: "func(dst, src []float32, lo, hi float32)",
		slices: []string{"dst", "src"}, store: true, constants: params("lo", "hi"),
		op: func(g *gen, _ int, in []reg.VecPhysical, _ bool) reg.VecPhysical {
			g.clampVec(in[0], g.constant(0), g.constant(1))
			return in[0]
		},
	},
	{
		name: "axpy", signature: "func(dst, x []float32, alpha float32)",
		slices: []string{"dst", "x"}, store: true, read: true, constants: params("alpha"),
		op: func(g *gen, _ int, in []reg.VecPhysical, _ bool) reg.VecPhysical {
			g.VFMADD231PS(g.constant(0), in[1], in[0])
			return in[0]
		},
	},
	{
		name: "qdq", signature: "func(dst, src []float32, scale, zero, lo, hi float32)",
		slices: []string{"dst", "src"}, store: true, constants: params("scale", "zero", "lo", "hi"),
		op: func(g *gen, _ int, in []reg.VecPhysical, _ bool) reg.VecPhysical {
			scale, zero, x := g.constant(0), g.constant(1), in[0]
			g.VDIVPS(scale, x, x)
			// 8: to nearest, halves to even, whatever the control register says
			if g.masks {
				g.VRNDSCALEPS(operand.U8(8), x, x)
			} else {
				g.VROUNDPS(operand.U8(8), x, x)
			}
			g.VADDPS(zero, x, x)
			g.clampVec(x, g.constant(2), g.constant(3))
			g.VSUBPS(zero, x, x)
			g.VMULPS(scale, x, x)
			return x
		},
	},
	{
		name: "minMax", signature: "func(src []float32) (lo, hi float32)",
		slices: []string{"src"}, constants: minMaxInit, op: minMaxOp, finish: minMaxFinish,
	},
}

// Running minima are in constants 0 and up, maxima after them, one of each per
// vector of the unrolled loop.
func minMaxAcc(g *gen, u int) (lo, hi reg.VecPhysical) {
	return g.regs[8+u%2], g.regs[10+u%2]
}

func minMaxInit(g *gen) {
	for i, bits := range []uint32{0x7f800000, 0xff800000} {
		g.MOVL(operand.U32(bits), reg.EAX)
		x := []reg.VecPhysical{reg.X8, reg.X10}[i]
		g.VMOVD(reg.EAX, x)
		g.VBROADCASTSS(x, g.regs[8+2*i])
		g.VMOVAPS(g.regs[8+2*i], g.regs[9+2*i])
	}
}

// minMaxOp keeps the accumulator when x is a NaN: MINPS returns its second source
// (first in Go's order) then.
func minMaxOp(g *gen, u int, in []reg.VecPhysical, masked bool) reg.VecPhysical {
	lo, hi := minMaxAcc(g, u)
	x := in[0]
	switch {
	case masked && g.masks:
		g.VMINPS(lo, x, reg.K1, lo)
		g.VMAXPS(hi, x, reg.K1, hi)
	case masked:
		t := g.regs[1]
		g.VBLENDVPS(g.top(0), x, lo, t)
		g.VMINPS(lo, t, lo)
		g.VBLENDVPS(g.top(0), x, hi, t)
		g.VMAXPS(hi, t, hi)
	default:
		g.VMINPS(lo, x, lo)
		g.VMAXPS(hi, x, hi)
	}
	return nil
}

// minMaxFinish folds the accumulators, which hold no NaN, to one value each.
func minMaxFinish(g *gen) {
	x := []reg.VecPhysical{reg.X0, reg.X1}
	y := []reg.VecPhysical{reg.Y0, reg.Y1}
	for i, name := range []string{"lo", "hi"} {
		fold := g.VMINPS
		a, b := g.regs[8+2*i], g.regs[9+2*i]
		if i == 1 {
			fold = g.VMAXPS
		}
		fold(b, a, g.regs[0])
		if g.masks {
			g.VEXTRACTF64X4(operand.U8(1), reg.Z0, reg.Y1)
			fold(y[1], y[0], y[0])
		}
		g.VEXTRACTF128(operand.U8(1), reg.Y0, reg.X1)
		fold(x[1], x[0], x[0])
		g.VPSHUFD(operand.U8(0x4e), reg.X0, reg.X1)
		fold(x[1], x[0], x[0])
		g.VPSHUFD(operand.U8(0xb1), reg.X0, reg.X1)
		fold(x[1], x[0], x[0])
		g.Store(reg.X0, g.Return(name))
	}
}

// genPeak generates n rounds of multiply-adds on all accumulators of the GEMM tile.
func genPeak(g *gen) {
	g.begin(label("peakF32_%s", g.name), "func(n int)")
	g.Load(g.Param("n"), reg.RCX)
	acc := g.mr * maxVecs
	for i := range g.regs {
		g.zero(g.regs[i])
	}
	g.TESTQ(reg.RCX, reg.RCX)
	g.JLE(operand.LabelRef("done"))
	g.Label("loop")
	for i := range acc {
		g.VFMADD231PS(g.top(0), g.top(1), g.regs[i])
	}
	g.DECQ(reg.RCX)
	g.JNZ(operand.LabelRef("loop"))
	g.Label("done")
	g.end()
}
