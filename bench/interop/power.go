package main

import (
	"math"

	"roundel/nn"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// powersOfTwo returns a copy of a calibrated simulation in which every scale is raised to a power of two and every bias
// of a Conv or Gemm lies on the grid of its products. The sums of products are then multiples of one power of two, and
// exact in float32 in any order as long as they are below 2^24 of it: what is left of the difference between two programs
// that simulate it is no matter of rounding.
func powersOfTwo(g *nn.Graph, s *quantsim.Sim, cfg quantsim.Config) (*quantsim.Sim, error) {
	raise := func(s *quantsim.Sim) error {
		for _, name := range s.Tensors() {
			st, _ := s.State(name)
			if !st.Enabled || st.Encoding == nil {
				continue
			}
			e := st.Encoding.Clone()
			for i, v := range e.Scale {
				frac, exp := math.Frexp(v)
				if frac == 0.5 {
					exp--
				}
				e.SetScale(i, math.Ldexp(1, exp))
			}
			if err := s.SetEncoding(name, e, false); err != nil {
				return err
			}
		}
		return nil
	}
	if err := raise(s); err != nil {
		return nil, err
	}
	f, err := s.Encodings(quantsim.EncodingsOptions{Bias: true})
	if err != nil {
		return nil, err
	}
	g = g.Clone()
	for _, e := range f.Entries {
		if b, ok := g.Consts[e.Name].(*tensor.Dense[float32]); ok && e.Type == encoding.Int && e.Bits == 32 {
			if g.Consts[e.Name], err = e.QuantizeDequantizeTensor(b); err != nil {
				return nil, err
			}
		}
	}
	exact, err := quantsim.New(g, cfg)
	if err != nil {
		return nil, err
	}
	for _, name := range s.Tensors() {
		if st, _ := s.State(name); st.Enabled && st.Encoding != nil {
			if err := exact.SetEncoding(name, st.Encoding, false); err != nil {
				return nil, err
			}
		}
	}
	return exact, nil
}
