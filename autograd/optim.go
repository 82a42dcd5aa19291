package autograd

import (
	"math"

	"roundel/tensor"
)

// SGD is gradient descent with optional momentum: b ← μ·b + g, w ← w − lr·b, or
// with Nesterov w ← w − lr·(g + μ·b). Weight decay adds WeightDecay·w to g first.
// The fields may be changed between steps, for instance by a schedule.
type SGD[T tensor.Float] struct {
	Params       []*Value[T]
	LR, Momentum float64
	WeightDecay  float64
	Nesterov     bool
	buf          [][]T
}

// Step updates the parameters that have a gradient, and clears the gradients.
func (o *SGD[T]) Step() {
	if o.buf == nil {
		o.buf = make([][]T, len(o.Params))
	}
	lr, mu, wd := T(o.LR), T(o.Momentum), T(o.WeightDecay)
	for i, p := range o.Params {
		if p.Grad == nil {
			continue
		}
		first := o.buf[i] == nil // the first step starts from the gradient itself
		if first {
			o.buf[i] = make([]T, p.X.Len())
		}
		w, g, b := p.X.Data(), p.Grad.Data(), o.buf[i]
		for j := range w {
			d := g[j] + T(wd*w[j])
			b[j] = T(mu*b[j]) + d
			switch {
			case o.Nesterov:
				d += T(mu * b[j])
			case mu != 0:
				d = b[j]
			}
			w[j] -= T(lr * d)
		}
		clear(g)
	}
}

// Adam is the method of Kingma and Ba (2015), algorithm 1, with weight decay
// added to the gradient or, if Decoupled, applied to the weight (AdamW: Loshchilov
// and Hutter 2019). The fields may be changed between steps.
type Adam[T tensor.Float] struct {
	Params       []*Value[T]
	LR           float64
	Beta1, Beta2 float64
	Eps          float64
	WeightDecay  float64
	Decoupled    bool
	m, v         [][]T
	p1, p2       float64 // Beta1ᵗ, Beta2ᵗ
}

// NewAdam returns Adam with β₁ = 0.9, β₂ = 0.999, ε = 1e-8 and no weight decay.
func NewAdam[T tensor.Float](lr float64, params ...*Value[T]) *Adam[T] {
	return &Adam[T]{Params: params, LR: lr, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}
}

// Step updates the parameters that have a gradient, and clears the gradients.
func (o *Adam[T]) Step() {
	if o.m == nil {
		o.m, o.v, o.p1, o.p2 = make([][]T, len(o.Params)), make([][]T, len(o.Params)), 1, 1
	}
	o.p1, o.p2 = float64(o.p1*o.Beta1), float64(o.p2*o.Beta2)
	b1, b2, wd, shrink := T(o.Beta1), T(o.Beta2), T(0), T(1)
	if o.Decoupled {
		shrink = T(1 - float64(o.LR*o.WeightDecay))
	} else {
		wd = T(o.WeightDecay)
	}
	rate, root := T(o.LR/(1-o.p1)), T(math.Sqrt(1-o.p2))
	for i, p := range o.Params {
		if p.Grad == nil {
			continue
		}
		if o.m[i] == nil {
			o.m[i], o.v[i] = make([]T, p.X.Len()), make([]T, p.X.Len())
		}
		w, g, m, v := p.X.Data(), p.Grad.Data(), o.m[i], o.v[i]
		for j := range w {
			w[j] *= shrink
			d := g[j] + T(wd*w[j])
			m[j] = T(b1*m[j]) + T((1-b1)*d)
			v[j] = T(b2*v[j]) + T(T((1-b2)*d)*d)
			w[j] -= T(rate*m[j]) / (T(math.Sqrt(float64(v[j])))/root + T(o.Eps))
		}
		clear(g)
	}
}
