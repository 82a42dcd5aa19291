package asm

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"testing"
)

// mathOps pairs each kernel with its definition in float64 and the error allowed, in
// units in the last place.
var mathOps = []struct {
	name string
	run  func(k *Kernels, dst, src []float32)
	want func(float64) float64
	ulps float64
}{
	{"Exp", (*Kernels).Exp, math.Exp, 1},
	{"Sigmoid", (*Kernels).Sigmoid, func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }, 2.2},
	{"Tanh", (*Kernels).Tanh, math.Tanh, 2},
	{"Erf", (*Kernels).Erf, math.Erf, 2},
}

// mathInputs walks the float32 numbers in steps of the given number of bit patterns,
// both signs, and adds the borders of the ranges that the kernels know.
func mathInputs(step uint32) (src []float32) {
	for b := uint32(0); b <= 0x7f800000; b += step {
		src = append(src, math.Float32frombits(b), math.Float32frombits(b|1<<31))
	}
	for _, x := range []float32{0, 0.625, 1, 4, 10, 20, 87, 88.72283, 88.72284, 89, 103.97, 104, 105} {
		for range 3 {
			src = append(src, x, -x)
			x = math.Nextafter32(x, 1000)
		}
	}
	inf := float32(math.Inf(1))
	return append(src, inf, -inf, float32(math.NaN()), math.MaxFloat32, math.SmallestNonzeroFloat32)
}

// TestMathAccuracy compares with package math, whose errors in float64 do not show here.
func TestMathAccuracy(t *testing.T) {
	step := uint32(2503)
	if testing.Short() {
		step = 250007
	}
	src := mathInputs(step)
	dst := make([]float32, len(src))
	k := Best()
	for _, op := range mathOps {
		op.run(&k, dst, src)
		worst, at := 0.0, float32(0)
		for i, x := range src {
			want := op.want(float64(x))
			if u := ulpsOff(dst[i], want); u > worst || u != u {
				worst, at = u, x
			}
		}
		t.Logf("%s: %d inputs, at most %.3f units in the last place, at %v", op.name, len(src), worst, at)
		if !(worst <= op.ulps) {
			t.Errorf("%s(%v) is off by %v units in the last place, %v allowed", op.name, at, worst, op.ulps)
		}
	}
}

// ulpsOff returns |got-want| in units of the last place of want as a float32; NaN when only one is a number.
func ulpsOff(got float32, want float64) float64 {
	w := float32(want)
	if equal(got, w) {
		// the sign of zero counts, too
		if got == 0 && math.Signbit(float64(got)) != math.Signbit(float64(w)) {
			return math.NaN()
		}
		if math.IsInf(want, 0) || want != want || math.IsInf(float64(w), 0) {
			return 0
		}
	}
	_, e := math.Frexp(want)
	return math.Abs(float64(got)-want) / math.Ldexp(1, max(e-24, -149))
}

// TestMathSameBits compares every table with the generic loops, for all lengths and with dst = src.
func TestMathSameBits(t *testing.T) {
	generic, err := ByName("generic")
	if err != nil {
		t.Fatal(err)
	}
	step := uint32(50021)
	src := mathInputs(step)
	r := rand.New(rand.NewPCG(3, 4))
	forEachISA(t, func(t *testing.T, k *Kernels) {
		for _, op := range mathOps {
			got, want := make([]float32, len(src)), make([]float32, len(src))
			op.run(k, got, src)
			op.run(&generic, want, src)
			compare(t, op.name, got, want)
			for n := range 70 {
				buf := values(r, n+2*guardZone, 5)
				want := append([]float32(nil), buf...)
				op.run(&generic, want[guardZone:guardZone+n], want[guardZone:])
				op.run(k, buf[guardZone:guardZone+n], buf[guardZone:])
				compare(t, fmt.Sprintf("%s n=%d", op.name, n), buf, want)
			}
		}
		for n := range 70 {
			a, b := values(r, n, 5), values(r, n, 5)
			got, want := make([]float32, n), make([]float32, n)
			k.Divide(got, a, b)
			divideGeneric(want, a, b)
			compare(t, fmt.Sprintf("Divide n=%d", n), got, want)
			multiplyGeneric(want, a, b)
			k.Multiply(a, a, b)
			compare(t, fmt.Sprintf("Multiply n=%d", n), a, want)
		}
	})
}

// wantMathHash is the digest of the elementary functions on fixed inputs on every CPU.
const wantMathHash = 0x865792d4f43454b8

func TestMathHash(t *testing.T) {
	src := mathInputs(100003)
	forEachISA(t, func(t *testing.T, k *Kernels) {
		h := fnv.New64a()
		dst := make([]float32, len(src))
		for _, op := range mathOps {
			op.run(k, dst, src)
			for _, x := range dst {
				b := math.Float32bits(x)
				if x != x {
					b = 0x7fc00000
				}
				h.Write([]byte{byte(b), byte(b >> 8), byte(b >> 16), byte(b >> 24)})
			}
		}
		if got := h.Sum64(); got != wantMathHash {
			t.Errorf("digest %#x, want %#x", got, uint64(wantMathHash))
		}
	})
}

func BenchmarkMath(b *testing.B) {
	k := Best()
	src, dst := values(rand.New(rand.NewPCG(1, 1)), 4096, 0), make([]float32, 4096)
	for _, op := range mathOps {
		b.Run(op.name, func(b *testing.B) {
			b.SetBytes(4 * 4096)
			for range b.N {
				op.run(&k, dst, src)
			}
		})
	}
}
