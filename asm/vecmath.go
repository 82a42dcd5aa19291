package asm

import "math"

// Elementary functions over slices. Each is one sequence of float32 operations, every
// one rounded once: the machine kernels (_gen/vecmath.go) do the same ones in the same
// order and give the same bits, NaN payloads apart. vecmath_test.go measures the errors.

type mathFuncs struct {
	exp, sigmoid, tanh, erf func(dst, src []float32)
	multiply, divide        func(dst, a, b []float32)
	taint                   func(src []float32) float32 // see histogram.go
}

// Exp sets dst[i] = e^src[i], within 1 unit in the last place. dst may be src. It
// panics if src is shorter than dst.
func (k *Kernels) Exp(dst, src []float32) { k.math.exp(dst, src[:len(dst)]) }

// Sigmoid sets dst[i] = 1/(1+e^-src[i]), within 2.2 units in the last place. dst may be
// src. It panics if src is shorter than dst.
func (k *Kernels) Sigmoid(dst, src []float32) { k.math.sigmoid(dst, src[:len(dst)]) }

// Tanh sets dst[i] to the hyperbolic tangent of src[i], within 2 units in the last
// place. dst may be src. It panics if src is shorter than dst.
func (k *Kernels) Tanh(dst, src []float32) { k.math.tanh(dst, src[:len(dst)]) }

// Erf sets dst[i] to the error function of src[i], within 2 units in the last place.
// dst may be src. It panics if src is shorter than dst.
func (k *Kernels) Erf(dst, src []float32) { k.math.erf(dst, src[:len(dst)]) }

// Multiply sets dst[i] = a[i]·b[i]. dst may be a or b. It panics if a or b is shorter than dst.
func (k *Kernels) Multiply(dst, a, b []float32) { k.math.multiply(dst, a[:len(dst)], b[:len(dst)]) }

// Divide sets dst[i] = a[i]/b[i]. dst may be a or b. It panics if a or b is shorter than dst.
func (k *Kernels) Divide(dst, a, b []float32) { k.math.divide(dst, a[:len(dst)], b[:len(dst)]) }

func genericMath() mathFuncs {
	each := func(f func(float32) float32) func(dst, src []float32) {
		return func(dst, src []float32) {
			for i, x := range src[:len(dst)] {
				dst[i] = f(x)
			}
		}
	}
	return mathFuncs{exp: each(exp1), sigmoid: each(sigmoid1), tanh: each(tanh1), erf: each(erf1),
		multiply: multiplyGeneric, divide: divideGeneric, taint: taintGeneric}
}

func multiplyGeneric(dst, a, b []float32) {
	for i := range dst {
		dst[i] = a[i] * b[i]
	}
}

func divideGeneric(dst, a, b []float32) {
	for i := range dst {
		dst[i] = a[i] / b[i]
	}
}

// Constants and coefficients, lowest power first.
const (
	expMagic = 3 << 22 // adding it leaves an integer in the low bits
	log2E    = 0x1.715476p+0
	ln2Top   = 0x1.62e430p-1
	ln2Rest  = -0x1.05c610p-29
)

var (
	// (eʳ-1-r)/r² for |r| ≤ ln(2)/2
	expCoef = [...]float32{0x1.fffffcp-2, 0x1.555492p-3, 0x1.5558f2p-5, 0x1.1239e8p-7, 0x1.6a242ap-10}
	// (tanh(√s)-√s)/(s√s) for s ≤ 0.625²
	tanhCoef = [...]float32{-0x1.555532p-2, 0x1.110726p-3, -0x1.b83c5ap-5, 0x1.52269ap-6, -0x1.75e1ccp-8}
	// erf(√s)/√s - 1 for s ≤ 1
	erfCoef = [...]float32{0x1.06eba8p-3, -0x1.81273ep-2, 0x1.ce2cf8p-4, -0x1.b7f90ep-6, 0x1.5405b2p-8, -0x1.a3f7p-11, 0x1.496a32p-14}
	// ln(1-erf(x)) for 1 ≤ x ≤ 4
	erfcCoef = [...]float32{0x1.8a577cp-13, -0x1.212c0cp+0, -0x1.443566p-1, -0x1.bc1516p-4, 0x1.9d0306p-6, -0x1.138cbep-8,
		0x1.cec606p-12, -0x1.6bd7eap-16}
)

// poly1 evaluates a polynomial by Horner's rule.
func poly1(x float32, c []float32) float32 {
	p := c[len(c)-1]
	for i := len(c) - 2; i >= 0; i-- {
		p = FMA(p, x, c[i])
	}
	return p
}

// power1 returns eˣ for -104 ≤ x ≤ 89: x = n·ln2 + r, eˣ = 2ⁿ·(1 + r + r²·P(r)).
func power1(x float32) float32 {
	t := FMA(x, log2E, expMagic)
	n := t - expMagic
	r := FMA(-n, ln2Top, x)
	r = FMA(-n, ln2Rest, r)
	p := FMA(poly1(r, expCoef[:]), float32(r*r), r) + 1
	if n != n {
		return p
	}
	// Two factors, as 2ⁿ alone may be subnormal or too large. The first product is exact.
	half := int(n) >> 1
	return float32(p*math.Float32frombits(uint32(half+127)<<23)) * math.Float32frombits(uint32(int(n)-half+127)<<23)
}

func exp1(x float32) float32 { return power1(clamp1(x, -104, 89)) }

func sigmoid1(x float32) float32 {
	e := power1(max(-abs1(x), -104))
	if x < 0 {
		return e / (e + 1)
	}
	return 1 / (e + 1)
}

func abs1(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

// signed returns a with the sign of x.
func signed(a, x float32) float32 {
	return math.Float32frombits(math.Float32bits(a) | math.Float32bits(x)&(1<<31))
}

func tanh1(x float32) float32 {
	a := abs1(x)
	if a < 0.625 {
		s := float32(a * a)
		return signed(FMA(poly1(s, tanhCoef[:]), float32(s*a), a), x)
	}
	return signed(1-2/(power1(min(a+a, 20))+1), x)
}

func erf1(x float32) float32 {
	a := abs1(x)
	if a < 1 {
		return signed(FMA(poly1(float32(a*a), erfCoef[:]), a, a), x)
	}
	return signed(1-power1(poly1(min(a, 4), erfcCoef[:])), x)
}
