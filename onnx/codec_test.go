package onnx

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roundel/onnx/internal/wire"
)

// committed is where the small test models are, which a Python script writes.
var committed = filepath.Join("convert", "testdata")

// shared returns the directory of shared models and goldens, or skips the test. A link to it is followed,
// because walking a directory does not.
func shared(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("ROUNDEL_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared")
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Skipf("no shared models: %v (set ROUNDEL_SHARED)", err)
	}
	return real
}

// onnxFiles returns all ONNX files below dir.
func onnxFiles(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, ".onnx") {
			out = append(out, p)
		}
		return err
	})
	if err != nil || len(out) == 0 {
		t.Fatalf("%d .onnx files in %s: %v", len(out), dir, err)
	}
	return out
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTripIsByteIdentical(t *testing.T) {
	t.Run("committed", func(t *testing.T) { roundTrip(t, onnxFiles(t, committed)) })
	t.Run("shared", func(t *testing.T) { roundTrip(t, onnxFiles(t, shared(t))) })
}

func roundTrip(t *testing.T, files []string) {
	for _, f := range files {
		b := readFile(t, f)
		m, err := Decode(b)
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		if got := m.Encode(); !bytes.Equal(got, b) {
			i := 0
			for i < min(len(got), len(b)) && got[i] == b[i] {
				i++
			}
			t.Errorf("%s: %d bytes became %d; they differ from byte %d", f, len(b), len(got), i)
		}
		if m.Size() != len(b) {
			t.Errorf("%s: Size %d, want %d", f, m.Size(), len(b))
		}
	}
}

// unknowns adds to the message b fields of every wire type that no ONNX message has.
func unknowns(b []byte) []byte {
	b = wire.AppendVarint(wire.AppendTag(b, 1000, wire.Varint), 1<<40)
	b = wire.AppendFixed32(wire.AppendTag(b, 1001, wire.Fixed32), 7)
	b = wire.AppendFixed64(wire.AppendTag(b, 1002, wire.Fixed64), 8)
	b = field(b, 1000, []byte("again"))
	b = wire.AppendTag(wire.AppendVarint(wire.AppendTag(wire.AppendTag(b, 1003, wire.StartGroup), 1, wire.Varint), 5), 1003, wire.EndGroup)
	return b
}

// field appends a length-delimited field.
func field(b []byte, f int, body []byte) []byte {
	return append(wire.AppendVarint(wire.AppendTag(b, f, wire.Bytes), uint64(len(body))), body...)
}

// strange returns a model with unknown fields in every message, and with zero fields that are present.
func strange(op string) []byte {
	attr := unknowns(field(nil, 1, []byte("alpha")))
	node := unknowns(field(field(nil, 4, []byte(op)), 5, attr))
	dim := unknowns(wire.AppendVarint(wire.AppendTag(nil, 1, wire.Varint), 0))
	typ := unknowns(field(nil, 1, unknowns(field(nil, 2, unknowns(field(nil, 1, dim))))))
	info := unknowns(field(field(nil, 1, []byte("x")), 2, typ))
	tensor := unknowns(field(nil, 9, nil)) // raw_data that is there and empty
	graph := unknowns(field(field(field(nil, 1, node), 5, tensor), 11, info))
	opset := unknowns(field(nil, 1, nil)) // domain "" written out
	return unknowns(field(field(nil, 7, graph), 8, opset))
}

func TestUnknownFieldsSurvive(t *testing.T) {
	model := strange("Relu")
	m, err := Decode(model)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Encode(); !bytes.Equal(got, model) {
		t.Errorf("got  %x\nwant %x", got, model)
	}
	if !bytes.Equal(m.Graph.Nodes[0].Unknown(), unknowns(nil)) {
		t.Errorf("unknown fields of the node: %x", m.Graph.Nodes[0].Unknown())
	}
	if m.Graph.Initializers[0].RawData == nil {
		t.Error("empty raw_data became absent")
	}
	m.Graph.Nodes[0].OpType = "Abs"
	if got := m.Encode(); !bytes.Equal(got, strange("Abs")) {
		t.Errorf("after an edit: %x", got)
	}
}

func TestBothFormsOfLists(t *testing.T) {
	one := func(v uint64) []byte { return wire.AppendVarint(wire.AppendTag(nil, 1, wire.Varint), v) }
	apart := append(append(one(2), one(300)...), one(1<<64-1)...)
	packed := field(nil, 1, wire.AppendVarint(wire.AppendVarint([]byte{2}, 300), 1<<64-1))
	for name, b := range map[string][]byte{"apart": apart, "packed": packed} {
		var m Tensor
		if err := decode(b, &m); err != nil {
			t.Fatal(err)
		}
		if len(m.Dims) != 3 || m.Dims[0] != 2 || m.Dims[1] != 300 || m.Dims[2] != -1 {
			t.Errorf("%s: %v", name, m.Dims)
		}
		if got := encode(&m, nil); !bytes.Equal(got, b) {
			t.Errorf("%s: %x became %x", name, b, got)
		}
	}
	floats := wire.AppendFixed32(wire.AppendTag(nil, 4, wire.Fixed32), 0x3f800000) // not packed, as the schema wants them
	var m Tensor
	if err := decode(floats, &m); err != nil || len(m.FloatData) != 1 || m.FloatData[0] != 1 {
		t.Errorf("%v, %v", m.FloatData, err)
	}
	if got := encode(&m, nil); !bytes.Equal(got, floats) {
		t.Errorf("%x became %x", floats, got)
	}
}

func TestMessagesThatAreSplitAreMerged(t *testing.T) {
	a := field(nil, 7, field(nil, 2, []byte("first")))
	b := field(nil, 7, field(field(nil, 2, []byte("name")), 10, []byte("doc")))
	m, err := Decode(append(a, b...))
	if err != nil || m.Graph.Name != "name" || m.Graph.DocString != "doc" {
		t.Errorf("%+v, %v", m.Graph, err)
	}
}

func TestSyntaxErrors(t *testing.T) {
	long := field(nil, 7, field(nil, 1, field(nil, 5, []byte{0x0a, 0x7f})))
	deep := []byte{}
	for range 60 { // graph in attribute in node in graph ...
		deep = field(nil, 1, field(nil, 5, field(nil, 6, deep)))
	}
	tests := []struct {
		name   string
		b      []byte
		offset int64
		path   string
	}{
		{"field 0", []byte{0x00}, 0, ""},
		{"wrong type", []byte{0x0a, 0}, 1, "ir_version"},
		{"cut varint", []byte{0x08, 0x80}, 2, "ir_version"},
		{"length past the end", long, 8, "graph.node[0].attribute[0].name"},
		{"length past its message", field(nil, 7, []byte{0x0a, 0x05}), 4, "graph.node"},
		{"cut float", field(nil, 7, field(nil, 5, []byte{0x25, 1, 2, 3})), 8, "graph.initializer[0]"},
		{"packed floats", field(nil, 7, field(nil, 5, []byte{0x22, 3, 1, 2, 3})), 9, "graph.initializer[0].float_data"},
		{"packed varints", field(nil, 7, field(nil, 5, []byte{0x2a, 2, 1, 0x80})), 8, "graph.initializer[0].int32_data"},
		{"unknown field", []byte{0xfa, 0x3e, 9}, 3, "field 1007"},
		{"too deep", field(nil, 7, deep), -1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode(tt.b)
			var s *SyntaxError
			if !errors.As(err, &s) {
				t.Fatalf("got %v", err)
			}
			if tt.offset >= 0 && s.Offset != tt.offset || !strings.HasPrefix(s.Path, tt.path) {
				t.Errorf("%v; want byte %d in %q", err, tt.offset, tt.path)
			}
		})
	}
}

// TestCutAtEveryByte decodes every beginning of some models: an error, or a smaller model when the cut is between two fields.
func TestCutAtEveryByte(t *testing.T) {
	for _, name := range []string{"if11", "typed", "function17", "constants13"} {
		b := readFile(t, filepath.Join(committed, name+".onnx"))
		good := 0
		for i := range b {
			m, err := Decode(b[:i:i])
			if err != nil {
				var s *SyntaxError
				if !errors.As(err, &s) || s.Offset < 0 || s.Offset > int64(i) {
					t.Fatalf("%s cut at %d: %v", name, i, err)
				}
				continue
			}
			good++
			if got := m.Encode(); !bytes.Equal(got, b[:i]) {
				t.Errorf("%s cut at %d: not the same bytes again", name, i)
			}
		}
		if good > 12 {
			t.Errorf("%s: %d of %d beginnings are whole models", name, good, len(b))
		}
	}
}

func TestEditing(t *testing.T) {
	m := &Model{IRVersion: 8, Graph: &Graph{Name: "g", Nodes: []*Node{{OpType: "Clip", Inputs: []string{"x", "", "hi"}, Outputs: []string{"y"},
		Attributes: []*Attribute{IntAttr("zero", 0), FloatAttr("f", 0), StringAttr("s", ""), IntsAttr("l", 1, 2), FloatsAttr("fs", 1), TensorAttr("t", &Tensor{Name: "t"})}}}}}
	m.SetOpset("", 13)
	m.SetOpset("ai.onnx", 17)
	m.SetOpset("com.microsoft", 1)
	back, err := Decode(m.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if back.Opset("ai.onnx") != 17 || back.Opset("com.microsoft") != 1 || back.Opset("other") != 0 || len(back.OpsetImport) != 2 {
		t.Errorf("opsets %+v", back.OpsetImport)
	}
	a := back.Graph.Nodes[0].Attribute
	if a("zero").has&(1<<3) == 0 || a("f").has&(1<<2) == 0 || a("s").S == nil {
		t.Error("a zero attribute was not written; checkers want it")
	}
	if got := back.Graph.Nodes[0].Inputs; len(got) != 3 || got[1] != "" {
		t.Errorf("inputs %q", got)
	}
	if a("none") != nil || back.Graph.FindInitializer("x") != nil {
		t.Error("found what is not there")
	}
}

func TestFindConstant(t *testing.T) {
	m, err := Decode(readFile(t, filepath.Join(committed, "constants13.onnx")))
	if err != nil {
		t.Fatal(err)
	}
	if v, n := m.Graph.FindConstant("a"); v == nil || n == nil || n.OpType != "Constant" {
		t.Errorf("a: %v %v", v, n)
	}
	if v, n := m.Graph.FindConstant("t1"); v != nil || n != nil {
		t.Errorf("t1: %v %v", v, n)
	}
}
