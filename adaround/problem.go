package adaround

import (
	"errors"
	"fmt"
	"math"
)

// Problem is the rounding problem of one layer on sampled output positions.
//
// A convolution with g groups is g independent problems over the same
// positions: K is the number of columns of one group (input channels per group
// times kernel size) and the O outputs belong to the groups in order, O/g each.
// The prediction at position p is z_o = Σ_k x_ok·a_pk + b_o with x_ok = Scale_o·v_ok,
// where the code v_ok is one of the two grid neighbours of Weight_ok/Scale_o.
type Problem struct {
	Groups, K, O int
	Weight       []float32 // [O][K] float weights
	Bias         []float32 // [O], or nil for none; added to the prediction in float
	Scale        []float32 // [O], > 0
	Lo, Hi       []int32   // [O] smallest and largest code, offset included: x = Scale·v, Lo ≤ v ≤ Hi
	SharedScale  bool      // Scale may only change by one factor for all outputs
	Act          Activation
	Solve        Samples // the solver sees these
	HeldOut      Samples // positions of other images, only for judging; may be empty
}

// Samples are the columns and targets of P output positions.
type Samples struct {
	P int
	A []float32 // [Groups][P][K] columns of the rounded-so-far model's input
	Y []float32 // [Groups][P][O/Groups] pre-activation outputs of the float model
}

// Loss is the reconstruction loss (mean over positions of the sum over outputs of
// the squared error after the activation) on solving and held-out positions.
type Loss struct{ Solve, HeldOut float64 }

// Solution is a rounding of one layer.
type Solution struct {
	Codes   []int32   // [O][K]
	Scale   []float32 // [O]; differs from Problem.Scale only if the solver may change it
	Bias    []float32 // [O] or nil; differs from Problem.Bias only if the solver may correct it
	Nearest Loss      // with every weight rounded to its nearest code
	Final   Loss
	Flips   int // codes that differ from nearest rounding on the final scale
}

func (p *Problem) outs() int { return p.O / p.Groups }

// depthwise reports whether every output has columns of its own.
func (p *Problem) depthwise() bool { return p.Groups > 1 && p.Groups == p.O }

// cols returns the columns of group g, [P][K].
func (s *Samples) cols(g, k int) []float32 { return s.A[g*s.P*k : (g+1)*s.P*k] }

// targets returns the targets of group g, [P][outs].
func (s *Samples) targets(g, outs int) []float32 { return s.Y[g*s.P*outs : (g+1)*s.P*outs] }

// Validate reports everything that is wrong with the sizes and values of p.
func (p *Problem) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if p.Groups < 1 || p.K < 1 || p.O < 1 || p.O%max(p.Groups, 1) != 0 {
		return fmt.Errorf("adaround: problem of %d outputs and %d columns in %d groups", p.O, p.K, p.Groups)
	}
	if len(p.Weight) != p.O*p.K {
		bad("%d weights for %d outputs of %d columns", len(p.Weight), p.O, p.K)
	}
	if p.Bias != nil && len(p.Bias) != p.O {
		bad("%d biases for %d outputs", len(p.Bias), p.O)
	}
	if len(p.Scale) != p.O || len(p.Lo) != p.O || len(p.Hi) != p.O {
		bad("%d scales, %d and %d code limits for %d outputs", len(p.Scale), len(p.Lo), len(p.Hi), p.O)
	}
	for o, s := range p.Scale {
		if !(s > 0) || math.IsInf(float64(s), 0) {
			bad("scale %g of output %d", s, o)
		}
	}
	if p.Solve.P < 1 {
		bad("no positions to solve on")
	}
	for _, s := range []*Samples{&p.Solve, &p.HeldOut} {
		if len(s.A) != p.Groups*s.P*p.K || len(s.Y) != s.P*p.O {
			bad("%d column and %d target values for %d positions", len(s.A), len(s.Y), s.P)
		}
	}
	if err := p.Act.validate(p.O); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return fmt.Errorf("adaround: %w", errors.Join(errs...))
	}
	return nil
}

// neighbours returns the two admissible codes of weight w on the grid of output o,
// the floor and ceiling of w/s in float32; they are equal outside the grid.
func (p *Problem) neighbours(w float32, scale float32, o int) (down, up int32) {
	f := float32(math.Floor(float64(w / scale)))
	lo, hi := p.Lo[o], p.Hi[o]
	switch {
	case !(f >= float32(lo)): // also NaN
		return lo, lo
	case f >= float32(hi):
		return hi, hi
	}
	return int32(f), int32(f) + 1
}

// nearest returns the code of w, half to even.
func (p *Problem) nearest(w float32, scale float32, o int) int32 {
	q := float32(math.RoundToEven(float64(w / scale)))
	lo, hi := p.Lo[o], p.Hi[o]
	switch {
	case !(q >= float32(lo)):
		return lo
	case q >= float32(hi):
		return hi
	}
	return int32(q)
}

// nearestCodes returns the nearest codes of every weight on the grid with the given scales.
func (p *Problem) nearestCodes(scale []float32) []int32 {
	codes := make([]int32, p.O*p.K)
	for o := range p.O {
		for k := range p.K {
			codes[o*p.K+k] = p.nearest(p.Weight[o*p.K+k], scale[o], o)
		}
	}
	return codes
}

// dequantize returns x = scale·v for every code, [O][K].
func (p *Problem) dequantize(codes []int32, scale []float32) []float32 {
	x := make([]float32, len(codes))
	for i, v := range codes {
		x[i] = scale[i/p.K] * float32(v)
	}
	return x
}

// outputBlocks splits the outputs into runs [from, to) of at most width: within a group, or whole groups of one output.
func outputBlocks(p *Problem, width int) [][2]int {
	run := p.outs()
	if p.depthwise() {
		run = p.O
	}
	var blocks [][2]int
	for g := 0; g < p.O; g += run {
		for o := g; o < g+run; o += width {
			blocks = append(blocks, [2]int{o, min(o+width, g+run)})
		}
	}
	return blocks
}
