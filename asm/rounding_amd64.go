//go:build !purego

package asm

// withRounding adds the rounding kernels to the tables.
func withRounding(all []Kernels) []Kernels {
	for i := range all {
		k := &all[i]
		switch k.ISA {
		case "avx2":
			k.clampGain, k.clampGrad, k.roundStep = clampGainF32_avx2, clampGradF32_avx2, roundStepF32_avx2
		case "avx512":
			k.clampGain, k.clampGrad, k.roundStep = clampGainF32_avx512, clampGradF32_avx512, roundStepF32_avx512
		default:
			k.clampGain, k.clampGrad, k.roundStep = clampGainGeneric, clampGradGeneric, roundStepGeneric
		}
	}
	return all
}
