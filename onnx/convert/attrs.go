package convert

import (
	"errors"
	"fmt"

	"roundel/nn"
	"roundel/onnx"
	"roundel/tensor"
)

// kindOf returns the type of a, which files of the first IR version leave out.
func kindOf(a *onnx.Attribute) onnx.AttributeType {
	switch {
	case a.Type != onnx.AttributeUndefined:
		return a.Type
	case a.S != nil:
		return onnx.AttributeString
	case a.T != nil:
		return onnx.AttributeTensor
	case a.G != nil:
		return onnx.AttributeGraph
	case len(a.Floats) > 0:
		return onnx.AttributeFloats
	case len(a.Ints) > 0:
		return onnx.AttributeInts
	case len(a.Strings) > 0:
		return onnx.AttributeStrings
	case a.F != 0:
		return onnx.AttributeFloat
	}
	return onnx.AttributeInt
}

// attr converts an attribute; v is the opset of the nodes in a graph.
func (s *scope) attr(a *onnx.Attribute, v int64) (nn.Attr, error) {
	if a.RefAttrName != "" {
		return nn.Attr{}, errors.New("it refers to an attribute of a function outside of one")
	}
	switch kindOf(a) {
	case onnx.AttributeInt:
		return nn.Attr{Kind: nn.AttrInt, I: a.I}, nil
	case onnx.AttributeFloat:
		return nn.Attr{Kind: nn.AttrFloat, F: a.F}, nil
	case onnx.AttributeString:
		return nn.Attr{Kind: nn.AttrString, S: string(a.S)}, nil
	case onnx.AttributeInts:
		return nn.Attr{Kind: nn.AttrInts, Ints: a.Ints}, nil
	case onnx.AttributeFloats:
		return nn.Attr{Kind: nn.AttrFloats, Floats: a.Floats}, nil
	case onnx.AttributeStrings:
		out := nn.Attr{Kind: nn.AttrStrings}
		for _, b := range a.Strings {
			out.Strings = append(out.Strings, string(b))
		}
		return out, nil
	case onnx.AttributeTensor:
		if a.T == nil {
			return nn.Attr{}, errors.New("it has no tensor")
		}
		t, err := s.tensor(a.T)
		return nn.Attr{Kind: nn.AttrTensor, T: t}, err
	case onnx.AttributeSparseTensor:
		if a.SparseTensor == nil {
			return nn.Attr{}, errors.New("it has no tensor")
		}
		t, err := s.sparse(a.SparseTensor)
		return nn.Attr{Kind: nn.AttrTensor, T: t}, err
	case onnx.AttributeGraph:
		if a.G == nil {
			return nn.Attr{}, errors.New("it has no graph")
		}
		return nn.Attr{Kind: nn.AttrGraph, G: s.graph(a.G, s, v)}, nil
	}
	return nn.Attr{}, onnx.Unsupportedf("attributes of type %d", int32(a.Type))
}

// constants takes the Constant nodes out of the list and puts what is used of them into Consts.
func (s *scope) constants(nodes []protoNode) []protoNode {
	var rest []protoNode
	for _, p := range nodes {
		if !isConstant(p.Node) {
			rest = append(rest, p)
			continue
		}
		if len(p.Outputs) != 1 || !s.def(p.Outputs[0], "output") {
			s.fail(&nn.NodeError{Node: p.Name, Op: p.OpType, Err: fmt.Errorf("it has %d outputs, not one", len(p.Outputs))})
			continue
		}
		if s.used[p.Outputs[0]] {
			v, err := constantValue(p.Node, s.importer)
			s.setConst(p.Outputs[0], v, err)
		}
	}
	return rest
}

func isConstant(n *onnx.Node) bool {
	return n.OpType == "Constant" && (n.Domain == "" || n.Domain == "ai.onnx")
}

// constantValue returns the tensor of a Constant node in any of its forms.
func constantValue(n *onnx.Node, im *importer) (tensor.Any, error) {
	for _, a := range n.Attributes {
		switch a.Name {
		case "value":
			if a.T != nil {
				return im.tensor(a.T)
			}
		case "sparse_value":
			if a.SparseTensor != nil {
				return im.sparse(a.SparseTensor)
			}
		case "value_float":
			return tensor.Scalar(a.F), nil
		case "value_floats":
			return tensor.From(a.Floats, len(a.Floats)), nil
		case "value_int":
			return tensor.Scalar(a.I), nil
		case "value_ints":
			return tensor.From(a.Ints, len(a.Ints)), nil
		case "value_string", "value_strings":
			return nil, onnx.Unsupportedf("constants that are strings")
		}
	}
	return nil, fmt.Errorf("Constant node %q has no value", n.Name)
}

// tensor decodes t once: calls of a function share the constants of its body.
func (im *importer) tensor(t *onnx.Tensor) (tensor.Any, error) {
	if v := im.decoded[t]; v != nil {
		return v, nil
	}
	v, err := toTensor(t)
	if err == nil {
		im.decoded[t] = v
	}
	return v, err
}

// maxDense bounds the elements that one model's sparse tensors and the like may unfold to.
const maxDense = 1 << 24

// unfold accounts for n elements that the file does not have one by one.
func (im *importer) unfold(n int64) error {
	if n > int64(maxDense-im.dense) {
		return onnx.Unsupportedf("sparse or repeated tensors of more than %d elements", maxDense)
	}
	im.dense += int(n)
	return nil
}

// sparse returns a sparse tensor with its zeros.
func (im *importer) sparse(t *onnx.SparseTensor) (tensor.Any, error) {
	if t.Values == nil || t.Indices == nil {
		return nil, errors.New("a sparse tensor needs values and indices")
	}
	shape, err := shapeOf(t.Dims)
	if err != nil {
		return nil, err
	}
	if err := im.unfold(int64(shape.Len())); err != nil {
		return nil, err
	}
	values, err := toTensor(t.Values)
	if err != nil {
		return nil, err
	}
	raw, err := toTensor(t.Indices)
	if err != nil {
		return nil, err
	}
	indices, err := tensor.As[int64](raw)
	if err != nil {
		return nil, fmt.Errorf("indices: %w", err)
	}
	at, err := positions(indices, values.Len(), shape)
	if err != nil {
		return nil, err
	}
	return tensor.Put(tensor.Zeros(values.DType(), shape...), at, 1, values), nil
}

// positions returns the row-major positions that indices of either form mean.
func positions(indices *tensor.Dense[int64], n int, shape tensor.Shape) ([]int, error) {
	is, d, out := indices.Shape(), indices.Data(), make([]int, n)
	linear := is.Equal(tensor.Shape{n})
	if !linear && !is.Equal(tensor.Shape{n, len(shape)}) {
		return nil, fmt.Errorf("sparse indices of shape %v for %d values in %v", is, n, shape)
	}
	for i := range out {
		if linear {
			if d[i] < 0 || d[i] >= int64(shape.Len()) {
				return nil, fmt.Errorf("sparse index %d is outside %v", d[i], shape)
			}
			out[i] = int(d[i])
			continue
		}
		for k, size := range shape {
			x := d[i*len(shape)+k]
			if x < 0 || x >= int64(size) {
				return nil, fmt.Errorf("sparse index %d is outside dimension %d of %v", x, k, shape)
			}
			out[i] = out[i]*size + int(x)
		}
	}
	return out, nil
}
