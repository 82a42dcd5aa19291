package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"roundel/asm/gen/neon"
)

// histogramFuncs are the kernels of calibration, in files of their own.
var histogramFuncs = []kernel{
	{"histogram", histogramSignature},
	{"histogramOne", histogramSignature},
	{"taint", "func(src []float32) (mark float32)"},
}

const (
	histogramSignature = "func(counts []uint32, src []float32, perUnit float32, first int32, last uint32)"
	histogramTables    = 4    // asm.HistogramTables
	histogramSize      = 2128 // asm.HistogramSize
	histogramStep      = 16   // elements of one round
	histogramRing      = 16   // rounds that the ring holds
	histogramLead      = 8    // rounds by which bins are ahead of counts
)

// generateHistogram returns the assembly of the calibration kernels of an x86 instruction set and its stubs.
func generateHistogram(a isa) ([]file, error) {
	g := newFile(a, "histmask")
	genHistogram(g, histogramFuncs[0].name, histogramTables)
	genHistogram(g, histogramFuncs[1].name, 1)
	elemwise{
		name: "taint", signature: histogramFuncs[2].signature, slices: []string{"src"},
		constants: taintInit, op: taintOp, finish: taintFinish,
	}.generate(g)
	text, err := g.print("histogram-" + a.name)
	if err != nil {
		return nil, err
	}
	stubs, err := declare("histogram-"+a.name, a.name, a.title, histogramFuncs)
	base := "histogram_" + a.name + "_amd64"
	return []file{{base + ".s", text}, {base + ".go", stubs}}, err
}

// genHistogram generates the counting of whole rounds of elements. Their bins go to a ring in memory, from where they are
// read, two to a register, when they have settled there: while the bins of later elements are computed. Neighbours count
// in different tables, so that equal ones do not wait for each other.
func genHistogram(g *gen, name string, tables int) {
	g.Function(label("%sF32_%s", name, g.name))
	g.SignatureExpr(histogramSignature)
	counts, src, left, ring := reg.RDI, reg.RSI, reg.RCX, reg.R12
	write, read, ahead, lead := reg.RDX, reg.RBX, reg.R13, reg.R15
	g.LEAQ(g.AllocLocal(4*histogramStep*(histogramRing+1)), ring)
	g.ADDQ(imm(63), ring)
	g.ANDQ(imm(-64), ring)
	g.Load(g.Param("counts").Base(), counts)
	g.Load(g.Param("src").Base(), src)
	g.Load(g.Param("src").Len(), left)
	params("perUnit", "first", "last")(g)
	advance := func(at reg.GPPhysical) {
		g.ADDQ(imm(4*histogramStep), at)
		g.ANDQ(imm(4*histogramStep*histogramRing-1), at)
	}
	bins := func() {
		for v := range histogramStep / g.lanes {
			x := g.regs[v]
			g.VMOVUPS(m(src, 4*g.lanes*v), x)
			g.binOf(x)
			g.VMOVUPS(x, mi(ring, 4*g.lanes*v, write, 1))
		}
		g.ADDQ(imm(4*histogramStep), src)
		advance(write)
	}
	tally := func() {
		pairs := []reg.GPPhysical{reg.R8, reg.R9, reg.R10, reg.R11}
		for i := range histogramStep / 2 {
			pair := pairs[i%len(pairs)]
			table := func(of int) int { return of % tables * 4 * histogramSize }
			g.MOVQ(mi(ring, 8*i, read, 1), pair)
			g.MOVL(pair.As32(), reg.EAX)
			g.SHRQ(operand.U8(32), pair)
			g.INCL(mi(counts, table(2*i), reg.RAX, 4))
			g.INCL(mi(counts, table(2*i+1), pair, 4))
		}
		advance(read)
	}
	g.SHRQ(operand.U8(4), left) // rounds
	g.JZ(operand.LabelRef("done"))
	g.MOVQ(imm(histogramLead), lead)
	g.CMPQ(left, lead)
	g.CMOVQLT(left, lead)
	g.SUBQ(lead, left)
	g.MOVQ(lead, ahead)
	g.XORQ(write, write)
	g.XORQ(read, read)
	g.Label("first")
	bins()
	g.DECQ(ahead)
	g.JNZ(operand.LabelRef("first"))
	g.TESTQ(left, left)
	g.JZ(operand.LabelRef("last"))
	g.Label("both")
	bins()
	tally()
	g.DECQ(left)
	g.JNZ(operand.LabelRef("both"))
	g.Label("last")
	tally()
	g.DECQ(lead)
	g.JNZ(operand.LabelRef("last"))
	g.Label("done")
	g.end()
}

// binOf turns elements into numbers of bins. What does not fit int32, a NaN too, converts to -2^31, which is far above
// last as an unsigned number whatever first is taken from it.
func (g *gen) binOf(x reg.VecPhysical) {
	const down = operand.U8(9)
	g.VMULPS(g.constant(0), x, x)
	if g.masks {
		g.VRNDSCALEPS(down, x, x)
	} else {
		g.VROUNDPS(down, x, x)
	}
	g.VCVTTPS2DQ(x, x)
	g.VPSUBD(g.constant(1), x, x)
	g.VPMINUD(g.constant(2), x, x)
}

// The sums of x·0, one for each vector of the unrolled loop; zero is the constant.
func taintInit(g *gen) {
	g.zero(g.constant(0))
	for u := range elemUnroll {
		g.zero(g.regs[8+u])
	}
}

func taintOp(g *gen, u int, in []reg.VecPhysical, _ bool) reg.VecPhysical {
	g.VFMADD231PS(g.constant(0), in[0], g.regs[8+u])
	return nil
}

// taintFinish adds all lanes: zeros, unless there is a NaN among them.
func taintFinish(g *gen) {
	for u := 1; u < elemUnroll; u++ {
		g.VADDPS(g.regs[8+u], g.regs[8], g.regs[8])
	}
	if g.masks {
		g.VEXTRACTF64X4(operand.U8(1), reg.Z8, reg.Y1)
		g.VADDPS(reg.Y1, reg.Y8, reg.Y8)
	}
	g.VEXTRACTF128(operand.U8(1), reg.Y8, reg.X1)
	g.VADDPS(reg.X1, reg.X8, reg.X8)
	for _, order := range []operand.U8{0x4e, 0xb1} {
		g.VPSHUFD(order, reg.X8, reg.X1)
		g.VADDPS(reg.X1, reg.X8, reg.X8)
	}
	g.Store(reg.X8, g.Return("mark"))
}

// generateHistogramNEON returns the arm64 assembly of the calibration kernels and its stubs.
func generateHistogramNEON() ([]file, error) {
	t := &text{}
	t.b.WriteString("// Code generated by command: gen -isa histogram-neon. DO NOT EDIT.\n\n//go:build !purego\n\n#include \"textflag.h\"\n")
	neonHistogram(t, histogramFuncs[0].name, histogramTables)
	neonHistogram(t, histogramFuncs[1].name, 1)
	neonTaint(t)
	stubs, err := declare("histogram-neon", "neon", "NEON", histogramFuncs)
	return []file{{"histogram_neon_arm64.s", []byte(t.b.String())}, {"histogram_neon_arm64.go", stubs}}, err
}

// neonHistogram is genHistogram; R0 and up point to the tables.
func neonHistogram(t *text, name string, tables int) {
	t.fn(name+"F32_neon", 60)
	t.i("MOVD counts_base+0(FP), R0")
	t.i("MOVD src_base+24(FP), R8")
	t.i("MOVD src_len+32(FP), R9")
	for i, s := range []string{"perUnit", "first", "last"} {
		t.i("MOVWU %s+%d(FP), R10", s, 48+4*i)
		t.i("VDUP R10, V%d.S4", 16+i)
	}
	t.i("MOVD $%d, R10", 4*histogramSize)
	for i := 1; i < tables; i++ {
		t.i("ADD R10, R%d, R%d", i-1, i)
	}
	t.i("SUBS $%d, R9, R9", histogramStep)
	t.i("BLT done")
	t.label("loop")
	for v := range histogramStep / 4 {
		t.i("FMOVQ.P 16(R8), F%d", v)
		t.w(neon.FCMEQ(8, v, v)) // a NaN is not equal to itself
		t.w(neon.FMUL(v, v, 16))
		t.w(neon.FCVTMS(v, v))
		t.i("VSUB V17.S4, V%d.S4, V%d.S4", v, v)
		t.w(neon.UMIN(v, v, 18))
		t.i("VBIF V8.B16, V18.B16, V%d.B16", v)
	}
	for i := range histogramStep {
		t.i("VMOV V%d.S[%d], R10", i/4, i%4)
		t.i("ADD R10<<2, R%d, R11", i%tables)
		t.i("MOVWU (R11), R12")
		t.i("ADD $1, R12, R12")
		t.i("MOVW R12, (R11)")
	}
	t.i("SUBS $%d, R9, R9", histogramStep)
	t.i("BGE loop")
	t.label("done")
	t.i("RET")
}

// neonTaint sums x·0 in V16.
func neonTaint(t *text) {
	t.fn("taintF32_neon", 28)
	t.i("MOVD src_base+0(FP), R0")
	t.i("MOVD src_len+8(FP), R3")
	t.zero(16)
	t.zero(17)
	t.i("CBZ R3, fold")
	t.label("loop")
	t.i("FMOVQ.P 16(R0), F0")
	t.i("VFMLA V17.S4, V0.S4, V16.S4")
	t.i("SUBS $4, R3, R3")
	t.i("BNE loop")
	t.label("fold")
	for _, bytes := range []int{8, 4} {
		t.i("VEXT $%d, V16.B16, V16.B16, V0.B16", bytes)
		t.w(neon.FADD(16, 16, 0))
	}
	t.i("FMOVS F16, mark+24(FP)")
	t.i("RET")
}
