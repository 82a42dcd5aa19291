package prepare

import (
	"slices"

	"roundel/nn"
	"roundel/tensor"
)

const fuseBias = "fuse bias"

// fuseBiases moves the addition of a constant per output channel into the layer before it. A MatMul
// of matrices becomes a Gemm; a MatMul of more dimensions has nowhere to put a bias and stays.
func (e *editor) fuseBiases() {
	for _, n := range slices.Clone(e.g.Nodes) {
		for isLayer(n.Op) && e.fuseBiasOf(n) {
		}
	}
}

// fuseBiasOf takes one addition after n into n's bias and reports whether there was one.
func (e *editor) fuseBiasOf(n *nn.Node) bool {
	u := e.soleUse(n.Out(0))
	if u.node == nil || u.node.Op != "Add" {
		return false
	}
	add := u.node
	c := e.g.ConstF32(add.In(1 - u.slot))
	if c == nil {
		return false
	}
	l, err := e.layerOf(n)
	if err == nil {
		if !perChannel(c.Shape(), l) {
			return false
		}
		err = l.toGemm(e)
	}
	if err != nil {
		e.report.skip(fuseBias, add.Name, "not fused into %s %s: %v", n.Op, n.Name, err)
		return false
	}
	b := make([]float64, l.out)
	for o := range b {
		b[o] = float64(c.Data()[o%c.Len()])
		if l.bias != nil {
			b[o] += l.bias[o]
		}
	}
	l.store(e, nil, b)
	e.bypass(add, n.Out(0))
	e.report.done(fuseBias, n.Name, "took over %s", add.Name)
	return true
}

// perChannel reports whether a constant of shape s, broadcast against the output of l, has one value
// (or the same value) for each channel. Channels are dimension 1 of a convolution and of a matrix.
func perChannel(s tensor.Shape, l *layer) bool {
	rank := 2
	if isConv(l.node.Op) {
		rank = len(l.w.Shape())
	}
	if len(s) > rank {
		return false
	}
	for i, d := range s {
		if channel := i+rank-len(s) == 1; d != 1 && !(channel && d == l.out) {
			return false
		}
	}
	return true
}
