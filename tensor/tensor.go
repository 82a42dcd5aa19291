// Package tensor holds shaped arrays, their movement, and the drivers that turn
// the microkernels of package asm into GEMM and convolution.
//
// A tensor is a shape and a contiguous, row-major slice. The logical order of
// image tensors is NCHW throughout the API; NHWC is a property of buffers inside
// a compiled nn.Program and never leaves it.
//
// Functions panic on mismatched shapes: those are broken invariants of our own
// code. Everything that depends on a model or a file is checked before, in nn.
package tensor

import (
	"fmt"
	"strconv"
	"strings"
)

// DType names an element type.
type DType uint8

// The element types that model files carry.
const (
	Invalid DType = iota
	Float32
	Float64
	Float16
	BFloat16
	Int8
	Int16
	Int32
	Int64
	Uint8
	Uint16
	Uint32
	Uint64
	Bool
)

var dtypeNames = [...]string{"invalid", "float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64",
	"uint8", "uint16", "uint32", "uint64", "bool"}

var dtypeSizes = [...]int{0, 4, 8, 2, 2, 1, 2, 4, 8, 1, 2, 4, 8, 1}

// String returns the NumPy name of the type, such as "float32".
func (d DType) String() string {
	if int(d) < len(dtypeNames) {
		return dtypeNames[d]
	}
	return fmt.Sprintf("dtype(%d)", uint8(d))
}

// Size returns the size of one element in bytes.
func (d DType) Size() int { return dtypeSizes[d] }

// IsFloat reports whether d is a floating-point type.
func (d DType) IsFloat() bool { return d >= Float32 && d <= BFloat16 }

// F16 is an IEEE 754 binary16 number in its bits. Arithmetic is done in float32.
type F16 uint16

// BF16 is a bfloat16 number in its bits. Arithmetic is done in float32.
type BF16 uint16

// Elem is the closed set of element types.
type Elem interface {
	float32 | float64 | F16 | BF16 | int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | bool
}

// Float is the set of types with full arithmetic; float64 is the oracle of the tests.
type Float interface{ float32 | float64 }

// Number is the set of types that index and shape arithmetic is done in.
type Number interface {
	float32 | float64 | int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64
}

// Shape is a list of dimensions; the empty shape is a scalar.
type Shape []int

// Len returns the number of elements, 1 for a scalar.
func (s Shape) Len() int {
	n := 1
	for _, d := range s {
		n *= d
	}
	return n
}

// Equal reports whether s and t have the same dimensions.
func (s Shape) Equal(t Shape) bool {
	if len(s) != len(t) {
		return false
	}
	for i := range s {
		if s[i] != t[i] {
			return false
		}
	}
	return true
}

// Clone returns a copy of s.
func (s Shape) Clone() Shape { return append(Shape{}, s...) }

// Strides returns the row-major strides of s in elements.
func (s Shape) Strides() []int {
	st := make([]int, len(s))
	n := 1
	for i := len(s) - 1; i >= 0; i-- {
		st[i] = n
		n *= s[i]
	}
	return st
}

// String formats s as "[1 3 224 224]".
func (s Shape) String() string {
	var b strings.Builder
	b.WriteByte('[')
	for i, d := range s {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strconv.Itoa(d))
	}
	b.WriteByte(']')
	return b.String()
}

// Any is a tensor of any element type. Only *Dense implements it.
type Any interface {
	DType() DType
	Shape() Shape
	Len() int
	sealed()
}

// Dense is a contiguous row-major tensor.
type Dense[T Elem] struct {
	shape Shape
	data  []T
}

// New returns a zeroed tensor of the given shape.
func New[T Elem](shape ...int) *Dense[T] {
	s := Shape(shape).Clone()
	return &Dense[T]{s, make([]T, s.Len())}
}

// From returns a tensor that uses data, which must have exactly as many elements as shape asks for; it panics otherwise.
func From[T Elem](data []T, shape ...int) *Dense[T] {
	s := Shape(shape).Clone()
	if s.Len() != len(data) {
		panic(fmt.Sprintf("tensor: %d elements for shape %v", len(data), s))
	}
	return &Dense[T]{s, data}
}

// Scalar returns a tensor of rank 0.
func Scalar[T Elem](v T) *Dense[T] { return &Dense[T]{Shape{}, []T{v}} }

// Shape returns the shape; the caller must not change it.
func (d *Dense[T]) Shape() Shape { return d.shape }

// Data returns the elements in row-major order, not a copy.
func (d *Dense[T]) Data() []T { return d.data }

// Len returns the number of elements.
func (d *Dense[T]) Len() int { return len(d.data) }

// DType returns the element type.
func (d *Dense[T]) DType() DType { return DTypeOf[T]() }

func (d *Dense[T]) sealed() {}

// Clone returns a deep copy.
func (d *Dense[T]) Clone() *Dense[T] {
	return &Dense[T]{d.shape.Clone(), append([]T(nil), d.data...)}
}

// Reshape returns a tensor of another shape over the same elements; it panics if the counts differ.
func (d *Dense[T]) Reshape(shape ...int) *Dense[T] { return From(d.data, shape...) }

// DTypeOf returns the DType of T.
func DTypeOf[T Elem]() DType {
	var z T
	switch any(z).(type) {
	case float32:
		return Float32
	case float64:
		return Float64
	case F16:
		return Float16
	case BF16:
		return BFloat16
	case int8:
		return Int8
	case int16:
		return Int16
	case int32:
		return Int32
	case int64:
		return Int64
	case uint8:
		return Uint8
	case uint16:
		return Uint16
	case uint32:
		return Uint32
	case uint64:
		return Uint64
	default:
		return Bool
	}
}

// As returns v as a tensor of element type T, or an error that names both types.
func As[T Elem](v Any) (*Dense[T], error) {
	if d, ok := v.(*Dense[T]); ok {
		return d, nil
	}
	if v == nil {
		return nil, fmt.Errorf("tensor: no tensor where %v is wanted", DTypeOf[T]())
	}
	return nil, fmt.Errorf("tensor: have %v, want %v", v.DType(), DTypeOf[T]())
}

// Zeros returns a zeroed tensor whose element type is chosen at run time, or nil for Invalid.
func Zeros(dt DType, shape ...int) Any {
	switch dt {
	case Float32:
		return New[float32](shape...)
	case Float64:
		return New[float64](shape...)
	case Float16:
		return New[F16](shape...)
	case BFloat16:
		return New[BF16](shape...)
	case Int8:
		return New[int8](shape...)
	case Int16:
		return New[int16](shape...)
	case Int32:
		return New[int32](shape...)
	case Int64:
		return New[int64](shape...)
	case Uint8:
		return New[uint8](shape...)
	case Uint16:
		return New[uint16](shape...)
	case Uint32:
		return New[uint32](shape...)
	case Uint64:
		return New[uint64](shape...)
	case Bool:
		return New[bool](shape...)
	}
	return nil
}
