package adaround

import "roundel/tensor"

// candidate is one possible rounding of a whole layer.
type candidate struct {
	codes []int32   // [O][K]
	scale []float32 // [O]
	bias  []float32 // [O] or nil
}

// evalRows is how many positions are predicted at a time when a candidate is judged.
const evalRows = 1024

// losses returns, for every output, the sum over the positions of s of the squared error after the activation.
func (p *Problem) losses(c candidate, s *Samples, pool *tensor.Pool) []float64 {
	sums := make([]float64, p.O)
	if s.P == 0 {
		return sums
	}
	x := p.dequantize(c.codes, c.scale)
	blocks := outputBlocks(p, adamBlockOuts)
	pool.For(len(blocks), func(_, i int) {
		l := newLinear(p, blocks[i][0], blocks[i][1], c.bias, pool.Kernels())
		l.setWeights(x)
		z := make([]float32, min(evalRows, s.P)*l.n)
		for from := 0; from < s.P; from += evalRows {
			to := min(from+evalRows, s.P)
			l.forward(z, l.columns(p, s, from, to))
			l.addErrors(sums[l.from:], p, s, z, from, to)
		}
	})
	return sums
}

// addErrors adds the squared errors of the predictions z of positions [from, to) to sums, one per output.
func (l *linear) addErrors(sums []float64, p *Problem, s *Samples, z []float32, from, to int) {
	outs := p.outs()
	for j, act := range l.act {
		o := l.from + j
		y := s.targets(o/outs, outs)[from*outs+o%outs:]
		var part float32
		for q := range to - from {
			e := act.value(z[q*l.n+j]) - act.value(y[q*outs])
			part += float32(e * e)
			if q%64 == 63 || q == to-from-1 {
				sums[j] += float64(part)
				part = 0
			}
		}
	}
}

// total returns the sum of the outputs' losses as a mean over positions, in a fixed order.
func total(sums []float64, positions int) float64 {
	if positions == 0 {
		return 0
	}
	var t float64
	for _, v := range sums {
		t += v
	}
	return t / float64(positions)
}

// judge compares c with nearest rounding, output by output, on the held-out
// positions (or the solving ones when there are none) and returns what is better.
func (p *Problem) judge(c candidate, pool *tensor.Pool) *Solution {
	near := candidate{p.nearestCodes(p.Scale), p.Scale, p.Bias}
	nearSolve, nearHeld := p.losses(near, &p.Solve, pool), p.losses(near, &p.HeldOut, pool)
	solve, held := p.losses(c, &p.Solve, pool), p.losses(c, &p.HeldOut, pool)
	sol := &Solution{Codes: c.codes, Scale: append([]float32(nil), c.scale...),
		Nearest: Loss{total(nearSolve, p.Solve.P), total(nearHeld, p.HeldOut.P)}}
	if c.bias != nil {
		sol.Bias = append([]float32(nil), c.bias...)
	}
	for o := range p.O {
		worse := held[o] > nearHeld[o]
		if p.HeldOut.P == 0 {
			worse = solve[o] > nearSolve[o]
		}
		if !worse {
			continue
		}
		copy(sol.Codes[o*p.K:(o+1)*p.K], near.codes[o*p.K:])
		sol.Scale[o], solve[o], held[o] = p.Scale[o], nearSolve[o], nearHeld[o]
		if sol.Bias != nil {
			sol.Bias[o] = 0
			if p.Bias != nil {
				sol.Bias[o] = p.Bias[o]
			}
		}
	}
	sol.Final = Loss{total(solve, p.Solve.P), total(held, p.HeldOut.P)}
	for i, v := range p.nearestCodes(sol.Scale) {
		if sol.Codes[i] != v {
			sol.Flips++
		}
	}
	return sol
}
