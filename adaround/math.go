package adaround

import "math"

// The float32 functions below are polynomials in separately rounded operations,
// so that they give the same bits on every CPU; package math does not promise that.

// exp32 returns e^x with a relative error below 2e-7; x is clamped to [-87, 88].
func exp32(x float32) float32 {
	if !(x > -87) { // also NaN
		x = -87
	} else if x > 88 {
		x = 88
	}
	const magic = 3 << 22 // adding it rounds to an integer, half to even
	n := float32(float32(x*math.Log2E)+magic) - magic
	r := x - float32(n*0.693359375)
	r -= float32(n * -2.12194440e-4)
	p := float32(1.9875691500e-4*r) + 1.3981999507e-3
	p = float32(p*r) + 8.3334519073e-3
	p = float32(p*r) + 4.1665795894e-2
	p = float32(p*r) + 1.6666665459e-1
	p = float32(p*r) + 5.0000001201e-1
	p = float32(float32(p*r)*r) + r + 1
	return p * math.Float32frombits(uint32(int32(n)+127)<<23)
}

// log32 returns ln x for normal x > 0 with a relative error below 2e-7 away from 1.
func log32(x float32) float32 {
	bits := math.Float32bits(x)
	e := int32(bits>>23) - 126
	m := math.Float32frombits(bits&0x7fffff | 126<<23) // [0.5, 1)
	if m < math.Sqrt2/2 {
		e--
		m += m
	}
	m--
	f := float32(e)
	q := float32(m * m)
	p := float32(7.0376836292e-2*m) - 1.1514610310e-1
	p = float32(p*m) + 1.1676998740e-1
	p = float32(p*m) - 1.2420140846e-1
	p = float32(p*m) + 1.4249322787e-1
	p = float32(p*m) - 1.6668057665e-1
	p = float32(p*m) + 2.0000714765e-1
	p = float32(p*m) - 2.4999993993e-1
	p = float32(p*m) + 3.3333331174e-1
	y := float32(float32(p*m) * q)
	y += float32(f * -2.12194440e-4)
	y -= float32(0.5 * q)
	return m + y + float32(f*0.693359375)
}

// pow32 returns u^b for 0 ≤ u and b ≥ 1.
func pow32(u, b float32) float32 {
	if u < 1e-30 {
		return 0
	}
	return exp32(float32(b * log32(u)))
}

// sigmoid32 returns 1/(1+e^-x).
func sigmoid32(x float32) float32 { return 1 / (1 + exp32(-x)) }

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
	y := 1 - float32(float32(p*t)*exp32(-float32(a*a)))
	if x < 0 {
		return -y
	}
	return y
}
