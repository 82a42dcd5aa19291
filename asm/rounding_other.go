//go:build purego || !amd64

package asm

// withRounding adds the rounding kernels to the tables.
func withRounding(all []Kernels) []Kernels {
	for i := range all {
		k := &all[i]
		k.clampGain, k.clampGrad, k.roundStep = clampGainGeneric, clampGradGeneric, roundStepGeneric
	}
	return all
}
