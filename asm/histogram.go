package asm

import "math"

// A histogram is counted in one table or in HistogramTables, of HistogramSize elements each: more than a power of two, so
// that the counts of a bin do not have addresses that processors take for one another.
const (
	HistogramTables = 4
	HistogramSize   = 2048 + 80

	histogramStep = 16 // elements of one round of the kernels
)

// Histogram counts the bins that the elements of src fall in,
//
//	floor(src[i]*perUnit) - first, the product rounded to float32,
//
// or last if that is not below last or not a number. Where counts is several tables, any of them may hold any part of a
// count. It wants |first| below 2^30, and panics if last or the length of counts do not fit.
func (k *Kernels) Histogram(counts []uint32, src []float32, perUnit float32, first int32, last uint32) {
	if n := len(counts); last >= HistogramSize || n != HistogramSize && n != HistogramTables*HistogramSize {
		panic("asm: Histogram: tables of another size")
	}
	done := histogram(k.ISA, counts, src, perUnit, first, last)
	histogramGeneric(counts, src[done:], perUnit, first, last)
}

// Finite reports whether no element is a NaN or an infinity.
func (k *Kernels) Finite(src []float32) bool {
	mark := k.math.taint(src)
	return mark == mark
}

func histogramGeneric(counts []uint32, src []float32, perUnit float32, first int32, last uint32) {
	for _, x := range src {
		q := math.Floor(float64(x * perUnit))
		if !(q >= -1<<31 && q < 1<<31) {
			q = -1 << 31
		}
		counts[min(uint32(int32(q)-first), last)]++
	}
}

// taintGeneric returns a NaN if an element is not finite, else 0. It adds one to the exponent of each element: the carry
// reaches the sign bit only from the all-ones exponent of NaNs and infinities.
func taintGeneric(src []float32) float32 {
	const abs, one = 1<<31 - 1, 1 << 23
	var a, b, c, d uint32
	for len(src) >= 4 {
		a |= math.Float32bits(src[0])&abs + one
		b |= math.Float32bits(src[1])&abs + one
		c |= math.Float32bits(src[2])&abs + one
		d |= math.Float32bits(src[3])&abs + one
		src = src[4:]
	}
	for _, v := range src {
		a |= math.Float32bits(v)&abs + one
	}
	if (a|b|c|d)>>31 != 0 {
		return float32(math.NaN())
	}
	return 0
}
