package quantsim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"roundel/asm"
	"roundel/nn"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// Forward runs the simulation: feeds are the graph inputs, the results its outputs,
// with every enabled quantizer applied. It is an error if one of them has no encoding yet.
func (s *Sim) Forward(ctx context.Context, feeds map[string]tensor.Any) (map[string]tensor.Any, error) {
	if s.prog == nil {
		p, err := s.Compile(ctx, nn.CompileOptions{})
		if err != nil {
			return nil, err
		}
		s.prog = p
	}
	return s.prog.Run(ctx, feeds)
}

// Compile returns a program that runs the simulation. Feeds, Fetches, Taps, Pool and
// Weights of o are the caller's choice; FakeQuant and Consts are set here, and o's own
// entries of Consts are quantized like the constants they replace. The program does
// not follow later changes of the simulation. When ctx is done the error wraps its error.
func (s *Sim) Compile(ctx context.Context, o nn.CompileOptions) (*nn.Program, error) {
	if missing := s.uncalibrated(); len(missing) > 0 {
		return nil, fmt.Errorf("quantsim: no encoding yet for %s; call ComputeEncodings, load encodings, or disable these quantizers", list(missing))
	}
	if o.Pool == nil {
		o.Pool = s.workers()
	}
	consts, err := s.quantizedConsts(o.Consts, false)
	if err != nil {
		return nil, err
	}
	o.Consts = consts
	o.FakeQuant = map[string]tensor.FakeQuant{}
	g := s.g
	for _, name := range s.order {
		q := s.quant[name]
		if q.kind != encoding.Activation || !q.enabled || s.g.Consts[name] != nil {
			continue
		}
		switch q.grid.Type {
		case encoding.Int:
			f, err := q.enc.FakeQuant()
			if err != nil {
				return nil, fmt.Errorf("quantsim: tensor %q: %w", name, err)
			}
			o.FakeQuant[name] = f
		case encoding.Float16, encoding.BFloat16:
			if g == s.g {
				g = s.g.Clone()
			}
			castThrough(g, name, q.grid.Type)
		}
	}
	return nn.Compile(ctx, g, o)
}

// list formats names, the first few if there are many.
func list(names []string) string {
	if n := len(names); n > 5 {
		return strings.Join(names[:5], ", ") + fmt.Sprintf(" and %d more", n-5)
	}
	return strings.Join(names, ", ")
}

// uncalibrated returns the tensors whose quantizers are enabled and have no encoding.
func (s *Sim) uncalibrated() []string {
	var out []string
	for _, name := range s.order {
		if q := s.quant[name]; q.enabled && q.enc == nil && q.grid.Type == encoding.Int {
			out = append(out, name)
		}
	}
	return out
}

func (s *Sim) workers() *tensor.Pool {
	if s.pool == nil {
		s.pool = tensor.NewPool(max(s.cfg.Workers, 1), asm.Best())
	}
	return s.pool
}

// quantizedConsts returns the simulated values of the constants that have an enabled
// quantizer, only of parameters if asked so, and of the overrides.
func (s *Sim) quantizedConsts(overrides map[string]tensor.Any, params bool) (map[string]tensor.Any, error) {
	out := map[string]tensor.Any{}
	maps.Copy(out, overrides)
	for _, name := range s.order {
		q, c := s.quant[name], s.g.Consts[name]
		if c == nil || !q.enabled || params && q.kind != encoding.Param {
			continue
		}
		if v := overrides[name]; v != nil {
			c = v
		} else if v := s.consts[name]; v != nil {
			out[name] = v
			continue
		}
		e := q.enc
		if e == nil {
			e = &encoding.Encoding{Grid: q.grid}
		}
		v, err := e.QuantizeDequantizeTensor(c)
		if err != nil {
			return nil, fmt.Errorf("quantsim: tensor %q: %w", name, err)
		}
		out[name] = v
		if s.consts != nil && overrides[name] == nil {
			s.consts[name] = v
		}
	}
	return out, nil
}

// The element types of the Cast operator, as ONNX numbers them.
const (
	onnxFloat    = 1
	onnxFloat16  = 10
	onnxBFloat16 = 16
)

// castThrough sends a value through a float type and back: its readers see the result
// under the same name if a node makes it, and under another if it is a graph input.
func castThrough(g *nn.Graph, name string, t encoding.DataType) {
	to := int64(onnxFloat16)
	if t == encoding.BFloat16 {
		to = onnxBFloat16
	}
	at, from, result := 0, name, name
	if p := g.Producer(name); p != nil {
		from = name + ".float32"
		p.Outputs[slices.Index(p.Outputs, name)] = from
		at = slices.Index(g.Nodes, p) + 1
	} else {
		result = name + ".rounded"
		for _, c := range g.Consumers(name) {
			for i, in := range c.Inputs {
				if in == name {
					c.Inputs[i] = result
				}
			}
		}
	}
	half := name + ".half"
	cast := func(suffix, in, out string, to int64) *nn.Node {
		return &nn.Node{Name: name + suffix, Op: "Cast", Inputs: []string{in}, Outputs: []string{out}, Attrs: map[string]nn.Attr{"to": {Kind: nn.AttrInt, I: to}}}
	}
	g.Nodes = slices.Insert(g.Nodes, at, cast(".narrow", from, half, to), cast(".widen", half, result, onnxFloat))
}
