package main

import (
	"math"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// stepGen generates the body of roundStep for one vector. Registers 0 to 11 are named
// below; c loads constants.
type stepGen struct {
	*gen
	c *constants
}

// registers of the body
const (
	rV   = iota // rounding variable
	rSig        // σ(V)
	rH          // h, then new h
	rDH         // dh/dV
	rG          // gradient
	rA          // scratch from here
	rB
	rC
	rD
	rE
	rMask // AVX2 masks
	rMask2
)

func (s *stepGen) r(i int) reg.VecPhysical { return s.regs[i] }

// addConst sets x += c, mulConst x *= c, by way of scratch.
func (s *stepGen) addConst(x int, c float32, scratch int) {
	s.c.load(s.gen, c, s.r(scratch))
	s.VADDPS(s.r(scratch), s.r(x), s.r(x))
}

func (s *stepGen) subConst(x int, c float32, scratch int) {
	s.c.load(s.gen, c, s.r(scratch))
	s.VSUBPS(s.r(scratch), s.r(x), s.r(x))
}

func (s *stepGen) mulConst(x int, c float32, scratch int) {
	s.c.load(s.gen, c, s.r(scratch))
	s.VMULPS(s.r(scratch), s.r(x), s.r(x))
}

// poly sets p to the polynomial of x with the given coefficients, highest power first.
func (s *stepGen) poly(p, x int, coef []float32, scratch int) {
	s.c.load(s.gen, coef[0], s.r(p))
	for _, c := range coef[1:] {
		s.VMULPS(s.r(x), s.r(p), s.r(p))
		s.addConst(p, c, scratch)
	}
}

// exp sets x = e^x; a, b and t are scratch.
func (s *stepGen) exp(x, a, b, t int) {
	s.c.load(s.gen, -80, s.r(t))
	s.VMAXPS(s.r(t), s.r(x), s.r(x)) // a NaN becomes -80
	s.c.load(s.gen, 80, s.r(t))
	s.VMINPS(s.r(t), s.r(x), s.r(x))
	s.c.load(s.gen, math.Log2E, s.r(a))
	s.VMULPS(s.r(a), s.r(x), s.r(a))
	s.addConst(a, roundMagic, t)
	s.subConst(a, roundMagic, t) // n
	s.c.load(s.gen, ln2High, s.r(t))
	s.VMULPS(s.r(a), s.r(t), s.r(t))
	s.VSUBPS(s.r(t), s.r(x), s.r(x))
	s.c.load(s.gen, ln2Low, s.r(t))
	s.VMULPS(s.r(a), s.r(t), s.r(t))
	s.VSUBPS(s.r(t), s.r(x), s.r(x)) // r
	s.poly(b, x, expPoly, t)
	s.VMULPS(s.r(x), s.r(b), s.r(b))
	s.VMULPS(s.r(x), s.r(b), s.r(b))
	s.VADDPS(s.r(x), s.r(b), s.r(b))
	s.addConst(b, 1, t)
	s.VCVTPS2DQ(s.r(a), s.r(a))
	s.c.loadBits(s.gen, 127, s.r(t))
	s.VPADDD(s.r(t), s.r(a), s.r(a))
	s.VPSLLD(operand.U8(23), s.r(a), s.r(a))
	s.VMULPS(s.r(a), s.r(b), s.r(x))
}

// log sets x = ln x; e, q, p and t are scratch.
func (s *stepGen) log(x, e, q, p, t int) {
	s.c.loadBits(s.gen, sqrtHalf, s.r(t))
	s.VPSUBD(s.r(t), s.r(x), s.r(e))
	s.VPSRAD(operand.U8(23), s.r(e), s.r(e))
	s.VPSLLD(operand.U8(23), s.r(e), s.r(t))
	s.VPSUBD(s.r(t), s.r(x), s.r(x))
	s.VCVTDQ2PS(s.r(e), s.r(e)) // f
	s.subConst(x, 1, t)         // m
	s.VMULPS(s.r(x), s.r(x), s.r(q))
	s.poly(p, x, logPoly, t)
	s.VMULPS(s.r(x), s.r(p), s.r(p))
	s.VMULPS(s.r(q), s.r(p), s.r(p))
	s.c.load(s.gen, ln2Low, s.r(t))
	s.VMULPS(s.r(e), s.r(t), s.r(t))
	s.VADDPS(s.r(t), s.r(p), s.r(p))
	s.c.load(s.gen, 0.5, s.r(t))
	s.VMULPS(s.r(q), s.r(t), s.r(t))
	s.VSUBPS(s.r(t), s.r(p), s.r(p)) // y
	s.VADDPS(s.r(p), s.r(x), s.r(x))
	s.mulConst(e, ln2High, t)
	s.VADDPS(s.r(e), s.r(x), s.r(x))
}

// rectify sets h and, if dh >= 0, dh, from V and σ; a and t are scratch.
func (s *stepGen) rectify(h, dh, a, t int) {
	s.c.loadBits(s.gen, 0x7fffffff, s.r(t))
	s.and(s.r(rV), s.r(t), s.r(a)) // |V|
	s.c.load(s.gen, saturation, s.r(t))
	s.compare(cmpLT, s.r(a), s.r(t), 0, s.r(rMask))
	s.zero(s.r(t))
	s.compare(cmpLT, s.r(t), s.r(rV), 1, s.r(rMask2))
	s.c.load(s.gen, 1, s.r(a))
	if dh >= 0 {
		s.VSUBPS(s.r(rSig), s.r(a), s.r(dh))
		s.VMULPS(s.r(rSig), s.r(dh), s.r(dh))
		s.mulConst(dh, zeta-gamma, t)
		s.only(s.r(dh), 0, s.r(rMask))
	}
	s.c.load(s.gen, zeta-gamma, s.r(h))
	s.VMULPS(s.r(rSig), s.r(h), s.r(h))
	s.addConst(h, gamma, t)
	s.zero(s.r(t))
	s.clampVec(s.r(h), s.r(t), s.r(a))
	s.only(s.r(a), 1, s.r(rMask2)) // 1 where V > 0
	s.blend(s.r(h), s.r(a), 0, s.r(rMask))
}

// flush zeroes the lanes of x with |x| ≤ tiny; a and t are scratch.
func (s *stepGen) flush(x int, tiny float32, a, t int) {
	s.c.loadBits(s.gen, 0x7fffffff, s.r(t))
	s.and(s.r(x), s.r(t), s.r(a))
	s.c.load(s.gen, tiny, s.r(t))
	s.compare(cmpLT, s.r(t), s.r(a), 0, s.r(rMask))
	s.only(s.r(x), 0, s.r(rMask))
}

// regularize adds λ times the derivative of the regulariser by h to the gradient.
func (s *stepGen) regularize(t reg.Register) {
	s.VADDPS(s.r(rH), s.r(rH), s.r(rA))
	s.subConst(rA, 1, rB) // 2h-1
	s.c.loadBits(s.gen, 0x80000000, s.r(rB))
	s.and(s.r(rA), s.r(rB), s.r(rMask)) // its sign
	s.xor(s.r(rMask), s.r(rA), s.r(rA))
	s.c.load(s.gen, 1e-30, s.r(rB))
	s.VMAXPS(s.r(rB), s.r(rA), s.r(rA)) // u
	s.log(rA, rB, rC, rD, rE)
	s.VBROADCASTSS(m(t, rsBeta), s.r(rB))
	s.VMOVAPS(s.r(rB), s.r(rC))
	s.subConst(rC, 1, rD)
	s.VMULPS(s.r(rC), s.r(rA), s.r(rA))
	s.VMOVAPS(s.r(rB), s.r(rMask2)) // β
	s.exp(rA, rB, rC, rD)
	s.c.load(s.gen, -2, s.r(rB))
	s.VMULPS(s.r(rMask2), s.r(rB), s.r(rB))
	s.VMULPS(s.r(rB), s.r(rA), s.r(rA)) // -2β·q
	s.xor(s.r(rMask), s.r(rA), s.r(rA))
	s.VBROADCASTSS(m(t, rsLambda), s.r(rB))
	s.VMULPS(s.r(rB), s.r(rA), s.r(rA))
	s.VADDPS(s.r(rA), s.r(rG), s.r(rG))
}

// genRoundStep generates roundStep: rows of vectors, all arrays walked with one offset.
func genRoundStep(g *gen, c *constants) {
	s := &stepGen{g, c}
	g.begin(label("roundStepF32_%s", g.name), "func(t *byte)")
	t, n, off, col := reg.RAX, reg.RCX, reg.RBX, reg.RDX
	g.Load(g.Param("t"), t)
	p := map[int]reg.GPPhysical{rsV: reg.RSI, rsSigma: reg.RDI, rsM: reg.R8, rsS: reg.R9, rsGrad: reg.R10, rsBase: reg.R11,
		rsW: reg.R12, rsScale: reg.R13}
	for f := rsV; f <= rsScale; f += 24 {
		g.MOVQ(m(t, f), p[f])
	}
	at := func(f int) operand.Mem { return mi(p[f], 0, off, 1) }
	column := func(f int, dst reg.VecPhysical) { // of Scale, Lo and Hi
		if f == rsScale {
			g.VMOVUPS(mi(p[f], 0, col, 1), dst)
			return
		}
		g.MOVQ(m(t, f), reg.R15)
		g.VMOVUPS(mi(reg.R15, 0, col, 1), dst)
	}
	g.MOVQ(m(t, rsRows), n)
	g.IMULQ(m(t, rsN), n)
	g.SHLQ(operand.U8(2), n) // bytes of all rows
	g.XORQ(off, off)
	g.XORQ(col, col)
	g.Label("loop")

	g.VMOVUPS(at(rsV), s.r(rV))
	g.VMOVUPS(at(rsSigma), s.r(rSig))
	s.rectify(rH, rDH, rA, rB)

	g.Comment("Gradient of the reconstruction where the code is inside the grid")
	g.VADDPS(at(rsBase), s.r(rH), s.r(rA))
	column(rsLo, s.r(rB))
	g.VMAXPS(s.r(rB), s.r(rA), s.r(rB))
	column(rsHi, s.r(rC))
	g.VMINPS(s.r(rC), s.r(rB), s.r(rB))
	s.compare(cmpEQ, s.r(rA), s.r(rB), 0, s.r(rMask))
	column(rsScale, s.r(rG))
	g.VMULPS(at(rsGrad), s.r(rG), s.r(rG))
	s.only(s.r(rG), 0, s.r(rMask))

	g.Comment("Regulariser")
	g.CMPL(m(t, rsLambda), operand.U8(0))
	g.JEQ(operand.LabelRef("adam"))
	s.regularize(t)

	g.Comment("Adam")
	g.Label("adam")
	g.VMULPS(s.r(rDH), s.r(rG), s.r(rG))
	s.flush(rG, tinyGrad, rA, rB)
	g.VMOVUPS(at(rsM), s.r(rA))
	g.VSUBPS(s.r(rA), s.r(rG), s.r(rB))
	s.mulConst(rB, 1-adamBeta1, rC)
	g.VADDPS(s.r(rB), s.r(rA), s.r(rA)) // m
	s.flush(rA, tinyMoment, rB, rC)
	g.VMOVUPS(s.r(rA), at(rsM))
	g.VMULPS(s.r(rG), s.r(rG), s.r(rG))
	s.mulConst(rG, 1-adamBeta2, rC)
	g.VMOVUPS(at(rsS), s.r(rB))
	s.mulConst(rB, adamBeta2, rC)
	g.VADDPS(s.r(rG), s.r(rB), s.r(rB)) // s
	s.flush(rB, tinySquare, rG, rC)
	g.VMOVUPS(s.r(rB), at(rsS))
	g.VSQRTPS(s.r(rB), s.r(rB))
	g.VBROADCASTSS(m(t, rsRoot), s.r(rC))
	g.VMULPS(s.r(rC), s.r(rB), s.r(rB))
	s.addConst(rB, adamEps, rC)
	g.VBROADCASTSS(m(t, rsStep), s.r(rC))
	g.VMULPS(s.r(rC), s.r(rA), s.r(rA))
	g.VDIVPS(s.r(rB), s.r(rA), s.r(rA))
	g.VSUBPS(s.r(rA), s.r(rV), s.r(rV))
	g.VMOVUPS(s.r(rV), at(rsV))

	g.Comment("Soft weight")
	s.c.loadBits(g, 0x80000000, s.r(rB))
	s.xor(s.r(rV), s.r(rB), s.r(rA))
	s.exp(rA, rB, rC, rD)
	s.c.load(g, 1, s.r(rB))
	g.VADDPS(s.r(rB), s.r(rA), s.r(rA))
	g.VDIVPS(s.r(rA), s.r(rB), s.r(rSig))
	g.VMOVUPS(s.r(rSig), at(rsSigma))
	s.rectify(rH, -1, rA, rB)
	g.VADDPS(at(rsBase), s.r(rH), s.r(rA))
	column(rsLo, s.r(rB))
	column(rsHi, s.r(rC))
	s.clampVec(s.r(rA), s.r(rB), s.r(rC))
	column(rsScale, s.r(rB))
	g.VMULPS(s.r(rB), s.r(rA), s.r(rA))
	g.VMOVUPS(s.r(rA), at(rsW))

	g.ADDQ(imm(4*g.lanes), off)
	g.ADDQ(imm(4*g.lanes), col)
	g.MOVQ(m(t, rsN), reg.R15)
	g.SHLQ(operand.U8(2), reg.R15)
	g.CMPQ(col, reg.R15)
	g.JLT(operand.LabelRef("same"))
	g.XORQ(col, col)
	g.Label("same")
	g.CMPQ(off, n)
	g.JLT(operand.LabelRef("loop"))
	g.end()
}

// The constants of package asm.
const (
	zeta       = 1.1
	gamma      = -0.1
	saturation = 2.3978952727983707
	adamBeta1  = 0.9
	adamBeta2  = 0.999
	adamEps    = 1e-8
	tinyGrad   = 1e-15
	tinyMoment = 1e-30
	tinySquare = 1e-36
	roundMagic = 3 << 22
	ln2High    = 0.693359375
	ln2Low     = -2.12194440e-4
	sqrtHalf   = 0x3f3504f3
)

var (
	expPoly = []float32{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1}
	logPoly = []float32{7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
		-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1}
)
