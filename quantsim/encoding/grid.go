package encoding

import "math"

// params is the grid of one group.
type params struct{ scale, offset float64 }

// scaleFloor is the least scale of a grid with n steps: min(2^-23, 0.01/n).
func scaleFloor(n float64) float64 { return min(0x1p-23, 0.01/n) }

// fromRange returns the grid that covers [lo, hi] (after widening it to contain 0) by the min-max rule of AIMET 2.42:
//
//	asymmetric:          scale = (hi - lo)/N,               offset = -clamp(round(-lo/scale), 0, N)
//	symmetric:           scale = max(hi/P, -lo/Q),          offset = -Q       P = floor(N/2), Q = ceil(N/2)
//	unsigned, lo >= 0:   scale = hi/N,                      offset = 0
//
// with N = Steps, round half away from zero, and never a scale below scaleFloor. The
// 2-bit grid has P = 2 instead of 1, so that all four codes are used.
func (g Grid) fromRange(lo, hi float64) params {
	lo, hi = min(lo, 0), max(hi, 0)
	n := g.Steps()
	floor := scaleFloor(n)
	if !g.Symmetric {
		s := max((hi-lo)/n, floor)
		return params{s, -min(max(math.Floor(-lo/s+0.5), 0), n)}
	}
	if g.Unsigned && lo == 0 {
		return params{max(hi/n, floor), 0}
	}
	p, q := math.Floor(n/2), math.Ceil(n/2)
	if n == 3 {
		p = 2
	}
	return params{max(hi/p, -lo/q, floor), -q}
}
