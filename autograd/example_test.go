package autograd_test

import (
	"fmt"

	"roundel/autograd"
	"roundel/tensor"
)

// A line is fitted to four points.
func Example() {
	x := autograd.Const(tensor.From([]float32{0, 1, 2, 3}, 4, 1))
	y := autograd.Const(tensor.From([]float32{1, 3, 5, 7}, 4, 1))
	w, b := autograd.Param(tensor.New[float32](1, 1)), autograd.Param(tensor.New[float32](1))
	sgd := &autograd.SGD[float32]{Params: []*autograd.Value[float32]{w, b}, LR: 0.1, Momentum: 0.5}
	t := autograd.New[float32](nil)
	for range 200 {
		t.Backward(t.MSE(t.Linear(x, w, b), y), nil)
		sgd.Step()
		t.Reset()
	}
	fmt.Printf("y = %.2f x + %.2f\n", w.X.Data()[0], b.X.Data()[0])
	// Output: y = 2.00 x + 1.00
}
