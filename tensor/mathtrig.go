package tensor

import (
	"math"
	"math/big"
)

// Circular and hyperbolic functions, under the rules of mathfn.go.

const (
	pio2a       = 0x1.921fb54400000p+0  // π/2: 33 bits
	pio2b       = 0x1.0b4611a600000p-34 // the next 33
	pio2c       = 0x1.3198a2e037073p-69 // the rest
	twoOnPi     = 0x1.45f306dc9c883p-1
	pio2        = 0x1.921fb54442d18p+0
	pio2Lo      = 0x1.1a62633145c07p-54 // π/2 - pio2
	pio4        = 0x1.921fb54442d18p-1
	pio4Lo      = 0x1.1a62633145c07p-55
	ln2         = 0x1.62e42fefa39efp-1
	tanPio8     = 0x1.a827999fcef32p-2 // √2-1
	reduceExact = 1 << 19              // multiples of π/2 up to which the three parts above are exact
)

// reduce returns q mod 4 and r = hi+lo with x = q·π/2 + r, |r| ≤ π/4, for finite x.
func reduce(x float64) (q int, hi, lo float64) {
	n := math.RoundToEven(float64(x * twoOnPi))
	if math.Abs(n) > reduceExact {
		return reduceBig(x)
	}
	a := x - float64(n*pio2a)
	b := float64(n * pio2b)
	r := a - b
	e := (a - r) - b - float64(n*pio2c)
	hi = r + e
	return int(int64(n) & 3), hi, e - (hi - r)
}

// reduceBig is reduce for arguments so large that π is needed to hundreds of digits.
func reduceBig(x float64) (q int, hi, lo float64) {
	const prec = 1200
	halfPi := bigPi(prec)
	halfPi.SetMantExp(halfPi, -1)
	v := new(big.Float).SetPrec(prec).SetFloat64(math.Abs(x))
	t := new(big.Float).SetPrec(prec).Quo(v, halfPi)
	t.Add(t, big.NewFloat(0.5))
	n, _ := t.Int(nil)
	nf := new(big.Float).SetPrec(prec).SetInt(n)
	v.Sub(v, nf.Mul(nf, halfPi))
	hi, _ = v.Float64()
	v.Sub(v, new(big.Float).SetFloat64(hi))
	lo, _ = v.Float64()
	q = int(new(big.Int).And(n, big.NewInt(3)).Int64())
	if x < 0 {
		return (4 - q) & 3, -hi, -lo
	}
	return q, hi, lo
}

// bigPi returns π by Machin's formula, 16·atan(1/5) - 4·atan(1/239).
func bigPi(prec uint) *big.Float {
	guard := prec + 32
	pi := new(big.Float).SetPrec(guard)
	for _, m := range []struct{ mul, inv int64 }{{16, 5}, {-4, 239}} {
		inv := new(big.Float).SetPrec(guard).SetInt64(m.inv)
		sq := new(big.Float).SetPrec(guard).Mul(inv, inv)
		term := new(big.Float).SetPrec(guard).Quo(new(big.Float).SetInt64(m.mul), inv)
		for k := int64(1); term.Sign() != 0 && term.MantExp(nil) > -int(guard); k += 2 {
			pi.Add(pi, new(big.Float).SetPrec(guard).Quo(term, new(big.Float).SetInt64(k)))
			term.Quo(term, sq)
			term.Neg(term)
		}
	}
	return pi
}

// sinCore returns sin(hi+lo) and cosCore cos(hi+lo) for |hi| ≤ π/4.
func sinCore(hi, lo float64) float64 {
	u := float64(hi * hi)
	return hi + (float64(float64(hi*u)*horner(u, sinPoly[:])) + float64(lo*(1-float64(0.5*u))))
}

func cosCore(hi, lo float64) float64 {
	u := float64(hi * hi)
	h := float64(0.5 * u)
	w := 1 - h
	return w + ((1 - w) - h + (float64(float64(u*u)*horner(u, cosPoly[:])) - float64(hi*lo)))
}

// sinCos returns the sine and the cosine of x.
func sinCos(x float64) (sin, cos float64) {
	if x != x || math.IsInf(x, 0) {
		return math.NaN(), math.NaN()
	}
	q, hi, lo := reduce(x)
	s, c := sinCore(hi, lo), cosCore(hi, lo)
	switch q {
	case 1:
		return c, -s
	case 2:
		return -s, -c
	case 3:
		return -c, s
	}
	return s, c
}

// Sin returns the sine of x in radians, the same bits on every CPU.
func Sin(x float64) float64 {
	if x == 0 {
		return x // keeps the sign of zero
	}
	s, _ := sinCos(x)
	return s
}

// Cos returns the cosine of x in radians, the same bits on every CPU.
func Cos(x float64) float64 {
	_, c := sinCos(x)
	return c
}

// Tan returns the tangent of x in radians, the same bits on every CPU.
func Tan(x float64) float64 {
	if x == 0 {
		return x
	}
	s, c := sinCos(x)
	return s / c
}

// Atan returns the arc tangent of x in radians, the same bits on every CPU.
func Atan(x float64) float64 {
	a := math.Abs(x)
	var y float64
	switch {
	case x != x || x == 0:
		return x
	case a > 1/tanPio8: // π/2 - atan(1/x)
		y = pio2 + (pio2Lo - atanCore(1/a))
	case a > tanPio8: // π/4 + atan((x-1)/(x+1))
		y = pio4 + (pio4Lo + atanCore((a-1)/(a+1)))
	default:
		y = atanCore(a)
	}
	return math.Copysign(y, x)
}

func atanCore(x float64) float64 {
	u := float64(x * x)
	return x + float64(float64(x*u)*horner(u, atanPoly[1:]))
}

// Asin returns the arc sine of x in radians, NaN outside [-1, 1].
func Asin(x float64) float64 {
	if math.Abs(x) == 1 {
		return math.Copysign(pio2, x)
	}
	return Atan(x / math.Sqrt(float64((1-x)*(1+x))))
}

// Acos returns the arc cosine of x in radians, NaN outside [-1, 1].
func Acos(x float64) float64 {
	if x > 0.5 {
		return 2 * Asin(math.Sqrt(0.5*(1-x)))
	}
	return pio2 - (Asin(x) - pio2Lo)
}

// Sinh returns the hyperbolic sine of x.
func Sinh(x float64) float64 {
	a := math.Abs(x)
	switch {
	case x != x || x == 0:
		return x
	case a > 709:
		h := Exp(0.5 * a)
		a = float64(0.5*h) * h
	default:
		t := Expm1(a)
		a = 0.5 * (t + t/(t+1))
	}
	return math.Copysign(a, x)
}

// Cosh returns the hyperbolic cosine of x.
func Cosh(x float64) float64 {
	a := math.Abs(x)
	if a > 709 {
		h := Exp(0.5 * a)
		return float64(0.5*h) * h
	}
	e := Exp(a)
	return float64(0.5*e) + 0.5/e
}

// Asinh returns the inverse hyperbolic sine of x.
func Asinh(x float64) float64 {
	a := math.Abs(x)
	switch {
	case x != x || x == 0:
		return x
	case a > 0x1p28:
		a = Log(a) + ln2
	default:
		u := float64(a * a)
		a = Log1p(a + u/(1+math.Sqrt(u+1)))
	}
	return math.Copysign(a, x)
}

// Acosh returns the inverse hyperbolic cosine of x, NaN below 1.
func Acosh(x float64) float64 {
	if x > 0x1p28 {
		return Log(x) + ln2
	}
	t := x - 1
	return Log1p(t + math.Sqrt(float64(2*t)+float64(t*t)))
}

// Atanh returns the inverse hyperbolic tangent of x, NaN outside [-1, 1].
func Atanh(x float64) float64 {
	a := math.Abs(x)
	return math.Copysign(0.5*Log1p(2*a/(1-a)), x)
}
