package quantsim

import (
	"slices"

	"roundel/nn"
)

// joins are the operators that put several inputs on the one grid of their output.
var joins = setOf("Concat", "Scatter", "ScatterElements", "ScatterND")

// follows are the operators whose output can lie on the grid of the input.
var follows = setOf("AveragePool", "Relu", "Resize", "Upsample", "CropAndResize")

// tie is step 11: tensors that the target keeps on one grid share a quantizer.
func (p *placement) tie() {
	for i := len(p.ops) - 1; i >= 0; i-- {
		if o := p.ops[i]; joins[o.typ] {
			p.tieInputs(o)
		}
	}
	for _, o := range p.ops {
		if follows[o.typ] {
			p.tieOutput(o)
		}
	}
	for _, o := range p.ops {
		if recurrent[o.typ] {
			p.tieStates(o.node)
		}
	}
}

var recurrent = setOf("RNN", "GRU", "LSTM")

// tieStates puts what a recurrent operator reads and every form of its hidden state on the grid of its output, and the
// cell state that an LSTM begins with on that of the one it ends with.
func (p *placement) tieStates(n *nn.Node) {
	for _, v := range [][2]string{{p.enabledSource(n.In(0)), n.Out(0)}, {n.Out(1), n.Out(0)}, {p.enabledSource(n.In(5)), n.Out(0)}, {p.enabledSource(n.In(6)), n.Out(2)}} {
		from, to := p.quant[v[0]], p.quant[v[1]]
		if from == nil || to == nil {
			continue
		}
		for name, q := range p.quant {
			if q == from {
				p.quant[name] = to
			}
		}
	}
}

// enabledSource returns the value whose enabled quantizer decides the grid of name, or "".
func (p *placement) enabledSource(name string) string {
	for {
		if q := p.quant[name]; q != nil && q.enabled {
			return name
		}
		o := p.producer[name]
		if o == nil || !keepsGrid[o.typ] || len(o.inputs) == 0 {
			return ""
		}
		name = o.inputs[0]
	}
}

// onlyFor reports whether nothing reads a value but o, directly or through operators that only move data.
func (p *placement) onlyFor(name string, o *op) bool {
	if p.g.IsOutput(name) {
		return false
	}
	for _, c := range p.consumers[name] {
		if c == o {
			continue
		}
		if !keepsGrid[c.typ] {
			return false
		}
		for _, out := range c.outputs {
			if out != "" && !p.onlyFor(out, o) {
				return false
			}
		}
	}
	return true
}

// tieInputs lets the inputs of a join adopt the quantizer of its output, except those
// that others read too, and those with a fixed range unless all have the same, which the output then takes.
func (p *placement) tieInputs(o *op) {
	out := p.quant[o.outputs[0]]
	if out == nil || !out.enabled {
		return
	}
	var srcs []string
	var fixed []*Range
	for i, in := range o.inputs {
		if o.typ != "Concat" && i > 0 && i < len(o.inputs)-1 {
			continue // indices
		}
		if src := p.enabledSource(in); src != "" {
			fixed = append(fixed, p.quant[src].fixed)
			if p.onlyFor(src, o) {
				srcs = append(srcs, src)
			}
		}
	}
	uniform := len(fixed) > 0 && !slices.ContainsFunc(fixed, func(r *Range) bool { return !sameRange(r, fixed[0]) })
	if uniform && fixed[0] != nil {
		out.fixed = fixed[0]
	}
	for _, s := range srcs {
		if uniform || p.quant[s].fixed == nil {
			p.quant[s] = out
		}
	}
}

// tieOutput lets the output adopt the quantizer of the input, whose settings are
// merged. A fixed range of the output that the input does not have keeps them apart if others read the input.
func (p *placement) tieOutput(o *op) {
	if len(o.inputs) == 0 {
		return
	}
	src := p.enabledSource(o.inputs[0])
	out := p.quant[o.outputs[0]]
	if src == "" || out == nil || !out.enabled {
		return
	}
	in := p.quant[src]
	if in == out || in.grid.Type != out.grid.Type {
		return
	}
	if out.fixed != nil && !sameRange(out.fixed, in.fixed) && !p.onlyFor(src, o) {
		return
	}
	in.absorb(out)
	p.quant[o.outputs[0]] = in
}
