package golden

import (
	"fmt"
	"math"

	"roundel/tensor"
)

// Close compares two tensors: nil when they have the same shape and every element
// satisfies |got - want| ≤ atol + rtol·|want|. NaN equals NaN, an infinity only itself.
// The error has the first differing index, how many differ, and the largest difference.
// Element types may differ; 64-bit integers are compared as float64.
func Close(got, want tensor.Any, rtol, atol float64) error {
	if got == nil || want == nil {
		return fmt.Errorf("got %v, want %v", got, want)
	}
	if !got.Shape().Equal(want.Shape()) {
		return fmt.Errorf("got shape %v, want %v", got.Shape(), want.Shape())
	}
	g, w := tensor.Float64s(got), tensor.Float64s(want)
	first, count, largest := -1, 0, 0.0
	for i := range g {
		diff := math.Abs(g[i] - w[i])
		if g[i] == w[i] || (math.IsNaN(g[i]) && math.IsNaN(w[i])) || diff <= atol+rtol*math.Abs(w[i]) && !math.IsInf(w[i], 0) {
			continue
		}
		if count++; first < 0 {
			first = i
		}
		if math.IsNaN(diff) {
			diff = math.Inf(1)
		}
		largest = max(largest, diff)
	}
	if count == 0 {
		return nil
	}
	return fmt.Errorf("at %v got %v, want %v; %d of %d elements differ (rtol %g, atol %g), by up to %g",
		index(first, want.Shape()), g[first], w[first], count, len(g), rtol, atol, largest)
}

// index turns a flat position into coordinates.
func index(at int, shape tensor.Shape) tensor.Shape {
	idx := make(tensor.Shape, len(shape))
	for d := len(shape) - 1; d >= 0; d-- {
		idx[d] = at % shape[d]
		at /= shape[d]
	}
	return idx
}
