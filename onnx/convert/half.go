package convert

import (
	"math"

	"roundel/tensor"
)

// halfOf rounds x to binary16, half to even; too large values become infinite.
func halfOf(x float32) tensor.F16 {
	b := math.Float32bits(x)
	sign, a := uint16(b>>16&0x8000), math.Abs(float64(x))
	switch {
	case x != x:
		return tensor.F16(sign | 0x7e00)
	case a >= 65520:
		return tensor.F16(sign | 0x7c00)
	case a < 1.0/(1<<14): // subnormal: multiples of 2^-24; 1024 of them is the smallest normal number
		return tensor.F16(sign | uint16(math.RoundToEven(a*(1<<24))))
	}
	frac, exp := math.Frexp(a) // frac in [0.5, 1)
	m := uint16(math.RoundToEven(frac * 2048))
	return tensor.F16(sign | (uint16(exp+13)<<10 + m)) // a carry out of m goes to the exponent, as it should
}
