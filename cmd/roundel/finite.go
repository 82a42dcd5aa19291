package main

import (
	"errors"
	"fmt"

	"roundel/nn"
	"roundel/tensor"
)

// withWeights are the operators whose constants must be finite: nothing good comes from rounding a network that has
// others. Elsewhere infinity is common, in the masks of attention for one.
var withWeights = map[string]bool{"Conv": true, "ConvTranspose": true, "Gemm": true, "MatMul": true, "BatchNormalization": true,
	"LayerNormalization": true, "GroupNormalization": true, "InstanceNormalization": true, "RNN": true, "LSTM": true, "GRU": true}

// finiteWeights reports every constant of a layer that has a NaN or an infinity, all at once.
func finiteWeights(g *nn.Graph) error {
	var errs []error
	seen := map[string]bool{}
	for _, n := range g.Nodes {
		if !withWeights[n.Op] {
			continue
		}
		for _, name := range n.Inputs {
			w := g.ConstF32(name)
			if w == nil || seen[name] {
				continue
			}
			seen[name] = true
			if i := tensor.FirstNonFinite(w.Data()); i >= 0 {
				errs = append(errs, fmt.Errorf("constant %q of node %q (%s) is %v at element %d of shape %v", name, n.Name, n.Op, w.Data()[i], i, w.Shape()))
			}
		}
	}
	if len(errs) > 0 {
		errs = append(errs, errors.New("a network with such weights cannot be quantized: repair or export it again"))
	}
	return errors.Join(errs...)
}
