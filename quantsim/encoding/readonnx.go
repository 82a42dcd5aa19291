package encoding

import (
	"math"
	"regexp"
	"strconv"

	"roundel/internal/jsontree"
	"roundel/tensor"
)

var outputDType = regexp.MustCompile(`^(u?)int([0-9]{1,2})$`)

// readOnnx reads a 2.x entry, which speaks the language of ONNX QuantizeLinear:
// x~ = y_scale * (q - y_zero_point), q in the range of output_dtype.
func readOnnx(n *jsontree.Node) *Encoding {
	n.Only("name", "output_dtype", "y_scale", "y_zero_point", "axis", "block_size", "per_channel_float_scale", "per_block_int_scale")
	m := outputDType.FindStringSubmatch(n.Get("output_dtype").Str())
	if m == nil {
		n.Opt("output_dtype").Errorf("not a supported integer type such as int8, uint8, int4 or uint16")
		return nil
	}
	signed := m[1] == ""
	e := &Encoding{Grid: Grid{Axis: PerTensor}}
	e.Bits, _ = strconv.Atoi(m[2]) // at most two digits
	var scale nested
	if n.Opt("per_block_int_scale").Present() {
		scale = lpbq(n)
	} else {
		scale.read(n.Get("y_scale"), 0)
	}
	e.Scale = scale.flat
	if !e.setAxes(n, scale.shape) || !e.setOffsets(n, scale, signed) {
		return nil
	}
	return e
}

// setAxes reads axis and block_size; shape is that of the nested scales.
func (e *Encoding) setAxes(n *jsontree.Node, shape tensor.Shape) bool {
	axis := n.Opt("axis")
	if block := n.Opt("block_size"); block.Present() {
		e.BlockSize = int(block.Int(1, math.MaxInt32))
		e.BlockAxis = int(n.Get("axis").Int(0, math.MaxInt32))
		if e.BlockAxis >= len(shape) || e.BlockSize < 1 {
			n.Errorf("block axis %d, but the scales have %d dimensions", e.BlockAxis, len(shape))
			return false
		}
		e.Axis = otherAxis(shape, e.BlockAxis)
		if e.Axis == AxisUnknown {
			n.Errorf("the scales vary along more than one axis besides the block axis")
			return false
		}
		return true
	}
	switch {
	case len(shape) == 0:
		return true // per tensor; a stray axis means nothing
	case len(shape) > 1:
		n.Errorf("nested scales without block_size")
		return false
	case !axis.Present():
		n.Errorf("a list of scales without axis")
		return false
	}
	e.Axis = int(axis.Int(0, math.MaxInt32))
	return true
}

// otherAxis returns the one axis besides block along which there is more than one
// scale; if there is none, the first for two dimensions and PerTensor otherwise.
func otherAxis(shape tensor.Shape, block int) int {
	axis := PerTensor
	for i, d := range shape {
		if i == block || d == 1 {
			continue
		}
		if axis != PerTensor {
			return AxisUnknown
		}
		axis = i
	}
	if axis == PerTensor && len(shape) == 2 {
		return 1 - block
	}
	return axis
}

// setOffsets reads y_zero_point: offset = -(zp + 2^(b-1)), or -zp for an unsigned type.
// A signed type is symmetric if every zero point is that of one of the symmetric
// grids: 0 (full), -1 (strict) or -2^(b-1) (unsigned).
func (e *Encoding) setOffsets(n *jsontree.Node, scale nested, signed bool) bool {
	half := math.Ldexp(1, e.Bits-1)
	zeros := nested{shape: scale.shape, flat: make([]float64, len(scale.flat))}
	if z := n.Opt("y_zero_point"); z.Present() {
		zeros = nested{}
		zeros.read(z, 0)
		if !zeros.shape.Equal(scale.shape) {
			z.Errorf("zero points of shape %v for scales of shape %v", zeros.shape, scale.shape)
			return false
		}
	}
	e.Symmetric = signed
	lo, hi := 0.0, 2*half-1
	if signed {
		lo, hi = -half, half-1
	}
	for _, z := range zeros.flat {
		if z != math.Trunc(z) || z < lo || z > hi {
			n.Opt("y_zero_point").Errorf("%v is not a whole number of the type %s", z, n.Opt("output_dtype").Str())
			return false
		}
		e.Symmetric = e.Symmetric && (z == 0 || z == -1 || z == -half)
		e.Offset = append(e.Offset, lo-z)
	}
	e.infer()
	return true
}

// nested is a list of lists of numbers, flattened; a bare number has the empty shape.
type nested struct {
	shape tensor.Shape
	flat  []float64
}

func (v *nested) read(n *jsontree.Node, depth int) {
	if !n.IsList() {
		if depth < len(v.shape) {
			n.Errorf("a number where a list is expected")
		}
		v.flat = append(v.flat, n.Float())
		return
	}
	items := n.List()
	switch {
	case len(v.flat) == 0 && depth == len(v.shape):
		v.shape = append(v.shape, len(items))
	case depth >= len(v.shape) || v.shape[depth] != len(items):
		n.Errorf("a list of %d does not match the ones before it", len(items))
		return
	}
	for _, c := range items {
		v.read(c, depth+1)
	}
}

// lpbq multiplies the two levels of scales; a channel scale has one element on the block axis.
func lpbq(n *jsontree.Node) nested {
	var ch, blk nested
	ch.read(n.Get("per_channel_float_scale"), 0)
	blk.read(n.Get("per_block_int_scale"), 0)
	ok := len(ch.shape) == len(blk.shape) && len(blk.flat) == blk.shape.Len() && len(ch.flat) == ch.shape.Len()
	for i := 0; ok && i < len(ch.shape); i++ {
		ok = ch.shape[i] == blk.shape[i] || ch.shape[i] == 1
	}
	if !ok {
		n.Errorf("channel scales of shape %v do not fit block scales of shape %v", ch.shape, blk.shape)
		return nested{}
	}
	st := ch.shape.Strides()
	for i := range blk.flat {
		rest, at := i, 0
		for d := len(blk.shape) - 1; d >= 0; d-- {
			if ch.shape[d] > 1 {
				at += rest % blk.shape[d] * st[d]
			}
			rest /= blk.shape[d]
		}
		blk.flat[i] *= ch.flat[at]
	}
	return blk
}
