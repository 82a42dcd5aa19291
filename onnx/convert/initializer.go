package convert

import (
	"roundel/onnx"
	"roundel/tensor"
)

// SetInitializer makes v the constant of the given name in the outermost graph of m:
// it takes the place of the initializer or of the value of the Constant node of that
// name, or becomes a new initializer. Messages are replaced, not written into, so
// models that share tensors are safe.
func SetInitializer(m *onnx.Model, name string, v tensor.Any) {
	SetTensor(m, FromTensor(name, v))
}

// SetTensor is SetInitializer for a tensor that is already in the form of the file, as PackTensor gives it.
func SetTensor(m *onnx.Model, t *onnx.Tensor) {
	g := m.Graph
	for i, old := range g.Initializers {
		if old.Name == t.Name {
			t.DocString, t.Metadata = old.DocString, old.Metadata
			g.Initializers[i] = t
			retype(g, t)
			return
		}
	}
	for i, n := range g.Nodes {
		if isConstant(n) && len(n.Outputs) == 1 && n.Outputs[0] == t.Name {
			c := *n
			c.Attributes = []*onnx.Attribute{onnx.TensorAttr("value", t)}
			g.Nodes[i] = &c
			return
		}
	}
	g.Initializers = append(g.Initializers, t)
	if m.IRVersion < 4 {
		g.Inputs = append(g.Inputs, &onnx.ValueInfo{Name: t.Name, Type: onnx.NewTensorType(t.DataType, t.Dims...)})
	}
}

// retype makes the declarations of t's name say t's type.
func retype(g *onnx.Graph, t *onnx.Tensor) {
	for _, list := range [][]*onnx.ValueInfo{g.Inputs, g.ValueInfo} {
		for i, vi := range list {
			if vi.Name == t.Name {
				c := *vi
				c.Type = onnx.NewTensorType(t.DataType, t.Dims...)
				list[i] = &c
			}
		}
	}
}

// FindConstant returns the value of an initializer or Constant node of the outermost
// graph of m, in any form, or nil when name is neither.
func FindConstant(m *onnx.Model, name string) (tensor.Any, error) {
	if t := m.Graph.FindInitializer(name); t != nil {
		return ToTensor(t)
	}
	for _, s := range m.Graph.SparseInitializers {
		if s.Values != nil && s.Values.Name == name {
			return newImporter(m).sparse(s)
		}
	}
	for _, n := range m.Graph.Nodes {
		if isConstant(n) && len(n.Outputs) == 1 && n.Outputs[0] == name {
			return constantValue(n, newImporter(m))
		}
	}
	return nil, nil
}
