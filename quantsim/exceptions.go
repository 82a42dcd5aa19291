package quantsim

import (
	"slices"
	"strconv"
	"strings"

	"roundel/nn"
	"roundel/quantsim/encoding"
)

// exceptions is step 10: rules that are in the target's hardware, not in the config file.
func (p *placement) exceptions() {
	version, _ := strconv.Atoi(strings.TrimPrefix(p.rules.HWVersion, "V")) // 0: none named
	for _, o := range p.ops {
		switch o.typ {
		case "LayerNormalization", "BatchNormalization":
			p.normWeight(o, version)
		case "GroupNormalization", "InstanceNormalization", "RMSNormalization":
			p.followOutput(o)
		case "MatMul":
			p.dynamicMatMul(o, version)
		}
	}
}

// normWeight: scales of normalisations have 8 bits at least, and are symmetric only from 16 bits on.
func (p *placement) normWeight(o *op, version int) {
	for _, w := range o.params {
		q := p.quant[w.tensor]
		if !q.enabled || q.grid.Type != encoding.Int {
			continue
		}
		q.grid.Bits = max(q.grid.Bits, 8)
		if w.role != "weight" {
			continue
		}
		if version >= 66 && version <= 69 {
			q.grid.Bits = 8
		}
		if q.grid.Bits < 16 {
			q.grid.Symmetric = false
		}
	}
}

// followOutput: the parameters of these have the symmetry and the bitwidth of the output, 8 bits at least.
func (p *placement) followOutput(o *op) {
	out := p.quant[o.outputs[0]]
	for _, w := range o.params {
		q := p.quant[w.tensor]
		if !q.enabled || q.grid.Type != encoding.Int {
			continue
		}
		if out != nil && out.enabled && out.grid.Type == encoding.Int {
			q.grid.Symmetric, q.grid.Bits = out.grid.Symmetric, out.grid.Bits
		}
		q.grid.Bits = max(q.grid.Bits, 8)
	}
}

// dynamicMatMul: up to V69 the second factor has 8 bits; later ones take 16, with 16 in the first.
func (p *placement) dynamicMatMul(o *op, version int) {
	second := p.dynamicWeight(o)
	if second == nil && p.g.Consts[o.node.In(1)] == nil {
		second = p.quant[o.param("weight")] // a transposed constant counts as computed
	}
	if second == nil || version == 0 || second.grid.Type != encoding.Int {
		return
	}
	if version <= 69 {
		second.grid.Symmetric, second.grid.Bits = true, 8
		return
	}
	if second.grid.Bits == 16 {
		second.grid.Symmetric = true
		if first := p.quant[p.source(o.inputs[0])]; first != nil && first.grid.Type == encoding.Int {
			first.grid.Bits = 16
		}
	}
}

// floatDivisors leaves in float what is divided by: a grid has a 0, onto which small divisors round, as in a normalisation
// written out by its parts; what a root is taken of; and constant exponents. The value whose root, sum or reciprocal the divisor is counts as one too.
func (p *placement) floatDivisors() {
	for _, o := range p.ops {
		switch o.typ {
		case "Div":
			p.floatDivisor(o.node.In(1))
		case "Reciprocal", "Log":
			p.floatDivisor(o.node.In(0))
		case "Sqrt":
			p.floatSquares(o.node.In(0))
		case "Pow":
			if q := p.quant[o.node.In(1)]; q != nil && p.g.Consts[o.node.In(1)] != nil {
				q.enabled = false // a square whose 2 is a rounding error off has no value for negative bases
			}
		}
	}
}

func (p *placement) floatDivisor(name string) {
	for name != "" {
		if q := p.quant[name]; q != nil {
			q.enabled = false
		}
		o := p.producer[name]
		if o == nil || !keepsGrid[o.typ] && !passesZero[o.node.Op] { // the last node of a pattern
			return
		}
		from := slices.DeleteFunc(slices.Clone(o.inputs), func(in string) bool { return p.g.Consts[in] != nil })
		if name = ""; len(from) == 1 || len(from) > 0 && keepsGrid[o.typ] {
			name = from[0]
		}
	}
}

// floatSquares leaves in float what a root is taken of: the grid of a square holds half of the digits of its root.
func (p *placement) floatSquares(name string) {
	o := p.producer[name]
	if o == nil {
		return
	}
	switch o.node.Op {
	case "Add", "ReduceSum", "ReduceMean":
		p.disable(o.outputs)
		for _, in := range o.inputs {
			p.floatSquares(in)
		}
	case "Pow", "Mul", "ReduceSumSquare":
		p.disable(o.outputs)
	}
}

// passesZero are the operators that make 0, or something as small as an epsilon, of 0.
var passesZero = setOf("Sqrt", "Abs", "Add", "Clip", "Max", "ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare")

// outputSigmoids gives probabilities that the model returns the range that a Sigmoid has. A histogram of them, with most near 0
// and the few that matter near 1, makes a scheme that weighs noise against clipping clip the latter.
func (p *placement) outputSigmoids() {
	lo, hi := 0.0, 1.0
	for _, out := range p.g.Outputs {
		seen := map[scoped]bool{}
		if !p.probability([]*nn.Graph{p.g}, out.Name, seen) {
			continue
		}
		for v := range seen {
			if q := p.quant[v.name]; q != nil && v.g == p.g {
				q.fixed = &Range{&lo, &hi}
			}
		}
	}
}

// scoped is a value of a graph or of a branch.
type scoped struct {
	g    *nn.Graph
	name string
}

// probability reports whether all of a value of the innermost of gs comes from Sigmoids through operators that keep within
// the range of their inputs, and collects the values on the way.
func (p *placement) probability(gs []*nn.Graph, name string, seen map[scoped]bool) bool {
	g := gs[len(gs)-1]
	i := slices.IndexFunc(g.Nodes, func(n *nn.Node) bool { return slices.Contains(n.Outputs, name) })
	if i < 0 {
		return len(gs) > 1 && p.probability(gs[:len(gs)-1], name, seen) // a branch sees what is outside
	}
	if seen[scoped{g, name}] {
		return true
	}
	seen[scoped{g, name}] = true
	n := g.Nodes[i]
	switch {
	case n.Op == "Sigmoid":
		return true
	case n.Op == "Concat":
		return !slices.ContainsFunc(n.Inputs, func(in string) bool { return !p.probability(gs, in, seen) })
	case n.Op == "If":
		at := slices.Index(n.Outputs, name)
		for _, branch := range []string{"then_branch", "else_branch"} {
			b := n.Attrs[branch].G
			if b == nil || !p.probability(append(slices.Clone(gs), b), b.Outputs[at].Name, seen) {
				return false
			}
		}
		return true
	case n.Op == "ReduceMean", keepsGrid[n.Op] && n.Op != "Pad" && n.Op != "Col2Im":
		return p.probability(gs, n.In(0), seen)
	}
	return false
}
