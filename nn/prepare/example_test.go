package prepare_test

import (
	"context"
	"fmt"

	"roundel/nn"
	"roundel/nn/prepare"
	"roundel/tensor"
)

// A batch normalisation goes into the convolution before it: y = 3·(2x + 1 − 1)/√4 + 5 = 3x + 5.
func ExampleApply() {
	one := func(v float32) tensor.Any { return tensor.From([]float32{v}, 1) }
	g := &nn.Graph{
		Inputs:  []nn.ValueInfo{{Name: "x", Type: nn.Type{DType: tensor.Float32, Ranked: true, Dims: []nn.Dim{nn.Known(1), nn.Known(1), nn.Known(8), nn.Known(8)}}}},
		Outputs: []nn.ValueInfo{{Name: "y"}},
		Nodes: []*nn.Node{
			{Name: "conv", Op: "Conv", Inputs: []string{"x", "w", "b"}, Outputs: []string{"c"}},
			{Name: "norm", Op: "BatchNormalization", Inputs: []string{"c", "gamma", "beta", "mean", "var"}, Outputs: []string{"y"}, Attrs: map[string]nn.Attr{"epsilon": {Kind: nn.AttrFloat}}},
		},
		Consts: map[string]tensor.Any{"w": tensor.From([]float32{2}, 1, 1, 1, 1), "b": one(1), "gamma": one(3), "beta": one(5), "mean": one(1), "var": one(4)},
	}
	out, report, err := prepare.Apply(context.Background(), g, prepare.DefaultConfig())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, change := range report.Done {
		fmt.Println(change)
	}
	n := out.Nodes[0]
	fmt.Println(len(out.Nodes), n.Op, n.Outputs, out.ConstF32("w").Data(), out.ConstF32("b").Data())
	// Output:
	// fold batch norm: conv: took over norm after it
	// 1 Conv [y] [3] [5]
}
