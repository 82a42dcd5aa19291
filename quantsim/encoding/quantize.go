package encoding

import (
	"errors"
	"fmt"
	"math"

	"roundel/tensor"
)

// QuantizeDequantize writes the simulated value of src to dst, which may be src:
//
//	dst = scale * clamp(rne(src / scale), lo, hi)        (Int, float32 arithmetic)
//
// with lo and hi from Bounds; the float types are a round trip through that format.
// NaN becomes the lowest value, as in AIMET. Rounding is half-to-even. It returns
// an error if shape does not fit the encoding.
func (e *Encoding) QuantizeDequantize(dst, src []float32, shape tensor.Shape) error {
	if len(src) != shape.Len() || len(dst) != len(src) {
		return fmt.Errorf("encoding: %d and %d elements for shape %v", len(dst), len(src), shape)
	}
	switch e.Type {
	case Float16:
		for i, x := range src {
			dst[i] = roundFloat16(x)
		}
		return nil
	case BFloat16:
		for i, x := range src {
			dst[i] = roundBFloat16(x)
		}
		return nil
	case Float32:
		copy(dst, src)
		return nil
	}
	if err := e.Validate(shape); err != nil {
		return err
	}
	e.Runs(shape, func(group, i, j int) {
		s := float32(e.Scale[group])
		lo, hi := e.Bounds(group)
		for ; i < j; i++ {
			dst[i] = float32(index(src[i], s, lo, hi)) * s
		}
	})
	return nil
}

// QuantizeDequantizeTensor is QuantizeDequantize of a float32 tensor into a new one.
func (e *Encoding) QuantizeDequantizeTensor(v tensor.Any) (*tensor.Dense[float32], error) {
	src, err := tensor.As[float32](v)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	dst := tensor.New[float32](src.Shape()...)
	return dst, e.QuantizeDequantize(dst.Data(), src.Data(), src.Shape())
}

// index returns the grid index of x: clamp(rne(x/s), lo, hi), lo for NaN. The division is in float32, as in every simulation kernel.
func index(x, s float32, lo, hi float64) float64 {
	k := math.RoundToEven(float64(x / s))
	if !(k > lo) {
		return lo
	}
	return min(k, hi)
}

// Quantize returns the grid index k of every element, x~ = scale * k; the unsigned
// code of group g is k - Offset[g]. Only for Int encodings whose indices fit an
// int32, that is all but asymmetric ones of 32 bits.
func (e *Encoding) Quantize(src []float32, shape tensor.Shape) ([]int32, error) {
	if e.Type != Int {
		return nil, fmt.Errorf("encoding: %v has no codes", e.Type)
	}
	if len(src) != shape.Len() {
		return nil, fmt.Errorf("encoding: %d elements for shape %v", len(src), shape)
	}
	if err := e.Validate(shape); err != nil {
		return nil, err
	}
	out := make([]int32, len(src))
	var bad error
	e.Runs(shape, func(group, i, j int) {
		s := float32(e.Scale[group])
		lo, hi := e.Bounds(group)
		if lo < math.MinInt32 || hi > math.MaxInt32 {
			bad = errors.New("encoding: the codes of this 32-bit grid do not fit an int32")
			return
		}
		for ; i < j; i++ {
			out[i] = int32(index(src[i], s, lo, hi))
		}
	})
	return out, bad
}

// Dequantize returns scale * k for every grid index k; the inverse of Quantize.
func (e *Encoding) Dequantize(codes []int32, shape tensor.Shape) ([]float32, error) {
	if e.Type != Int {
		return nil, fmt.Errorf("encoding: %v has no codes", e.Type)
	}
	if len(codes) != shape.Len() {
		return nil, fmt.Errorf("encoding: %d codes for shape %v", len(codes), shape)
	}
	if err := e.Validate(shape); err != nil {
		return nil, err
	}
	out := make([]float32, len(codes))
	e.Runs(shape, func(group, i, j int) {
		s := float32(e.Scale[group])
		for ; i < j; i++ {
			out[i] = float32(codes[i]) * s
		}
	})
	return out, nil
}

// roundBFloat16 rounds to the nearest bfloat16, ties to even.
func roundBFloat16(x float32) float32 {
	b := math.Float32bits(x)
	if x != x {
		return math.Float32frombits(b | 1<<22)
	}
	b += 0x7fff + b>>16&1
	return math.Float32frombits(b &^ 0xffff)
}

// roundFloat16 rounds to the nearest IEEE binary16, ties to even; beyond 65504 it becomes an infinity as the format asks.
func roundFloat16(x float32) float32 {
	a := math.Abs(float64(x))
	switch {
	case x != x || math.IsInf(float64(x), 0) || a == 0:
		return x
	case a >= 65520:
		return float32(math.Inf(int(math.Copysign(1, float64(x)))))
	}
	// The spacing of binary16 at a: 2^(e-10) with e at least -14. Scaling by it is exact.
	_, exp := math.Frexp(a)
	ulp := max(exp-1, -14) - 10
	return float32(math.Ldexp(math.RoundToEven(math.Ldexp(float64(x), -ulp)), ulp))
}

// FakeQuant returns the kernel parameters of a per-tensor Int encoding. The zero point
// is folded into the bounds, x~ = s * clamp(rne(x/s), lo, hi), which gives the same
// bits as adding it and stays exact beyond 24 bits.
func (e *Encoding) FakeQuant() (tensor.FakeQuant, error) {
	if e.Type != Int || len(e.Scale) != 1 {
		return tensor.FakeQuant{}, fmt.Errorf("encoding: a fake quantizer needs one integer grid; have %v with %d scales", e.Type, len(e.Scale))
	}
	lo, hi := e.Bounds(0)
	return tensor.FakeQuant{Scale: float32(e.Scale[0]), QMin: float32(lo), QMax: float32(hi)}, nil
}
