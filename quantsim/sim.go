package quantsim

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"roundel/nn"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// Sim is a graph with quantizers. It is made by New and used by one goroutine at a time.
type Sim struct {
	*placement
	pool       *tensor.Pool
	calibrated bool // ComputeEncodings has succeeded
	warnings   []string
	prog       *nn.Program           // for Forward; nil after any change
	consts     map[string]tensor.Any // quantized constants made before, of a copy for analysis
	excluded   []string
}

// New places quantizers on a copy of g. None has an encoding yet. It returns an error
// for a bad configuration, and for a graph that is already quantized (QuantizeLinear,
// DequantizeLinear); import such a model through package quantsim/export.
func New(g *nn.Graph, cfg Config) (*Sim, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	rules := cfg.Rules
	if rules == nil {
		var err error
		if rules, err = LoadRules(cfg.ConfigFile); err != nil {
			return nil, err
		}
	}
	for _, n := range g.Nodes {
		if n.Op == "QuantizeLinear" || n.Op == "DequantizeLinear" {
			return nil, fmt.Errorf("quantsim: node %q (%s): the model is quantized already; import it as QDQ, or start from the float model", n.Name, n.Op)
		}
	}
	net, err := newNetwork(g.Clone(), rules.Passes)
	if err != nil {
		return nil, err
	}
	p, err := place(net, rules, cfg)
	if err != nil {
		return nil, err
	}
	return &Sim{placement: p}, nil
}

// Graph returns the float graph; it must not be changed.
func (s *Sim) Graph() *nn.Graph { return s.g }

// Config returns the configuration that New was given.
func (s *Sim) Config() Config { return s.cfg }

// Rules returns the rules that placed the quantizers; they must not be changed.
func (s *Sim) Rules() *Rules { return s.rules }

// Warnings returns what the last ComputeEncodings or load had to tell, in order.
func (s *Sim) Warnings() []string { return slices.Clone(s.warnings) }

// Tensors returns the names of all tensors that have a quantizer, enabled or not:
// parameters, graph inputs, then activations in graph order.
func (s *Sim) Tensors() []string { return slices.Clone(s.order) }

// State returns the state of the quantizer of a tensor, and whether it has one.
func (s *Sim) State(name string) (State, bool) {
	q := s.quant[name]
	if q == nil {
		return State{}, false
	}
	return State{Tensor: name, Kind: q.kind, Grid: q.grid, Method: q.method, Enabled: q.enabled, Frozen: q.frozen, Encoding: q.enc, Group: q.id}, true
}

// find returns the quantizers of names, or an error that names those which have none.
func (s *Sim) find(names []string) ([]*quantizer, error) {
	var out []*quantizer
	var errs []error
	for _, n := range names {
		if q := s.quant[n]; q != nil {
			out = append(out, q)
			continue
		}
		errs = append(errs, fmt.Errorf("quantsim: tensor %q has no quantizer%s", n, s.why(n)))
	}
	return out, errors.Join(errs...)
}

func (s *Sim) why(name string) string {
	src := s.source(name)
	switch {
	case s.inner[name]:
		return ": it lies inside a pattern that is quantized as one operator"
	case src != name && s.quant[src] != nil:
		return fmt.Sprintf(": it is %q moved about; use that one", src)
	case s.g.Types[name].DType != tensor.Invalid && !s.floats[name]:
		return fmt.Sprintf(": it is of type %v", s.g.Types[name].DType)
	case s.g.Types[name].DType == tensor.Invalid:
		return ": the model has no such tensor"
	}
	return ""
}

func (s *Sim) changed() { s.prog = nil }

// SetEnabled switches quantizers on or off. A disabled one is not simulated, calibrated
// or exported. Frozen quantizers cannot be switched. As with all changes here, tensors
// that share a quantizer (State.Group) change together.
func (s *Sim) SetEnabled(on bool, names ...string) error {
	return s.edit(names, func(_ string, q *quantizer) error { q.enabled = on; return nil })
}

// SetPrecision changes data type and bitwidth; encodings of another precision are dropped.
func (s *Sim) SetPrecision(t encoding.DataType, bits int, names ...string) error {
	return s.edit(names, func(name string, q *quantizer) error {
		g := q.grid
		g.Type, g.Bits = t, bits
		if t != encoding.Int {
			g.Axis, g.BlockSize = encoding.PerTensor, 0
		} else if q.grid.Type != encoding.Int && s.rules.perChannel(s.owner(name)) {
			g.Axis = q.channel
		}
		return q.setGrid(g)
	})
}

// SetSymmetry changes the kind of grid; encodings of another kind are dropped.
func (s *Sim) SetSymmetry(symmetric, strict, unsigned bool, names ...string) error {
	return s.edit(names, func(_ string, q *quantizer) error {
		g := q.grid
		g.Symmetric, g.Strict, g.Unsigned = symmetric, strict, unsigned
		return q.setGrid(g)
	})
}

// SetMethod changes how tensors are calibrated.
func (s *Sim) SetMethod(m encoding.Method, names ...string) error {
	if err := m.Validate(); err != nil {
		return err
	}
	return s.edit(names, func(_ string, q *quantizer) error { q.method = m; return nil })
}

// SetPercentile sets the percentile of all quantizers calibrated by it.
func (s *Sim) SetPercentile(p float64) error {
	m := encoding.Method{Scheme: encoding.SchemePercentile, Percentile: p}
	if err := m.Validate(); err != nil {
		return err
	}
	for _, q := range s.quant {
		if q.method.Scheme == encoding.SchemePercentile && !q.frozen {
			q.method = m
		}
	}
	return nil
}

// SetBlocks cuts the input axis of weights into blocks of the given size, each with a
// scale of its own; 0 goes back to one scale per channel. It is an error for tensors
// that are not weights of Conv, ConvTranspose, Gemm or MatMul, or that blocks do not divide.
func (s *Sim) SetBlocks(size int, names ...string) error {
	return s.edit(names, func(name string, q *quantizer) error {
		g := q.grid
		g.Axis, g.BlockAxis, g.BlockSize = q.channel, q.block, size
		if q.block < 0 && size > 0 {
			return fmt.Errorf("quantsim: tensor %q has no input axis to cut into blocks", name)
		}
		if c := s.g.Consts[name]; c != nil {
			if err := g.Validate(c.Shape()); err != nil {
				return fmt.Errorf("quantsim: tensor %q: %w", name, err)
			}
		}
		return q.setGrid(g)
	})
}

// SetEncoding gives a tensor an encoding (and its precision) and keeps it until the
// next ComputeEncodings, or for good with freeze. The encoding must fit the tensor.
func (s *Sim) SetEncoding(name string, e *encoding.Encoding, freeze bool) error {
	return s.edit([]string{name}, func(name string, q *quantizer) error {
		return s.assign(name, q, e, freeze)
	})
}

// Freeze keeps the present encodings of tensors against everything that follows.
func (s *Sim) Freeze(names ...string) error {
	return s.edit(names, func(name string, q *quantizer) error {
		if q.enc == nil {
			return fmt.Errorf("quantsim: tensor %q has no encoding that could be frozen", name)
		}
		q.frozen = true
		return nil
	})
}

// Exclude leaves nodes out of quantization: their parameters and outputs, and inputs
// that nothing else reads. Names are node names.
func (s *Sim) Exclude(nodes ...string) error {
	for _, name := range nodes {
		i := slices.IndexFunc(s.ops, func(o *op) bool { return o.node.Name == name })
		if i < 0 {
			return fmt.Errorf("quantsim: the model has no node %q to exclude", name)
		}
		o := s.ops[i]
		var off []string
		for _, w := range o.params {
			off = append(off, w.tensor)
		}
		off = append(off, o.outputs...)
		for _, in := range o.inputs {
			if len(s.consumers[in]) == 1 {
				off = append(off, in)
			}
		}
		for _, t := range off {
			if q := s.quant[t]; q != nil {
				if q.frozen {
					return fmt.Errorf("quantsim: node %q cannot be excluded: the encoding of %q is frozen", name, t)
				}
				// A tensor that shares its quantizer leaves the group.
				c := *q
				c.enabled, c.id = false, slices.Index(s.order, t)
				s.quant[t] = &c
			}
		}
		s.excluded = append(s.excluded, name)
	}
	s.changed()
	return nil
}

// edit applies f to the quantizers of names, none of which may be frozen.
func (s *Sim) edit(names []string, f func(string, *quantizer) error) error {
	qs, err := s.find(names)
	if err != nil {
		return err
	}
	for i, q := range qs {
		if q.frozen {
			return fmt.Errorf("quantsim: the encoding of tensor %q is frozen; make a new simulation to change it", names[i])
		}
	}
	s.changed()
	for i, q := range qs {
		if err := f(names[i], q); err != nil {
			return err
		}
	}
	return nil
}

func (q *quantizer) setGrid(g encoding.Grid) error {
	if err := g.Validate(nil); err != nil {
		return err
	}
	if g != q.grid {
		q.grid, q.enc = g, nil
	}
	return nil
}

// assign sets the encoding of a quantizer after fitting it to the tensor.
func (s *Sim) assign(name string, q *quantizer, e *encoding.Encoding, freeze bool) error {
	e = e.Clone()
	if c := s.g.Consts[name]; c != nil && q.kind == encoding.Param {
		if err := errors.Join(e.Resolve(c.Shape(), q.channel, q.block), e.Validate(c.Shape())); err != nil {
			return fmt.Errorf("quantsim: tensor %q: %s", name, strings.ReplaceAll(err.Error(), "encoding: ", ""))
		}
	} else if e.Type == encoding.Int && len(e.Scale) != 1 {
		return fmt.Errorf("quantsim: tensor %q: %d scales for an activation, which has one", name, len(e.Scale))
	} else if e.Type == encoding.Int {
		e.Axis, e.BlockSize = encoding.PerTensor, 0
		if err := e.Validate(nil); err != nil {
			return fmt.Errorf("quantsim: tensor %q: %w", name, err)
		}
	}
	q.enc, q.grid, q.enabled, q.frozen = e, e.Grid, true, freeze
	return nil
}

// owner returns the first operator that has name as a parameter, or nil.
func (n *network) owner(name string) *op {
	for _, o := range n.ops {
		for _, w := range o.params {
			if w.tensor == name {
				return o
			}
		}
	}
	return nil
}

// perChannel reports whether the parameters of o have a scale per channel.
func (r *Rules) perChannel(o *op) bool {
	if o == nil {
		return false
	}
	if v := r.OpTypes[o.typ].PerChannel; v != nil {
		return *v
	}
	return r.PerChannel
}

// Axes returns the channel and the block axis that a parameter has by its operator,
// encoding.PerTensor and -1 where there is none.
func (s *Sim) Axes(name string) (channel, block int) {
	if q := s.quant[name]; q != nil {
		return q.channel, q.block
	}
	return encoding.PerTensor, -1
}

// KeepsGrid reports whether an operator only moves or selects data, so that its output lies on the grid of its first input.
func KeepsGrid(op string) bool { return keepsGrid[op] }
