package encoding_test

import (
	"context"
	"fmt"

	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// The 4-bit grid of a small weight, one scale per output channel.
func ExampleCompute() {
	w := []float32{-0.8, 0.3, 0.7, 1.2, -1.6, 0.05}
	shape := tensor.Shape{2, 3}
	grid := encoding.Grid{Bits: 4, Symmetric: true, Axis: 0}
	e, err := encoding.Compute(context.Background(), "fc.weight", w, shape, grid, encoding.Method{Scheme: encoding.SchemeTF})
	if err != nil {
		fmt.Println(err)
		return
	}
	codes, err := e.Quantize(w, shape)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("scale %.3f, offset %v, codes %v\n", e.Scale, e.Offset, codes)
	// Output: scale [0.100 0.200], offset [-8 -8], codes [-8 3 7 6 -8 0]
}
