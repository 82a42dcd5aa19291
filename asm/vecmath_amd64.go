//go:build !purego

package asm

// withMath adds the elementary functions to the tables.
func withMath(all []Kernels) []Kernels {
	for i := range all {
		k := &all[i]
		switch k.ISA {
		case "avx2":
			k.math = mathFuncs{expF32_avx2, sigmoidF32_avx2, tanhF32_avx2, erfF32_avx2,
				multiplyF32_avx2, divideF32_avx2, taintF32_avx2}
		case "avx512":
			k.math = mathFuncs{expF32_avx512, sigmoidF32_avx512, tanhF32_avx512, erfF32_avx512,
				multiplyF32_avx512, divideF32_avx512, taintF32_avx512}
		default:
			k.math = genericMath()
		}
	}
	return all
}
