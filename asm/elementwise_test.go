package asm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// elementwiseOps pairs each kernel with its definition, one element at a time.
var elementwiseOps = []struct {
	name string
	run  func(k *Kernels, dst, a, b []float32)
	ref  func(dst, a, b float32) float32
}{
	{"AddClamp", func(k *Kernels, dst, a, b []float32) { k.AddClamp(dst, a, b, -1, 2) },
		func(_, a, b float32) float32 { return finishRef(a+b, nil, 0, -1, 2) }},
	{"Add", func(k *Kernels, dst, a, b []float32) {
		k.AddClamp(dst, a, b, float32(math.Inf(-1)), float32(math.Inf(1)))
	}, func(_, a, b float32) float32 { return a + b }},
	{"Max", func(k *Kernels, dst, a, b []float32) { k.Max(dst, a, b) },
		func(_, a, b float32) float32 {
			if b > a {
				return b
			}
			return a
		}},
	{"Clamp", func(k *Kernels, dst, a, _ []float32) { k.Clamp(dst, a, 0, 6) },
		func(_, a, _ float32) float32 { return finishRef(a, nil, 0, 0, 6) }},
	{"Axpy", func(k *Kernels, dst, a, _ []float32) { k.Axpy(dst, a, -1.7) },
		func(dst, a, _ float32) float32 { return FMA(-1.7, a, dst) }},
	{"QuantDequant", func(k *Kernels, dst, a, _ []float32) { k.QuantDequant(dst, a, 0.1, 3, -8, 7) },
		func(_, a, _ float32) float32 { return qdqRef(a, 0.1, 3, -8, 7) }},
	{"QuantDequantHalves", func(k *Kernels, dst, a, _ []float32) { k.QuantDequant(dst, a, 0.5, 0, -1<<23, 1<<23) },
		func(_, a, _ float32) float32 { return qdqRef(a, 0.5, 0, -1<<23, 1<<23) }},
}

func qdqRef(x, scale, zero, lo, hi float32) float32 {
	q := float32(math.RoundToEven(float64(x / scale)))
	return (finishRef(q+zero, nil, 0, lo, hi) - zero) * scale
}

func TestElementwise(t *testing.T) {
	forEachISA(t, func(t *testing.T, k *Kernels) {
		for _, op := range elementwiseOps {
			t.Run(op.name, func(t *testing.T) {
				r := rand.New(rand.NewPCG(5, 5))
				for n := 0; n <= 4*4*k.Lanes+k.Lanes+3; n++ {
					for _, align := range []int{0, 1, 3} {
						a, b := values(r, align+n, 3)[align:], values(r, n+3, 3)[3:]
						buf := values(r, guardZone+n+guardZone, 3)
						want := slices.Clone(buf)
						for i := range n {
							want[guardZone+i] = op.ref(want[guardZone+i], a[i], b[:n][i])
						}
						op.run(k, buf[guardZone:guardZone+n], a, b)
						compare(t, fmt.Sprintf("n=%d align=%d", n, align), buf, want)
					}
				}
			})
		}
	})
}

// TestQuantDequantTies walks all halves and their neighbours on an 8-bit grid.
func TestQuantDequantTies(t *testing.T) {
	var src []float32
	for i := -600; i <= 600; i++ {
		x := float32(i) * 0.25
		src = append(src, x, math.Nextafter32(x, 1000), math.Nextafter32(x, -1000))
	}
	forEachISA(t, func(t *testing.T, k *Kernels) {
		for _, scale := range []float32{0.5, 1, 0.1, 0.3333, 1e-3, 1e-30} {
			got, want := make([]float32, len(src)), make([]float32, len(src))
			for i, x := range src {
				want[i] = qdqRef(x, scale, 128, 0, 255)
			}
			k.QuantDequant(got, src, scale, 128, 0, 255)
			compare(t, fmt.Sprintf("scale=%v", scale), got, want)
		}
	})
}

func TestInPlace(t *testing.T) {
	forEachISA(t, func(t *testing.T, k *Kernels) {
		r := rand.New(rand.NewPCG(6, 6))
		a, b := values(r, 137, 5), values(r, 137, 5)
		sum, same := make([]float32, 137), slices.Clone(a)
		k.AddClamp(sum, a, b, -1, 1)
		k.AddClamp(same, same, b, -1, 1)
		compare(t, "dst = a", same, sum)
		same = slices.Clone(b)
		k.AddClamp(same, a, same, -1, 1)
		compare(t, "dst = b", same, sum)
	})
}

func TestMinMax(t *testing.T) {
	nan, negZero := float32(math.NaN()), float32(math.Copysign(0, -1))
	forEachISA(t, func(t *testing.T, k *Kernels) {
		check := func(name string, src []float32) {
			t.Helper()
			lo, hi := float32(math.Inf(1)), float32(math.Inf(-1))
			for _, x := range src {
				if x < lo {
					lo = x
				}
				if x > hi {
					hi = x
				}
			}
			if a, b := k.MinMax(src); !equal(a, lo+0) || !equal(b, hi+0) {
				t.Fatalf("%s: MinMax = %v, %v, want %v, %v", name, a, b, lo, hi)
			}
		}
		check("empty", nil)
		check("only NaN", []float32{nan, nan, nan})
		check("zeros", []float32{negZero, 0, negZero, nan})
		check("infinities", []float32{float32(math.Inf(1)), float32(math.Inf(-1))})
		r := rand.New(rand.NewPCG(7, 7))
		for n := range 300 {
			for _, odds := range []int{0, 4} {
				src := values(r, n+1, odds)
				check(fmt.Sprintf("n=%d", n), src[:n])
				check(fmt.Sprintf("n=%d unaligned", n), src[1:])
				// the extremes in each position, NaNs elsewhere
				for i := range src {
					src[i] = nan
				}
				src[n/2], src[n] = 5, -5
				check(fmt.Sprintf("n=%d mostly NaN", n), src)
			}
		}
	})
}
