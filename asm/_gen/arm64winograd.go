package main

import "roundel/asm/gen/neon"

// neonWinograd generates a transform of asm.WinogradTiles: block does four channels of
// a tile. R0 the tiles, R1 Image, R2 Terms, R3 Bias, R4 Row, R5 Pixel, R6 Term, R7 four
// of it, R8 channels left, R9 tiles left, R10 and R11 columns; V30 and V31 are the bounds.
func neonWinograd(t *text, name string, block func()) {
	t.fn("winograd"+name+"F32_neon", 8)
	t.i("MOVD t+0(FP), R0")
	t.i("MOVD %d(R0), R1", winImage)
	t.i("MOVD %d(R0), R2", winTerms)
	t.i("MOVD %d(R0), R9", winTiles)
	for i, off := range []int{winRow, winPixel, winTerm} {
		t.i("MOVD %d(R0), R%d", off, 4+i)
		t.i("LSL $2, R%d, R%d", 4+i, 4+i)
	}
	t.i("LSL $2, R6, R7")
	t.broadcast(30, winLo, "R0")
	t.broadcast(31, winHi, "R0")
	t.label("tile")
	t.i("MOVD %d(R0), R8", winN)
	t.i("MOVD %d(R0), R3", winBias)
	t.label("block")
	block()
	t.i("ADD $16, R1, R1")
	t.i("ADD $16, R2, R2")
	t.i("SUBS $4, R8, R8")
	t.i("BNE block")
	for _, s := range [][2]int{{winNext, 1}, {winStep, 2}} {
		t.i("MOVD %d(R0), R8", s[0])
		t.i("MOVD %d(R0), R10", winN)
		t.i("SUB R10, R8, R8")
		t.i("ADD R8<<2, R%d, R%d", s[1], s[1])
	}
	t.i("SUBS $1, R9, R9")
	t.i("BNE tile")
	t.i("RET")
}

// neonColumn loads four vectors a stride apart from R10 on, which stays, into v and up.
func neonColumn(t *text, v int, stride string) {
	t.i("MOVD R10, R11")
	for i := range 4 {
		t.i("FMOVQ (R11), F%d", v+i)
		if i < 3 {
			t.i("ADD %s, R11, R11", stride)
		}
	}
}

// neonWinogradIn keeps the sums of column x in V(4x) and up.
func neonWinogradIn(t *text) {
	neonWinograd(t, "In", func() {
		sums := func(a, b, c, d int) { // in V16 to V19
			t.w(neon.FSUB(16, a, c))
			t.w(neon.FADD(17, b, c))
			t.w(neon.FSUB(18, c, b))
			t.w(neon.FSUB(19, b, d))
		}
		t.i("MOVD R1, R10")
		for x := range 4 {
			neonColumn(t, 4*x, "R4")
			sums(4*x, 4*x+1, 4*x+2, 4*x+3)
			for i := range 4 {
				t.i("VMOV V%d.B16, V%d.B16", 16+i, 4*x+i)
			}
			if x < 3 {
				t.i("ADD R5, R10, R10")
			}
		}
		t.i("MOVD R2, R10")
		for y := range 4 {
			sums(y, 4+y, 8+y, 12+y)
			for x := range 4 {
				t.i("FMOVQ F%d, (R10)", 16+x)
				if y < 3 || x < 3 {
					t.i("ADD R6, R10, R10")
				}
			}
		}
	})
}

// neonWinogradOut keeps the sums of column x in V(16+2x) and the next.
func neonWinogradOut(t *text) {
	neonWinograd(t, "Out", func() {
		sums := func(to0, to1, a, b, c, d int) {
			t.w(neon.FADD(to0, a, b))
			t.w(neon.FADD(to0, to0, c))
			t.w(neon.FSUB(to1, b, c))
			t.w(neon.FSUB(to1, to1, d))
		}
		t.i("MOVD R2, R10")
		for x := range 4 {
			neonColumn(t, 0, "R7")
			sums(16+2*x, 17+2*x, 0, 1, 2, 3)
			if x < 3 {
				t.i("ADD R6, R10, R10")
			}
		}
		sums(0, 1, 16, 18, 20, 22)
		sums(2, 3, 17, 19, 21, 23)
		t.i("CBZ R3, clamp")
		t.i("FMOVQ (R3), F4")
		t.i("ADD $16, R3, R3")
		for v := range 4 {
			t.w(neon.FADD(v, v, 4))
		}
		t.label("clamp")
		for v := range 4 {
			t.clamp(v, 30, 31, 4+v)
		}
		t.i("FMOVQ F0, (R1)")
		t.i("ADD R5, R1, R10")
		t.i("FMOVQ F1, (R10)")
		t.i("ADD R4, R1, R11")
		t.i("FMOVQ F2, (R11)")
		t.i("ADD R4, R10, R10")
		t.i("FMOVQ F3, (R10)")
	})
}
