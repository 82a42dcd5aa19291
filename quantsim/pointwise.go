package quantsim

import (
	"slices"

	"roundel/nn"
)

// elementwise are the operators that make each element of their output from one element of each input.
var elementwise = setOf("Abs", "Add", "Ceil", "Celu", "Clip", "Cos", "Div", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
	"LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin",
	"Softplus", "Softsign", "Sqrt", "Sub", "Swish", "Tan", "Tanh", "ThresholdedRelu")

// pointwise finds chains and bundles of such operators that make each element of their output from one element of one
// value and from scalar constants, such as a GELU, SiLU or hard swish that the exporter wrote out:
//
//	y = f(x),  for instance  x * clip(x + 3, 0, 6) / 6
//
// A target evaluates f by a table, so only its output has a grid; a grid inside would put a polynomial's terms, or a
// divisor that must not become 0, on steps of their own.
type pointwise struct {
	*network
	made  map[string]*nn.Node
	at    map[*nn.Node]int // position in the graph
	taken func(*nn.Node) bool
}

func newPointwise(n *network, taken func(*nn.Node) bool) *pointwise {
	f := &pointwise{n, map[string]*nn.Node{}, map[*nn.Node]int{}, taken}
	for i, node := range n.g.Nodes {
		f.at[node] = i
		for _, out := range node.Outputs {
			f.made[out] = node
		}
	}
	return f
}

// maxRegion bounds the nodes of one function.
const maxRegion = 32

// endingAt returns the operator that stands for the largest such set of nodes with the output of last, or nil. It needs two nodes.
func (f *pointwise) endingAt(last *nn.Node) (*op, []*nn.Node) {
	if !f.eligible(last) {
		return nil, nil
	}
	region, open := []*nn.Node{last}, f.variables(last) // open are the values that enter
	var o *op
	var best []*nn.Node
	for len(region) < maxRegion {
		// The next node is the one that is computed last: then all that depends on it is in the region already.
		// A value whose maker cannot join may turn out to be the one that all depends on.
		var next *nn.Node
		for _, name := range open {
			if p := f.made[name]; p != nil && f.eligible(p) && (next == nil || f.at[p] > f.at[next]) {
				next = p
			}
		}
		if next == nil {
			break
		}
		region = append(region, next)
		open = slices.DeleteFunc(open, func(v string) bool { return v == next.Outputs[0] })
		for _, v := range f.variables(next) {
			if !slices.Contains(open, v) {
				open = append(open, v)
			}
		}
		if len(open) == 1 && f.closed(region) && !f.endsLayer(open[0], next) {
			best = slices.Clone(region)
			o = &op{typ: "Pointwise", node: last, inputs: []string{open[0]}, outputs: last.Outputs}
		}
	}
	return o, best
}

// eligible reports whether a node is elementwise, with no constants but scalars, and free.
func (f *pointwise) eligible(node *nn.Node) bool {
	if !elementwise[node.Op] || len(node.Outputs) != 1 || f.taken(node) {
		return false
	}
	return !slices.ContainsFunc(node.Inputs, func(in string) bool {
		c := f.g.Consts[in]
		return in != "" && (!f.floats[in] || c != nil && c.Len() != 1)
	})
}

// variables returns the inputs of a node that are not constant, each once.
func (f *pointwise) variables(node *nn.Node) []string {
	var out []string
	for _, in := range node.Inputs {
		if in != "" && f.g.Consts[in] == nil && !slices.Contains(out, in) {
			out = append(out, in)
		}
	}
	return out
}

// closed reports whether nobody outside of a region sees a value of it but the output of its first node.
func (f *pointwise) closed(region []*nn.Node) bool {
	return !slices.ContainsFunc(region[1:], func(p *nn.Node) bool { return !f.readBy(p.Outputs[0], region) })
}

// endsLayer reports whether first is the activation of the layer before, which runs it as one kernel with itself.
func (f *pointwise) endsLayer(from string, first *nn.Node) bool {
	p := f.made[from]
	return p != nil && (first.Op == "Relu" || first.Op == "Clip") && (slots[p.Op] != nil || p.Op == "Add")
}
