package autograd

import (
	"math"

	"roundel/tensor"
)

// sum adds x in four interleaved chains, which are then added pairwise: one chain would wait for each addition.
func sum[T tensor.Float](x []T) T {
	var a, b, c, d T
	for ; len(x) >= 4; x = x[4:] {
		a, b, c, d = a+x[0], b+x[1], c+x[2], d+x[3]
	}
	for _, v := range x {
		a += v
	}
	return (a + b) + (c + d)
}

// dotCentred returns Σ y·(x − m), in the manner of sum.
func dotCentred[T tensor.Float](y, x []T, m T) T {
	var a, b, c, d T
	x = x[:len(y)]
	for ; len(y) >= 4 && len(x) >= 4; x, y = x[4:], y[4:] {
		a, b = a+T(y[0]*(x[0]-m)), b+T(y[1]*(x[1]-m))
		c, d = c+T(y[2]*(x[2]-m)), d+T(y[3]*(x[3]-m))
	}
	for i, v := range x {
		a += T(y[i] * (v - m))
	}
	return (a + b) + (c + d)
}

// squares returns Σ (x − m)², in the manner of sum.
func squares[T tensor.Float](x []T, m T) T {
	var a, b, c, d T
	for ; len(x) >= 4; x = x[4:] {
		p, q, r, s := x[0]-m, x[1]-m, x[2]-m, x[3]-m
		a, b, c, d = a+T(p*p), b+T(q*q), c+T(r*r), d+T(s*s)
	}
	for _, v := range x {
		a += T((v - m) * (v - m))
	}
	return (a + b) + (c + d)
}

// BatchStats are the running statistics of a BatchNorm, updated by Tape.BatchNorm.
type BatchStats[T tensor.Float] struct {
	Mean, Var *tensor.Dense[T] // [C]; Var is the unbiased variance
	Momentum  float64          // weight of the newest batch
	Eps       float64
}

// NewBatchStats returns statistics for c channels: mean 0, variance 1, momentum 0.1, eps 1e-5.
func NewBatchStats[T tensor.Float](c int) *BatchStats[T] {
	s := &BatchStats[T]{Mean: tensor.New[T](c), Var: tensor.New[T](c), Momentum: 0.1, Eps: 1e-5}
	for i := range s.Var.Data() {
		s.Var.Data()[i] = 1
	}
	return s
}

// BatchNorm returns γ·(x − μ)/√(σ² + ε) + β for x [N, C, ...] and γ, β [C].
// In training μ and σ² are those of the batch (σ² biased), gradients flow through
// them, and the running statistics move towards them. Otherwise they are the running statistics.
func (t *Tape[T]) BatchNorm(x, gamma, beta *Value[T], s *BatchStats[T], training bool) *Value[T] {
	shape := x.Shape()
	n, c, size := shape[0], shape[1], shape[2:].Len()
	in, y := x.X.Data(), t.zeros(shape...)
	mean, inv := t.zeros(c).Data(), t.zeros(c).Data() // inv = 1/√(σ² + ε)
	t.pool.For(c, func(_, ch int) {
		plane := func(d []T, i int) []T { return d[(i*c+ch)*size:][:size] }
		mu, v := float64(s.Mean.Data()[ch]), float64(s.Var.Data()[ch])
		if training {
			mu, v = moments(n, func(i int) []T { return plane(in, i) })
			s.update(ch, mu, v, n*size)
		}
		mean[ch], inv[ch] = T(mu), T(1/math.Sqrt(v+s.Eps))
		k, b := gamma.X.Data()[ch]*inv[ch], beta.X.Data()[ch]
		for i := range n {
			dst := plane(y.Data(), i)
			for j, v := range plane(in, i) {
				dst[j] = T((v-mean[ch])*k) + b
			}
		}
	})
	return t.record(y, func(g []T) {
		dx, dg, db := t.gradOf(x), t.gradOf(gamma), t.gradOf(beta)
		t.pool.For(c, func(_, ch int) {
			plane := func(d []T, i int) []T { return d[(i*c+ch)*size:][:size] }
			var sg, sgx float64 // Σg and Σg·x̂
			for i := range n {
				sg += float64(sum(plane(g, i)))
				sgx += float64(dotCentred(plane(g, i), plane(in, i), mean[ch]))
			}
			sgx *= float64(inv[ch])
			if dg != nil {
				dg[ch] += T(sgx)
			}
			if db != nil {
				db[ch] += T(sg)
			}
			if dx == nil {
				return
			}
			// dx = γ/σ·(g − mean(g) − x̂·mean(g·x̂)); without batch statistics only the first term.
			k, m := gamma.X.Data()[ch]*inv[ch], float64(n*size)
			var mg, mgx T
			if training {
				mg, mgx = T(sg/m), T(sgx/m*float64(inv[ch]))
			}
			for i := range n {
				src, gs, dst := plane(in, i), plane(g, i), plane(dx, i)
				for j, v := range src {
					dst[j] += T((gs[j] - mg - T((v-mean[ch])*mgx)) * k)
				}
			}
		})
	}, x, gamma, beta)
}

// moments returns the mean and the biased variance of n planes.
func moments[T tensor.Float](n int, plane func(i int) []T) (mean, variance float64) {
	count := float64(n * len(plane(0)))
	for i := range n {
		mean += float64(sum(plane(i)))
	}
	mean /= count
	for i := range n {
		variance += float64(squares(plane(i), T(mean)))
	}
	return mean, variance / count
}

// update moves the running statistics of channel ch towards those of a batch of count elements.
func (s *BatchStats[T]) update(ch int, mean, variance float64, count int) {
	if count > 1 {
		variance *= float64(count) / float64(count-1)
	}
	blend := func(d []T, v float64) {
		d[ch] = T(float64((1-s.Momentum)*float64(d[ch])) + float64(s.Momentum*v))
	}
	blend(s.Mean.Data(), mean)
	blend(s.Var.Data(), variance)
}

// LayerNorm normalises the last len(γ.Shape()) dimensions of x to mean 0 and variance 1, then applies γ and β (nil: none).
func (t *Tape[T]) LayerNorm(x, gamma, beta *Value[T], eps float64) *Value[T] {
	axes := make([]int, len(gamma.Shape()))
	for i := range axes {
		axes[i] = -1 - i
	}
	d := t.Sub(x, t.Mean(x, true, axes...))
	v := t.Mean(t.Mul(d, d), true, axes...)
	y := t.Mul(t.Div(d, t.Sqrt(t.Add(v, Const(tensor.Scalar(T(eps)))))), gamma)
	if beta == nil {
		return y
	}
	return t.Add(y, beta)
}
