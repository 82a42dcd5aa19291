package asm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// countBins is Histogram by its definition.
func countBins(src []float32, perUnit float32, first int32, last uint32) []uint32 {
	out := make([]uint32, HistogramSize)
	for _, x := range src {
		b := math.Floor(float64(x*perUnit)) - float64(first)
		if !(b >= 0 && b < float64(last)) {
			b = float64(last)
		}
		out[int(b)]++
	}
	return out
}

// checkHistogram compares k with the definition, in one table and in several that hold something already.
func checkHistogram(t *testing.T, k *Kernels, src []float32, perUnit float32, first int32, last uint32) {
	t.Helper()
	want := countBins(src, perUnit, first, last)
	for _, tables := range []int{1, HistogramTables} {
		counts := make([]uint32, tables*HistogramSize)
		counts[5] = 7
		k.Histogram(counts, src, perUnit, first, last)
		counts[5] -= 7
		for i, n := range counts[HistogramSize:] {
			counts[i%HistogramSize] += n
		}
		if !slices.Equal(counts[:HistogramSize], want) {
			t.Fatalf("%d elements, %d tables, %v bins per unit, first %d, last %d: other counts", len(src), tables, perUnit, first, last)
		}
	}
}

func TestHistogram(t *testing.T) {
	odd := []float32{0, float32(math.Copysign(0, -1)), float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32,
		-math.MaxFloat32, math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, 2147483520, -2147483648, 4294967296, 0.3, -0.3, 1e9, -1e9}
	forEachISA(t, func(t *testing.T, k *Kernels) {
		r := rand.New(rand.NewPCG(9, 9))
		for n := range 70 {
			src := values(r, n, 3)
			for i := range src {
				if r.IntN(3) == 0 {
					src[i] = odd[r.IntN(len(odd))]
				}
			}
			checkHistogram(t, k, src, 100, -700, 1536)
			checkHistogram(t, k, src, 10, 3, 40)
			checkHistogram(t, k, src, 1, -1<<22, 1536)
			checkHistogram(t, k, src, 1e3, 1<<22, 1536)
			checkHistogram(t, k, src, math.MaxFloat32, -768, 1536)
			checkHistogram(t, k, src, 3.3, -900, HistogramSize-1)
		}
	})
}

// TestBinEdges walks numbers about the edges of bins: the product must be rounded once.
func TestBinEdges(t *testing.T) {
	r := rand.New(rand.NewPCG(10, 10))
	for range 20 {
		width := float32(math.Exp(8*r.Float64() - 6))
		var src []float32
		for i := -720; i <= 900; i++ {
			x := float32(i) * width
			src = append(src, x, math.Nextafter32(x, -9e9), math.Nextafter32(x, 9e9))
		}
		forEachISA(t, func(t *testing.T, k *Kernels) { checkHistogram(t, k, src, 1/width, -712, 1536) })
	}
}

func TestFinite(t *testing.T) {
	forEachISA(t, func(t *testing.T, k *Kernels) {
		r := rand.New(rand.NewPCG(11, 11))
		for n := range 9*k.Lanes + 3 {
			src := values(r, n, 3)
			for i := range src {
				if src[i]-src[i] != 0 {
					src[i] = math.MaxFloat32
				}
			}
			if !k.Finite(src) {
				t.Fatalf("n=%d: not finite", n)
			}
			for i := range n {
				for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
					old := src[i]
					if src[i] = float32(bad); k.Finite(src) {
						t.Fatal(fmt.Sprintf("n=%d: %v at %d not seen", n, bad, i))
					}
					src[i] = old
				}
			}
		}
	})
}
