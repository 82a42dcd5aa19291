package adaround

import (
	"math"

	"roundel/asm"
)

// adamBlock is the state of some outputs that run together. Weight arrays are [K][n].
type adamBlock struct {
	*linear // w is W̃
	cfg     SolverAdam
	a       []float32 // columns of all positions
	fy      []float32 // [P][n] activated targets

	base  []float32 // ⌊W/s⌋
	alpha []float32 // V
	sigma []float32 // σ(V)
	m, v  []float32 // moments of Adam
	grad  []float32 // of the reconstruction loss by W̃

	scale, lo, hi []float32 // [n]
	z             []float32 // scratch

	recon, penalty float64 // losses of the iteration in progress
}

func newAdamBlock(s SolverAdam, p *Problem, from, to int, kernels asm.Kernels) *adamBlock {
	b := &adamBlock{cfg: s, linear: newLinear(p, from, to, p.Bias, kernels)}
	for _, f := range []*[]float32{&b.base, &b.alpha, &b.sigma, &b.m, &b.v, &b.grad} {
		*f = make([]float32, b.k*b.n)
	}
	for _, f := range []*[]float32{&b.scale, &b.lo, &b.hi} {
		*f = make([]float32, b.n)
	}
	for j := range b.outs {
		o := from + j
		b.scale[j], b.lo[j], b.hi[j] = p.Scale[o], float32(p.Lo[o]), float32(p.Hi[o])
		for c := range b.k {
			i := c*b.n + j
			f, r := floorAndRest(p.Weight[o*p.K+c], p.Scale[o])
			b.base[i], b.alpha[i] = f, initialV(r)
			b.sigma[i] = sigmoid32(b.alpha[i])
		}
	}
	b.soften()
	b.a, b.fy = b.columns(p, &p.Solve, 0, p.Solve.P), b.activatedTargets(p, &p.Solve)
	return b
}

// activatedTargets returns f(y) of the block's outputs, [P][n].
func (l *linear) activatedTargets(p *Problem, s *Samples) []float32 {
	fy := make([]float32, s.P*l.n)
	outs := p.outs()
	for j, act := range l.act {
		o := l.from + j
		y := s.targets(o/outs, outs)
		for q := range s.P {
			fy[q*l.n+j] = act.value(y[q*outs+o%outs])
		}
	}
	return fy
}

// soften sets W̃ from σ(V), eq. (22) and (23).
func (b *adamBlock) soften() {
	for c := 0; c < len(b.w); c += b.n {
		for j := range b.outs {
			h, _ := rectify(b.alpha[c+j], b.sigma[c+j])
			b.w[c+j] = b.scale[j] * min(max(b.base[c+j]+h, b.lo[j]), b.hi[j])
		}
	}
}

// begin clears the gradient and losses of an iteration.
func (b *adamBlock) begin() {
	clear(b.grad)
	b.recon, b.penalty = 0, 0
}

// batch adds the loss and gradient of some positions to those of an iteration over total positions.
func (b *adamBlock) batch(a, fy []float32, total int) {
	if len(fy) == 0 {
		return
	}
	if len(b.z) < len(fy) {
		b.z = make([]float32, len(fy))
	}
	z := b.z[:len(fy)]
	b.forward(z, a)
	b.recon += reconstruction(z, fy, b.n, b.act, 1/float32(total)) / float64(total)
	b.backward(b.grad, a, z)
}

// iterate takes step i on the positions [start, start+size), which wrap around.
func (b *adamBlock) iterate(i, start, size int, sched anneal) {
	first := min(size, len(b.fy)/b.n-start)
	b.begin()
	b.batch(b.a[start*b.step:(start+first)*b.step], b.fy[start*b.n:(start+first)*b.n], size)
	b.batch(b.a[:(size-first)*b.step], b.fy[:(size-first)*b.n], size)
	beta, regularize := sched.at(i)
	b.update(i, float32(beta), regularize)
}

// update takes one step of Adam with the gradient of the whole loss by V.
func (b *adamBlock) update(iteration int, beta float32, regularize bool) {
	t := iteration + 1
	step := float32(b.cfg.LearningRate / (1 - powInt(adamBeta1, t)))
	root := float32(math.Sqrt(1 - powInt(adamBeta2, t)))
	for c := 0; c < len(b.alpha); c += b.n {
		for j := range b.outs {
			i := c + j
			g, f := b.slope(i, beta, regularize)
			b.penalty += float64(f)
			b.adam(i, g, step, root)
			b.sigma[i] = sigmoid32(b.alpha[i])
		}
	}
	b.soften()
}

// slope returns the gradient of the loss by V_i and the weight's share of the regulariser:
//
//	∂L/∂V = (s·∂recon/∂W̃·[n ≤ ⌊W/s⌋+h ≤ p] + λ·∂f_reg/∂h)·∂h/∂V
func (b *adamBlock) slope(i int, beta float32, regularize bool) (g, penalty float32) {
	h, dh := rectify(b.alpha[i], b.sigma[i])
	j := i % b.n
	if code := b.base[i] + h; code >= b.lo[j] && code <= b.hi[j] {
		g = b.scale[j] * b.grad[i]
	}
	if regularize {
		lambda := float32(b.cfg.RegParam)
		f, df := regularizer(h, beta)
		penalty = lambda * f
		g += float32(lambda * df)
	}
	return g * dh, penalty
}

// adam moves V_i by one step of Adam along the gradient g.
func (b *adamBlock) adam(i int, g, step, root float32) {
	m := b.m[i] + float32((g-b.m[i])*(1-adamBeta1))
	v := float32(b.v[i]*adamBeta2) + float32(float32(g*g)*(1-adamBeta2))
	b.m[i], b.v[i] = m, v
	denom := float32(math.Sqrt(float64(v)))/root + adamEps
	b.alpha[i] -= float32(step * m / denom)
}

// harden writes the codes that the signs of V choose: up where h(V) ≥ 1/2.
func (b *adamBlock) harden(codes []int32) {
	for c := range b.k {
		for j := range b.outs {
			i := c*b.n + j
			v := b.base[i]
			if b.alpha[i] >= 0 {
				v++
			}
			codes[(b.from+j)*b.k+c] = int32(min(max(v, b.lo[j]), b.hi[j]))
		}
	}
}

// powInt returns x^n by repeated squaring, the same on every CPU.
func powInt(x float64, n int) float64 {
	y := 1.0
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			y *= x
		}
		x *= x
	}
	return y
}
