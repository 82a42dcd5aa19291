package onnx

// AttributeType says which field of an Attribute holds its value.
type AttributeType int32

// The attribute types, with the numbers of the format.
const (
	AttributeUndefined     AttributeType = 0
	AttributeFloat         AttributeType = 1
	AttributeInt           AttributeType = 2
	AttributeString        AttributeType = 3
	AttributeTensor        AttributeType = 4
	AttributeGraph         AttributeType = 5
	AttributeFloats        AttributeType = 6
	AttributeInts          AttributeType = 7
	AttributeStrings       AttributeType = 8
	AttributeTensors       AttributeType = 9
	AttributeGraphs        AttributeType = 10
	AttributeSparseTensor  AttributeType = 11
	AttributeSparseTensors AttributeType = 12
	AttributeTypeProto     AttributeType = 13
	AttributeTypeProtos    AttributeType = 14
)

// Attribute is an AttributeProto.
type Attribute struct {
	extra
	Name          string
	F             float32
	I             int64
	S             []byte
	T             *Tensor
	G             *Graph
	Floats        []float32
	Ints          []int64
	Strings       [][]byte
	Tensors       []*Tensor
	Graphs        []*Graph
	DocString     string
	TP            *Type
	TypeProtos    []*Type
	Type          AttributeType
	RefAttrName   string // in a function's body: the attribute of the function to take the value from
	SparseTensor  *SparseTensor
	SparseTensors []*SparseTensor
}

func (m *Attribute) fields(c *codec) {
	c.str(1, "name", &m.Name)
	literal := m.RefAttrName == ""
	c.float(2, "f", &m.F, literal && m.Type == AttributeFloat)
	num(c, 3, "i", &m.I, literal && m.Type == AttributeInt)
	c.bytes(4, "s", &m.S, literal && m.Type == AttributeString)
	one(c, 5, "t", &m.T)
	one(c, 6, "g", &m.G)
	floats(c, 7, "floats", false, &m.Floats)
	ints(c, 8, "ints", false, &m.Ints)
	c.byteses(9, "strings", &m.Strings)
	many(c, 10, "tensors", &m.Tensors)
	many(c, 11, "graphs", &m.Graphs)
	c.str(13, "doc_string", &m.DocString)
	one(c, 14, "tp", &m.TP)
	many(c, 15, "type_protos", &m.TypeProtos)
	num(c, 20, "type", &m.Type, false)
	c.str(21, "ref_attr_name", &m.RefAttrName)
	one(c, 22, "sparse_tensor", &m.SparseTensor)
	many(c, 23, "sparse_tensors", &m.SparseTensors)
}

// IntAttr returns an integer attribute.
func IntAttr(name string, v int64) *Attribute {
	return &Attribute{Name: name, Type: AttributeInt, I: v}
}

// FloatAttr returns a float attribute.
func FloatAttr(name string, v float32) *Attribute {
	return &Attribute{Name: name, Type: AttributeFloat, F: v}
}

// StringAttr returns a string attribute.
func StringAttr(name, v string) *Attribute {
	return &Attribute{Name: name, Type: AttributeString, S: []byte(v)}
}

// IntsAttr returns an attribute that is a list of integers.
func IntsAttr(name string, v ...int64) *Attribute {
	return &Attribute{Name: name, Type: AttributeInts, Ints: v}
}

// FloatsAttr returns an attribute that is a list of floats.
func FloatsAttr(name string, v ...float32) *Attribute {
	return &Attribute{Name: name, Type: AttributeFloats, Floats: v}
}

// TensorAttr returns a tensor attribute.
func TensorAttr(name string, t *Tensor) *Attribute {
	return &Attribute{Name: name, Type: AttributeTensor, T: t}
}
