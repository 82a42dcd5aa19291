package adaround

import (
	"math"
	"slices"
	"testing"

	"roundel/asm"
	"roundel/tensor"
)

// TestTemper: targets that ask for a share of the correction lie that share of the way from the predictions of the float
// weights to the given targets, and leave no mean error to the bias that was found for the whole of it.
func TestTemper(t *testing.T) {
	for _, center := range []bool{false, true} {
		p := randomProblem(4, 1, 20, 6, 300, Activation{})
		for i := range p.Solve.Y {
			p.Solve.Y[i] += float32(0.3 * math.Sin(float64(i))) // what earlier layers left
		}
		r := &fastRun{SolverFast: SolverFast{CorrectBias: center}, p: p, pool: tensor.NewPool(1, asm.Best()), meter: newMeter(1, nil),
			candidate: candidate{make([]int32, p.O*p.K), slices.Clone(p.Scale), slices.Clone(p.Bias)}, mend: 1}
		m := newGram(p.Solve.A, p.K, center, r.pool)
		r.groups = []group{{m: m, f: newFactor(m, r.pool)}}
		r.begin()
		r.base = slices.Clone(r.bias)
		whole := r.start
		r.mend = 0.25
		r.begin()
		for i, v := range whole { // the gradient at the float weights is that share too
			if math.Abs(float64(r.start[i]-0.25*v)) > 1e-4 {
				t.Fatalf("center %t: gradient %d is %v, want a quarter of %v", center, i, r.start[i], v)
			}
		}
		b := r.newBlock(0, p.O)
		b.sample()
		for j := range p.O {
			var mean float64
			for q := range p.Solve.P {
				z := float64(r.base[j])
				for c, v := range p.Solve.A[q*p.K:][:p.K] {
					z += float64(v) * float64(p.Weight[j*p.K+c])
				}
				y := float64(p.Solve.Y[q*p.O+j])
				if got, want := float64(b.y[q*b.n+j]), z+0.25*(y-z); math.Abs(got-want) > 1e-4 {
					t.Fatalf("center %t: target of position %d, output %d is %v, want %v", center, q, j, got, want)
				}
				mean += (y - z) / float64(p.Solve.P)
			}
			if center && math.Abs(mean) > 1e-4 {
				t.Errorf("output %d: the bias leaves a mean error of %v", j, mean)
			}
		}
	}
}

// TestMends: where what the solving images ask to correct is not there on others, asking for less of it gives a lower loss on those.
func TestMends(t *testing.T) {
	p := randomProblem(8, 1, 48, 8, 100, Activation{})
	for q := range p.Solve.P {
		for j := range p.O {
			for c, v := range p.Solve.A[q*p.K:][:p.K] {
				p.Solve.Y[q*p.O+j] += float32(0.2*math.Sin(float64(j*p.K+c))) * v // weights that only these images want
			}
		}
	}
	pool := tensor.NewPool(1, asm.Best())
	sol, err := SolverFast{}.Round(t.Context(), p, pool)
	if err != nil {
		t.Fatal(err)
	}
	alone := *p
	alone.HeldOut = Samples{}
	bare, err := SolverFast{}.Round(t.Context(), &alone, pool)
	if err != nil {
		t.Fatal(err)
	}
	held := total(p.losses(candidate{bare.Codes, bare.Scale, bare.Bias}, &p.HeldOut, pool), p.HeldOut.P)
	t.Logf("held-out loss %g, without held-out positions %g, nearest %g", sol.Final.HeldOut, held, sol.Nearest.HeldOut)
	if sol.Final.HeldOut > 0.5*held {
		t.Errorf("held-out loss %g, without held-out positions %g", sol.Final.HeldOut, held)
	}
}
