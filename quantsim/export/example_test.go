package export_test

import (
	"context"
	"fmt"

	"roundel/nn"
	"roundel/onnx"
	"roundel/quantsim"
	"roundel/quantsim/export"
	"roundel/tensor"
)

// A network of one layer, written as QuantizeLinear and DequantizeLinear.
func ExampleToQDQ() {
	square := nn.Type{DType: tensor.Float32, Dims: []nn.Dim{nn.Known(1), nn.Known(2)}, Ranked: true}
	g := &nn.Graph{
		Inputs:  []nn.ValueInfo{{Name: "x", Type: square}},
		Outputs: []nn.ValueInfo{{Name: "y", Type: square}},
		Consts:  map[string]tensor.Any{"w": tensor.From([]float32{0.5, -1, 0.25, 1}, 2, 2)},
		Nodes:   []*nn.Node{{Name: "fc", Op: "Gemm", Inputs: []string{"x", "w"}, Outputs: []string{"y"}}},
	}
	base := &onnx.Model{IRVersion: 8, OpsetImport: []*onnx.OpsetID{{Version: 13}}, Graph: &onnx.Graph{Name: "net"}}
	sim, err := quantsim.New(g, quantsim.DefaultConfig())
	if err != nil {
		fmt.Println(err)
		return
	}
	err = sim.ComputeEncodings(context.Background(), func(run func(map[string]tensor.Any) error) error {
		return run(map[string]tensor.Any{"x": tensor.From([]float32{-1, 2}, 1, 2)})
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := export.ToQDQ(sim, base, export.QDQOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, n := range m.Graph.Nodes {
		fmt.Println(n.OpType, n.Outputs[0])
	}
	// Output:
	// DequantizeLinear w_qdq
	// QuantizeLinear x_q
	// DequantizeLinear x_updated
	// Gemm y_updated
	// QuantizeLinear y_q
	// DequantizeLinear y
}
