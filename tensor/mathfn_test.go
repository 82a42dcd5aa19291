package tensor

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// mathCase is a function with a counterpart to compare with, the sampling range
// and the largest distance from the reference values in testdata/mathfn.txt.
type mathCase struct {
	name      string
	got, want func(float64) float64
	lo, hi    float64
	ulps      float64
}

func mathCases() []mathCase {
	sig := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	return []mathCase{
		{"Exp", Exp, math.Exp, -745, 710, 1.5},
		{"Expm1", Expm1, math.Expm1, -3, 3, 4},
		{"Log", Log, math.Log, 0, 1e6, 1.5},
		{"Log1p", Log1p, math.Log1p, -1, 4, 1.5},
		{"Sigmoid", Sigmoid, sig, -30, 30, 4},
		{"Tanh", Tanh, math.Tanh, -21, 21, 4},
		{"Erf", Erf, math.Erf, -6.5, 6.5, 1.5},
		{"Sin", Sin, math.Sin, -1e5, 1e5, 1.5},
		{"Cos", Cos, math.Cos, -1e5, 1e5, 1.5},
		{"Tan", Tan, math.Tan, -100, 100, 4},
		{"Atan", Atan, math.Atan, -20, 20, 3},
		{"Asin", Asin, math.Asin, -1, 1, 4},
		{"Acos", Acos, math.Acos, -1, 1, 4},
		{"Sinh", Sinh, math.Sinh, -20, 20, 4},
		{"Cosh", Cosh, math.Cosh, -20, 20, 4},
		{"Asinh", Asinh, math.Asinh, -1e4, 1e4, 4},
		{"Acosh", Acosh, math.Acosh, 1, 1e4, 4},
		{"Atanh", Atanh, math.Atanh, -1, 1, 4},
	}
}

// mathSamples covers [lo, hi] evenly and, in logarithmic steps, what lies near zero.
func mathSamples(lo, hi float64) []float64 {
	r := rand.New(rand.NewPCG(1, 2))
	var xs []float64
	for range 20000 {
		xs = append(xs, lo+float64((hi-lo)*r.Float64()))
	}
	for e := -60; e <= 1; e++ {
		for range 20 {
			x := math.Ldexp(1+r.Float64(), e)
			for _, v := range []float64{x, -x} {
				if v >= lo && v <= hi {
					xs = append(xs, v)
				}
			}
		}
	}
	return xs
}

// ulps returns the distance of a and b in units in the last place of b.
func ulps(a, b float64) float64 {
	if a == b || a != a && b != b {
		return 0
	}
	return math.Abs(a-b) / (math.Nextafter(math.Abs(b), math.Inf(1)) - math.Abs(b))
}

func TestMathReference(t *testing.T) {
	fns := map[string]func(x, y float64) float64{"Pow": Pow}
	limit := map[string]float64{"Pow": 1.5}
	for _, c := range mathCases() {
		fns[c.name] = func(x, _ float64) float64 { return c.got(x) }
		limit[c.name] = c.ulps
	}
	text, err := os.ReadFile("testdata/mathfn.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var name string
		var x, y, want float64
		if _, err := fmt.Sscan(line, &name, &x, &y, &want); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		seen[name]++
		if got := fns[name](x, y); !(ulps(got, want) <= limit[name]) {
			t.Errorf("%s(%v, %v) = %v, want %v: off by %.1f ulp", name, x, y, got, want, ulps(got, want))
		}
	}
	for name := range fns {
		if seen[name] < 10 {
			t.Errorf("%d reference values for %s", seen[name], name)
		}
	}
}

// TestMathSamples compares many values with package math, loosely because some of its functions are off by
// hundreds of ulps, and the bits with the committed hash.
func TestMathSamples(t *testing.T) {
	for _, c := range mathCases() {
		t.Run(c.name, func(t *testing.T) {
			h := fnv.New64a()
			for _, x := range mathSamples(c.lo, c.hi) {
				got, want := c.got(x), c.want(x)
				if math.Abs(got-want) > 1e-12*math.Abs(want)+1e-320 { // some flush subnormals
					t.Errorf("%s(%v) = %v, package math has %v", c.name, x, got, want)
				}
				binary.Write(h, binary.LittleEndian, got)
			}
			checkHash(t, c.name, h.Sum64())
		})
	}
}

func checkHash(t *testing.T, name string, got uint64) {
	t.Helper()
	if got != mathHashes[name] {
		t.Errorf("hash of the results of %s is %#x, committed is %#x: the bits depend on the architecture or the function changed",
			name, got, mathHashes[name])
	}
}

func TestMathSpecialValues(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	xs := []float64{0, math.Copysign(0, -1), 1, -1, 2, inf, -inf, nan, 709.78, 709.79, -745.13, -745.14, -708.5, 1e15, 1e300}
	noSign := map[string]bool{"Log1p": true} // the sign of a zero result is not kept
	for _, c := range mathCases() {
		for _, x := range xs {
			got, want := c.got(x), c.want(x)
			if !(math.Abs(got-want) <= 1e-12*math.Abs(want)+1e-320) && got != want && (got == got || want == want) ||
				x == 0 && want == 0 && !noSign[c.name] && math.Signbit(got) != math.Signbit(want) {
				t.Errorf("%s(%v) = %v, want %v", c.name, x, got, want)
			}
		}
	}
}

func TestPow(t *testing.T) {
	inf, nan, negZero := math.Inf(1), math.NaN(), math.Copysign(0, -1)
	special := []float64{0, negZero, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 1e300, 1e-300, inf, -inf, nan, 4503599627370497, -7, 1.5}
	for _, x := range special {
		for _, y := range special {
			got, want := Pow(x, y), math.Pow(x, y)
			if ulps(got, want) > 40 || math.Signbit(got) != math.Signbit(want) && want == want {
				t.Errorf("Pow(%v, %v) = %v, want %v", x, y, got, want)
			}
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	h, worst := fnv.New64a(), 0.0
	for range 30000 {
		x, y := math.Ldexp(1+r.Float64(), r.IntN(60)-30), float64(40*r.Float64())-20
		got := Pow(x, y)
		worst = max(worst, ulps(got, math.Pow(x, y)))
		binary.Write(h, binary.LittleEndian, got)
	}
	if worst > 40 { // math.Pow itself is off by 20
		t.Errorf("Pow is off by %.2f ulp", worst)
	}
	checkHash(t, "Pow", h.Sum64())
}

func TestExpTable(t *testing.T) {
	// 2^(1/128) is seven square roots of 2; its powers are exact to far more than 53 bits.
	root := new(big.Float).SetPrec(400).SetInt64(2)
	for range 7 {
		root.Sqrt(root)
	}
	v := new(big.Float).SetPrec(400).SetInt64(1)
	for j, got := range expTable {
		if want, _ := v.Float64(); got != want {
			t.Errorf("expTable[%d] = %x, want %x", j, got, want)
		}
		v.Mul(v, root)
	}
}

func BenchmarkMath(b *testing.B) {
	for _, c := range mathCases() {
		b.Run("f="+c.name, func(b *testing.B) {
			var s float64
			for b.Loop() {
				s += c.got(0.7)
			}
		})
	}
	b.Run("f=Pow", func(b *testing.B) {
		var s float64
		for b.Loop() {
			s += Pow(0.7, 13.5)
		}
	})
}

// mathHashes are the hashes of the results on every architecture.
var mathHashes = map[string]uint64{
	"Exp":     0xbcb5b6516f504c57,
	"Expm1":   0x7160a7f95374e388,
	"Log":     0x500a3513653fc759,
	"Log1p":   0xc115b836c52e4ddd,
	"Sigmoid": 0x109a0201b64b9095,
	"Tanh":    0x8dc0edfbc5447507,
	"Erf":     0x2fa965597ce93b91,
	"Sin":     0xc9cceb7e27875a77,
	"Cos":     0x65d5f8ad45ba6cdc,
	"Tan":     0xda4f0f9738c138d2,
	"Atan":    0xbdfa5c218ae76fd9,
	"Asin":    0x9e678fc970d99064,
	"Acos":    0x6df174438ccd456a,
	"Sinh":    0x7a3e6b8cd5e4adce,
	"Cosh":    0xa3499835882992f3,
	"Asinh":   0x919b46ee9fd14c62,
	"Acosh":   0x665295f5c7818b96,
	"Atanh":   0xfb942f4674ea7038,
	"Pow":     0xbee0bd492eac6502,
}
