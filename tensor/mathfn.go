package tensor

import "math"

// The functions of this file give the same bits on every architecture: package
// math has assembly for some of them and its Go code may be compiled with fused
// multiply-adds. Here every product that meets an addition is converted to
// float64 first, which forbids the fusion. Errors are below 1.5 units in the last
// place of float64 for Exp, Log, Pow, Sin, Cos and Erf and below 4 for the others, so a result
// rounded to float32 is within 0.5000001 units of the exact value.

const (
	expShift   = 0x1.8p52              // adding it leaves the integer part in the low bits
	expPerLn2  = 0x1.71547652b82fep+7  // 128/ln 2
	ln2Over128 = 0x1.62e42fef80000p-8  // ln 2 / 128: 34 bits, so that k times it is exact
	ln2Over12L = 0x1.1cf79abc9e3b4p-43 // the rest of it
	ln2Hi      = 0x1.62e42fefa2000p-1  // ln 2: 40 bits
	ln2Lo      = 0x1.9ef35793c7673p-41 // the rest of it
	expMax     = 709.782712893384      // ln of the largest float64
	expMin     = -745.1332191019412    // ln of half the smallest float64
	minNormal  = 0x1p-1022             // the smallest normal float64
	sqrtHalfHi = 0x3fe6a09e667f3bcd    // the bits of √½
	expScale   = 1000                  // exponent offset that keeps subnormal results normal
	expUnscale = 0x1p-1000             // 2 to minus expScale
)

// horner evaluates c[0] + c[1]·x + c[2]·x² + … with a rounding after each operation.
func horner(x float64, c []float64) float64 {
	p := c[len(c)-1]
	for i := len(c) - 2; i >= 0; i-- {
		p = float64(p*x) + c[i]
	}
	return p
}

// Exp returns eˣ, the same bits on every CPU.
func Exp(x float64) float64 { return expTail(x, 0) }

// expTail returns e^(x+lo) for |lo| far below 1.
func expTail(x, lo float64) float64 {
	switch {
	case x != x:
		return x
	case x > expMax:
		return math.Inf(1)
	case x < expMin:
		return 0
	}
	// x = k·ln2/128 + r, |r| < 0.0028; eˣ = 2^(k>>7) · 2^((k&127)/128) · eʳ.
	kd := float64(x*expPerLn2) + expShift
	k := int64(math.Float64bits(kd)<<13) >> 13
	kd -= expShift
	r := x - float64(kd*ln2Over128) - float64(kd*ln2Over12L) + lo
	r2 := float64(r * r)
	p := r + float64(r2*(0.5+float64(r*(1.0/6)))) + float64(float64(r2*r2)*(1.0/24+float64(r*(1.0/120))))
	t := expTable[k&127]
	y := t + float64(t*p)
	if e := k >> 7; e > -1021 {
		return math.Float64frombits(math.Float64bits(y) + uint64(e)<<52)
	}
	return math.Float64frombits(math.Float64bits(y)+uint64(k>>7+expScale)<<52) * expUnscale
}

// Expm1 returns eˣ-1 without the loss of digits near zero.
func Expm1(x float64) float64 {
	if math.Abs(x) > 0.35 {
		return Exp(x) - 1
	}
	if x == 0 {
		return x // keeps the sign of zero
	}
	return x + float64(float64(x*x)*horner(x, expm1Poly[:]))
}

// split writes a positive finite x as 2^k·z with z in [√½, √2).
func split(x float64) (z, k float64) {
	if x < minNormal {
		x *= 0x1p54
		k = -54
	}
	b := math.Float64bits(x)
	e := int64(b-sqrtHalfHi) >> 52
	return math.Float64frombits(b - uint64(e)<<52), k + float64(e)
}

// logSpecial handles the arguments that have no finite logarithm.
func logSpecial(x float64) (float64, bool) {
	switch {
	case x != x || x > math.MaxFloat64:
		return x, true
	case x == 0:
		return math.Inf(-1), true
	case x < 0:
		return math.NaN(), true
	}
	return 0, false
}

// Log returns the natural logarithm of x, the same bits on every CPU.
func Log(x float64) float64 {
	if y, ok := logSpecial(x); ok {
		return y
	}
	z, k := split(x)
	return logNear1(z-1, k)
}

// logNear1 returns log(1+f) + k·ln2 for 1+f in [√½, √2].
func logNear1(f, k float64) float64 {
	// With s = f/(2+f): log(1+f) = 2·atanh(s) = 2s + s·u·P(u), u = s², and 2s = f - s·f.
	s := f / (2 + f)
	u := float64(s * s)
	r := f - float64(u*horner(u, logPoly[:]))
	return float64(k*ln2Hi) + (f - (float64(s*r) - float64(k*ln2Lo)))
}

// Log1p returns log(1+x) without the loss of digits near zero.
func Log1p(x float64) float64 {
	switch {
	case x > -0.29 && x < 0.41:
		return logNear1(x, 0)
	case x < 0x1p53 && x > -1:
		w := 1 + x
		z, k := split(w)
		// The digits of x that the sum 1+x lost come back as a correction of first order.
		return logNear1(z-1, k) + (x-(w-1))/w
	}
	return Log(1 + x)
}

// logWide returns log(x) as an unevaluated sum of two float64 for finite x > 0, good to about 2⁻⁶⁰.
func logWide(x float64) (hi, lo float64) {
	z, k := split(x)
	f := z - 1
	d := z + 1
	dl := z - (d - 1)
	s := f / d
	sl := (math.FMA(-s, d, f) - float64(s*dl)) / d
	u := float64(s * s)
	tail := float64(2*sl) + float64(s*float64(u*horner(u, logPoly[:])))
	a, b := float64(k*ln2Hi), 2*s
	sum := a + b
	bb := sum - a
	e := (a - (sum - bb)) + (b - bb)
	tail += e + float64(k*ln2Lo)
	hi = sum + tail
	return hi, tail - (hi - sum)
}

// Pow returns xʸ with the special cases of IEEE 754 (those of math.Pow), the same bits on every CPU.
func Pow(x, y float64) float64 {
	if z, ok := powSpecial(x, y); ok {
		return z
	}
	neg := false
	if x < 0 {
		if y != math.Trunc(y) {
			return math.NaN()
		}
		neg = isOdd(y)
		x = -x
	}
	hi, lo := logWide(x)
	p := float64(y * hi)
	var z float64
	switch {
	case p > expMax:
		z = math.Inf(1)
	case p < expMin:
		z = 0
	default:
		z = expTail(p, math.FMA(y, hi, -p)+float64(y*lo))
	}
	if neg {
		return -z
	}
	return z
}

// powSpecial handles zeros, ones, infinities and NaN, and the exponents that are one operation.
func powSpecial(x, y float64) (float64, bool) {
	switch {
	case y == 0 || x == 1:
		return 1, true
	case x != x || y != y:
		return math.NaN(), true
	case y == 1:
		return x, true
	case y == 2:
		return float64(x * x), true
	case y == -1:
		return 1 / x, true
	case y == 0.5 && x > 0:
		return math.Sqrt(x), true
	case x == 0:
		return powZero(x, y), true
	case math.IsInf(y, 0):
		if x == -1 {
			return 1, true
		}
		if (math.Abs(x) < 1) == (y > 0) {
			return 0, true
		}
		return math.Inf(1), true
	case math.IsInf(x, 0):
		if x < 0 {
			return powZero(1/x, -y), true
		}
		if y < 0 {
			return 0, true
		}
		return x, true
	}
	return 0, false
}

// powZero returns xʸ for x = ±0.
func powZero(x, y float64) float64 {
	z := 0.0
	if y < 0 {
		z = math.Inf(1)
	}
	if isOdd(y) {
		return math.Copysign(z, x)
	}
	return z
}

// isOdd reports whether y is an odd integer.
func isOdd(y float64) bool {
	return math.Abs(y) < 0x1p53 && y == math.Trunc(y) && int64(y)&1 == 1
}

// Sigmoid returns 1/(1+e⁻ˣ), the same bits on every CPU.
func Sigmoid(x float64) float64 {
	if x >= 0 {
		return 1 / (1 + Exp(-x))
	}
	e := Exp(x)
	return e / (1 + e)
}

// Softplus returns log(1+eˣ).
func Softplus(x float64) float64 {
	if x > 0 {
		return x + Log1p(Exp(-x))
	}
	return Log1p(Exp(x))
}

// Tanh returns the hyperbolic tangent of x, the same bits on every CPU.
func Tanh(x float64) float64 {
	a := math.Abs(x)
	switch {
	case x != x:
		return x
	case a > 20:
		a = 1
	case a > 0.55:
		a = 1 - 2/(Exp(2*a)+1)
	default:
		t := Expm1(2 * a)
		a = t / (t + 2)
	}
	return math.Copysign(a, x)
}

// Erf returns the error function 2/√π·∫₀ˣ e^(-t²) dt, the same bits on every CPU.
func Erf(x float64) float64 {
	a := math.Abs(x)
	switch {
	case x != x:
		return x
	case a < 1:
		return float64(x * horner(float64(x*x), erfPoly[:]))
	case a >= 6:
		return math.Copysign(1, x)
	}
	t := (a - 2.5) / (a + 2.5)
	return math.Copysign(1-float64(Exp(-float64(a*a))*horner(t, erfcPoly[:])), x)
}
