package quantsim

import "slices"

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
}

// enabledSource returns the value whose enabled quantizer decides the grid of name, or
// "". alone reports that nothing reads a value on the way but the way itself and to.
func (p *placement) enabledSource(name string, to *op) (src string, alone bool) {
	alone = true
	for {
		for _, c := range p.consumers[name] {
			alone = alone && c == to
		}
		alone = alone && !p.g.IsOutput(name)
		if q := p.quant[name]; q != nil && q.enabled {
			return name, alone
		}
		o := p.producer[name]
		if o == nil || !keepsGrid[o.typ] || len(o.inputs) == 0 {
			return "", false
		}
		name, to = o.inputs[0], o
	}
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
		if i > 0 && o.typ != "Concat" && i != len(o.inputs)-1 {
			continue // indices
		}
		src, alone := p.enabledSource(in, o)
		if src == "" {
			continue
		}
		fixed = append(fixed, p.quant[src].fixed)
		if alone && p.g.Consts[src] == nil {
			srcs = append(srcs, src)
		}
	}
	uniform := len(fixed) > 0 && !slices.ContainsFunc(fixed, func(r *Range) bool { return !sameRange(r, fixed[0]) })
	if uniform && fixed[0] != nil {
		out.fixed = fixed[0]
	}
	for _, s := range srcs {
		if uniform || p.quant[s].fixed == nil {
			p.replace(p.quant[s], out)
		}
	}
}

// tieOutput lets the output adopt the quantizer of the input, whose settings are
// merged. A fixed range of the output that the input does not have keeps them apart if others read the input.
func (p *placement) tieOutput(o *op) {
	if len(o.inputs) == 0 {
		return
	}
	src, alone := p.enabledSource(o.inputs[0], o)
	out := p.quant[o.outputs[0]]
	if src == "" || out == nil || !out.enabled {
		return
	}
	in := p.quant[src]
	if in == out || in.grid.Type != out.grid.Type {
		return
	}
	if out.fixed != nil && !sameRange(out.fixed, in.fixed) && !alone {
		return
	}
	in.absorb(out)
	p.replace(out, in)
}

// replace gives every tensor of old the quantizer q.
func (p *placement) replace(old, q *quantizer) {
	for name, have := range p.quant {
		if have == old {
			p.quant[name] = q
		}
	}
}
