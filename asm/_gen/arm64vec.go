package main

import (
	"fmt"

	"roundel/asm/gen/neon"
)

// neonChannels generates a depthwise kernel: four channels at a time; the last block
// overlaps the one before it, so N must be at least 4. body adds the products of the
// taps that R5 points to and R6 counts. R0 the tile, R1 Src, R2 W, R3 the byte offset
// of the channel block, R4 its last value, R7 LDS in bytes, R13 LDW in bytes, R14 First,
// R19 Last; V5 and V6 are the bounds, accumulators start at V8.
func neonChannels(t *text, name string, pix int, body func()) {
	t.fn(name, 8)
	t.i("MOVD t+0(FP), R0")
	t.i("MOVD %d(R0), R1", dwSrc)
	t.i("MOVD %d(R0), R15", dwOff)
	t.i("ADD R15<<2, R1, R1")
	t.i("MOVD %d(R0), R2", dwW)
	t.i("MOVD %d(R0), R4", dwN)
	t.i("SUB $4, R4, R4")
	t.i("LSL $2, R4, R4")
	t.i("MOVD %d(R0), R7", dwLDS)
	t.i("LSL $2, R7, R7")
	t.i("MOVD %d(R0), R10", dwDst)
	t.i("MOVD %d(R0), R11", dwLDD)
	t.i("LSL $2, R11, R11")
	t.i("MOVD %d(R0), R12", dwBias)
	t.i("MOVD %d(R0), R13", dwLDW)
	t.i("LSL $2, R13, R13")
	t.i("MOVD %d(R0), R14", dwFirst)
	t.i("MOVD %d(R0), R19", dwLast)
	t.broadcast(5, dwLo, "R0")
	t.broadcast(6, dwHi, "R0")
	t.i("MOVD $0, R3")

	t.label("block")
	for p := range pix {
		t.zero(neonAcc + p)
	}
	t.i("MOVD %d(R0), R5", dwTaps)
	t.i("MOVD %d(R0), R6", dwTaps+8)
	t.i("CBZ R6, bias")
	t.label("tap")
	t.i("MOVD.P 8(R5), R15")
	t.i("ADD R15<<2, R1, R8")
	t.i("ADD R3, R8, R8")
	t.i("MOVD.P 8(R5), R15")
	t.i("ADD R15<<2, R2, R9")
	t.i("ADD R3, R9, R9")
	body()
	t.i("SUBS $2, R6, R6")
	t.i("BNE tap")
	t.label("bias")
	t.i("CBZ R12, clamp")
	t.i("ADD R3, R12, R9")
	t.i("FMOVQ (R9), F0")
	for p := range pix {
		t.w(neon.FADD(neonAcc+p, neonAcc+p, 0))
	}
	t.label("clamp")
	t.i("ADD R3, R10, R9")
	for p := range pix {
		t.clamp(neonAcc+p, 5, 6, p%4)
		t.i("FMOVQ F%d, (R9)", neonAcc+p)
		if p < pix-1 {
			t.i("ADD R11, R9, R9")
		}
	}
	t.i("CMP R4, R3")
	t.i("BGE done")
	t.i("ADD $16, R3, R3")
	t.i("CMP R4, R3")
	t.i("CSEL GT, R4, R3, R3")
	t.i("B block")
	t.label("done")
	t.i("RET")
}

// neonDepthwise generates the depthwise kernel of any taps.
func neonDepthwise(t *text, pix int) {
	neonChannels(t, fmt.Sprintf("dwF32_%d_neon", pix), pix, func() {
		t.i("FMOVQ (R9), F0")
		for p := range pix {
			t.i("FMOVQ (R8), F%d", 1+p%4)
			if p < pix-1 {
				t.i("ADD R7, R8, R8")
			}
			t.i("VFMLA V0.S4, V%d.S4, V%d.S4", 1+p%4, neonAcc+p)
		}
	})
}

// neonDepthwiseRow generates the depthwise kernel of one window: weights in V24-V28,
// inputs in V0-V3.
func neonDepthwiseRow(t *text, w window, pix int) {
	neonChannels(t, fmt.Sprintf("dwRowF32_%dx%ds%d_neon", pix, w.width, w.stride), pix, func() {
		for x := range w.width {
			t.i("FMOVQ (R9), F%d", 24+x)
			if x < w.width-1 {
				t.i("ADD R13, R9, R9")
			}
		}
		n := w.inputs(pix)
		for i := range n {
			skip := fmt.Sprintf("skip%d", i)
			if i < w.width-1 {
				t.i("CMP $%d, R14", i)
				t.i("BGT %s", skip)
			}
			if i >= n-w.width+1 {
				t.i("CMP $%d, R19", i)
				t.i("BLE %s", skip)
			}
			t.i("FMOVQ (R8), F%d", i%4)
			w.uses(i, pix, func(p, x int) {
				t.i("VFMLA V%d.S4, V%d.S4, V%d.S4", 24+x, i%4, neonAcc+p)
			})
			if i < w.width-1 || i >= n-w.width+1 {
				t.label(skip)
			}
			t.i("ADD R7, R8, R8")
		}
	})
}

// neonLoop generates an elementwise kernel on whole vectors; lengths are multiples of
// four. Pointers are R0, R1, R2 for slices 0, 1, 2 and R3 counts elements.
func neonLoop(t *text, e elemwise, scalars []string, op func(in []int)) {
	args := 24 * len(e.slices)
	size := args + 4*len(scalars)
	t.fn(e.name+"F32_neon", size)
	for i, s := range e.slices {
		t.i("MOVD %s_base+%d(FP), R%d", s, 24*i, i)
	}
	t.i("MOVD %s_len+8(FP), R3", e.slices[0])
	for i, s := range scalars {
		t.i("FMOVS %s+%d(FP), F%d", s, args+4*i, 16+i)
		t.i("VDUP V%d.S[0], V%d.S4", 16+i, 16+i)
	}
	t.i("CBZ R3, done")
	t.label("loop")
	var in []int
	for i := range e.slices {
		if i > 0 || e.read || !e.store {
			t.i("FMOVQ (R%d), F%d", i, len(in))
			in = append(in, len(in))
		}
	}
	op(in)
	if e.store {
		t.i("FMOVQ F0, (R0)")
	}
	for i := range e.slices {
		t.i("ADD $16, R%d, R%d", i, i)
	}
	t.i("SUBS $4, R3, R3")
	t.i("BNE loop")
	t.label("done")
	t.i("RET")
}

func neonElementwise(t *text) {
	find := func(name string) elemwise {
		for _, e := range elementwise {
			if e.name == name {
				return e
			}
		}
		panic("gen: no elementwise kernel " + name)
	}
	neonLoop(t, find("addClamp"), []string{"lo", "hi"}, func(in []int) {
		t.w(neon.FADD(0, in[0], in[1]))
		t.clamp(0, 16, 17, 4)
	})
	neonLoop(t, find("larger"), nil, func(in []int) {
		t.w(neon.FCMGT(4, in[1], in[0]))
		t.i("VBIT V4.B16, V%d.B16, V%d.B16", in[1], in[0])
	})
	neonLoop(t, find("clamp"), []string{"lo", "hi"}, func(in []int) {
		t.clamp(0, 16, 17, 4)
	})
	neonLoop(t, find("axpy"), []string{"alpha"}, func(in []int) {
		t.i("VFMLA V16.S4, V1.S4, V0.S4")
	})
	neonLoop(t, find("qdq"), []string{"scale", "zero", "lo", "hi"}, func(in []int) {
		t.w(neon.FDIV(0, 0, 16))
		t.w(neon.FRINTN(0, 0))
		t.w(neon.FADD(0, 0, 17))
		t.clamp(0, 18, 19, 4)
		t.w(neon.FSUB(0, 0, 17))
		t.w(neon.FMUL(0, 0, 16))
	})
	neonMinMax(t)
}

// neonMinMax keeps four minima in V16 and four maxima in V17; a NaN compares false and
// changes nothing.
func neonMinMax(t *text) {
	t.fn("minMaxF32_neon", 32)
	t.i("MOVD src_base+0(FP), R0")
	t.i("MOVD src_len+8(FP), R3")
	t.i("MOVD $0x7f800000, R4")
	t.i("VDUP R4, V16.S4")
	t.i("MOVD $0xff800000, R4")
	t.i("VDUP R4, V17.S4")
	t.i("CBZ R3, fold")
	t.label("loop")
	t.i("FMOVQ (R0), F0")
	neonFoldMinMax(t)
	t.i("ADD $16, R0, R0")
	t.i("SUBS $4, R3, R3")
	t.i("BNE loop")
	t.label("fold")
	for _, lanes := range []int{8, 4} {
		for _, acc := range []int{16, 17} {
			t.i("VEXT $%d, V%d.B16, V%d.B16, V0.B16", lanes, acc, acc)
			neonFoldOne(t, acc)
		}
	}
	t.i("FMOVS F16, lo+24(FP)")
	t.i("FMOVS F17, hi+28(FP)")
	t.i("RET")
}

func neonFoldMinMax(t *text) {
	neonFoldOne(t, 16)
	neonFoldOne(t, 17)
}

// neonFoldOne folds V0 into the minima in V16 or the maxima in V17.
func neonFoldOne(t *text, acc int) {
	if acc == 16 {
		t.w(neon.FCMGT(1, 16, 0))
	} else {
		t.w(neon.FCMGT(1, 0, 17))
	}
	t.i("VBIT V1.B16, V0.B16, V%d.B16", acc)
}

func neonPeak(t *text) {
	t.fn("peakF32_neon", 8)
	t.i("MOVD n+0(FP), R0")
	for v := range 32 {
		t.zero(v)
	}
	t.i("CMP $0, R0")
	t.i("BLE done")
	t.label("loop")
	for i := range neonRows * neonVecs {
		t.w(neon.FMLA(neonAcc+i, 0, 1, 0))
	}
	t.i("SUBS $1, R0, R0")
	t.i("BNE loop")
	t.label("done")
	t.i("RET")
}
