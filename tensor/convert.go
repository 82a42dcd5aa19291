package tensor

import "math"

// Cast converts x to element type dt, which must not be Invalid; x itself is
// returned when it has that type already.
//
// Float to integer truncates, saturates at the ends of the range and takes NaN to
// 0 (ONNX leaves the last two open, and CPUs differ); integer to integer keeps
// the low bits; to bool is x ≠ 0; to a narrower float rounds half to even.
func Cast(x Any, dt DType) Any {
	if x.DType() == dt {
		return x
	}
	switch v := x.(caster).wide().(type) {
	case []float64:
		return narrow(v, dt, x.Shape())
	case []int64:
		return narrow(v, dt, x.Shape())
	case []uint64:
		return narrow(v, dt, x.Shape())
	}
	return nil
}

// Float64s returns the elements of x as float64, a copy unless x is float64.
func Float64s(x Any) []float64 { return Cast(x, Float64).(*Dense[float64]).data }

// Int64s returns the elements of x as int64, a copy unless x is int64; see Cast.
func Int64s(x Any) []int64 { return Cast(x, Int64).(*Dense[int64]).data }

// caster gives the elements in the widest type of their kind: []float64, []int64 or []uint64.
type caster interface{ wide() any }

func (d *Dense[T]) wide() any {
	switch s := any(d.data).(type) {
	case []float64, []int64, []uint64:
		return s
	case []float32:
		return convert[float64](s)
	case []F16:
		return mapSlice(s, F16.Float64)
	case []BF16:
		return mapSlice(s, BF16.Float64)
	case []int8:
		return convert[int64](s)
	case []int16:
		return convert[int64](s)
	case []int32:
		return convert[int64](s)
	case []uint8:
		return convert[uint64](s)
	case []uint16:
		return convert[uint64](s)
	case []uint32:
		return convert[uint64](s)
	case []bool:
		return mapSlice(s, func(b bool) uint64 {
			if b {
				return 1
			}
			return 0
		})
	}
	return nil
}

// narrow converts elements of one of the widest types to dt.
func narrow[T float64 | int64 | uint64](s []T, dt DType, shape Shape) Any {
	switch dt {
	case Float32:
		return From(convert[float32](s), shape...)
	case Float64:
		return From(convert[float64](s), shape...)
	case Float16:
		return From(mapSlice(s, func(v T) F16 { return ToF16(float64(v)) }), shape...)
	case BFloat16:
		return From(mapSlice(s, func(v T) BF16 { return ToBF16(float64(v)) }), shape...)
	case Int8:
		return From(toInt[int8](s, math.MinInt8, math.MaxInt8), shape...)
	case Int16:
		return From(toInt[int16](s, math.MinInt16, math.MaxInt16), shape...)
	case Int32:
		return From(toInt[int32](s, math.MinInt32, math.MaxInt32), shape...)
	case Int64:
		return From(toInt[int64](s, math.MinInt64, math.MaxInt64), shape...)
	case Uint8:
		return From(toInt[uint8](s, 0, math.MaxUint8), shape...)
	case Uint16:
		return From(toInt[uint16](s, 0, math.MaxUint16), shape...)
	case Uint32:
		return From(toInt[uint32](s, 0, math.MaxUint32), shape...)
	case Uint64:
		return From(toInt[uint64](s, 0, math.MaxUint64), shape...)
	case Bool:
		return From(mapSlice(s, func(v T) bool { return v != 0 }), shape...)
	}
	return nil
}

func mapSlice[D, S any](s []S, f func(S) D) []D {
	d := make([]D, len(s))
	for i, v := range s {
		d[i] = f(v)
	}
	return d
}

func convert[D, S Number](s []S) []D {
	d := make([]D, len(s))
	for i, v := range s {
		d[i] = D(v)
	}
	return d
}

// toInt converts to an integer type with the range [lo, hi].
func toInt[D Number, S float64 | int64 | uint64](s []S, lo, hi D) []D {
	f, ok := any(s).([]float64)
	if !ok {
		return convert[D](s)
	}
	return mapSlice(f, func(v float64) D {
		switch {
		case v != v:
			return 0
		case v <= float64(lo):
			return lo
		case v >= float64(hi): // a power of two for the 64-bit types
			return hi
		}
		return D(v)
	})
}
