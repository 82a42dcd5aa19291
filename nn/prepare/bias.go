package prepare

import (
	"slices"

	"roundel/nn"
	"roundel/tensor"
)

const (
	fuseBias  = "fuse bias"
	fuseScale = "fuse scale"
)

// fuseConstants moves arithmetic with a constant per output channel into the layer before it: additions into its bias
// (a MatMul of matrices becomes a Gemm; one of more dimensions has nowhere to put a bias), products into its weights.
func (e *editor) fuseConstants(biases, scales bool) {
	for _, n := range slices.Clone(e.g.Nodes) {
		for isLayer(n.Op) && (biases && e.fuseBiasOf(n) || scales && e.fuseScaleOf(n)) {
		}
	}
}

// operand returns the node of one of the given ops that alone reads the output of n, and its other operand if that is a
// constant with a value (or the same value) for each channel of the layer n. The first of ops also takes its operands the
// other way round. why is set when only n's own weights are in the way.
func (e *editor) operand(n *nn.Node, ops ...string) (user *nn.Node, c *tensor.Dense[float32], l *layer, why error) {
	u := e.soleUse(n.Out(0))
	if u.node == nil || !slices.Contains(ops, u.node.Op) || u.slot != 0 && u.node.Op != ops[0] {
		return nil, nil, nil, nil
	}
	if c = e.g.ConstF32(u.node.In(1 - u.slot)); c == nil {
		return nil, nil, nil, nil
	}
	l, why = e.layerOf(n)
	if why == nil && !perChannel(c.Shape(), l) {
		return nil, nil, nil, nil
	}
	return u.node, c, l, why
}

// fuseBiasOf takes one addition or subtraction after n into n's bias and reports whether there was one.
func (e *editor) fuseBiasOf(n *nn.Node) bool {
	add, c, l, err := e.operand(n, "Add", "Sub")
	if add == nil {
		return false
	}
	if err == nil {
		err = l.toGemm(e)
	}
	if err != nil {
		e.report.skip(fuseBias, add.Name, "not fused into %s %s: %v", n.Op, n.Name, err)
		return false
	}
	b := make([]float64, l.out)
	for o := range b {
		if b[o] = float64(c.Data()[o%c.Len()]); add.Op == "Sub" {
			b[o] = -b[o]
		}
		if l.bias != nil {
			b[o] += l.bias[o]
		}
	}
	l.store(e, nil, b)
	e.bypass(add, n.Out(0))
	e.report.done(fuseBias, n.Name, "took over %s", add.Name)
	return true
}

// fuseScaleOf takes one product or quotient after n into n's weights and bias and reports whether there was one.
func (e *editor) fuseScaleOf(n *nn.Node) bool {
	mul, c, l, err := e.operand(n, "Mul", "Div")
	if mul == nil {
		return false
	}
	if err != nil {
		e.report.skip(fuseScale, mul.Name, "not fused into %s %s: %v", n.Op, n.Name, err)
		return false
	}
	scale := make([]float64, l.out)
	for o := range scale {
		if scale[o] = float64(c.Data()[o%c.Len()]); mul.Op == "Div" {
			scale[o] = 1 / scale[o]
		}
		if v := scale[o]; v-v != 0 {
			e.report.skip(fuseScale, mul.Name, "not fused into %s %s: the factor of channel %d is %v", n.Op, n.Name, o, v)
			return false
		}
	}
	var b []float64
	for o := range l.bias {
		b = append(b, l.bias[o]*scale[o])
	}
	l.store(e, l.scaled(func(o, _ int) float64 { return scale[o] }), b)
	e.bypass(mul, n.Out(0))
	e.report.done(fuseScale, n.Name, "took over %s", mul.Name)
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
