package quantsim

import (
	"roundel/quantsim/encoding"
)

// quantizer is one fake quantizer. Several tensors may share it (tying).
type quantizer struct {
	kind    encoding.Kind
	grid    encoding.Grid
	method  encoding.Method
	enabled bool
	frozen  bool
	fixed   *Range             // range that calibration must keep
	enc     *encoding.Encoding // nil until calibrated or loaded
	block   int                // block axis of the parameter, -1 if it has none
	channel int                // channel axis of the parameter, PerTensor if it has none
	id      int                // order of creation
}

// State is a copy of what is known about the quantizer of one tensor.
type State struct {
	Tensor  string
	Kind    encoding.Kind
	Grid    encoding.Grid
	Method  encoding.Method
	Enabled bool
	Frozen  bool
	// Encoding is nil until it was computed or loaded. It must not be changed.
	Encoding *encoding.Encoding
	// Group is the same number for tensors that share one quantizer.
	Group int
}

// tied merges the settings of a quantizer that is given up for q: the lower bitwidth, and every restriction.
func (q *quantizer) absorb(o *quantizer) {
	q.grid.Bits = min(q.grid.Bits, o.grid.Bits)
	q.grid.Symmetric = q.grid.Symmetric || o.grid.Symmetric
	q.grid.Unsigned = q.grid.Unsigned || o.grid.Unsigned
	if q.fixed == nil {
		q.fixed = o.fixed
	}
	if q.fixed != nil && q.grid.Symmetric {
		q.fixed = q.fixed.symmetric()
	}
}

// symmetric returns the range widened to be symmetric about zero; an end that is open stays open.
func (r *Range) symmetric() *Range {
	if r.Min == nil || r.Max == nil {
		return r
	}
	hi := max(-*r.Min, *r.Max)
	lo := -hi
	return &Range{&lo, &hi}
}

func sameRange(a, b *Range) bool {
	if a == nil || b == nil {
		return a == b
	}
	same := func(x, y *float64) bool { return x == nil && y == nil || x != nil && y != nil && *x == *y }
	return same(a.Min, b.Min) && same(a.Max, b.Max)
}
