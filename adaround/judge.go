package adaround

import (
	"slices"

	"roundel/tensor"
)

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
	if s.P == 0 || pool.Stopped() {
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

// judged is a candidate with its losses per output.
type judged struct {
	candidate
	solve, held []float64
}

func (p *Problem) measure(c candidate, pool *tensor.Pool) judged {
	return judged{c, p.losses(c, &p.Solve, pool), p.losses(c, &p.HeldOut, pool)}
}

// worse reports whether a loses to b on the held-out positions, or on the solving ones when there are none. A loss that is not a number loses.
func (p *Problem) worse(solveA, heldA, solveB, heldB float64) bool {
	if p.HeldOut.P == 0 {
		return !(solveA <= solveB)
	}
	return !(heldA <= heldB)
}

// judge compares c with nearest rounding on the given scales, output by output, and
// returns what is better. Outputs that share a scale which c changed are compared on the
// new one, and then as a whole with nearest rounding on the old one. What it returns on a stopped pool is worth nothing.
func (p *Problem) judge(c candidate, pool *tensor.Pool) *Solution {
	if pool.Stopped() {
		return &Solution{}
	}
	near := p.measure(candidate{p.nearestCodes(p.Scale), p.Scale, p.Bias}, pool)
	other := near
	shared := p.SharedScale && !slices.Equal(c.scale, p.Scale)
	if shared {
		other = p.measure(candidate{p.nearestCodes(c.scale), c.scale, p.Bias}, pool)
	}
	best := p.measure(candidate{slices.Clone(c.codes), slices.Clone(c.scale), slices.Clone(c.bias)}, pool)
	for o := range p.O {
		if p.worse(best.solve[o], best.held[o], other.solve[o], other.held[o]) {
			best.take(other, o, p.K)
		}
	}
	sol := &Solution{Nearest: near.total(p), Final: best.total(p)}
	if shared && p.worse(sol.Final.Solve, sol.Final.HeldOut, sol.Nearest.Solve, sol.Nearest.HeldOut) {
		best, sol.Final = near, sol.Nearest
	}
	sol.Codes, sol.Scale, sol.Bias = best.codes, slices.Clone(best.scale), slices.Clone(best.bias)
	for i, v := range p.nearestCodes(sol.Scale) {
		if sol.Codes[i] != v {
			sol.Flips++
		}
	}
	return sol
}

// take copies output o of another candidate.
func (j *judged) take(from judged, o, k int) {
	copy(j.codes[o*k:(o+1)*k], from.codes[o*k:])
	j.scale[o], j.solve[o], j.held[o] = from.scale[o], from.solve[o], from.held[o]
	if from.bias != nil {
		j.bias[o] = from.bias[o]
	}
}

func (j *judged) total(p *Problem) Loss {
	return Loss{total(j.solve, p.Solve.P), total(j.held, p.HeldOut.P)}
}
