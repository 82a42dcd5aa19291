package tensor

import "roundel/asm"

// FakeQuant maps a value to the nearest point of an integer grid and back:
//
//	x~ = (clamp(rne(x/Scale)+ZeroPoint, QMin, QMax) - ZeroPoint) * Scale
//
// with rne rounding halves to even and each operation rounded to float32. All
// tables of package asm give the same bits.
type FakeQuant struct{ Scale, ZeroPoint, QMin, QMax float32 }

// QuantDequant applies q to src. dst may be src; it panics if src is shorter.
func QuantDequant(dst, src []float32, q FakeQuant, k asm.Kernels) {
	k.QuantDequant(dst, src, q.Scale, q.ZeroPoint, q.QMin, q.QMax)
}
