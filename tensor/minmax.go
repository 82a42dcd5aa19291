package tensor

import (
	"math"

	"roundel/asm"
)

// MinMax returns the smallest and the largest element of x, which must not be empty.
// NaNs are skipped; the result is the same on every CPU.
func MinMax(x []float32) (lo, hi float32) {
	k := asm.Best()
	return k.MinMax(x)
}

// surveyed is how many elements are looked at at a time, so that a second look finds them in the cache.
const surveyed = 1 << 12

// Survey is MinMax that also reports whether all elements are finite.
func Survey(x []float32) (lo, hi float32, finite bool) {
	k := asm.Best()
	lo, hi, finite = float32(math.Inf(1)), float32(math.Inf(-1)), true
	for at := 0; at < len(x); at += surveyed {
		part := x[at:min(at+surveyed, len(x))]
		l, h := k.MinMax(part)
		lo, hi, finite = min(lo, l), max(hi, h), finite && k.Finite(part)
	}
	return lo, hi, finite
}

// FirstNonFinite returns the index of the first NaN or infinity in x, or -1.
func FirstNonFinite(x []float32) int {
	k := asm.Best()
	for at := 0; at < len(x); at += surveyed {
		part := x[at:min(at+surveyed, len(x))]
		if k.Finite(part) {
			continue
		}
		for i, v := range part {
			if v-v != 0 {
				return at + i
			}
		}
	}
	return -1
}

// Counts of HistogramTables tables of HistogramSize elements; see asm.Kernels.Histogram.
const (
	HistogramTables = asm.HistogramTables
	HistogramSize   = asm.HistogramSize
)

// Histogram counts the bins that elements fall in; see asm.Kernels.Histogram.
func Histogram(counts []uint32, x []float32, perUnit float32, first int32, last uint32) {
	k := asm.Best()
	k.Histogram(counts, x, perUnit, first, last)
}
