package convert

import (
	"encoding/binary"
	"fmt"
	"math"

	"roundel/onnx"
	"roundel/tensor"
)

// maxElements bounds the elements that a tensor's dimensions may ask for.
const maxElements = 1 << 40

var dtypes = map[onnx.DataType]tensor.DType{
	onnx.Float: tensor.Float32, onnx.Double: tensor.Float64, onnx.Float16: tensor.Float16, onnx.BFloat16: tensor.BFloat16,
	onnx.Int8: tensor.Int8, onnx.Int16: tensor.Int16, onnx.Int32: tensor.Int32, onnx.Int64: tensor.Int64,
	onnx.Uint8: tensor.Uint8, onnx.Uint16: tensor.Uint16, onnx.Uint32: tensor.Uint32, onnx.Uint64: tensor.Uint64,
	onnx.Bool: tensor.Bool, onnx.Int4: tensor.Int8, onnx.Uint4: tensor.Uint8,
}

// DTypeOf returns the element type that holds ONNX type t: int4 is held as int8
// and uint4 as uint8. Strings, complex numbers and 8-bit floats are an *onnx.UnsupportedError.
func DTypeOf(t onnx.DataType) (tensor.DType, error) {
	if d, ok := dtypes[t]; ok {
		return d, nil
	}
	return tensor.Invalid, onnx.Unsupportedf("element type %v", t)
}

// DataTypeOf returns the ONNX type of d, or onnx.Undefined for tensor.Invalid.
func DataTypeOf(d tensor.DType) onnx.DataType {
	for t, e := range dtypes {
		if e == d && t != onnx.Int4 && t != onnx.Uint4 {
			return t
		}
	}
	return onnx.Undefined
}

// ToTensor returns the elements of t. Values of 4 bits are unpacked, one to an int8
// or uint8; t.DataType tells that they were packed. The result shares nothing with t.
func ToTensor(t *onnx.Tensor) (tensor.Any, error) {
	v, err := toTensor(t)
	if err != nil {
		return nil, fmt.Errorf("convert: tensor %q: %w", t.Name, err)
	}
	return v, nil
}

func toTensor(t *onnx.Tensor) (tensor.Any, error) {
	if _, err := DTypeOf(t.DataType); err != nil {
		return nil, err
	}
	if t.IsExternal() {
		loc, _ := onnx.Lookup(t.ExternalData, "location")
		return nil, fmt.Errorf("its data in file %q was not loaded", loc)
	}
	if len(t.Segment) > 0 {
		return nil, onnx.Unsupportedf("tensors in segments")
	}
	shape, err := shapeOf(t.Dims)
	if err != nil {
		return nil, err
	}
	if t.RawData != nil {
		return fromRaw(t.RawData, t.DataType, shape)
	}
	return fromTyped(t, shape)
}

func shapeOf(dims []int64) (tensor.Shape, error) {
	s, n := make(tensor.Shape, len(dims)), int64(1)
	for i, d := range dims {
		if d < 0 || d > maxElements || n > maxElements/max(d, 1) {
			return nil, fmt.Errorf("impossible dimensions %v", dims)
		}
		s[i], n = int(d), n*max(d, 1)
	}
	return s, nil
}

// fromRaw decodes little-endian elements.
func fromRaw(b []byte, t onnx.DataType, s tensor.Shape) (tensor.Any, error) {
	n := s.Len()
	if want := (n*t.Bits() + 7) / 8; len(b) != want {
		return nil, fmt.Errorf("%v%v needs %d bytes and has %d", t, s, want, len(b))
	}
	le := binary.LittleEndian
	switch t {
	case onnx.Float:
		return decodeRaw(b, 4, s, func(b []byte) float32 { return math.Float32frombits(le.Uint32(b)) }), nil
	case onnx.Double:
		return decodeRaw(b, 8, s, func(b []byte) float64 { return math.Float64frombits(le.Uint64(b)) }), nil
	case onnx.Float16:
		return decodeRaw(b, 2, s, func(b []byte) tensor.F16 { return tensor.F16(le.Uint16(b)) }), nil
	case onnx.BFloat16:
		return decodeRaw(b, 2, s, func(b []byte) tensor.BF16 { return tensor.BF16(le.Uint16(b)) }), nil
	case onnx.Int8:
		return decodeRaw(b, 1, s, func(b []byte) int8 { return int8(b[0]) }), nil
	case onnx.Uint8:
		return decodeRaw(b, 1, s, func(b []byte) uint8 { return b[0] }), nil
	case onnx.Bool:
		return decodeRaw(b, 1, s, func(b []byte) bool { return b[0] != 0 }), nil
	case onnx.Int16:
		return decodeRaw(b, 2, s, func(b []byte) int16 { return int16(le.Uint16(b)) }), nil
	case onnx.Uint16:
		return decodeRaw(b, 2, s, le.Uint16), nil
	case onnx.Int32:
		return decodeRaw(b, 4, s, func(b []byte) int32 { return int32(le.Uint32(b)) }), nil
	case onnx.Uint32:
		return decodeRaw(b, 4, s, le.Uint32), nil
	case onnx.Int64:
		return decodeRaw(b, 8, s, func(b []byte) int64 { return int64(le.Uint64(b)) }), nil
	case onnx.Uint64:
		return decodeRaw(b, 8, s, le.Uint64), nil
	case onnx.Int4:
		return unpack4(n, s, func(i int) byte { return b[i] }, func(v byte) int8 { return int8(v<<4) >> 4 }), nil
	case onnx.Uint4:
		return unpack4(n, s, func(i int) byte { return b[i] }, func(v byte) uint8 { return v }), nil
	}
	return nil, onnx.Unsupportedf("element type %v", t)
}

func decodeRaw[T tensor.Elem](b []byte, size int, s tensor.Shape, get func([]byte) T) tensor.Any {
	out := make([]T, len(b)/size)
	for i := range out {
		out[i] = get(b[i*size : i*size+size])
	}
	return tensor.From(out, s...)
}

// unpack4 takes element i from byte i/2: the low nibble when i is even, the high one when it is odd.
func unpack4[T int8 | uint8](n int, s tensor.Shape, at func(int) byte, get func(nibble byte) T) tensor.Any {
	out := make([]T, n)
	for i := range out {
		out[i] = get(at(i/2) >> (4 * (i % 2)) & 15)
	}
	return tensor.From(out, s...)
}

// fromTyped reads the typed field that t's element type prescribes.
func fromTyped(t *onnx.Tensor, s tensor.Shape) (tensor.Any, error) {
	switch t.DataType {
	case onnx.Float:
		return list(t.FloatData, s, func(v float32) (float32, bool) { return v, true })
	case onnx.Double:
		return list(t.DoubleData, s, func(v float64) (float64, bool) { return v, true })
	case onnx.Int64:
		return list(t.Int64Data, s, func(v int64) (int64, bool) { return v, true })
	case onnx.Uint64:
		return list(t.Uint64Data, s, func(v uint64) (uint64, bool) { return v, true })
	case onnx.Uint32:
		return list(t.Uint64Data, s, func(v uint64) (uint32, bool) { return uint32(v), v <= math.MaxUint32 })
	case onnx.Int32:
		return list(t.Int32Data, s, func(v int32) (int32, bool) { return v, true })
	case onnx.Float16:
		return list(t.Int32Data, s, func(v int32) (tensor.F16, bool) { return tensor.F16(v), v == int32(uint16(v)) })
	case onnx.BFloat16:
		return list(t.Int32Data, s, func(v int32) (tensor.BF16, bool) { return tensor.BF16(v), v == int32(uint16(v)) })
	case onnx.Int16:
		return list(t.Int32Data, s, func(v int32) (int16, bool) { return int16(v), v == int32(int16(v)) })
	case onnx.Uint16:
		return list(t.Int32Data, s, func(v int32) (uint16, bool) { return uint16(v), v == int32(uint16(v)) })
	case onnx.Int8:
		return list(t.Int32Data, s, func(v int32) (int8, bool) { return int8(v), v == int32(int8(v)) })
	case onnx.Uint8:
		return list(t.Int32Data, s, func(v int32) (uint8, bool) { return uint8(v), v == int32(uint8(v)) })
	case onnx.Bool:
		return list(t.Int32Data, s, func(v int32) (bool, bool) { return v != 0, v == 0 || v == 1 })
	}
	// Four bits: each number of the list holds one byte, which is two elements.
	n := s.Len()
	if want := (n + 1) / 2; len(t.Int32Data) != want {
		return nil, fmt.Errorf("%v%v needs %d bytes of int32_data and has %d", t.DataType, s, want, len(t.Int32Data))
	}
	at := func(i int) byte { return byte(t.Int32Data[i]) }
	if t.DataType == onnx.Int4 {
		return unpack4(n, s, at, func(v byte) int8 { return int8(v<<4) >> 4 }), nil
	}
	return unpack4(n, s, at, func(v byte) uint8 { return v }), nil
}

func list[S any, T tensor.Elem](src []S, s tensor.Shape, get func(S) (T, bool)) (tensor.Any, error) {
	if n := s.Len(); len(src) != n {
		return nil, fmt.Errorf("%v%v needs %d elements and has %d", tensor.DTypeOf[T](), s, n, len(src))
	}
	out, ok := make([]T, len(src)), true
	for i, v := range src {
		if out[i], ok = get(v); !ok {
			return nil, fmt.Errorf("element %d, %v, is not a %v", i, v, tensor.DTypeOf[T]())
		}
	}
	return tensor.From(out, s...), nil
}

// FromTensor returns v under the given name, as raw data.
func FromTensor(name string, v tensor.Any) *onnx.Tensor {
	t := &onnx.Tensor{Name: name, DataType: DataTypeOf(v.DType())}
	for _, d := range v.Shape() {
		t.Dims = append(t.Dims, int64(d))
	}
	le := binary.LittleEndian
	switch v := v.(type) {
	case *tensor.Dense[float32]:
		t.RawData = encodeRaw(v, 4, func(b []byte, x float32) { le.PutUint32(b, math.Float32bits(x)) })
	case *tensor.Dense[float64]:
		t.RawData = encodeRaw(v, 8, func(b []byte, x float64) { le.PutUint64(b, math.Float64bits(x)) })
	case *tensor.Dense[tensor.F16]:
		t.RawData = encodeRaw(v, 2, func(b []byte, x tensor.F16) { le.PutUint16(b, uint16(x)) })
	case *tensor.Dense[tensor.BF16]:
		t.RawData = encodeRaw(v, 2, func(b []byte, x tensor.BF16) { le.PutUint16(b, uint16(x)) })
	case *tensor.Dense[int8]:
		t.RawData = encodeRaw(v, 1, func(b []byte, x int8) { b[0] = byte(x) })
	case *tensor.Dense[uint8]:
		t.RawData = encodeRaw(v, 1, func(b []byte, x uint8) { b[0] = x })
	case *tensor.Dense[bool]:
		t.RawData = encodeRaw(v, 1, func(b []byte, x bool) {
			if x {
				b[0] = 1
			}
		})
	case *tensor.Dense[int16]:
		t.RawData = encodeRaw(v, 2, func(b []byte, x int16) { le.PutUint16(b, uint16(x)) })
	case *tensor.Dense[uint16]:
		t.RawData = encodeRaw(v, 2, le.PutUint16)
	case *tensor.Dense[int32]:
		t.RawData = encodeRaw(v, 4, func(b []byte, x int32) { le.PutUint32(b, uint32(x)) })
	case *tensor.Dense[uint32]:
		t.RawData = encodeRaw(v, 4, le.PutUint32)
	case *tensor.Dense[int64]:
		t.RawData = encodeRaw(v, 8, func(b []byte, x int64) { le.PutUint64(b, uint64(x)) })
	case *tensor.Dense[uint64]:
		t.RawData = encodeRaw(v, 8, le.PutUint64)
	}
	return t
}

func encodeRaw[T tensor.Elem](v *tensor.Dense[T], size int, put func([]byte, T)) []byte {
	b := make([]byte, v.Len()*size)
	for i, x := range v.Data() {
		put(b[i*size:i*size+size], x)
	}
	return b
}

// PackTensor is FromTensor for a chosen ONNX type: v's own, or for an int8 tensor
// Int4, and for a uint8 tensor Uint4, packed with the first element in the low
// nibble. A value that 4 bits do not hold is an error.
func PackTensor(name string, v tensor.Any, dt onnx.DataType) (*onnx.Tensor, error) {
	t := FromTensor(name, v)
	if dt == t.DataType {
		return t, nil
	}
	lo, hi := 0, 15
	switch {
	case dt == onnx.Int4 && t.DataType == onnx.Int8:
		lo, hi = -8, 7
	case dt == onnx.Uint4 && t.DataType == onnx.Uint8:
	default:
		return nil, fmt.Errorf("convert: tensor %q: a %v tensor cannot be written as %v", name, v.DType(), dt)
	}
	raw := make([]byte, (len(t.RawData)+1)/2)
	for i, b := range t.RawData {
		x := int(b)
		if lo < 0 {
			x = int(int8(b))
		}
		if x < lo || x > hi {
			return nil, fmt.Errorf("convert: tensor %q: element %d is %d, outside %v's range %d to %d", name, i, x, dt, lo, hi)
		}
		raw[i/2] |= b & 15 << (4 * (i % 2))
	}
	t.DataType, t.RawData = dt, raw
	return t, nil
}
