package main

import (
	"slices"

	"roundel/data"
	"roundel/nn"
	"roundel/tensor"
)

// dataInputs describes what one sample must look like, and whether samples must be run one at a time.
//
// The batch is the first dimension of the first input that has an open one there, else of the first with any. Other
// inputs have it where the same symbol or extent is, which for a state is often the second dimension ([layers, N, C]).
func dataInputs(g *nn.Graph) (ins []data.Input, alone bool) {
	batch := batchDim(g)
	states := stateInputs(g)
	others := 0
	for _, v := range g.Inputs {
		in := data.Input{Name: v.Name, DType: v.Type.DType}
		if v.Type.Ranked {
			in.Batch = batchAxis(v.Type.Dims, batch)
			in.Shape = []int{}
			for i, d := range v.Type.Dims {
				if i != in.Batch {
					in.Shape = append(in.Shape, d.Size)
				}
			}
		}
		in.Zero = in.DType == tensor.Float32 && (in.Batch > 0 || states[v.Name])
		if !in.Zero {
			others++
		}
		alone = alone || batch.IsKnown() && in.Batch != 0 || in.Zero && in.Batch == data.NoBatch
		ins = append(ins, in)
	}
	for i := range ins {
		ins[i].Zero = ins[i].Zero && others > 0
	}
	// The first output must count samples too.
	if len(g.Outputs) > 0 {
		t := g.Types[g.Outputs[0].Name]
		alone = alone || !t.Ranked || len(t.Dims) == 0 || t.Dims[0].IsKnown() != batch.IsKnown()
	}
	return ins, alone
}

// batchDim returns the dimension that counts samples.
func batchDim(g *nn.Graph) nn.Dim {
	first := nn.Dim{Size: -1}
	for i, v := range slices.Backward(g.Inputs) {
		if v.Type.Ranked && len(v.Type.Dims) > 0 && (!v.Type.Dims[0].IsKnown() || first.IsKnown() || i == len(g.Inputs)-1) {
			first = v.Type.Dims[0]
		}
	}
	return first
}

// batchAxis returns which of an input's dimensions is the batch: the first, unless that cannot be and another one can.
func batchAxis(dims []nn.Dim, batch nn.Dim) int {
	if len(dims) == 0 {
		return data.NoBatch
	}
	if dims[0] == batch {
		return 0
	}
	if batch.IsKnown() || batch.Sym != "" {
		if i := slices.Index(dims, batch); i > 0 {
			return i
		}
	}
	open := func(d nn.Dim) bool { return !d.IsKnown() }
	switch i := slices.IndexFunc(dims, open); {
	case i < 0:
		return data.NoBatch
	case i == 0 || !slices.ContainsFunc(dims[i+1:], open):
		return i
	}
	return data.NoBatch
}

// stateInputs returns the inputs that become the initial state of a recurrent layer, perhaps sliced and reshaped before.
func stateInputs(g *nn.Graph) map[string]bool {
	states := map[string]bool{}
	for _, n := range slices.Backward(g.Nodes) {
		switch n.Op {
		case "RNN", "GRU", "LSTM":
			for _, in := range n.Inputs[min(5, len(n.Inputs)):min(7, len(n.Inputs))] {
				states[in] = true
			}
		case "Identity", "Squeeze", "Unsqueeze", "Slice", "Gather", "Split", "Reshape", "Transpose":
			if slices.ContainsFunc(n.Outputs, func(o string) bool { return states[o] }) {
				states[n.In(0)] = true
			}
		}
	}
	return states
}
