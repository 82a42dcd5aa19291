package encoding

import (
	"fmt"
	"math"
)

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
		return params{s, 0 - min(max(math.Floor(-lo/s+0.5), 0), n)} // never -0
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

// Constrain moves the ends of the range that are not nil to the given values and
// recomputes the grid, as AIMET does for "encoding_constraints": the range then has at
// least 0.01, and the offset of an asymmetric grid is rounded half to even. It is an
// error if an end that must hold zero cannot (min > 0 or max < 0).
func (e *Encoding) Constrain(lo, hi *float64) error {
	if e.Type != Int || lo == nil && hi == nil {
		return nil
	}
	n := e.Steps()
	for i := range e.Scale {
		l, h := e.Scale[i]*e.Offset[i], e.Scale[i]*(e.Offset[i]+n)
		if lo != nil {
			l = *lo
		}
		if hi != nil {
			h = *hi
		}
		if l > 0 || h < 0 || h-l < 1e-5 {
			return fmt.Errorf("encoding: the fixed range [%v, %v] does not hold zero with room around it", l, h)
		}
		h = max(h, l+0.01)
		switch {
		case !e.Symmetric:
			e.Scale[i] = (h - l) / n
			e.Offset[i] = 0 - max(math.RoundToEven(-l/e.Scale[i]), 0)
		case e.Unsigned && l == 0:
			e.Scale[i], e.Offset[i] = h/n, 0
		default:
			p, q := math.Floor(n/2), math.Ceil(n/2)
			e.Scale[i], e.Offset[i] = max(h/p, -l/q), -q
		}
	}
	e.setRange()
	return nil
}

// SetScale replaces the scale of one group and the range with it; offsets stay.
func (e *Encoding) SetScale(group int, scale float64) {
	e.Scale[group] = scale
	if e.Min == nil {
		e.setRange()
	}
	e.Min[group], e.Max[group] = scale*e.Offset[group], scale*(e.Offset[group]+e.Steps())
}
