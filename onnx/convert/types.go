package convert

import (
	"fmt"

	"roundel/nn"
	"roundel/onnx"
	"roundel/tensor"
)

// typeOf converts the declared type of a value; an absent one is nn.Type{}.
func typeOf(t *onnx.Type) (nn.Type, error) {
	switch {
	case t == nil:
		return nn.Type{}, nil
	case t.Sequence != nil:
		return nn.Type{}, onnx.Unsupportedf("sequence types")
	case t.Map != nil:
		return nn.Type{}, onnx.Unsupportedf("map types")
	case t.Optional != nil:
		return nn.Type{}, onnx.Unsupportedf("optional types")
	case t.SparseTensor != nil:
		return nn.Type{}, onnx.Unsupportedf("sparse tensor types")
	case t.Opaque != nil:
		return nn.Type{}, onnx.Unsupportedf("opaque types")
	case t.Tensor == nil:
		return nn.Type{}, nil
	}
	out := nn.Type{}
	if e := t.Tensor.ElemType; e != onnx.Undefined {
		dt, err := DTypeOf(e)
		if err != nil {
			return out, err
		}
		out.DType = dt
	}
	if t.Tensor.Shape == nil {
		return out, nil
	}
	out.Ranked = true
	for _, d := range t.Tensor.Shape.Dims {
		switch {
		case !d.HasValue:
			out.Dims = append(out.Dims, nn.Dim{Size: -1, Sym: d.Param})
		case d.Value < 0: // some exporters write -1 for unknown
			out.Dims = append(out.Dims, nn.Dim{Size: -1})
		case d.Value > maxElements:
			return out, fmt.Errorf("impossible dimension %d", d.Value)
		default:
			out.Dims = append(out.Dims, nn.Known(int(d.Value)))
		}
	}
	return out, nil
}

// protoType is the reverse of typeOf; nil when nothing is known.
func protoType(t nn.Type) *onnx.Type {
	if t.DType == tensor.Invalid && !t.Ranked {
		return nil
	}
	out := &onnx.TensorType{ElemType: DataTypeOf(t.DType)}
	if t.Ranked {
		out.Shape = &onnx.Shape{}
	}
	for _, d := range t.Dims {
		pd := &onnx.Dim{Param: d.Sym}
		if d.IsKnown() {
			pd = &onnx.Dim{HasValue: true, Value: int64(d.Size)}
		}
		out.Shape.Dims = append(out.Shape.Dims, pd)
	}
	return &onnx.Type{Tensor: out}
}

// sameType reports whether a and b declare the same.
func sameType(a, b nn.Type) bool {
	if a.DType != b.DType || a.Ranked != b.Ranked || len(a.Dims) != len(b.Dims) {
		return false
	}
	for i := range a.Dims {
		if a.Dims[i] != b.Dims[i] {
			return false
		}
	}
	return true
}
