package adaround

import (
	"context"
	"math"
	"slices"

	"roundel/asm"
	"roundel/tensor"
)

// depthwiseRidge is the ridge for outputs with columns of their own, which are few and well determined.
const depthwiseRidge = 1e-4

// roundDepthwise solves outputs that have columns of their own: few columns, so
// the surrogate is minimised over all choices, and flips and pairs of flips are
// then tried on the true loss. A scale that all outputs share stays as it is.
func (r *fastRun) roundDepthwise(ctx context.Context) {
	p := r.p
	r.pool.For(p.O, func(_, o int) {
		if ctx.Err() != nil {
			return
		}
		c := r.newChannel(o)
		if r.FitScale && !p.SharedScale {
			r.scale[o] = c.fitScale(p, o)
		}
		c.row = newRow(p, o, r.scale[o])
		c.relax()
		if !r.NoPolish && p.Act.Kind != ActIdentity {
			c.polish()
		}
		for k := range p.K {
			r.codes[o*p.K+k] = c.code(k)
		}
		if c.center {
			r.bias[o] = c.bias
		}
		r.meter.add(1)
	})
}

// channel is one output with columns of its own.
type channel struct {
	row
	samples polishRow
	kernels asm.Kernels
	m       *gram
	near    *neighbourhood
	bias    float32
	center  bool      // the bias is free
	a       []float32 // [K][P], rows padded
	ones    []float32 // [P], padded
	y       []float32 // [P]
	res     []float32 // [K] half the gradient of the surrogate
	start   []float32 // [K] that of the first surrogate at the float weights
	scratch []float32 // [P], padded
}

func (r *fastRun) newChannel(o int) *channel {
	p, s := r.p, &r.p.Solve
	n := padded(s.P)
	c := &channel{row: newRow(p, o, p.Scale[o]), kernels: r.pool.Kernels(), center: r.CorrectBias, y: s.targets(o, 1),
		res: make([]float32, p.K), a: make([]float32, p.K*n), scratch: make([]float32, n), ones: make([]float32, n)}
	for i, v := range s.cols(o, p.K) {
		c.a[i%p.K*n+i/p.K] = v
	}
	for q := range c.y {
		c.ones[q] = 1
	}
	if p.Bias != nil {
		c.bias = p.Bias[o]
	}
	c.m = c.gram()
	if p.K > enumerateUpTo && !r.NoPairs {
		c.near = newNeighbourhood(c.m, tensor.NewPool(1, c.kernels))
	}
	c.samples = newPolishRow(p.Act.of(o), &c.kernels, s.P)
	for q, v := range c.y {
		c.samples.target(q, v)
	}
	c.predict(c.weight)
	c.gradient(true)
	c.start = slices.Clone(c.res)
	return c
}

func (c *channel) column(k int) []float32 { return c.a[k*len(c.scratch) : (k+1)*len(c.scratch)] }

// gram is newGram for few columns that are each contiguous.
func (c *channel) gram() *gram {
	k := len(c.x)
	m := &gram{k: k, g: make([]float32, k*k)}
	if c.center {
		m.means = make([]float32, k)
		for i := range k {
			m.means[i] = dot(c.column(i), c.ones) / float32(len(c.y))
		}
	}
	for i := range k {
		for j := range i + 1 {
			v := dot(c.column(i), c.column(j)) / float32(len(c.y))
			if c.center {
				v -= float32(m.means[i] * m.means[j])
			}
			m.g[i*k+j], m.g[j*k+i] = v, v
		}
	}
	m.measure()
	m.setRidge(depthwiseRidge)
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

// fitScale returns the scale whose choice by the first surrogate has the lowest value.
func (c *channel) fitScale(p *Problem, o int) float32 {
	best, lowest := float32(1), math.Inf(1)
	for level := range scaleSteps {
		for _, f := range factorsAround(best, level) {
			c.row = newRow(p, o, p.Scale[o]*f)
			c.first()
			if v := c.value(); v < lowest {
				best, lowest = f, v
			}
		}
	}
	return p.Scale[o] * best
}

// first minimises the first surrogate.
func (c *channel) first() {
	copy(c.res, c.start)
	for i, w := range c.weight { // its gradient at the present choice
		c.kernels.Axpy(c.res, c.m.g[i*c.m.k:(i+1)*c.m.k], c.x[i]-w)
	}
	c.minimize(c.m, c.near, c.res, &c.kernels)
}

// value is the first surrogate at the present choice, e'Ge + 2·start'e with e = x − w.
func (c *channel) value() float64 {
	var sum float64
	for i := range c.x {
		row := 2 * float64(c.start[i])
		for j, w := range c.weight {
			row += float64(float64(c.m.g[i*c.m.k+j]) * float64(c.x[j]-w))
		}
		sum += float64(row * float64(c.x[i]-c.weight[i]))
	}
	return sum
}

// relax alternates between minimising the surrogate and renewing it, and ends at the best choice.
func (c *channel) relax() {
	c.first()
	c.bias -= c.m.drift(c.weight, c.x)
	before := make([]float32, len(c.x))
	for round := range majorizeRounds {
		c.predict(c.x)
		if !c.keep(c.samples.loss(), round == 0) {
			break
		}
		c.bestBias = c.bias
		c.gradient(false)
		copy(before, c.x)
		if !c.minimize(c.m, c.near, c.res, &c.kernels) {
			break
		}
		c.bias -= c.m.drift(before, c.x)
	}
	c.restore()
	c.bias = c.bestBias
}

// predict sets the predictions z to those of x.
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

// gradient sets res to half the gradient of the surrogate at the predictions. A free
// bias moves to where the mean residual is zero.
func (c *channel) gradient(first bool) {
	r := &c.samples
	for q, z := range r.z[:r.count] {
		c.scratch[q] = z - r.act.surrogate(z, c.y[q], first)
	}
	if c.center {
		shift := dot(c.scratch, c.ones) / float32(r.count)
		for q := range c.y {
			c.scratch[q] -= shift
		}
		c.bias -= shift
	}
	for k := range c.res {
		c.res[k] = dot(c.column(k), c.scratch) / float32(r.count)
		if !first {
			c.res[k] += float32(c.m.ridge * (c.x[k] - c.weight[k]))
		}
	}
}

// polish tries flips and pairs of flips on the true loss, in order, until none helps.
func (c *channel) polish() {
	c.predict(c.x)
	for range polishSweeps {
		if c.center {
			c.samples.slopes(nil, 0)
			c.samples.recenter(c.ones, &c.bias)
		}
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
