package main

import (
	"fmt"

	"roundel/asm/gen/neon"
)

// Registers of the NEON GEMM kernels: R0 the tile, R1-R8 row pointers, R9 B, R10 its
// stride, R11 steps left, R12 what is fetched far ahead, R13 and R14 the taps, R20 valid
// lanes of the last vector; R15, R19-R26 scratch. V0, V1, V5-V7 take turns with values
// of A, V2-V4 hold columns of B.

var neonA = []int{0, 1, 5, 6, 7}

func neonGemm(t *text, rows, vecs int) {
	t.fn(fmt.Sprintf("gemmF32_%dx%d_neon", rows, vecs*neonLanes), 8)
	t.i("MOVD t+0(FP), R0")
	neonInit(t, rows, vecs)
	t.comment("Row pointers; the skip is added at the split")
	t.i("MOVD %d(R0), R13", tileTaps)
	t.i("MOVD %d(R0), R14", tileTaps+8)
	t.i("MOVD %d(R0), R1", tileA)
	t.i("MOVD (R13), R15")
	t.i("ADD R15<<2, R1, R1")
	t.i("MOVD %d(R0), R15", tileLDA)
	t.i("MOVD %d(R0), R19", tileSplit)
	t.i("MOVD %d(R0), R21", tileSkip)
	for i := 1; i < rows; i++ {
		t.i("ADD R15<<2, R%d, R%d", i, i+1)
		t.i("CMP $%d, R19", i)
		t.i("CSEL EQ, R21, ZR, R22")
		t.i("ADD R22<<2, R%d, R%d", i+1, i+1)
	}
	t.i("MOVD %d(R0), R9", tileB)
	t.i("MOVD %d(R0), R10", tileLDB)
	t.i("LSL $2, R10, R10")
	t.i("MOVD %d(R0), R12", tileAhead)
	t.i("ADD R12<<2, R9, R12")

	t.comment("Loop over taps")
	t.label("tap")
	t.i("MOVD %d(R0), R11", tileK)
	t.i("SUBS $%d, R11, R11", gemmUnroll)
	t.i("BLT tail")
	t.label("loop")
	for u := range gemmUnroll {
		neonStep(t, rows, vecs, 4*u)
		if u < farLines {
			t.i("PRFM %d(R12), PLDL2KEEP", 64*u)
		}
	}
	t.i("ADD $%d, R12, R12", 64*farLines)
	neonAdvance(t, rows, fmt.Sprint("$", 4*gemmUnroll))
	t.i("SUBS $%d, R11, R11", gemmUnroll)
	t.i("BGE loop")
	t.label("tail")
	t.i("ADDS $%d, R11, R11", gemmUnroll)
	t.i("BEQ next")
	t.label("single")
	neonStep(t, rows, vecs, 0)
	neonAdvance(t, rows, "$4")
	t.i("SUBS $1, R11, R11")
	t.i("BNE single")
	t.label("next")
	t.i("SUBS $1, R14, R14")
	t.i("BEQ finish")
	t.comment("Move from the end of this tap to the start of the next")
	t.i("MOVD 8(R13), R15")
	t.i("MOVD.P 8(R13), R19")
	t.i("SUB R19, R15, R15")
	t.i("MOVD %d(R0), R19", tileK)
	t.i("SUB R19, R15, R15")
	t.i("LSL $2, R15, R15")
	neonAdvance(t, rows, "R15")
	t.i("B tap")
	t.label("finish")
	neonFinish(t, rows, vecs)
	neonStore(t, rows, vecs)
	t.i("RET")
}

func neonAdvance(t *text, rows int, by string) {
	for i := range rows {
		t.i("ADD %s, R%d, R%d", by, i+1, i+1)
	}
}

// neonLoadB loads the columns of one step of k and moves on.
func neonLoadB(t *text, vecs int) {
	for v := range vecs {
		t.i("FMOVQ %d(R9), F%d", 16*v, 2+v)
	}
	t.i("ADD R10, R9, R9")
}

// neonStep adds one step of k, off bytes from the row pointers.
func neonStep(t *text, rows, vecs, off int) {
	t.i("PRFM %d(R9), PLDL1KEEP", nearBytes)
	neonLoadB(t, vecs)
	for i := range min(rows, len(neonA)) {
		t.i("FMOVS %d(R%d), F%d", off, i+1, neonA[i])
	}
	for i := range rows {
		a := neonA[i%len(neonA)]
		for v := range vecs {
			t.w(neon.FMLA(neonAcc+i*vecs+v, 2+v, a, 0))
		}
		if n := i + len(neonA); n < rows {
			t.i("FMOVS %d(R%d), F%d", off, n+1, a)
		}
	}
}

// neonInit starts the chains at zero or at C and counts the lanes of the last vector.
func neonInit(t *text, rows, vecs int) {
	t.i("MOVD %d(R0), R20", tileCols)
	if vecs > 1 {
		t.i("SUB $%d, R20, R20", (vecs-1)*neonLanes)
	}
	t.i("MOVD %d(R0), R15", tileAcc)
	t.i("CBNZ R15, start")
	for i := range rows * vecs {
		t.zero(neonAcc + i)
	}
	t.i("B started")
	t.label("start")
	t.byLanes("init", func(lanes int) {
		neonEachRow(t, rows, vecs, lanes, t.load)
	})
	t.label("started")
}

// neonEachRow loads or stores the accumulators of all rows.
func neonEachRow(t *text, rows, vecs, lanes int, move func(v, n, off int, r string)) {
	t.i("MOVD %d(R0), R21", tileC)
	t.i("MOVD %d(R0), R22", tileLDC)
	for i := range rows {
		for v := range vecs {
			n := neonLanes
			if v == vecs-1 {
				n = lanes
			}
			move(neonAcc+i*vecs+v, n, 16*v, "R21")
		}
		if i < rows-1 {
			t.i("ADD R22<<2, R21, R21")
		}
	}
}

// neonFinish adds the bias and clamps.
func neonFinish(t *text, rows, vecs int) {
	t.comment("Bias")
	t.i("MOVD %d(R0), R21", tileBias)
	t.i("CBZ R21, clamp")
	t.byLanes("bias", func(lanes int) {
		for v := range vecs {
			n := neonLanes
			if v == vecs-1 {
				n = lanes
			}
			t.load(2+v, n, 16*v, "R21")
		}
	})
	for i := range rows {
		for v := range vecs {
			t.w(neon.FADD(neonAcc+i*vecs+v, neonAcc+i*vecs+v, 2+v))
		}
	}
	t.label("clamp")
	neonSkipUnlessClamp(t, tileLo, tileHi, "store")
	t.broadcast(0, tileLo, "R0")
	t.broadcast(1, tileHi, "R0")
	for i := range rows * vecs {
		t.clamp(neonAcc+i, 0, 1, 2+i%2)
	}
	t.label("store")
}

// neonSkipUnlessClamp jumps to the label if the bounds at R0 are infinite.
func neonSkipUnlessClamp(t *text, lo, hi int, skip string) {
	t.i("MOVWU %d(R0), R15", lo)
	t.i("MOVD $0xff800000, R19")
	t.i("CMPW R19, R15")
	t.i("BNE %s_do", skip)
	t.i("MOVWU %d(R0), R15", hi)
	t.i("MOVD $0x7f800000, R19")
	t.i("CMPW R19, R15")
	t.i("BEQ %s", skip)
	t.label(skip + "_do")
}

func neonStore(t *text, rows, vecs int) {
	t.byLanes("out", func(lanes int) {
		neonEachRow(t, rows, vecs, lanes, t.store)
	})
}

func neonGemmTN(t *text, rows, vecs int) {
	t.fn(fmt.Sprintf("gemmTNF32_%dx%d_neon", rows, vecs*neonLanes), 8)
	t.i("MOVD t+0(FP), R0")
	neonInit(t, rows, vecs)
	t.i("MOVD %d(R0), R1", tileA)
	t.i("MOVD %d(R0), R2", tileLDA)
	t.i("LSL $2, R2, R2")
	t.i("MOVD %d(R0), R9", tileB)
	t.i("MOVD %d(R0), R10", tileLDB)
	t.i("LSL $2, R10, R10")
	t.i("MOVD %d(R0), R11", tileK)
	t.i("ADD R2<<%d, R1, R3", tnAheadShift)
	t.i("ADD R10<<%d, R9, R12", tnAheadShift)
	t.label("loop")
	t.i("PRFM %d(R9), PLDL1KEEP", nearBytes)
	neonLoadB(t, vecs)
	t.i("PRFM (R3), PLDL1KEEP")
	t.i("ADD R2, R3, R3")
	t.load(0, min(rows, 4), 0, "R1")
	if rows > 4 {
		t.load(1, rows-4, 16, "R1")
	}
	t.i("ADD R2, R1, R1")
	for i := range rows {
		for v := range vecs {
			t.w(neon.FMLA(neonAcc+i*vecs+v, 2+v, i/4, i%4))
		}
	}
	t.i("SUBS $1, R11, R11")
	t.i("BNE loop")
	neonStore(t, rows, vecs)
	t.i("RET")
}
