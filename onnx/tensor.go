package onnx

import "fmt"

// DataType is the element type of a tensor, with the numbers of the format.
type DataType int32

// The element types. Those from Uint4 on are packed: several elements share a byte.
const (
	Undefined     DataType = 0
	Float         DataType = 1
	Uint8         DataType = 2
	Int8          DataType = 3
	Uint16        DataType = 4
	Int16         DataType = 5
	Int32         DataType = 6
	Int64         DataType = 7
	String        DataType = 8
	Bool          DataType = 9
	Float16       DataType = 10
	Double        DataType = 11
	Uint32        DataType = 12
	Uint64        DataType = 13
	Complex64     DataType = 14
	Complex128    DataType = 15
	BFloat16      DataType = 16
	Float8E4M3FN  DataType = 17
	Float8E4M3UZ  DataType = 18
	Float8E5M2    DataType = 19
	Float8E5M2UZ  DataType = 20
	Uint4         DataType = 21
	Int4          DataType = 22
	Float4E2M1    DataType = 23
	Float8E8M0    DataType = 24
	Uint2         DataType = 25
	Int2          DataType = 26
	lastKnownType          = Int2
)

var dataTypes = [...]struct {
	name string
	bits int
}{{"undefined", 0}, {"float32", 32}, {"uint8", 8}, {"int8", 8}, {"uint16", 16}, {"int16", 16}, {"int32", 32},
	{"int64", 64}, {"string", 0}, {"bool", 8}, {"float16", 16}, {"float64", 64}, {"uint32", 32}, {"uint64", 64},
	{"complex64", 64}, {"complex128", 128}, {"bfloat16", 16}, {"float8e4m3fn", 8}, {"float8e4m3fnuz", 8},
	{"float8e5m2", 8}, {"float8e5m2fnuz", 8}, {"uint4", 4}, {"int4", 4}, {"float4e2m1", 4}, {"float8e8m0", 8},
	{"uint2", 2}, {"int2", 2}}

// String returns a lower-case name such as "float32" or "int4".
func (t DataType) String() string {
	if t >= 0 && t <= lastKnownType {
		return dataTypes[t].name
	}
	return fmt.Sprintf("data type %d", int32(t))
}

// Bits returns the size of one element in raw data, or 0 when it has none.
func (t DataType) Bits() int {
	if t >= 0 && t <= lastKnownType {
		return dataTypes[t].bits
	}
	return 0
}

// DataLocation says where the elements of a tensor are.
type DataLocation int32

// The data locations.
const (
	LocationDefault  DataLocation = 0 // in the message
	LocationExternal DataLocation = 1 // in a file that ExternalData names
)

// Tensor is a TensorProto. Its elements are in RawData (little-endian, row-major)
// or in one of the typed fields, as the writer chose; both are kept as they were.
type Tensor struct {
	extra
	Dims         []int64
	DataType     DataType
	Segment      []byte // TensorProto.Segment, kept raw
	FloatData    []float32
	Int32Data    []int32
	StringData   [][]byte
	Int64Data    []int64
	Name         string
	RawData      []byte // nil: not used
	DoubleData   []float64
	Uint64Data   []uint64
	DocString    string
	ExternalData []*StringEntry // location, offset, length, checksum
	DataLocation DataLocation
	Metadata     []*StringEntry

	wasExternal bool // Read took the data from another file
}

func (m *Tensor) fields(c *codec) {
	ints(c, 1, "dims", false, &m.Dims)
	num(c, 2, "data_type", &m.DataType, false)
	c.bytes(3, "segment", &m.Segment, false)
	floats(c, 4, "float_data", true, &m.FloatData)
	ints(c, 5, "int32_data", true, &m.Int32Data)
	c.byteses(6, "string_data", &m.StringData)
	ints(c, 7, "int64_data", true, &m.Int64Data)
	c.str(8, "name", &m.Name)
	c.bytes(9, "raw_data", &m.RawData, false)
	doubles(c, 10, "double_data", true, &m.DoubleData)
	ints(c, 11, "uint64_data", true, &m.Uint64Data)
	c.str(12, "doc_string", &m.DocString)
	many(c, 13, "external_data", &m.ExternalData)
	num(c, 14, "data_location", &m.DataLocation, false)
	many(c, 16, "metadata_props", &m.Metadata)
}

// IsExternal reports whether the elements are in another file.
func (m *Tensor) IsExternal() bool { return m.DataLocation == LocationExternal }

// SparseTensor is a SparseTensorProto: the values that are not zero, and where they are.
type SparseTensor struct {
	extra
	Values  *Tensor // [NNZ], with the name of the whole
	Indices *Tensor // int64: [NNZ] positions in row-major order, or [NNZ, rank] coordinates
	Dims    []int64
}

func (m *SparseTensor) fields(c *codec) {
	one(c, 1, "values", &m.Values)
	one(c, 2, "indices", &m.Indices)
	ints(c, 3, "dims", false, &m.Dims)
}
