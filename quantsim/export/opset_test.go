package export

import (
	"encoding/binary"
	"testing"

	"roundel/onnx"
)

// TestOpsetOfRankKnownLater upgrades a Softmax whose rank only shape inference tells.
func TestOpsetOfRankKnownLater(t *testing.T) {
	shape := &onnx.Tensor{Name: "s", DataType: onnx.Int64, Dims: []int64{3}}
	for _, v := range []uint64{0, 2, 3} {
		shape.RawData = binary.LittleEndian.AppendUint64(shape.RawData, v)
	}
	model := func(axis int64) *onnx.Model {
		m := &onnx.Model{IRVersion: 6, Graph: &onnx.Graph{Name: "g", Initializers: []*onnx.Tensor{shape},
			Inputs: []*onnx.ValueInfo{{Name: "x", Type: onnx.NewTensorType(onnx.Float, 1, 6)}}, Outputs: []*onnx.ValueInfo{{Name: "y"}},
			Nodes: []*onnx.Node{{Name: "r", OpType: "Reshape", Inputs: []string{"x", "s"}, Outputs: []string{"z"}},
				{Name: "m", OpType: "Softmax", Inputs: []string{"z"}, Outputs: []string{"y"},
					Attributes: []*onnx.Attribute{{Name: "axis", Type: onnx.AttributeInt, I: axis}}}}}}
		m.SetOpset("", 12)
		return m
	}
	if _, err := atOpset(model(2), 13); err != nil {
		t.Error(err)
	}
	if _, err := atOpset(model(1), 13); err == nil {
		t.Error("a Softmax over two axes was written in opset 13, which has none")
	}
}
