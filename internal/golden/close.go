package golden

import (
	"fmt"
	"math"

	"roundel/tensor"
)

// Close compares two tensors: nil when they have the same shape and every element
// satisfies |got - want| ≤ atol + rtol·|want|. NaN equals NaN, an infinity only itself.
// The error has the first differing index, how many differ, and the largest difference.
// Element types may differ; 64-bit integers are compared as float64.
func Close(got, want tensor.Any, rtol, atol float64) error {
	if got == nil || want == nil {
		return fmt.Errorf("got %v, want %v", got, want)
	}
	if !got.Shape().Equal(want.Shape()) {
		return fmt.Errorf("got shape %v, want %v", got.Shape(), want.Shape())
	}
	g, w := floats(got), floats(want)
	first, count, largest := -1, 0, 0.0
	for i := range g {
		diff := math.Abs(g[i] - w[i])
		if g[i] == w[i] || (math.IsNaN(g[i]) && math.IsNaN(w[i])) || diff <= atol+rtol*math.Abs(w[i]) && !math.IsInf(w[i], 0) {
			continue
		}
		if count++; first < 0 {
			first = i
		}
		if math.IsNaN(diff) {
			diff = math.Inf(1)
		}
		largest = max(largest, diff)
	}
	if count == 0 {
		return nil
	}
	return fmt.Errorf("at %v got %v, want %v; %d of %d elements differ (rtol %g, atol %g), by up to %g",
		index(first, want.Shape()), g[first], w[first], count, len(g), rtol, atol, largest)
}

// index turns a flat position into coordinates.
func index(at int, shape tensor.Shape) tensor.Shape {
	idx := make(tensor.Shape, len(shape))
	for d := len(shape) - 1; d >= 0; d-- {
		idx[d] = at % shape[d]
		at /= shape[d]
	}
	return idx
}

func floats(t tensor.Any) []float64 {
	switch t := t.(type) {
	case *tensor.Dense[float32]:
		return convert(t, func(v float32) float64 { return float64(v) })
	case *tensor.Dense[float64]:
		return t.Data()
	case *tensor.Dense[tensor.F16]:
		return convert(t, f16)
	case *tensor.Dense[tensor.BF16]:
		return convert(t, func(v tensor.BF16) float64 { return float64(math.Float32frombits(uint32(v) << 16)) })
	case *tensor.Dense[int8]:
		return convert(t, func(v int8) float64 { return float64(v) })
	case *tensor.Dense[int16]:
		return convert(t, func(v int16) float64 { return float64(v) })
	case *tensor.Dense[int32]:
		return convert(t, func(v int32) float64 { return float64(v) })
	case *tensor.Dense[int64]:
		return convert(t, func(v int64) float64 { return float64(v) })
	case *tensor.Dense[uint8]:
		return convert(t, func(v uint8) float64 { return float64(v) })
	case *tensor.Dense[uint16]:
		return convert(t, func(v uint16) float64 { return float64(v) })
	case *tensor.Dense[uint32]:
		return convert(t, func(v uint32) float64 { return float64(v) })
	case *tensor.Dense[uint64]:
		return convert(t, func(v uint64) float64 { return float64(v) })
	case *tensor.Dense[bool]:
		return convert(t, func(v bool) float64 {
			if v {
				return 1
			}
			return 0
		})
	}
	panic("golden: unknown element type")
}

func convert[T tensor.Elem](t *tensor.Dense[T], f func(T) float64) []float64 {
	out := make([]float64, t.Len())
	for i, v := range t.Data() {
		out[i] = f(v)
	}
	return out
}

// f16 returns the value of a binary16: sign, 5 bits of exponent (bias 15), 10 of fraction.
func f16(v tensor.F16) float64 {
	exp, frac := int(v>>10&31), float64(v&1023)/1024
	var x float64
	switch exp {
	case 0:
		x = math.Ldexp(frac, -14)
	case 31:
		if x = math.Inf(1); frac != 0 {
			x = math.NaN()
		}
	default:
		x = math.Ldexp(1+frac, exp-15)
	}
	if v>>15 == 1 {
		x = -x
	}
	return x
}
