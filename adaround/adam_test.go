package adaround

import (
	"math"
	"math/rand/v2"
	"testing"

	"roundel/asm"
)

// TestKernelIsThePaper: the step kernel does bit for bit what slope, adamStep and soften of loss.go do.
func TestKernelIsThePaper(t *testing.T) {
	for _, k := range asm.Available() {
		t.Run("isa="+k.ISA, func(t *testing.T) {
			const rows = 5
			n := 2 * k.Lanes
			r := rand.New(rand.NewPCG(4, 4))
			random := func(size int, scale float64) []float32 {
				x := make([]float32, size)
				for i := range x {
					x[i] = float32(scale * r.NormFloat64())
				}
				return x
			}
			size := rows * n
			s := asm.RoundStep{V: random(size, 2), Sigma: make([]float32, size), M: random(size, 0.01), S: random(size, 0.01),
				Grad: random(size, 0.1), Base: make([]float32, size), W: make([]float32, size), Scale: random(n, 1),
				Lo: make([]float32, n), Hi: make([]float32, n), Rows: rows, N: n, Step: 0.01, Root: 1.2, Lambda: 0.01, Beta: 6.5}
			for i := range size {
				s.Sigma[i], s.S[i], s.Base[i] = asm.Sigmoid(s.V[i]), s.S[i]*s.S[i], float32(r.IntN(20)-10)
			}
			for j := range n {
				s.Scale[j], s.Lo[j], s.Hi[j] = s.Scale[j]*s.Scale[j]+0.01, -8, 7
			}
			v, m, q := append([]float32(nil), s.V...), append([]float32(nil), s.M...), append([]float32(nil), s.S...)
			soft := make([]float32, size)
			for i := range size {
				j := i % n
				g, _ := slope(v[i], s.Sigma[i], s.Base[i], s.Grad[i], s.Scale[j], s.Lo[j], s.Hi[j], s.Lambda, s.Beta)
				adamStep(&v[i], &m[i], &q[i], g, s.Step, s.Root)
				soft[i] = soften(v[i], asm.Sigmoid(v[i]), s.Base[i], s.Scale[j], s.Lo[j], s.Hi[j])
			}
			k.RoundStep(&s)
			for i := range size {
				if s.V[i] != v[i] || s.M[i] != m[i] || s.S[i] != q[i] || s.W[i] != soft[i] {
					t.Fatalf("weight %d: kernel V %g m %g s %g W̃ %g, paper %g %g %g %g", i, s.V[i], s.M[i], s.S[i], s.W[i], v[i], m[i], q[i], soft[i])
				}
			}
		})
	}
}

// TestTraceChangesNothing: the vector path without losses takes the same steps as the one that keeps account of them.
func TestTraceChangesNothing(t *testing.T) {
	for name, act := range testActs {
		t.Run(name, func(t *testing.T) {
			p := randomProblem(2, 1, 30, 7, 100, act)
			s := SolverAdam{Iterations: 30, LearningRate: 1e-2, RegParam: 0.01, BetaRange: [2]float64{20, 2}, WarmStart: 0.2}
			a, b := newAdamBlock(s, p, 0, 7, asm.Best()), newAdamBlock(s, p, 0, 7, asm.Best())
			a.trace = true
			sched := anneal{s.Iterations, s.WarmStart, s.BetaRange[0], s.BetaRange[1]}
			for i := range s.Iterations {
				a.iterate(i, 13*i%100, 40, sched)
				b.iterate(i, 13*i%100, 40, sched)
			}
			for i := range a.alpha {
				if math.Abs(float64(a.alpha[i]-b.alpha[i])) > 1e-5 {
					t.Fatalf("V[%d] = %g and %g", i, a.alpha[i], b.alpha[i])
				}
			}
		})
	}
}

// TestGradient compares the gradient by W̃ with a central difference of the loss in float64.
func TestGradient(t *testing.T) {
	for name, act := range testActs {
		t.Run(name, func(t *testing.T) {
			p := randomProblem(6, 1, 12, 3, 50, act)
			b := newAdamBlock(SolverAdam{}, p, 0, 3, asm.Best())
			b.trace = true
			b.begin()
			b.batch(b.a, b.fy, p.Solve.P)
			loss := func() float64 {
				z := make([]float32, len(b.fy))
				b.forward(z, b.a)
				return reconstruction(z, b.fy, b.n, b.act, 1) / float64(p.Solve.P)
			}
			for _, i := range []int{0, b.n + 1, 5*b.n + 2} {
				const eps = 2e-3
				w := b.w[i]
				b.w[i] = w + eps
				up := loss()
				b.w[i] = w - eps
				down := loss()
				b.w[i] = w
				want := (up - down) / (2 * eps)
				if got := float64(b.grad[i]); math.Abs(got-want) > 0.02*math.Abs(want)+2e-3 {
					t.Errorf("∂L/∂W̃[%d] = %g, difference quotient %g", i, got, want)
				}
			}
		})
	}
}
