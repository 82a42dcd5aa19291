package adaround

import (
	"context"

	"roundel/asm"
	"roundel/tensor"
)

// roundDepthwise solves outputs that have columns of their own: few columns, so
// the surrogate is minimised over all choices, and flips and pairs of flips are
// then tried on the true loss.
func (s SolverFast) roundDepthwise(ctx context.Context, p *Problem, codes []int32, pool *tensor.Pool) error {
	pool.For(p.O, func(_, o int) {
		if ctx.Err() != nil {
			return
		}
		c := newChannel(p, o, !s.NoPairs, pool.Kernels())
		c.relax()
		if !s.NoPolish && p.Act.Kind != ActIdentity {
			c.polish()
		}
		for k := range p.K {
			codes[o*p.K+k] = c.code(k)
		}
	})
	return ctx.Err()
}

// channel is one output with columns of its own.
type channel struct {
	row
	samples polishRow
	kernels asm.Kernels
	m       *gram
	near    *neighbourhood
	bias    float32
	a       []float32 // [K][P], rows padded
	y       []float32 // [P]
	res     []float32 // [K] half the gradient of the surrogate
	scratch []float32 // [P], padded
}

func newChannel(p *Problem, o int, pairs bool, kernels asm.Kernels) *channel {
	s := &p.Solve
	c := &channel{row: newRow(p, o, p.Scale[o]), kernels: kernels, y: s.targets(o, 1), res: make([]float32, p.K),
		a: make([]float32, p.K*padded(s.P)), scratch: make([]float32, padded(s.P))}
	for i, v := range s.cols(o, p.K) {
		c.a[i%p.K*len(c.scratch)+i/p.K] = v
	}
	if p.Bias != nil {
		c.bias = p.Bias[o]
	}
	c.m = c.gram()
	if p.K > enumerateUpTo && pairs {
		c.near = newNeighbourhood(c.m, tensor.NewPool(1, kernels))
	}
	c.samples = newPolishRow(p.Act.of(o), &c.kernels, s.P)
	for q, v := range c.y {
		c.samples.target(q, v)
	}
	return c
}

func (c *channel) column(k int) []float32 { return c.a[k*len(c.scratch) : (k+1)*len(c.scratch)] }

// gram is newGram for few columns that are each contiguous.
func (c *channel) gram() *gram {
	k := len(c.x)
	m := &gram{k: k, g: make([]float32, k*k)}
	var trace float32
	for i := range k {
		for j := range i + 1 {
			v := dot(c.column(i), c.column(j)) / float32(len(c.y))
			m.g[i*k+j], m.g[j*k+i] = v, v
		}
		trace += m.g[i*k+i]
	}
	if m.ridge = ridgeShare * trace / float32(k); m.ridge == 0 {
		m.ridge = 1
	}
	for i := range k {
		m.g[i*k+i] += m.ridge
	}
	return m
}

// dot returns Σ a_i·b_i in a fixed order, with float64 sums of eight products.
func dot(a, b []float32) float32 {
	var sum float64
	b = b[:len(a)]
	for len(a) >= 8 {
		var s [4]float32
		for i := range s {
			s[i] = float32(a[i]*b[i]) + float32(a[i+4]*b[i+4])
		}
		sum += float64((s[0] + s[1]) + (s[2] + s[3]))
		a, b = a[8:], b[8:]
	}
	for i, v := range a {
		sum += float64(float32(v * b[i]))
	}
	return float32(sum)
}

// relax alternates between minimising the surrogate and renewing it, and ends at the best choice.
func (c *channel) relax() {
	c.predict(c.weight)
	c.gradient(true)
	for i, w := range c.weight { // the surrogate's gradient at the present choice
		d := c.x[i] - w
		c.kernels.Axpy(c.res, c.m.g[i*c.m.k:(i+1)*c.m.k], d)
	}
	c.minimize(c.m, c.near, c.res, &c.kernels)
	for round := range majorizeRounds {
		c.predict(c.x)
		if !c.keep(c.samples.loss(), round == 0) {
			break
		}
		c.gradient(false)
		if !c.minimize(c.m, c.near, c.res, &c.kernels) {
			break
		}
	}
	c.restore()
}

// predict sets the predictions z to those of x and the errors to match.
func (c *channel) predict(x []float32) {
	r := &c.samples
	clear(r.z)
	for q := range c.y {
		r.z[q] = c.bias
	}
	for k, v := range x {
		c.kernels.Axpy(r.z, c.column(k), v)
	}
}

// gradient sets res to half the gradient of the surrogate at the predictions.
func (c *channel) gradient(first bool) {
	r := &c.samples
	for q, z := range r.z[:r.count] {
		c.scratch[q] = z - r.act.surrogate(z, c.y[q], first)
	}
	for k := range c.res {
		c.res[k] = dot(c.column(k), c.scratch) / float32(len(c.y))
		if !first {
			c.res[k] += float32(c.m.ridge * (c.x[k] - c.weight[k]))
		}
	}
}

// polish tries flips and pairs of flips on the true loss, in order, until none helps.
func (c *channel) polish() {
	c.predict(c.x)
	for range polishSweeps {
		if !c.polishSweep() {
			return
		}
	}
}

func (c *channel) polishSweep() bool {
	changed := false
	for i := range c.x {
		for j := i; j < len(c.x); j++ {
			d, e := c.step(i), c.step(j)
			if d == 0 || e == 0 {
				continue
			}
			a := c.scratch
			copy(a, c.column(i))
			if i != j {
				c.kernels.Axpy(a, c.column(j), e/d) // e/d is ±1
			}
			if c.samples.change(a, d) < 0 {
				c.kernels.Axpy(c.samples.z, a, d)
				c.set(i, !c.up[i])
				if i != j {
					c.set(j, !c.up[j])
				}
				changed = true
			}
		}
	}
	return changed
}
