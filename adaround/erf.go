package adaround

import "roundel/asm"

// erf32 is the error function to 2e-7 (Abramowitz and Stegun 7.1.26).
func erf32(x float32) float32 {
	a := x
	if a < 0 {
		a = -a
	}
	t := 1 / (1 + float32(0.3275911*a))
	p := float32(1.061405429*t) - 1.453152027
	p = float32(p*t) + 1.421413741
	p = float32(p*t) - 0.284496736
	p = float32(p*t) + 0.254829592
	y := 1 - float32(float32(p*t)*asm.Exp(-float32(a*a)))
	if x < 0 {
		return -y
	}
	return y
}
