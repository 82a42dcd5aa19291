package adaround

import (
	"context"
	"fmt"

	"roundel/tensor"
)

// SolverFast attacks the rounding problem as the piecewise quadratic binary
// program it is: a start by error feedback, exact descent by flips and pairs of
// flips on the Gram matrix, with an activation majorised by a quadratic at each
// round, and a last descent on the true loss over the samples. Small kernels are
// enumerated. It needs no learning rate and no iterations; a layer takes
// milliseconds to seconds. The zero value is ready to use.
type SolverFast struct {
	// NoPolish leaves out the last descent on the true loss.
	NoPolish bool
	// NoPairs leaves out moves of two weights at once.
	NoPairs bool
}

// Limits of the outer loops; they end earlier when nothing improves.
const (
	majorizeRounds = 12
	polishSweeps   = 8
	fastBlockOuts  = 32
	enumerateUpTo  = 12 // columns: 2^12 codes
)

// Round solves p. No output has a higher loss than nearest rounding on the
// held-out positions (on the solving ones when there are none held out).
// When ctx is done it returns its error, wrapped.
func (s SolverFast) Round(ctx context.Context, p *Problem, pool *tensor.Pool) (*Solution, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	codes := make([]int32, p.O*p.K)
	var err error
	if p.depthwise() {
		err = s.roundDepthwise(ctx, p, codes, pool)
	} else {
		for g := 0; g < p.Groups && err == nil; g++ {
			err = s.roundGroup(ctx, p, g, codes, pool)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("adaround: stopped while rounding: %w", err)
	}
	return p.judge(candidate{codes, p.Scale, p.Bias}, pool), nil
}

// roundGroup solves all outputs of group g, which share their columns.
func (s SolverFast) roundGroup(ctx context.Context, p *Problem, g int, codes []int32, pool *tensor.Pool) error {
	m := newGram(p.Solve.cols(g, p.K), p.K, pool)
	f := newFactor(m, pool)
	var near *neighbourhood
	if !s.NoPairs {
		near = newNeighbourhood(m, pool)
	}
	var columns []float32 // [K][P]
	if p.Act.Kind != ActIdentity && !s.NoPolish {
		columns = transpose(p.Solve.cols(g, p.K), p.Solve.P, p.K, pool)
	}
	first := g * p.outs()
	width := blockWidth(p.outs(), pool.Workers())
	pool.For((p.outs()+width-1)/width, func(_, i int) {
		b := newFastBlock(p, first+i*width, first+min((i+1)*width, p.outs()), pool)
		b.relax(ctx, m, f, near)
		if columns != nil {
			b.polish(ctx, m, near, columns)
		}
		b.write(codes)
	})
	return ctx.Err()
}

// blockWidth is how many outputs run together. It changes only who computes what, never a result.
func blockWidth(outs, workers int) int {
	width := fastBlockOuts
	for width > 8 && (outs+width-1)/width < 2*workers {
		width /= 2
	}
	return width
}

// fastBlock is some outputs of one group under solution.
type fastBlock struct {
	*linear
	p    *Problem
	rows []row
	cols []float32 // [P][K]
	y    []float32 // [P][n] pre-activation targets
	z    []float32 // [P][n] scratch: predictions, then residuals
	res  []float32 // [outs][K] half the gradient of the surrogate
	grad []float32 // [K][n] scratch
}

func newFastBlock(p *Problem, from, to int, pool *tensor.Pool) *fastBlock {
	b := &fastBlock{linear: newLinear(p, from, to, p.Bias, pool.Kernels()), p: p}
	s := &p.Solve
	b.cols = b.columns(p, s, 0, s.P)
	b.y, b.z = make([]float32, s.P*b.n), make([]float32, s.P*b.n)
	b.res, b.grad = make([]float32, b.outs*b.k), make([]float32, b.k*b.n)
	outs := p.outs()
	for j := range b.outs {
		o := from + j
		b.rows = append(b.rows, newRow(p, o, p.Scale[o]))
		y := s.targets(o/outs, outs)[o%outs:]
		for q := range s.P {
			b.y[q*b.n+j] = y[q*outs]
		}
	}
	return b
}

// relax runs the rounds on the quadratic surrogate and leaves every row at its best choice.
func (b *fastBlock) relax(ctx context.Context, m *gram, f *factor, near *neighbourhood) {
	b.predict(func(r *row) []float32 { return r.weight })
	b.residuals(true)
	b.gradients(nil)
	b.start(f, b.res)
	for round := 0; ctx.Err() == nil; round++ {
		b.predict(func(r *row) []float32 { return r.x })
		b.keep(round == 0)
		if round == majorizeRounds || b.finished() {
			break
		}
		b.residuals(false)
		b.gradients(m)
		for o := range b.rows {
			r := &b.rows[o]
			if !r.done {
				r.done = !r.minimize(m, near, b.res[o*b.k:(o+1)*b.k], &b.kernels)
			}
		}
	}
	for o := range b.rows {
		b.rows[o].restore()
	}
}

// predict sets z to the predictions of the rows that x selects.
func (b *fastBlock) predict(x func(r *row) []float32) {
	for j := range b.rows {
		for c, v := range x(&b.rows[j]) {
			b.w[c*b.n+j] = v
		}
	}
	b.forward(b.z, b.cols)
}

// keep records the true losses of the present choices; a row that got worse is done.
func (b *fastBlock) keep(first bool) {
	loss := make([]float64, b.outs)
	const run = 64
	part := make([]float32, b.outs)
	for q := range b.p.Solve.P {
		for j, act := range b.act {
			e := act.value(b.z[q*b.n+j]) - act.value(b.y[q*b.n+j])
			part[j] += float32(e * e)
		}
		if q%run == run-1 || q == b.p.Solve.P-1 {
			for j := range part {
				loss[j] += float64(part[j])
			}
			clear(part)
		}
	}
	for j := range b.rows {
		if r := &b.rows[j]; !r.done || first {
			if !r.keep(loss[j], first) {
				r.done = true
			}
		}
	}
}

func (b *fastBlock) finished() bool {
	for j := range b.rows {
		if !b.rows[j].done {
			return false
		}
	}
	return true
}

// residuals replaces the predictions z by z − t, with t the target of the surrogate at z.
func (b *fastBlock) residuals(first bool) {
	for j, act := range b.act {
		for q := j; q < len(b.z); q += b.n {
			b.z[q] -= act.surrogate(b.z[q], b.y[q], first)
		}
	}
}

// gradients sets res to half the gradient A'(z − t)/P + ridge·(x − w); without m the ridge is left out.
func (b *fastBlock) gradients(m *gram) {
	clear(b.grad)
	b.backward(b.grad, b.cols, b.z)
	scale := 1 / float32(b.p.Solve.P)
	for j := range b.rows {
		r := &b.rows[j]
		res := b.res[j*b.k : (j+1)*b.k]
		for c := range res {
			res[c] = scale * b.grad[c*b.n+j]
			if m != nil {
				res[c] += float32(m.ridge * (r.x[c] - r.weight[c]))
			}
		}
	}
}

// write stores the codes of the block.
func (b *fastBlock) write(codes []int32) {
	for j := range b.rows {
		for c := range b.k {
			codes[(b.from+j)*b.k+c] = b.rows[j].code(c)
		}
	}
}

// surrogate returns the target t of the quadratic (z' − t)² that stands in for
// (f(z') − f(y))² around z. For a clamp it is never below the true loss where the
// target is clipped, and touches it at z; a target in the linear range pulls the
// prediction back into it. Other activations take a step of majorised gradient
// descent, t = z − (f(z) − f(y))·f'(z)/L, except for the first target, which is y.
func (s scalar) surrogate(z, y float32, first bool) float32 {
	switch {
	case s.kind == ActIdentity:
		return y
	case s.kind == ActClamp && y <= s.lo:
		return min(z, s.lo)
	case s.kind == ActClamp && y >= s.hi:
		return max(z, s.hi)
	case s.kind == ActClamp || first:
		return y
	}
	f, df := s.both(z)
	return z - float32((f-s.value(y))*df)/s.curvature()
}

// transpose returns a, [rows][cols], as [cols][rows] with rows padded by zeros.
func transpose(a []float32, rows, cols int, pool *tensor.Pool) []float32 {
	stride := padded(rows)
	out := make([]float32, cols*stride)
	const tile = 32
	pool.For((cols+tile-1)/tile, func(_, c int) {
		to := min((c+1)*tile, cols)
		for r0 := 0; r0 < rows; r0 += tile {
			for j := c * tile; j < to; j++ {
				for i := r0; i < min(r0+tile, rows); i++ {
					out[j*stride+i] = a[i*cols+j]
				}
			}
		}
	})
	return out
}
