package onnx

// Type is a TypeProto. At most one of the pointers is set.
type Type struct {
	extra
	Tensor       *TensorType
	Sequence     *SequenceType
	Map          *MapType
	Denotation   string
	Opaque       *OpaqueType
	SparseTensor *TensorType
	Optional     *SequenceType
}

func (m *Type) fields(c *codec) {
	one(c, 1, "tensor_type", &m.Tensor)
	one(c, 4, "sequence_type", &m.Sequence)
	one(c, 5, "map_type", &m.Map)
	c.str(6, "denotation", &m.Denotation)
	one(c, 7, "opaque_type", &m.Opaque)
	one(c, 8, "sparse_tensor_type", &m.SparseTensor)
	one(c, 9, "optional_type", &m.Optional)
}

// TensorType is a TypeProto.Tensor or TypeProto.SparseTensor.
type TensorType struct {
	extra
	ElemType DataType
	Shape    *Shape // nil: the rank is unknown
}

func (m *TensorType) fields(c *codec) {
	num(c, 1, "elem_type", &m.ElemType, false)
	one(c, 2, "shape", &m.Shape)
}

// SequenceType is a TypeProto.Sequence or TypeProto.Optional.
type SequenceType struct {
	extra
	ElemType *Type
}

func (m *SequenceType) fields(c *codec) { one(c, 1, "elem_type", &m.ElemType) }

// MapType is a TypeProto.Map.
type MapType struct {
	extra
	KeyType   DataType
	ValueType *Type
}

func (m *MapType) fields(c *codec) {
	num(c, 1, "key_type", &m.KeyType, false)
	one(c, 2, "value_type", &m.ValueType)
}

// OpaqueType is a TypeProto.Opaque.
type OpaqueType struct {
	extra
	Domain, Name string
}

func (m *OpaqueType) fields(c *codec) {
	c.str(1, "domain", &m.Domain)
	c.str(2, "name", &m.Name)
}

// Shape is a TensorShapeProto.
type Shape struct {
	extra
	Dims []*Dim
}

func (m *Shape) fields(c *codec) { many(c, 1, "dim", &m.Dims) }

// Dim is a TensorShapeProto.Dimension: an extent, a symbol, or unknown when it has neither.
type Dim struct {
	extra
	HasValue   bool
	Value      int64  // with HasValue
	Param      string // symbol
	Denotation string
}

func (m *Dim) fields(c *codec) {
	if c.mode == decoding && (c.field == 1 || c.field == 2) { // a oneof: the last one holds
		m.HasValue = c.field == 1
	}
	if c.mode == decoding || m.HasValue {
		num(c, 1, "dim_value", &m.Value, true)
	}
	if c.mode == decoding || !m.HasValue {
		c.str(2, "dim_param", &m.Param)
	}
	c.str(3, "denotation", &m.Denotation)
}

// NewTensorType returns the type of a tensor with known extents; -1 is an unknown one.
func NewTensorType(elem DataType, dims ...int64) *Type {
	s := &Shape{}
	for _, d := range dims {
		s.Dims = append(s.Dims, &Dim{HasValue: d >= 0, Value: max(d, 0)})
	}
	return &Type{Tensor: &TensorType{ElemType: elem, Shape: s}}
}
