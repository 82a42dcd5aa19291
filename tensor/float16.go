package tensor

import "math"

// ToF16 rounds v to binary16, half to even; what is too large becomes infinite.
func ToF16(v float64) F16 { return F16(toHalf(v, 10, -14)) }

// ToBF16 rounds v to bfloat16, half to even; what is too large becomes infinite.
func ToBF16(v float64) BF16 { return BF16(toHalf(v, 7, -126)) }

// toHalf rounds v to a 16-bit format with man fraction bits and smallest normal exponent emin.
func toHalf(v float64, man, emin int) uint16 {
	b := math.Float64bits(v)
	sign := uint16(b>>48) & 0x8000
	inf := uint16((3 - 2*emin) << man)
	v = math.Float64frombits(b &^ (1 << 63))
	if v != v {
		return sign | inf | 1<<(man-1)
	}
	e := max(int(b>>52)&0x7ff-1023, emin)
	if e > 1-emin {
		return sign | inf
	}
	// v / 2^(e-man) is below 2^(man+1); rounding may carry into the exponent, up to infinity.
	m := math.RoundToEven(v * math.Float64frombits(uint64(man-e+1023)<<52))
	return sign | uint16((e-emin)<<man) + uint16(m)
}

// Float64 returns the value of h.
func (h F16) Float64() float64 { return fromHalf(uint16(h), 10, -14) }

// Float64 returns the value of h.
func (h BF16) Float64() float64 { return float64(math.Float32frombits(uint32(h) << 16)) }

func fromHalf(h uint16, man, emin int) float64 {
	m, e, special := float64(h&(1<<man-1)), int(h&0x7fff)>>man, 3-2*emin
	switch {
	case e == special && m != 0:
		m = math.NaN()
	case e == special:
		m = math.Inf(1)
	case e == 0:
		m = math.Ldexp(m, emin-man)
	default:
		m = math.Ldexp(m+float64(int(1)<<man), emin+e-1-man)
	}
	if h>>15 != 0 {
		return math.Copysign(m, -1)
	}
	return m
}
