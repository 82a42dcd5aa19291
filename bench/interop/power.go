package main

import (
	"math"

	"roundel/nn"
	"roundel/quantsim"
	"roundel/tensor"
)

// powersOfTwo returns a copy of a calibrated simulation of g, in which layers have biases, that leaves rounding no choice:
//
//   - scales are powers of two and biases lie on the grid of the products, so sums are multiples of one power of two, and
//     exact in float32 in any order as long as they are below 2^24 of it;
//   - weights have even codes and biases odd ones, so no sum of products lies halfway between two codes of the output;
//   - what is added has the scale of the sum, and what is averaged (over an odd number) no finer one than the average.
//
// What is left of the difference between two programs that simulate it is no matter of order, and none of ties.
func powersOfTwo(g *nn.Graph, s *quantsim.Sim, cfg quantsim.Config) (*quantsim.Sim, error) {
	for _, name := range s.Tensors() {
		if st, _ := s.State(name); st.Enabled && st.Encoding != nil {
			if err := raise(s, name, func(int) float64 { return 0 }); err != nil {
				return nil, err
			}
		}
	}
	if err := equalize(s); err != nil {
		return nil, err
	}
	g = g.Clone()
	for _, n := range g.Nodes {
		if err := parity(g, s, n); err != nil {
			return nil, err
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

// raise raises the scales of a tensor to powers of two that are no less than least.
func raise(s *quantsim.Sim, name string, least func(group int) float64) error {
	st, _ := s.State(name)
	e := st.Encoding.Clone()
	for i, v := range e.Scale {
		frac, exp := math.Frexp(max(v, least(i)))
		if frac == 0.5 {
			exp--
		}
		e.SetScale(i, math.Ldexp(1, exp))
	}
	return s.SetEncoding(name, e, false)
}

// equalize gives what Add joins and makes one scale, and no coarser one to a mean than to its terms.
func equalize(s *quantsim.Sim) error {
	for changed := true; changed; {
		changed = false
		for _, n := range s.Graph().Nodes {
			if n.Op != "Add" && n.Op != "GlobalAveragePool" {
				continue
			}
			most := 0.0
			grids := []string{gridOf(s, n.Outputs[0])}
			for _, in := range n.Inputs {
				grids = append(grids, gridOf(s, in))
			}
			for _, name := range grids {
				st, _ := s.State(name)
				most = max(most, st.Encoding.Scale[0])
			}
			if n.Op != "Add" {
				grids = grids[1:]
			}
			for _, name := range grids {
				st, _ := s.State(name)
				if st.Encoding.Scale[0] == most {
					continue
				}
				changed = true
				if err := raise(s, name, func(int) float64 { return most }); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// gridOf returns the tensor whose quantizer decides the grid of a value: itself, what it was moved from, or what its activation makes.
func gridOf(s *quantsim.Sim, name string) string {
	st, ok := s.State(name)
	p, next := s.Graph().Producer(name), s.Graph().Consumers(name)
	switch {
	case ok && st.Enabled:
		return name
	case p != nil && quantsim.KeepsGrid(p.Op):
		return gridOf(s, p.In(0))
	}
	return gridOf(s, next[0].Outputs[0])
}

// parity puts the weights of a layer on the even codes of their grid and its biases on the odd ones of theirs.
func parity(g *nn.Graph, s *quantsim.Sim, n *nn.Node) error {
	bias, ok := g.Consts[n.In(2)].(*tensor.Dense[float32])
	w, _ := s.State(n.In(1))
	if !ok || n.Op != "Conv" && n.Op != "Gemm" || w.Encoding == nil {
		return nil
	}
	in, _ := s.State(gridOf(s, n.In(0)))
	sx := in.Encoding.Scale[0]
	// A channel of next to no weights has a scale in which its bias has more digits than float32.
	err := raise(s, n.In(1), func(group int) float64 {
		most := 0.0
		for i, b := range bias.Data() {
			if i == group || len(w.Encoding.Scale) == 1 {
				most = max(most, math.Abs(float64(b)))
			}
		}
		return most / (sx * (1 << 20))
	})
	if err != nil {
		return err
	}
	w, _ = s.State(n.In(1))
	odd := bias.Clone()
	for i, b := range odd.Data() {
		step := 2 * sx * w.Encoding.Scale[min(i, len(w.Encoding.Scale)-1)]
		odd.Data()[i] = float32((math.Floor(float64(b)/step) + 0.5) * step)
	}
	g.Consts[n.In(2)] = odd
	even := w.Encoding.Clone()
	even.Bits--
	for i := range even.Scale {
		even.Offset[i] /= 2
		even.SetScale(i, 2*even.Scale[i])
	}
	g.Consts[n.In(1)], err = even.QuantizeDequantizeTensor(g.Consts[n.In(1)])
	return err
}
