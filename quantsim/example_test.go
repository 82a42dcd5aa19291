package quantsim_test

import (
	"context"
	"fmt"

	"roundel/nn"
	"roundel/quantsim"
	"roundel/tensor"
)

// A convolution and a Relu: the chain is quantized as one, so the convolution's own output is not.
func Example() {
	g := &nn.Graph{
		Inputs:  []nn.ValueInfo{{Name: "x", Type: nn.Type{DType: tensor.Float32, Dims: []nn.Dim{nn.Known(1), nn.Known(1), nn.Known(2), nn.Known(2)}, Ranked: true}}},
		Outputs: []nn.ValueInfo{{Name: "y", Type: nn.Type{DType: tensor.Float32}}},
		Consts:  map[string]tensor.Any{"w": tensor.From([]float32{0.5, -1}, 2, 1, 1, 1)},
		Nodes: []*nn.Node{
			{Name: "conv", Op: "Conv", Inputs: []string{"x", "w"}, Outputs: []string{"c"}},
			{Name: "relu", Op: "Relu", Inputs: []string{"c"}, Outputs: []string{"y"}},
		},
	}
	sim, err := quantsim.New(g, quantsim.DefaultConfig())
	if err != nil {
		fmt.Println(err)
		return
	}
	feeds := map[string]tensor.Any{"x": tensor.From([]float32{-1, 0, 1, 1.55}, 1, 1, 2, 2)}
	ctx := context.Background()
	err = sim.ComputeEncodings(ctx, func(run func(map[string]tensor.Any) error) error { return run(feeds) })
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, name := range sim.Tensors() {
		st, _ := sim.State(name)
		fmt.Print(name, " quantized: ", st.Enabled)
		if st.Enabled {
			fmt.Printf(", scale %.4f, offset %v", st.Encoding.Scale, st.Encoding.Offset)
		}
		fmt.Println()
	}
	// Output:
	// w quantized: true, scale [0.0039 0.0078], offset [-128 -128]
	// x quantized: true, scale [0.0100], offset [-100]
	// c quantized: false
	// y quantized: true, scale [0.0039], offset [0]
}
