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

// vecOp is an instruction of two sources, with the second in a register or repeated from memory (AVX-512).
type vecOp struct{ whole, broadcast func(ops ...operand.Op) }

func (s *stepGen) addOp() vecOp { return vecOp{s.VADDPS, s.VADDPS_BCST} }
func (s *stepGen) subOp() vecOp { return vecOp{s.VSUBPS, s.VSUBPS_BCST} }
func (s *stepGen) mulOp() vecOp { return vecOp{s.VMULPS, s.VMULPS_BCST} }
func (s *stepGen) maxOp() vecOp { return vecOp{s.VMAXPS, s.VMAXPS_BCST} } // of x and a constant: the constant when x is a NaN
func (s *stepGen) minOp() vecOp { return vecOp{s.VMINPS, s.VMINPS_BCST} }

func (s *stepGen) andOp() vecOp {
	return vecOp{func(ops ...operand.Op) { s.VPAND(ops[0], ops[1], ops[2]) }, s.VPANDD_BCST}
}

func (s *stepGen) addIntOp() vecOp {
	return vecOp{s.VPADDD, s.VPADDD_BCST}
}

func (s *stepGen) subIntOp() vecOp { return vecOp{s.VPSUBD, s.VPSUBD_BCST} }

// with sets d = x op c. The constant comes with the instruction that needs it: the steps of a vector follow each other so closely
// that time goes by how many vectors' instructions the processor looks ahead over.
func (s *stepGen) with(op vecOp, d, x int, c float32) { s.withBits(op, d, x, math.Float32bits(c)) }

func (s *stepGen) withBits(op vecOp, d, x int, bits uint32) {
	if s.masks {
		op.broadcast(s.c.bitsOf(bits), s.r(x), s.r(d))
		return
	}
	op.whole(s.c.bitsOf(bits), s.r(x), s.r(d))
}

// poly sets p to the polynomial of x with the given coefficients, highest power first.
func (s *stepGen) poly(p, x int, coef []float32) {
	s.with(s.mulOp(), p, x, coef[0])
	s.with(s.addOp(), p, p, coef[1])
	for _, c := range coef[2:] {
		s.VMULPS(s.r(x), s.r(p), s.r(p))
		s.with(s.addOp(), p, p, c)
	}
}

// exp sets x = e^x; a, b and t are scratch.
func (s *stepGen) exp(x, a, b, t int) {
	s.with(s.maxOp(), x, x, -80) // a NaN becomes -80
	s.with(s.minOp(), x, x, 80)
	s.with(s.mulOp(), a, x, math.Log2E)
	s.with(s.addOp(), a, a, roundMagic)
	s.with(s.subOp(), a, a, roundMagic) // n
	s.with(s.mulOp(), t, a, ln2High)
	s.VSUBPS(s.r(t), s.r(x), s.r(x))
	s.with(s.mulOp(), t, a, ln2Low)
	s.VSUBPS(s.r(t), s.r(x), s.r(x)) // r
	s.poly(b, x, expPoly)
	s.VMULPS(s.r(x), s.r(b), s.r(b))
	s.VMULPS(s.r(x), s.r(b), s.r(b))
	s.VADDPS(s.r(x), s.r(b), s.r(b))
	s.with(s.addOp(), b, b, 1)
	s.VCVTPS2DQ(s.r(a), s.r(a))
	s.withBits(s.addIntOp(), a, a, 127)
	s.VPSLLD(operand.U8(23), s.r(a), s.r(a))
	s.VMULPS(s.r(a), s.r(b), s.r(x))
}

// log sets x = ln x; e, q, p and t are scratch.
func (s *stepGen) log(x, e, q, p, t int) {
	s.withBits(s.subIntOp(), e, x, sqrtHalf)
	s.VPSRAD(operand.U8(23), s.r(e), s.r(e))
	s.VPSLLD(operand.U8(23), s.r(e), s.r(t))
	s.VPSUBD(s.r(t), s.r(x), s.r(x))
	s.VCVTDQ2PS(s.r(e), s.r(e)) // f
	s.with(s.subOp(), x, x, 1)  // m
	s.VMULPS(s.r(x), s.r(x), s.r(q))
	s.poly(p, x, logPoly)
	s.VMULPS(s.r(x), s.r(p), s.r(p))
	s.VMULPS(s.r(q), s.r(p), s.r(p))
	s.with(s.mulOp(), t, e, ln2Low)
	s.VADDPS(s.r(t), s.r(p), s.r(p))
	s.with(s.mulOp(), t, q, 0.5)
	s.VSUBPS(s.r(t), s.r(p), s.r(p)) // y
	s.VADDPS(s.r(p), s.r(x), s.r(x))
	s.with(s.mulOp(), e, e, ln2High)
	s.VADDPS(s.r(e), s.r(x), s.r(x))
}

// rectify sets h and, if dh >= 0, dh, from V and σ; a and t are scratch.
func (s *stepGen) rectify(h, dh, a, t int) {
	s.withBits(s.andOp(), a, rV, 0x7fffffff) // |V|
	s.c.load(s.gen, saturation, s.r(t))
	s.compare(cmpLT, s.r(a), s.r(t), 0, s.r(rMask))
	s.zero(s.r(t))
	s.compare(cmpLT, s.r(t), s.r(rV), 1, s.r(rMask2))
	s.c.load(s.gen, 1, s.r(a))
	if dh >= 0 {
		s.VSUBPS(s.r(rSig), s.r(a), s.r(dh))
		s.VMULPS(s.r(rSig), s.r(dh), s.r(dh))
		s.with(s.mulOp(), dh, dh, zeta-gamma)
		s.only(s.r(dh), 0, s.r(rMask))
	}
	s.with(s.mulOp(), h, rSig, zeta-gamma)
	s.with(s.addOp(), h, h, gamma)
	s.zero(s.r(t))
	s.clampVec(s.r(h), s.r(t), s.r(a))
	s.only(s.r(a), 1, s.r(rMask2)) // 1 where V > 0
	s.blend(s.r(h), s.r(a), 0, s.r(rMask))
}

// flush zeroes the lanes of x with |x| ≤ tiny; a and t are scratch.
func (s *stepGen) flush(x int, tiny float32, a, t int) {
	s.withBits(s.andOp(), a, x, 0x7fffffff)
	s.c.load(s.gen, tiny, s.r(t))
	s.compare(cmpLT, s.r(t), s.r(a), 0, s.r(rMask))
	s.only(s.r(x), 0, s.r(rMask))
}

// stepChunk is how many vectors go through a pass before the next: enough that the chain of operations of one vector
// overlaps with those of others, few enough to stay in the nearest cache.
const stepChunk = 16

// stepRegs are the general registers of roundStep: off and col walk in bytes over all rows and over one.
type stepRegs struct {
	t, all, off, col, end, row reg.GPPhysical
	start, first               operand.Mem // off and col at the start of the chunk
	ptr                        map[int]reg.GPPhysical
}

// genRoundStep generates roundStep: four passes over each chunk of vectors. W holds what a pass leaves to the next.
func genRoundStep(g *gen, c *constants) {
	s := &stepGen{gen: g, c: c}
	g.begin(label("roundStepF32_%s", g.name), "func(t *byte)")
	x := stepRegs{t: reg.RAX, all: reg.RCX, off: reg.RBX, col: reg.RDX, end: reg.R14, row: reg.R15, start: g.AllocLocal(8), first: g.AllocLocal(8)}
	g.Load(g.Param("t"), x.t)
	g.MOVQ(m(x.t, rsN), x.row)
	g.MOVQ(x.row, x.all)
	g.IMULQ(m(x.t, rsRows), x.all)
	g.SHLQ(operand.U8(2), x.row)
	g.SHLQ(operand.U8(2), x.all)
	g.XORQ(x.off, x.off)
	g.XORQ(x.col, x.col)
	g.Label("chunk")
	g.MOVQ(x.off, x.start)
	g.MOVQ(x.col, x.first)
	g.LEAQ(m(x.off, 4*g.lanes*stepChunk), x.end)
	g.CMPQ(x.end, x.all)
	g.JLE(operand.LabelRef("whole"))
	g.MOVQ(x.all, x.end)
	g.Label("whole")
	g.CMPL(m(x.t, rsLambda), operand.U8(0))
	g.JEQ(operand.LabelRef("plain"))
	s.pass(&x, "power", []int{rsV, rsSigma, rsW}, s.power)
	s.pass(&x, "penalty", []int{rsV, rsSigma, rsBase, rsGrad, rsScale, rsLo, rsHi, rsW}, func(x *stepRegs) { s.gradient(x, true) })
	g.JMP(operand.LabelRef("moments"))
	g.Label("plain")
	s.pass(&x, "reconstruction", []int{rsV, rsSigma, rsBase, rsGrad, rsScale, rsLo, rsHi, rsW}, func(x *stepRegs) { s.gradient(x, false) })
	g.Label("moments")
	s.pass(&x, "adam", []int{rsV, rsM, rsS, rsW}, s.adam)
	s.pass(&x, "soft", []int{rsV, rsSigma, rsBase, rsScale, rsLo, rsHi, rsW}, s.soft)
	g.CMPQ(x.off, x.all)
	g.JLT(operand.LabelRef("chunk"))
	g.end()
}

// pass walks over a chunk with the pointers to the given fields loaded.
func (s *stepGen) pass(x *stepRegs, name string, fields []int, body func(*stepRegs)) {
	x.ptr = map[int]reg.GPPhysical{}
	for i, f := range fields {
		x.ptr[f] = []reg.GPPhysical{reg.RSI, reg.RDI, reg.R8, reg.R9, reg.R10, reg.R11, reg.R12, reg.R13}[i]
		s.MOVQ(m(x.t, f), x.ptr[f])
	}
	s.MOVQ(x.start, x.off)
	s.MOVQ(x.first, x.col)
	s.Label(name)
	body(x)
	s.ADDQ(imm(4*s.lanes), x.off)
	s.ADDQ(imm(4*s.lanes), x.col)
	s.CMPQ(x.col, x.row)
	s.JLT(operand.LabelRef(name + "_row"))
	s.XORQ(x.col, x.col)
	s.Label(name + "_row")
	s.CMPQ(x.off, x.end)
	s.JLT(operand.LabelRef(name))
}

// at is an element of a field, and of Scale, Lo and Hi that of the column.
func (x *stepRegs) at(f int) operand.Mem {
	if f == rsScale || f == rsLo || f == rsHi {
		return mi(x.ptr[f], 0, x.col, 1)
	}
	return mi(x.ptr[f], 0, x.off, 1)
}

// distance sets u to |2h-1|, at least 1e-30, and sign to the sign of 2h-1.
func (s *stepGen) distance(h, u, sign int) {
	s.VADDPS(s.r(h), s.r(h), s.r(u))
	s.with(s.subOp(), u, u, 1)
	s.withBits(s.andOp(), sign, u, 0x80000000)
	s.xor(s.r(sign), s.r(u), s.r(u))
	s.with(s.maxOp(), u, u, 1e-30)
}

// power leaves (β-1)·ln|2h-1| in W.
func (s *stepGen) power(x *stepRegs) {
	s.VMOVUPS(x.at(rsV), s.r(rV))
	s.VMOVUPS(x.at(rsSigma), s.r(rSig))
	s.rectify(rH, -1, rA, rB)
	s.distance(rH, rA, rB)
	s.log(rA, rB, rC, rD, rE)
	s.VBROADCASTSS(m(x.t, rsBeta), s.r(rB))
	s.with(s.subOp(), rB, rB, 1)
	s.VMULPS(s.r(rB), s.r(rA), s.r(rA))
	s.VMOVUPS(s.r(rA), x.at(rsW))
}

// gradient leaves that of the loss by V in W: of the reconstruction where the code is inside the grid, and of the regulariser.
func (s *stepGen) gradient(x *stepRegs, regularize bool) {
	s.VMOVUPS(x.at(rsV), s.r(rV))
	s.VMOVUPS(x.at(rsSigma), s.r(rSig))
	s.rectify(rH, rDH, rA, rB)
	s.VADDPS(x.at(rsBase), s.r(rH), s.r(rA))
	s.VMOVUPS(x.at(rsLo), s.r(rB))
	s.VMAXPS(s.r(rB), s.r(rA), s.r(rB))
	s.VMOVUPS(x.at(rsHi), s.r(rC))
	s.VMINPS(s.r(rC), s.r(rB), s.r(rB))
	s.compare(cmpEQ, s.r(rA), s.r(rB), 0, s.r(rMask))
	s.VMOVUPS(x.at(rsScale), s.r(rG))
	s.VMULPS(x.at(rsGrad), s.r(rG), s.r(rG))
	s.only(s.r(rG), 0, s.r(rMask))
	if regularize {
		s.distance(rH, rA, rMask)
		s.VMOVUPS(x.at(rsW), s.r(rA))
		s.exp(rA, rB, rC, rD)
		s.VBROADCASTSS(m(x.t, rsBeta), s.r(rB))
		s.with(s.mulOp(), rB, rB, -2)
		s.VMULPS(s.r(rB), s.r(rA), s.r(rA)) // -2β·q
		s.xor(s.r(rMask), s.r(rA), s.r(rA))
		s.VBROADCASTSS(m(x.t, rsLambda), s.r(rB))
		s.VMULPS(s.r(rB), s.r(rA), s.r(rA))
		s.VADDPS(s.r(rA), s.r(rG), s.r(rG))
	}
	s.VMULPS(s.r(rDH), s.r(rG), s.r(rG))
	s.VMOVUPS(s.r(rG), x.at(rsW))
}

// adam renews the moments and V by the gradient in W.
func (s *stepGen) adam(x *stepRegs) {
	s.VMOVUPS(x.at(rsW), s.r(rG))
	s.flush(rG, tinyGrad, rA, rB)
	s.VMOVUPS(x.at(rsM), s.r(rA))
	s.VSUBPS(s.r(rA), s.r(rG), s.r(rB))
	s.with(s.mulOp(), rB, rB, 1-adamBeta1)
	s.VADDPS(s.r(rB), s.r(rA), s.r(rA)) // m
	s.flush(rA, tinyMoment, rB, rC)
	s.VMOVUPS(s.r(rA), x.at(rsM))
	s.VMULPS(s.r(rG), s.r(rG), s.r(rG))
	s.with(s.mulOp(), rG, rG, 1-adamBeta2)
	s.VMOVUPS(x.at(rsS), s.r(rB))
	s.with(s.mulOp(), rB, rB, adamBeta2)
	s.VADDPS(s.r(rG), s.r(rB), s.r(rB)) // s
	s.flush(rB, tinySquare, rG, rC)
	s.VMOVUPS(s.r(rB), x.at(rsS))
	s.VSQRTPS(s.r(rB), s.r(rB))
	s.VBROADCASTSS(m(x.t, rsRoot), s.r(rC))
	s.VMULPS(s.r(rC), s.r(rB), s.r(rB))
	s.with(s.addOp(), rB, rB, adamEps)
	s.VBROADCASTSS(m(x.t, rsStep), s.r(rC))
	s.VMULPS(s.r(rC), s.r(rA), s.r(rA))
	s.VDIVPS(s.r(rB), s.r(rA), s.r(rA))
	s.VMOVUPS(x.at(rsV), s.r(rV))
	s.VSUBPS(s.r(rA), s.r(rV), s.r(rV))
	s.VMOVUPS(s.r(rV), x.at(rsV))
}

// soft renews σ and the soft weight.
func (s *stepGen) soft(x *stepRegs) {
	s.VMOVUPS(x.at(rsV), s.r(rV))
	s.c.loadBits(s.gen, 0x80000000, s.r(rB))
	s.xor(s.r(rV), s.r(rB), s.r(rA))
	s.exp(rA, rB, rC, rD)
	s.with(s.addOp(), rA, rA, 1)
	s.c.load(s.gen, 1, s.r(rB))
	s.VDIVPS(s.r(rA), s.r(rB), s.r(rSig))
	s.VMOVUPS(s.r(rSig), x.at(rsSigma))
	s.rectify(rH, -1, rA, rB)
	s.VADDPS(x.at(rsBase), s.r(rH), s.r(rA))
	s.VMOVUPS(x.at(rsLo), s.r(rB))
	s.VMOVUPS(x.at(rsHi), s.r(rC))
	s.clampVec(s.r(rA), s.r(rB), s.r(rC))
	s.VMOVUPS(x.at(rsScale), s.r(rB))
	s.VMULPS(s.r(rB), s.r(rA), s.r(rA))
	s.VMOVUPS(s.r(rA), x.at(rsW))
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
