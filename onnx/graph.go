package onnx

// Graph is a GraphProto.
type Graph struct {
	extra
	Nodes              []*Node
	Name               string
	Initializers       []*Tensor
	DocString          string
	Inputs             []*ValueInfo // may repeat names of initializers
	Outputs            []*ValueInfo
	ValueInfo          []*ValueInfo // types of inner values, optional
	Annotations        []*Annotation
	SparseInitializers []*SparseTensor
	Metadata           []*StringEntry
}

func (m *Graph) fields(c *codec) {
	many(c, 1, "node", &m.Nodes)
	c.str(2, "name", &m.Name)
	many(c, 5, "initializer", &m.Initializers)
	c.str(10, "doc_string", &m.DocString)
	many(c, 11, "input", &m.Inputs)
	many(c, 12, "output", &m.Outputs)
	many(c, 13, "value_info", &m.ValueInfo)
	many(c, 14, "quantization_annotation", &m.Annotations)
	many(c, 15, "sparse_initializer", &m.SparseInitializers)
	many(c, 16, "metadata_props", &m.Metadata)
}

// FindInitializer returns the initializer of the given name, or nil.
func (m *Graph) FindInitializer(name string) *Tensor {
	for _, t := range m.Initializers {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// FindConstant returns the tensor behind a constant value: an initializer (node is
// then nil), or the value of a Constant node with attribute "value". It returns
// nil, nil for anything else.
func (m *Graph) FindConstant(name string) (t *Tensor, node *Node) {
	if t := m.FindInitializer(name); t != nil {
		return t, nil
	}
	for _, n := range m.Nodes {
		if n.OpType != "Constant" || len(n.Outputs) != 1 || n.Outputs[0] != name {
			continue
		}
		if a := n.Attribute("value"); a != nil && a.T != nil {
			return a.T, n
		}
	}
	return nil, nil
}

// Node is a NodeProto.
type Node struct {
	extra
	Inputs     []string // "" is an absent optional input
	Outputs    []string
	Name       string
	OpType     string
	Attributes []*Attribute
	DocString  string
	Domain     string
	Overload   string
	Metadata   []*StringEntry
	Devices    [][]byte // NodeDeviceConfigurationProto, kept raw
}

func (m *Node) fields(c *codec) {
	c.strs(1, "input", &m.Inputs)
	c.strs(2, "output", &m.Outputs)
	c.str(3, "name", &m.Name)
	c.str(4, "op_type", &m.OpType)
	many(c, 5, "attribute", &m.Attributes)
	c.str(6, "doc_string", &m.DocString)
	c.str(7, "domain", &m.Domain)
	c.str(8, "overload", &m.Overload)
	many(c, 9, "metadata_props", &m.Metadata)
	c.byteses(10, "device_configurations", &m.Devices)
}

// Attribute returns the attribute of the given name, or nil.
func (m *Node) Attribute(name string) *Attribute {
	for _, a := range m.Attributes {
		if a.Name == name {
			return a
		}
	}
	return nil
}

// ValueInfo is a ValueInfoProto: the name and type of a value.
type ValueInfo struct {
	extra
	Name      string
	Type      *Type
	DocString string
	Metadata  []*StringEntry
}

func (m *ValueInfo) fields(c *codec) {
	c.str(1, "name", &m.Name)
	one(c, 2, "type", &m.Type)
	c.str(3, "doc_string", &m.DocString)
	many(c, 4, "metadata_props", &m.Metadata)
}

// Annotation is a TensorAnnotation, which ties quantization parameters to a value.
type Annotation struct {
	extra
	TensorName string
	Params     []*StringEntry
}

func (m *Annotation) fields(c *codec) {
	c.str(1, "tensor_name", &m.TensorName)
	many(c, 2, "quant_parameter_tensor_names", &m.Params)
}
