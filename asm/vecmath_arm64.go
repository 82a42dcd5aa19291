//go:build !purego

package asm

// withMath adds the elementary functions to the tables. The NEON kernels work on
// whole vectors; the generic ones do the rest.
func withMath(all []Kernels) []Kernels {
	whole := func(f, rest func(dst, src []float32)) func(dst, src []float32) {
		return func(dst, src []float32) {
			n := len(dst) &^ 3
			f(dst[:n], src)
			rest(dst[n:], src[n:])
		}
	}
	pairs := func(f, rest func(dst, a, b []float32)) func(dst, a, b []float32) {
		return func(dst, a, b []float32) {
			n := len(dst) &^ 3
			f(dst[:n], a, b)
			rest(dst[n:], a[n:], b[n:])
		}
	}
	for i := range all {
		g := genericMath()
		if all[i].ISA == "neon" {
			g = mathFuncs{whole(expF32_neon, g.exp), whole(sigmoidF32_neon, g.sigmoid), whole(tanhF32_neon, g.tanh),
				whole(erfF32_neon, g.erf), pairs(multiplyF32_neon, g.multiply), pairs(divideF32_neon, g.divide),
				func(src []float32) float32 {
					n := len(src) &^ 3
					return taintF32_neon(src[:n]) + taintGeneric(src[n:])
				}}
		}
		all[i].math = g
	}
	return all
}
