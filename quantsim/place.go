package quantsim

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"roundel/quantsim/encoding"
)

// placement decides which tensors are quantized. The steps and their order are those
// of AIMET 2.42; a later step overrides an earlier one. Step 8, patterns, comes first
// here: newNetwork has already made one operator of each.
type placement struct {
	*network
	rules *Rules
	cfg   Config
	quant map[string]*quantizer // by tensor; tied tensors have the same one
	order []string              // tensors in order of creation
}

func place(n *network, rules *Rules, cfg Config) (*placement, error) {
	p := &placement{network: n, rules: rules, cfg: cfg, quant: map[string]*quantizer{}}
	p.create()
	p.defaults()
	if err := p.opTypes(); err != nil {
		return nil, err
	}
	p.supergroups()
	p.inputsAndOutputs()
	p.perChannel()
	p.dynamicWeights()
	p.exceptions()
	if slices.Contains(rules.Passes, "OutputSigmoids") {
		p.outputSigmoids()
	}
	p.tie()
	if slices.Contains(rules.Passes, "FloatDivisors") {
		p.floatDivisors()
	}
	return p, nil
}

// create makes a disabled quantizer for every parameter and every floating-point activation.
func (p *placement) create() {
	for _, o := range p.ops {
		for _, w := range o.params {
			p.add(w.tensor, encoding.Param)
		}
	}
	for _, in := range p.g.Inputs {
		if p.floats[in.Name] {
			p.add(in.Name, encoding.Activation)
		}
	}
	for _, o := range p.ops {
		for i, in := range o.inputs {
			made := p.producer[in]
			if p.floats[in] && !(made != nil && noQuantizer[made.typ]) && !(o.typ == "Resize" && i > 0) && !p.fromAttribute(o, in) {
				p.add(in, encoding.Activation)
			}
		}
		for _, out := range o.outputs {
			if out != "" && p.floats[out] && !noQuantizer[o.typ] {
				p.add(out, encoding.Activation)
			}
		}
	}
}

// fromAttribute reports whether a constant input was an attribute in the model's operator set; such values are not tensors of the model.
func (p *placement) fromAttribute(o *op, in string) bool {
	if p.g.Consts[in] == nil || o.typ != "Clip" && o.typ != "Pad" {
		return false
	}
	rest, ok := strings.CutPrefix(in, o.node.Name+"_")
	return ok && (rest == "min" || rest == "max" || rest == "value")
}

func (p *placement) add(name string, kind encoding.Kind) {
	if p.quant[name] != nil || p.inner[name] {
		return
	}
	q := &quantizer{kind: kind, method: p.cfg.Method, id: len(p.order), block: -1, channel: encoding.PerTensor,
		grid: encoding.Grid{Axis: encoding.PerTensor, Type: p.cfg.OutputType, Bits: p.cfg.OutputBits}}
	if kind == encoding.Param {
		q.grid.Type, q.grid.Bits = p.cfg.ParamType, p.cfg.ParamBits
		if p.cfg.ParamMethod.Scheme != 0 {
			q.method = p.cfg.ParamMethod
		}
	}
	p.quant[name] = q
	p.order = append(p.order, name)
}

// defaults is steps 1 and 2: what the file says for everything, then for kinds of parameters.
func (p *placement) defaults() {
	for _, q := range p.quant {
		q.grid.Strict, q.grid.Unsigned = p.rules.Strict, p.rules.Unsigned
		if q.kind == encoding.Param {
			q.enabled, q.grid.Symmetric = p.rules.ParamsQuantized, p.rules.ParamsSymmetric
		} else {
			q.grid.Symmetric = p.rules.OutputsSymmetric
		}
	}
	for _, o := range p.ops {
		for _, out := range o.outputs {
			if q := p.quant[out]; q != nil {
				q.enabled = p.rules.OutputsQuantized
			}
		}
		for _, w := range o.params {
			p.quant[w.tensor].apply(p.rules.ParamTypes[w.role])
		}
	}
}

func (q *quantizer) apply(r ParamRule) {
	if r.Quantized != nil {
		q.enabled = *r.Quantized
	}
	if r.Symmetric != nil {
		q.grid.Symmetric = *r.Symmetric
	}
}

// ruleOf returns the rule of an operator; one that only moves data does not quantize its output unless told to.
func (p *placement) ruleOf(o *op) OpRule {
	r, listed := p.rules.OpTypes[o.typ]
	if !listed && keepsGrid[o.typ] {
		no := false
		r.OutputsQuantized = &no
	}
	return r
}

// opTypes is step 3. is_symmetric covers inputs and outputs, so two operators can contradict each other.
func (p *placement) opTypes() error {
	symmetry := map[*quantizer]*op{}
	for _, o := range p.ops {
		r := p.ruleOf(o)
		for _, out := range o.outputs {
			q := p.quant[out]
			if q == nil {
				continue
			}
			if r.OutputsQuantized != nil {
				q.enabled = *r.OutputsQuantized
			}
			if r.Constraint != nil {
				q.fixed = r.Constraint
				if c := r.Constraint; c.Max != nil && *c.Min == -*c.Max {
					q.grid.Symmetric = true
				}
			}
		}
		for _, in := range o.inputs {
			if q := p.quant[p.source(in)]; q != nil && isTrue(r.InputsQuantized) {
				q.enabled = true
			}
		}
		if r.Symmetric != nil {
			for _, v := range slices.Concat(o.inputs, o.outputs) {
				q := p.quant[v]
				if q == nil {
					continue
				}
				if other := symmetry[q]; other != nil && q.grid.Symmetric != *r.Symmetric {
					return fmt.Errorf("quantsim: config %s: tensor %q should be symmetric for one of the nodes %q (%s) and %q (%s) and asymmetric for the other",
						p.rules.Name, v, other.node.Name, other.typ, o.node.Name, o.typ)
				}
				q.grid.Symmetric, symmetry[q] = *r.Symmetric, o
			}
		}
		for _, w := range o.params {
			p.quant[w.tensor].apply(r.Params[w.role])
		}
	}
	return nil
}

// source goes up from a value without a quantizer of its own through operators that only move data.
func (p *placement) source(name string) string {
	for p.quant[name] == nil {
		o := p.producer[name]
		if o == nil || !keepsGrid[o.typ] || len(o.inputs) == 0 {
			return name
		}
		name = o.inputs[0]
	}
	return name
}

// supergroups is step 4: in a chain that the target runs as one kernel only the last output exists.
func (p *placement) supergroups() {
	groups := slices.Clone(p.rules.Supergroups)
	sort.SliceStable(groups, func(i, j int) bool { return len(groups[i]) > len(groups[j]) })
	taken := map[*op]bool{}
	for _, g := range groups {
		for _, o := range p.ops {
			if chain := p.match(o, g, taken); chain != nil {
				for i, c := range chain {
					taken[c] = true
					if i < len(chain)-1 {
						p.disable(c.outputs)
					}
				}
			}
		}
	}
}

func (p *placement) match(o *op, types []string, taken map[*op]bool) []*op {
	if p.depthwise(o) {
		return nil
	}
	var chain []*op
	for i, t := range types {
		if o.typ != t || taken[o] {
			return nil
		}
		chain = append(chain, o)
		if i == len(types)-1 {
			break
		}
		if len(o.outputs) == 0 || p.g.IsOutput(o.outputs[0]) {
			return nil
		}
		next := p.consumers[o.outputs[0]]
		if len(next) != 1 {
			return nil
		}
		o = next[0]
	}
	return chain
}

func (p *placement) disable(tensors []string) {
	for _, t := range tensors {
		if q := p.quant[t]; q != nil {
			q.enabled = false
		}
	}
}

// inputsAndOutputs is steps 5 and 6. The rule for graph inputs covers constants that are activations.
func (p *placement) inputsAndOutputs() {
	if p.rules.InputsQuantized {
		for name, q := range p.quant {
			if q.kind == encoding.Activation && p.producer[name] == nil {
				q.enabled = true
			}
		}
	}
	if p.rules.GraphOutputsQuant {
		for _, out := range p.g.Outputs {
			if q := p.quant[out.Name]; q != nil {
				q.enabled = true
			}
		}
	}
}

// perChannel is step 7.
func (p *placement) perChannel() {
	for _, o := range p.ops {
		on := p.rules.PerChannel
		if r := p.rules.OpTypes[o.typ].PerChannel; r != nil {
			on = *r
		}
		grouped := o.typ == "ConvTranspose" && o.node.Int("group", 1) != 1
		for _, w := range o.params {
			q := p.quant[w.tensor]
			q.channel, q.block = p.axes(o, w)
			if on && q.grid.Type == encoding.Int && !(grouped && w.role == "weight") {
				q.grid.Axis = q.channel
			}
		}
	}
}

// dynamicWeights is step 9: the second factor of a product of activations takes the symmetry of parameters.
func (p *placement) dynamicWeights() {
	for _, o := range p.ops {
		if second := p.dynamicWeight(o); second != nil {
			second.grid.Symmetric = p.rules.ParamsSymmetric
		}
	}
}

// dynamicWeight returns the quantizer of the second input of a product whose weight is not a constant, or nil.
func (p *placement) dynamicWeight(o *op) *quantizer {
	switch o.typ {
	case "MatMul", "Gemm", "Conv", "ConvTranspose":
		if o.param("weight") == "" && len(o.inputs) >= 2 {
			return p.quant[p.source(o.inputs[1])]
		}
	}
	return nil
}
