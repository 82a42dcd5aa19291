package quantsim

import (
	"math"
	"slices"

	"roundel/nn"
	"roundel/tensor"
)

// Patterns that exporters write out and targets run as one operator. What lies inside
// gets no quantizers, and constants become parameters.

// matmulAdd finds a MatMul with a constant and the Add of a constant vector that alone reads it.
func (n *network) matmulAdd(matmul *nn.Node) (*op, []*nn.Node) {
	if matmul.Op != "MatMul" {
		return nil, nil
	}
	o := n.newOp(matmul)
	if o.param("weight") == "" {
		return nil, nil
	}
	add := n.onlyReader(matmul.Outputs[0], "Add")
	if add == nil {
		return nil, nil
	}
	bias := other(add, matmul.Outputs[0])
	if c := n.g.Consts[bias]; c == nil || len(c.Shape()) > 1 {
		return nil, nil
	}
	o.typ, o.node, o.outputs = "Gemm", add, add.Outputs
	o.params = append(o.params, param{"bias", bias})
	return o, []*nn.Node{matmul, add}
}

// normalization finds the standard deviation sqrt(mean(v^2) + eps) around a Sqrt, and
// around it
//
//	LayerNormalization:  d = x - mean(x);  d / sqrt(mean(d^2) + eps) * weight [+ bias]
//	RMSNormalization:    x / sqrt(mean(x^2) + eps) * weight
func (n *network) normalization(sqrt *nn.Node, layer, rms bool) (*op, []*nn.Node) {
	if sqrt.Op != "Sqrt" {
		return nil, nil
	}
	v, nodes := n.variance(sqrt)
	if v == "" {
		return nil, nil
	}
	nodes = append(nodes, sqrt)
	scaled := n.quotient(v, sqrt, &nodes)
	if scaled == "" {
		return nil, nil
	}
	mul := n.onlyReader(scaled, "Mul")
	if mul == nil || n.g.Consts[other(mul, scaled)] == nil {
		return nil, nil
	}
	o := &op{typ: "RMSNormalization", node: mul, inputs: []string{v}, outputs: mul.Outputs, params: []param{{"weight", other(mul, scaled)}}}
	nodes = append(nodes, mul)
	x, centre := n.centred(v)
	switch {
	case centre == nil && rms:
		return o, nodes
	case centre == nil || !layer || !n.readBy(v, nodes):
		return nil, nil
	}
	o.typ, o.inputs = "LayerNormalization", []string{x}
	nodes = append(centre, nodes...)
	if add := n.onlyReader(mul.Outputs[0], "Add"); add != nil && n.g.Consts[other(add, mul.Outputs[0])] != nil {
		o.node, o.outputs = add, add.Outputs
		o.params = append(o.params, param{"bias", other(add, mul.Outputs[0])})
		nodes = append(nodes, add)
	}
	return o, nodes
}

// maskedSoftmax finds
//
//	Softmax(Where(mask, x, ReduceMin(x) + B))   over the last of four axes, B a constant of at most -20
//
// B is far below everything: on the grid of the sum x would keep no digits.
func (n *network) maskedSoftmax(softmax *nn.Node) (*op, []*nn.Node) {
	where := n.maker(softmax.In(0), "Where")
	if softmax.Op != "Softmax" || where == nil {
		return nil, nil
	}
	x, add := where.In(1), n.maker(where.In(2), "Add")
	rank := int64(len(n.g.Types[x].Dims))
	last := func(axis int64) bool { return axis == -1 || axis == rank-1 }
	if add == nil || rank != 4 || !last(softmax.Int("axis", -1)) {
		return nil, nil
	}
	for i := range 2 {
		least, b := n.maker(add.In(i), "ReduceMin"), n.scalar(add.In(1-i))
		if least == nil || least.In(0) != x || !(b <= -20) {
			continue
		}
		axes, ok := n.g.Consts[least.In(1)].(*tensor.Dense[int64])
		nodes := []*nn.Node{least, add, where, softmax}
		inner := n.readBy(least.Outputs[0], nodes) && n.readBy(add.Outputs[0], nodes) && n.readBy(where.Outputs[0], nodes)
		if ok && axes.Len() == 1 && last(axes.Data()[0]) && inner {
			return &op{typ: "MaskedSoftmax", node: softmax, inputs: []string{x, where.In(0)}, outputs: softmax.Outputs}, nodes
		}
	}
	return nil, nil
}

// scalar returns the value of a constant of one element, NaN if name is none.
func (n *network) scalar(name string) float64 {
	if c, ok := n.g.Consts[name].(*tensor.Dense[float32]); ok && c.Len() == 1 {
		return float64(c.Data()[0])
	}
	return math.NaN()
}

// variance goes up from a Sqrt through Add(eps), ReduceMean and the square; it returns the value squared, or "".
func (n *network) variance(sqrt *nn.Node) (v string, nodes []*nn.Node) {
	add := n.maker(sqrt.In(0), "Add")
	if add == nil {
		return "", nil
	}
	for i := range 2 {
		mean := n.maker(add.In(i), "ReduceMean")
		if mean == nil || n.g.Consts[add.In(1-i)] == nil {
			continue
		}
		if mul := n.maker(mean.In(0), "Mul"); mul != nil && mul.In(0) == mul.In(1) {
			return mul.In(0), []*nn.Node{mul, mean, add}
		}
		if pow := n.maker(mean.In(0), "Pow"); pow != nil {
			if n.scalar(pow.In(1)) == 2 {
				return pow.In(0), []*nn.Node{pow, mean, add}
			}
		}
	}
	return "", nil
}

// quotient returns the value v / sd, written as Div or as Mul with a Reciprocal, or "".
func (n *network) quotient(v string, sqrt *nn.Node, nodes *[]*nn.Node) string {
	sd := sqrt.Outputs[0]
	if div := n.onlyReader(sd, "Div"); div != nil && div.In(0) == v && div.In(1) == sd {
		*nodes = append(*nodes, div)
		return div.Outputs[0]
	}
	inv := n.onlyReader(sd, "Reciprocal")
	if inv == nil {
		return ""
	}
	mul := n.onlyReader(inv.Outputs[0], "Mul")
	if mul == nil || other(mul, inv.Outputs[0]) != v {
		return ""
	}
	*nodes = append(*nodes, inv, mul)
	return mul.Outputs[0]
}

// centred returns x and the two nodes if v is x - mean(x).
func (n *network) centred(v string) (x string, nodes []*nn.Node) {
	sub := n.maker(v, "Sub")
	if sub == nil {
		return "", nil
	}
	mean := n.maker(sub.In(1), "ReduceMean")
	if mean == nil || mean.In(0) != sub.In(0) || n.onlyReader(mean.Outputs[0], "Sub") == nil {
		return "", nil
	}
	return sub.In(0), []*nn.Node{mean, sub}
}

func (n *network) maker(name, op string) *nn.Node {
	if p := n.g.Producer(name); p != nil && p.Op == op {
		return p
	}
	return nil
}

// onlyReader returns the node that alone reads a value, if it is an op.
func (n *network) onlyReader(name, op string) *nn.Node {
	readers := n.g.Consumers(name)
	if len(readers) != 1 || readers[0].Op != op || n.g.IsOutput(name) {
		return nil
	}
	return readers[0]
}

// readBy reports whether only the given nodes read a value.
func (n *network) readBy(name string, nodes []*nn.Node) bool {
	return !n.g.IsOutput(name) && !slices.ContainsFunc(n.g.Consumers(name), func(c *nn.Node) bool { return !slices.Contains(nodes, c) })
}

// other returns the input of a binary node that is not name.
func other(b *nn.Node, name string) string {
	if b.In(0) == name {
		return b.In(1)
	}
	return b.In(0)
}
