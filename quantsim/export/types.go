package export

import (
	"fmt"

	"roundel/onnx"
	"roundel/quantsim/encoding"
)

// The first operator sets in which QDQ can say something.
const (
	opsetQDQ     = 10 // QuantizeLinear at all
	opsetChannel = 13 // along an axis
	opsetSmall   = 21 // int4, int16, blocks
)

// storage is how a grid is stored as an ONNX integer type.
type storage struct {
	bits     int
	signed   onnx.DataType
	unsigned onnx.DataType
	opset    int64 // first one with these types
}

// storages is the one table of integer types, narrowest first. A grid of b bits goes
// into the first row with at least b bits that the opset has.
var storages = []storage{
	{4, onnx.Int4, onnx.Uint4, opsetSmall},
	{8, onnx.Int8, onnx.Uint8, opsetQDQ},
	{16, onnx.Int16, onnx.Uint16, opsetSmall},
	{32, onnx.Int32, onnx.Uint32, opsetQDQ}, // only to be dequantized, with zero point 0
}

// opsetFor returns the least opset that holds the encoding: 4 bits fit an int8 container in any.
func opsetFor(e *encoding.Encoding) int64 {
	switch {
	case e.Type != encoding.Int:
		return opsetChannel // Cast to bfloat16
	case e.BlockSize > 0 || e.Bits > 8 && e.Bits <= 16:
		return opsetSmall
	case e.Axis >= 0:
		return opsetChannel
	}
	return opsetQDQ
}

// store returns the type for e in the given opset and the zero points in it.
func store(e *encoding.Encoding, kind encoding.Kind, opset int64) (onnx.DataType, []float64, error) {
	signed, zeros := e.OnnxType(kind)
	if e.Symmetric && e.Strict && signed {
		zeros = make([]float64, len(zeros)) // the lowest code just stays unused
	}
	for _, s := range storages {
		if s.bits < e.Bits || s.opset > opset {
			continue
		}
		if s.bits == 32 && (kind == encoding.Activation || !signed) {
			break
		}
		if signed {
			return s.signed, zeros, nil
		}
		return s.unsigned, zeros, nil
	}
	return 0, nil, fmt.Errorf("a grid of %d bits (symmetric %v) has no ONNX type in opset %d; use at most 16 bits, or disable the quantizer", e.Bits, e.Symmetric, opset)
}
