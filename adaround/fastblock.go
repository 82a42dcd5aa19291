package adaround

import (
	"context"
	"slices"

	"roundel/tensor"
)

// fastBlock is some outputs of one group under solution.
type fastBlock struct {
	*linear
	p      *Problem
	pool   *tensor.Pool
	center bool // the bias is free: residuals count without their mean
	mend   float32
	base   []float32 // [O]
	rows   []row
	cols   []float32 // [P][K]
	y      []float32 // [P][n] pre-activation targets
	z      []float32 // [P][n] scratch: predictions, then residuals
	res    []float32 // [outs][K] half the gradient of the surrogate
	grad   []float32 // [K][n] scratch
}

func (r *fastRun) newBlock(from, to int) *fastBlock {
	b := &fastBlock{linear: newLinear(r.p, from, to, r.bias, r.pool.Kernels()), p: r.p, pool: r.pool, center: r.CorrectBias, mend: r.mend, base: r.base}
	b.res = make([]float32, b.outs*b.k)
	for o := from; o < to; o++ {
		b.rows = append(b.rows, newRow(r.p, o, r.scale[o]))
	}
	return b
}

// sample gives the block the columns and targets.
func (b *fastBlock) sample() {
	s := &b.p.Solve
	b.cols = b.columns(b.p, s, 0, s.P)
	b.y, b.z, b.grad = make([]float32, s.P*b.n), make([]float32, s.P*b.n), make([]float32, b.k*b.n)
	outs := b.p.outs()
	for j := range b.outs {
		o := b.from + j
		y := s.targets(o/outs, outs)[o%outs:]
		for q := range s.P {
			b.y[q*b.n+j] = y[q*outs]
		}
	}
	if b.mend != 1 {
		b.temper()
	}
}

// temper moves the targets to where only a share of the earlier layers' error is to be mended: towards what the float
// weights give on the inputs at hand, with the bias that makes the means agree.
func (b *fastBlock) temper() {
	bias := slices.Clone(b.bias)
	if b.base != nil {
		copy(b.bias[:b.outs], b.base[b.from:])
	}
	b.predict(func(r *row) []float32 { return r.weight })
	copy(b.bias, bias)
	for i, z := range b.z {
		b.y[i] = z + float32(b.mend*(b.y[i]-z))
	}
}

// relax lowers the surrogate, renews it at the predictions it led to, and so on,
// and leaves every row at the choice with the lowest true loss. Without activation
// the surrogate is the loss. start is half its gradient at the float weights, for
// which the bias is.
func (b *fastBlock) relax(ctx context.Context, g group, start []float32) {
	b.rest(g.f, b.res, start)
	b.feedback(g.f, b.res)
	b.move(g.m, start)
	b.shift(g.m, func(r *row) []float32 { return r.weight })
	b.descend(g)
	if b.p.Act.Kind == ActIdentity {
		return
	}
	b.sample()
	for round := 0; ctx.Err() == nil; round++ {
		b.predict(func(r *row) []float32 { return r.x })
		b.keep(round == 0)
		if round == majorizeRounds || b.finished() {
			break
		}
		b.residuals(false)
		b.gradients(g.m)
		b.descend(g)
	}
	for o := range b.rows {
		b.rows[o].restore()
		b.bias[o] = b.rows[o].bestBias
	}
}

// descend lowers the surrogate of all rows; a row that cannot is done.
func (b *fastBlock) descend(g group) {
	before := make([]float32, b.k)
	for o := range b.rows {
		r := &b.rows[o]
		if r.done || b.pool.Stopped() {
			continue
		}
		copy(before, r.x)
		r.done = !r.minimize(g.m, g.near, b.res[o*b.k:(o+1)*b.k], &b.kernels) && b.z != nil
		b.bias[o] -= g.m.drift(before, r.x)
	}
}

// shift moves free biases along with a change of the weights from those that from selects.
func (b *fastBlock) shift(m *gram, from func(r *row) []float32) {
	for o := range b.rows {
		b.bias[o] -= m.drift(from(&b.rows[o]), b.rows[o].x)
	}
}

// drift is the change of the mean prediction when the weights go from w to x; 0 when the bias is not free.
func (m *gram) drift(w, x []float32) float32 {
	var sum float32
	for c, mean := range m.means {
		sum += float32(mean * (x[c] - w[c]))
	}
	return sum
}

// move sets res to half the gradient of the first surrogate at x, start + G(x − w).
func (b *fastBlock) move(m *gram, start []float32) {
	copy(b.res, start[:len(b.res)])
	moved := make([]float32, len(b.res))
	for o := range b.rows {
		for c, x := range b.rows[o].x {
			moved[o*b.k+c] = x - b.rows[o].weight[c]
		}
	}
	one := tensor.NewPool(1, b.kernels)
	const strip = 256 // columns, so that little is packed at a time
	for c := 0; c < b.k; c += strip {
		tensor.Gemm(b.res[c:], b.k, moved, b.k, m.g[c:], b.k, b.outs, min(strip, b.k-c), b.k, false, false, true, one)
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
			if r.keep(loss[j], first) {
				r.bestBias = b.bias[j]
			} else {
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

// residuals replaces the predictions z by z − t, with t the target of the surrogate at
// z. A free bias moves to where their mean is zero.
func (b *fastBlock) residuals(first bool) {
	for j, act := range b.act {
		var sum float64
		for q := j; q < len(b.z); q += b.n {
			b.z[q] -= act.surrogate(b.z[q], b.y[q], first)
			sum += float64(b.z[q])
		}
		if !b.center {
			continue
		}
		shift := float32(sum / float64(b.p.Solve.P))
		for q := j; q < len(b.z); q += b.n {
			b.z[q] -= shift
		}
		if !b.rows[j].done {
			b.bias[j] -= shift
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
			res[c] = float32(scale * b.grad[c*b.n+j])
			if m != nil {
				res[c] += float32(m.ridge * (r.x[c] - r.weight[c]))
			}
		}
	}
}

// write stores the codes of the block.
func (b *fastBlock) write(to candidate) {
	for j := range b.rows {
		for c := range b.k {
			to.codes[(b.from+j)*b.k+c] = b.rows[j].code(c)
		}
		if b.center {
			to.bias[b.from+j] = b.bias[j]
		}
	}
}

// read takes over the codes of the block.
func (b *fastBlock) read(from candidate) {
	for j := range b.rows {
		r := &b.rows[j]
		for c := range b.k {
			r.set(c, from.codes[(b.from+j)*b.k+c] > r.down[c])
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
