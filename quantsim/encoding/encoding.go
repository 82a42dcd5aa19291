package encoding

import (
	"errors"
	"fmt"
	"math"

	"roundel/tensor"
)

// DataType is what a quantized tensor is stored as.
type DataType uint8

// The data types. Int is a uniform grid and has scales; the float types are a
// round trip through that format and have none.
const (
	Int DataType = iota
	Float16
	BFloat16
	Float32
)

// String returns "int", "float16", "bfloat16" or "float32".
func (d DataType) String() string {
	if int(d) < len(dataTypeNames) {
		return dataTypeNames[d]
	}
	return fmt.Sprintf("datatype(%d)", uint8(d))
}

var dataTypeNames = [...]string{"int", "float16", "bfloat16", "float32"}

// Values of Grid.Axis that are not an axis.
const (
	PerTensor   = -1 // one scale for the whole tensor
	AxisUnknown = -2 // per channel, but the file does not say along which axis; see Encoding.Resolve
)

// Grid is the shape of a quantization grid, without its scales.
type Grid struct {
	Type      DataType
	Bits      int  // 2 to 32 for Int; 16 or 32 for the float types
	Symmetric bool // fixed offset: -2^(b-1), or less one step when Strict, or 0 where Unsigned applies
	Strict    bool // with Symmetric: as many negative steps as positive ones, so one code less
	Unsigned  bool // with Symmetric: a channel without negative values gets offset 0 and all codes
	Axis      int  // channel axis, or PerTensor, or AxisUnknown
	BlockAxis int  // axis cut into blocks of BlockSize elements; used only if BlockSize > 0
	BlockSize int  // 0: no blocks
}

// Steps returns the number of steps between the lowest and the highest code: 2^b - 1, or one less on a strict symmetric grid.
func (g Grid) Steps() float64 {
	n := math.Ldexp(1, g.Bits) - 1
	if g.Symmetric && g.Strict {
		n--
	}
	return n
}

// SignedOffset returns the offset of a symmetric signed grid: -2^(b-1), or -(2^(b-1)-1) when Strict.
func (g Grid) SignedOffset() float64 { return -math.Ceil(g.Steps() / 2) }

// Validate checks the fields against each other; shape, if not nil, is that of the tensor, and then the axes must exist and blocks must divide.
func (g Grid) Validate(shape tensor.Shape) error {
	switch g.Type {
	case Int:
		if g.Bits < 2 || g.Bits > 32 {
			return fmt.Errorf("encoding: bitwidth %d is outside 2..32", g.Bits)
		}
	case Float16, BFloat16, Float32:
		if want := map[DataType]int{Float16: 16, BFloat16: 16, Float32: 32}[g.Type]; g.Bits != want {
			return fmt.Errorf("encoding: bitwidth %d for %v, which has %d", g.Bits, g.Type, want)
		}
		return nil
	default:
		return fmt.Errorf("encoding: unknown data type %v", g.Type)
	}
	if g.Axis < AxisUnknown {
		return fmt.Errorf("encoding: channel axis %d", g.Axis)
	}
	if g.BlockSize < 0 {
		return fmt.Errorf("encoding: block size %d", g.BlockSize)
	}
	if shape == nil {
		return nil
	}
	return g.fits(shape)
}

func (g Grid) fits(shape tensor.Shape) error {
	if g.Axis == AxisUnknown {
		return errors.New("encoding: the channel axis is not known; call Resolve first")
	}
	if g.Axis >= len(shape) {
		return fmt.Errorf("encoding: channel axis %d for a tensor of shape %v", g.Axis, shape)
	}
	if g.BlockSize == 0 {
		return nil
	}
	switch {
	case g.BlockAxis < 0 || g.BlockAxis >= len(shape):
		return fmt.Errorf("encoding: block axis %d for a tensor of shape %v", g.BlockAxis, shape)
	case g.BlockAxis == g.Axis:
		return fmt.Errorf("encoding: axis %d is both the channel and the block axis", g.Axis)
	case shape[g.BlockAxis]%g.BlockSize != 0:
		return fmt.Errorf("encoding: blocks of %d do not divide axis %d of shape %v", g.BlockSize, g.BlockAxis, shape)
	}
	return nil
}

// Groups returns how many scales a tensor of the given shape has on this grid. The shape must fit.
func (g Grid) Groups(shape tensor.Shape) int {
	n := 1
	if g.Axis >= 0 {
		n = shape[g.Axis]
	}
	if g.BlockSize > 0 {
		n *= shape[g.BlockAxis] / g.BlockSize
	}
	return n
}

// ScaleShape returns the shape of the scales laid over the tensor: the channel count
// on the channel axis, the number of blocks on the block axis, 1 elsewhere. Scale
// lists are this tensor in row-major order.
func (g Grid) ScaleShape(shape tensor.Shape) tensor.Shape {
	s := make(tensor.Shape, len(shape))
	for i := range s {
		s[i] = 1
	}
	if g.Axis >= 0 {
		s[g.Axis] = shape[g.Axis]
	}
	if g.BlockSize > 0 {
		s[g.BlockAxis] = shape[g.BlockAxis] / g.BlockSize
	}
	return s
}

// Runs calls f for every stretch of consecutive elements that share a scale, in memory order.
func (g Grid) Runs(shape tensor.Shape, f func(group, lo, hi int)) {
	total := shape.Len()
	last, first := g.Axis, -1 // the two axes that matter, in order
	if g.BlockSize > 0 {
		first, last = min(g.Axis, g.BlockAxis), max(g.Axis, g.BlockAxis)
	}
	if last < 0 {
		f(0, 0, total)
		return
	}
	if total == 0 {
		return
	}
	unit := shape[last+1:].Len() * g.block(last)
	nLast := shape[last] / g.block(last)
	between, nFirst, blockFirst := 1, 1, 1
	if first >= 0 {
		between, nFirst, blockFirst = shape[first+1:last].Len(), shape[first], g.block(first)
	}
	for r := range total / unit {
		group := r % nLast
		if first >= 0 {
			group += (r / nLast / between) % nFirst / blockFirst * nLast
		}
		f(group, r*unit, (r+1)*unit)
	}
}

func (g Grid) block(axis int) int {
	if g.BlockSize > 0 && axis == g.BlockAxis {
		return g.BlockSize
	}
	return 1
}

// Encoding is a grid with its scales. The lists have one element per group, in the
// order of Grid.ScaleShape; they are nil for float types.
//
// Min and Max are the ends of the range, scale*offset and scale*(offset+steps) for
// every grid that was computed here. A file may give a narrower range; then values
// saturate there, as in AIMET. They may be nil, which means the whole grid.
type Encoding struct {
	Grid
	Scale  []float64
	Offset []float64 // additive, integral, in [-(2^b - 1), 0]
	Min    []float64
	Max    []float64
}

// Validate checks the grid, the list lengths (against shape unless it is nil), and that every scale is positive and every offset an integer of the grid.
func (e *Encoding) Validate(shape tensor.Shape) error {
	if err := e.Grid.Validate(shape); err != nil {
		return err
	}
	if e.Type != Int {
		return nil
	}
	n := len(e.Scale)
	switch {
	case n == 0:
		return errors.New("encoding: no scale")
	case len(e.Offset) != n:
		return fmt.Errorf("encoding: %d scales but %d offsets", n, len(e.Offset))
	case e.Min != nil && len(e.Min) != n || e.Max != nil && len(e.Max) != n || (e.Min == nil) != (e.Max == nil):
		return fmt.Errorf("encoding: %d scales but %d minima and %d maxima", n, len(e.Min), len(e.Max))
	case shape != nil && n != e.Groups(shape):
		return fmt.Errorf("encoding: %d scales for a tensor of shape %v with %d groups (axis %d)", n, shape, e.Groups(shape), e.Axis)
	}
	limit := math.Ldexp(1, e.Bits)
	for i, s := range e.Scale {
		if !(s > 0) || math.IsInf(s, 0) {
			return fmt.Errorf("encoding: scale %v of group %d is not a positive number", s, i)
		}
		// AIMET accepts one more at the bottom than the grid needs.
		if o := e.Offset[i]; o != math.Trunc(o) || o > 0 || o < -limit {
			return fmt.Errorf("encoding: offset %v of group %d is not an integer in [-2^%d, 0]", o, i, e.Bits)
		}
	}
	return nil
}

// Clone returns a deep copy.
func (e *Encoding) Clone() *Encoding {
	c := *e
	c.Scale = append([]float64(nil), e.Scale...)
	c.Offset = append([]float64(nil), e.Offset...)
	c.Min = append([]float64(nil), e.Min...)
	c.Max = append([]float64(nil), e.Max...)
	return &c
}

// Bounds returns the lowest and the highest grid index of a group: x~ = scale * k with lo <= k <= hi.
func (e *Encoding) Bounds(group int) (lo, hi float64) {
	s, o := e.Scale[group], e.Offset[group]
	lo, hi = o, o+e.Steps()
	if e.Min != nil {
		// The range of a file wins where it is narrower than the grid.
		lo = max(lo, math.RoundToEven(e.Min[group]/s))
		hi = min(hi, math.RoundToEven(e.Max[group]/s))
	}
	return lo, hi
}

// setRange fills Min and Max with the ends of the grid.
func (e *Encoding) setRange() {
	e.Min, e.Max = make([]float64, len(e.Scale)), make([]float64, len(e.Scale))
	for i, s := range e.Scale {
		e.Min[i] = s * e.Offset[i]
		e.Max[i] = s * (e.Offset[i] + e.Steps())
	}
}

// Resolve gives an encoding that came from a file without axes (0.6.1, 1.0.0) the
// axes of the operator that reads the tensor. A list of one scale becomes per tensor
// unless the channel axis really has one element. It is an error if the number of
// scales fits neither.
func (e *Encoding) Resolve(shape tensor.Shape, axis, blockAxis int) error {
	if e.Type != Int || e.Axis != AxisUnknown && (e.BlockSize == 0 || e.BlockAxis >= 0) {
		return nil
	}
	if len(e.Scale) == 1 && e.BlockSize == 0 {
		e.Axis = PerTensor
		return nil
	}
	if axis < 0 {
		return fmt.Errorf("encoding: %d scales for a tensor that has no channel axis", len(e.Scale))
	}
	e.Axis = axis
	if e.BlockSize > 0 {
		e.BlockAxis = blockAxis
		if len(shape) == 2 && axis == 1 && len(e.Scale)%shape[1] == 0 {
			// AIMET writes the blocks of an [in, out] matrix by output channel.
			e.Scale, e.Offset = transpose(e.Scale, shape[1]), transpose(e.Offset, shape[1])
		}
	}
	return e.Validate(shape)
}
