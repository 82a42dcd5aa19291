package nn_test

import (
	"context"
	"fmt"

	"roundel/nn"
	"roundel/tensor"
)

// A convolution that adds two pixels, and a Relu: one fused step on NHWC buffers.
func ExampleCompile() {
	g := &nn.Graph{
		Nodes: []*nn.Node{
			{Name: "conv", Op: "Conv", Inputs: []string{"x", "w"}, Outputs: []string{"y"}},
			{Name: "relu", Op: "Relu", Inputs: []string{"y"}, Outputs: []string{"z"}},
		},
		Inputs: []nn.ValueInfo{{Name: "x", Type: nn.Type{DType: tensor.Float32, Ranked: true,
			Dims: []nn.Dim{{Size: -1, Sym: "N"}, nn.Known(1), nn.Known(1), nn.Known(4)}}}},
		Outputs: []nn.ValueInfo{{Name: "z"}},
		Consts:  map[string]tensor.Any{"w": tensor.From([]float32{1, 1}, 1, 1, 1, 2)},
	}
	if err := nn.Verify(g); err != nil {
		fmt.Println(err)
		return
	}
	p, err := nn.Compile(context.Background(), g, nn.CompileOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	x := tensor.From([]float32{1, 2, 3, 4, -1, -2, 5, -3}, 2, 1, 1, 4)
	res, err := p.Run(context.Background(), map[string]tensor.Any{"x": x})
	if err != nil {
		fmt.Println(err)
		return
	}
	z, _ := tensor.As[float32](res["z"])
	fmt.Println(z.Shape(), z.Data())
	// Output: [2 1 1 3] [3 5 7 0 3 2]
}
