package main

import (
	"path/filepath"
	"strings"
	"testing"

	"roundel/onnx"
)

// TestInspectNamesAllThatLacks: every unsupported operator at once, also inside subgraphs, with the operator set, how
// many nodes use it, the first of them, and what would be needed.
func TestInspectNamesAllThatLacks(t *testing.T) {
	branch := func(op, out string) *onnx.Graph {
		return &onnx.Graph{Name: op, Nodes: []*onnx.Node{node(op, "x", out)}, Outputs: []*onnx.ValueInfo{{Name: out}}}
	}
	cond := node("If", "c", "d")
	cond.Attributes = []*onnx.Attribute{{Name: "then_branch", Type: onnx.AttributeGraph, G: branch("InnerOp", "p")}, {Name: "else_branch", Type: onnx.AttributeGraph, G: branch("Relu", "q")}}
	m := tiny([]*onnx.Node{node("FancyConv", "x", "a"), node("Relu", "a", "b"), node("FancyConv", "b", "e"), node("OtherOp", "x", "f"), cond, node("Add", "e d", "y")},
		&onnx.Tensor{Name: "c", DataType: onnx.Bool, RawData: []byte{1}})
	path := filepath.Join(t.TempDir(), "m.onnx")
	if err := onnx.Write(path, m); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := cli(t, "inspect", path)
	if code != exitFailure {
		t.Errorf("code %d", code)
	}
	for _, want := range []string{"m.onnx", `FancyConv (2, first at node "n_a")`, `OtherOp (1, first at node "n_f")`, `InnerOp (1, first at node "n_p")`,
		"row in the operator table"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is missing in:\n%s", want, stderr)
		}
	}
	if !strings.Contains(stdout, "opset ai.onnx ") {
		t.Errorf("inspect says\n%s", stdout)
	}
}
