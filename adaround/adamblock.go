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
	lag           *lagged   // nil with batches

	trace          bool    // keep account of the losses
	recon, penalty float64 // of the iteration in progress
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
			b.sigma[i] = asm.Sigmoid(b.alpha[i])
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

// begin clears the gradient and losses of an iteration.
func (b *adamBlock) begin() {
	clear(b.grad)
	b.recon, b.penalty = 0, 0
}

// batch adds the gradient of some positions to that of an iteration over total positions.
func (b *adamBlock) batch(a, fy []float32, total int) {
	if len(fy) == 0 {
		return
	}
	if len(b.z) < len(fy) {
		b.z = make([]float32, len(fy))
	}
	z := b.z[:len(fy)]
	b.forward(z, a)
	if act := b.act[0]; act.isClamp() && !b.trace {
		b.kernels.ClampGrad(z, fy, act.lo, act.hi, 2/float32(total))
	} else {
		b.recon += reconstruction(z, fy, b.n, b.act, 1/float32(total)) / float64(total)
	}
	b.backward(b.grad, a, z)
}

// iterate takes step i on the positions [start, start+size), which wrap around.
func (b *adamBlock) iterate(i, start, size int, sched anneal) {
	first := min(size, len(b.fy)/b.n-start)
	b.begin()
	b.batch(b.a[start*b.step:(start+first)*b.step], b.fy[start*b.n:(start+first)*b.n], size)
	b.batch(b.a[:(size-first)*b.step], b.fy[:(size-first)*b.n], size)
	b.descend(i, sched)
}

// descend takes step i with the gradient in place.
func (b *adamBlock) descend(i int, sched anneal) {
	beta, regularize := sched.at(i)
	b.update(i, float32(beta), regularize)
}

// update takes one step of Adam with the gradient of the whole loss by V, and
// renews W̃. The kernel does what slope, adamStep and soften of loss.go do.
func (b *adamBlock) update(iteration int, beta float32, regularize bool) {
	t := iteration + 1
	s := asm.RoundStep{V: b.alpha, Sigma: b.sigma, M: b.m, S: b.v, Grad: b.grad, Base: b.base, W: b.w,
		Scale: b.scale, Lo: b.lo, Hi: b.hi, Rows: b.k, N: b.n,
		Step: float32(b.cfg.LearningRate / (1 - powInt(asm.AdamBeta1, t))),
		Root: float32(1 / math.Sqrt(1-powInt(asm.AdamBeta2, t))), Beta: beta}
	if regularize {
		s.Lambda = float32(b.cfg.RegParam)
	}
	if b.trace && regularize {
		for i := range b.alpha {
			if i%b.n < b.outs {
				_, f := b.slope(i, s.Lambda, beta)
				b.penalty += float64(f)
			}
		}
	}
	b.kernels.RoundStep(&s)
}

// slope is the gradient of the loss by V_i and the weight's share of the regulariser.
func (b *adamBlock) slope(i int, lambda, beta float32) (g, penalty float32) {
	j := i % b.n
	return slope(b.alpha[i], b.sigma[i], b.base[i], b.grad[i], b.scale[j], b.lo[j], b.hi[j], lambda, beta)
}

// soften sets W̃ from V.
func (b *adamBlock) soften() {
	for i := range b.w {
		if j := i % b.n; j < b.outs {
			b.w[i] = soften(b.alpha[i], b.sigma[i], b.base[i], b.scale[j], b.lo[j], b.hi[j])
		}
	}
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
