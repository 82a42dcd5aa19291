//go:build !purego

package asm

import "golang.org/x/sys/cpu"

// available lists the tables of this machine. The NEON kernels of single arrays work
// on whole vectors; the generic ones do the rest.
func available() []Kernels {
	all := []Kernels{genericTable()}
	if !cpu.ARM64.HasASIMD {
		return all
	}
	k := tableNEON()
	k.dwMin = k.Lanes
	k.addClamp = func(dst, a, b []float32, lo, hi float32) {
		n := len(dst) &^ 3
		addClampF32_neon(dst[:n], a, b, lo, hi)
		addClampGeneric(dst[n:], a[n:], b[n:], lo, hi)
	}
	k.larger = func(dst, a, b []float32) {
		n := len(dst) &^ 3
		largerF32_neon(dst[:n], a, b)
		largerGeneric(dst[n:], a[n:], b[n:])
	}
	k.clamp = func(dst, src []float32, lo, hi float32) {
		n := len(dst) &^ 3
		clampF32_neon(dst[:n], src, lo, hi)
		clampGeneric(dst[n:], src[n:], lo, hi)
	}
	k.axpy = func(dst, x []float32, alpha float32) {
		n := len(dst) &^ 3
		axpyF32_neon(dst[:n], x, alpha)
		axpyGeneric(dst[n:], x[n:], alpha)
	}
	k.qdq = func(dst, src []float32, scale, zero, lo, hi float32) {
		n := len(dst) &^ 3
		qdqF32_neon(dst[:n], src, scale, zero, lo, hi)
		qdqGeneric(dst[n:], src[n:], scale, zero, lo, hi)
	}
	k.minMax = func(src []float32) (lo, hi float32) {
		n := len(src) &^ 3
		lo, hi = minMaxF32_neon(src[:n])
		l, h := minMaxGeneric(src[n:])
		return min(lo, l), max(hi, h)
	}
	return append(all, k)
}
