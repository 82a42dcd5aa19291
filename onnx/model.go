// Package onnx reads and writes ONNX files: the protobuf messages, external
// tensor data, and nothing of what the operators mean (that is onnx/convert).
//
// The messages are plain structs to be edited freely. Reading is lossless: a
// message keeps the fields this package does not know, whether a zero field was
// present, and whether numbers were packed, so that writing an unedited model
// whose fields were in the order of their numbers, as protobuf libraries write
// them, gives back the same bytes. Unknown fields go to the end of their message.
//
// Byte slices of a decoded model are parts of the input, which must not be
// changed while the model is in use: replace a slice, do not write into it.
package onnx

// Model is a ModelProto, the content of a file.
type Model struct {
	extra
	IRVersion       int64
	ProducerName    string
	ProducerVersion string
	Domain          string
	ModelVersion    int64
	DocString       string
	Graph           *Graph
	OpsetImport     []*OpsetID
	Metadata        []*StringEntry
	TrainingInfo    [][]byte // TrainingInfoProto, kept raw
	Functions       []*Function
	Configuration   [][]byte // DeviceConfigurationProto, kept raw
}

func (m *Model) fields(c *codec) {
	num(c, 1, "ir_version", &m.IRVersion, false)
	c.str(2, "producer_name", &m.ProducerName)
	c.str(3, "producer_version", &m.ProducerVersion)
	c.str(4, "domain", &m.Domain)
	num(c, 5, "model_version", &m.ModelVersion, false)
	c.str(6, "doc_string", &m.DocString)
	one(c, 7, "graph", &m.Graph)
	many(c, 8, "opset_import", &m.OpsetImport)
	many(c, 14, "metadata_props", &m.Metadata)
	c.byteses(20, "training_info", &m.TrainingInfo)
	many(c, 25, "functions", &m.Functions)
	c.byteses(26, "configuration", &m.Configuration)
}

// Decode reads a model from the bytes of a file, without its external data. The
// model refers to b. An error is a *SyntaxError. Memory is bounded by a constant
// times len(b).
func Decode(b []byte) (*Model, error) {
	m := new(Model)
	if err := decode(b, m); err != nil {
		return nil, err
	}
	return m, nil
}

// Encode returns the protobuf of m.
func (m *Model) Encode() []byte { return encode(m, nil) }

// Size returns the length of Encode's result without making it.
func (m *Model) Size() int { return size(m, nil) }

// Opset returns the version of a domain's operators; "" and "ai.onnx" are the same. It returns 0 if the model does not import it.
func (m *Model) Opset(domain string) int64 { return opset(m.OpsetImport, domain) }

func opset(ids []*OpsetID, domain string) int64 {
	for _, o := range ids {
		if canonicalDomain(o.Domain) == canonicalDomain(domain) {
			return o.Version
		}
	}
	return 0
}

func canonicalDomain(d string) string {
	if d == "ai.onnx" {
		return ""
	}
	return d
}

// SetOpset imports version v of a domain's operators in place of the present one.
func (m *Model) SetOpset(domain string, v int64) {
	for _, o := range m.OpsetImport {
		if canonicalDomain(o.Domain) == canonicalDomain(domain) {
			o.Version = v
			return
		}
	}
	m.OpsetImport = append(m.OpsetImport, &OpsetID{Domain: domain, Version: v})
}

// OpsetID is an OperatorSetIdProto: a domain ("" is ONNX's own) and a version of its operators.
type OpsetID struct {
	extra
	Domain  string
	Version int64
}

func (m *OpsetID) fields(c *codec) {
	c.str(1, "domain", &m.Domain)
	num(c, 2, "version", &m.Version, false)
}

// StringEntry is a StringStringEntryProto.
type StringEntry struct {
	extra
	Key, Value string
}

func (m *StringEntry) fields(c *codec) {
	c.str(1, "key", &m.Key)
	c.str(2, "value", &m.Value)
}

// Lookup returns the value of the first entry with the given key.
func Lookup(entries []*StringEntry, key string) (value string, ok bool) {
	for _, e := range entries {
		if e.Key == key {
			return e.Value, true
		}
	}
	return "", false
}

// Function is a FunctionProto: an operator defined by a graph of others.
type Function struct {
	extra
	Name           string
	Inputs         []string
	Outputs        []string
	Attributes     []string // names of attributes without a default
	Nodes          []*Node
	DocString      string
	OpsetImport    []*OpsetID
	Domain         string
	AttributeProto []*Attribute // attributes with a default
	ValueInfo      []*ValueInfo
	Overload       string
	Metadata       []*StringEntry
}

func (m *Function) fields(c *codec) {
	c.str(1, "name", &m.Name)
	c.strs(4, "input", &m.Inputs)
	c.strs(5, "output", &m.Outputs)
	c.strs(6, "attribute", &m.Attributes)
	many(c, 7, "node", &m.Nodes)
	c.str(8, "doc_string", &m.DocString)
	many(c, 9, "opset_import", &m.OpsetImport)
	c.str(10, "domain", &m.Domain)
	many(c, 11, "attribute_proto", &m.AttributeProto)
	many(c, 12, "value_info", &m.ValueInfo)
	c.str(13, "overload", &m.Overload)
	many(c, 14, "metadata_props", &m.Metadata)
}

// Opset returns the version of a domain's operators that the function's body uses, or 0.
func (m *Function) Opset(domain string) int64 { return opset(m.OpsetImport, domain) }
