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

// FirstNonFinite returns the index of the first NaN or infinity in x, or -1.
func FirstNonFinite(x []float32) int {
	const block = 1 << 12
	for at := 0; at < len(x); at += block {
		part := x[at:min(at+block, len(x))]
		if !nonFinite(part) {
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

// nonFinite adds one to the exponent of each element: the carry reaches the sign bit
// only from the all-ones exponent of NaN and infinity.
func nonFinite(x []float32) bool {
	const abs, one = 1<<31 - 1, 1 << 23
	var a, b, c, d uint32
	for len(x) >= 4 {
		a |= math.Float32bits(x[0])&abs + one
		b |= math.Float32bits(x[1])&abs + one
		c |= math.Float32bits(x[2])&abs + one
		d |= math.Float32bits(x[3])&abs + one
		x = x[4:]
	}
	for _, v := range x {
		a |= math.Float32bits(v)&abs + one
	}
	return (a|b|c|d)>>31 != 0
}
