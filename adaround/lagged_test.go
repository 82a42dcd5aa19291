package adaround

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"roundel/asm"
	"roundel/tensor"
)

// TestLaggedGradient compares the continued gradient with the one over all positions: the same without activation, close with one.
func TestLaggedGradient(t *testing.T) {
	for _, shape := range [][3]int{{1, 40, 10}, {2, 18, 6}, {20, 9, 20}} {
		for name, act := range testActs {
			t.Run(fmt.Sprintf("g=%d/k=%d/%s", shape[0], shape[1], name), func(t *testing.T) {
				p := randomProblem(11, shape[0], shape[1], shape[2], 1500, act)
				s := SolverAdam{Iterations: 100, LearningRate: 1e-3, RegParam: 0.01, BetaRange: [2]float64{20, 2}, WarmStart: 0.2}
				grams := s.grams(p, tensor.NewPool(1, asm.Best()))
				outs := outputBlocks(p, adamBlockOuts)[0]
				b := newAdamBlock(s, p, outs[0], outs[1], asm.Best())
				b.lag = newLagged(b, grams[0])
				sched := anneal{s.Iterations, s.WarmStart, s.BetaRange[0], s.BetaRange[1]}
				for i := range lagMost { // all but the first are continued
					b.lag.gradient(b, i)
					b.descend(i, sched)
				}
				b.lag.gradient(b, lagMost-b.lag.renew)
				got := slices.Clone(b.grad)
				b.begin()
				b.batch(b.a, b.fy, p.Solve.P)
				limit := 1e-4
				if act.Kind != ActIdentity {
					limit = 0.6 // without the continuation it is 1: the columns depend much on where f' is not 0
				}
				if d := relative(got, b.grad); d > limit {
					t.Errorf("off by %g of its size", d)
				}
				if d := relative(b.lag.g0, b.grad); act.Kind == ActIdentity && d < 0.01 {
					t.Errorf("the gradient has not moved (%g): the comparison says nothing", d)
				}
			})
		}
	}
}

// relative is ‖a − b‖/‖b‖.
func relative(a, b []float32) float64 {
	var d, n float64
	for i := range a {
		d += float64(a[i]-b[i]) * float64(a[i]-b[i])
		n += float64(b[i]) * float64(b[i])
	}
	return math.Sqrt(d / n)
}

// TestUndecided: after few iterations the loss decides better than the sign of V.
func TestUndecided(t *testing.T) {
	pool := tensor.NewPool(2, asm.Best())
	for _, shape := range [][3]int{{1, 40, 10}, {20, 9, 20}} {
		for _, name := range []string{"identity", "relu6"} {
			t.Run(fmt.Sprintf("g=%d/%s", shape[0], name), func(t *testing.T) {
				p := randomProblem(12, shape[0], shape[1], shape[2], 700, testActs[name])
				p.HeldOut = p.Solve
				solve := func(bySign bool) *Solution {
					s := SolverAdam{Iterations: 40, LearningRate: 1e-2, RegParam: 0.01, BetaRange: [2]float64{20, 2}, WarmStart: 0.2, BySign: bySign}
					sol, err := s.Round(context.Background(), p, pool)
					if err != nil {
						t.Fatal(err)
					}
					checkCodes(t, p, sol)
					return sol
				}
				if sign, loss := solve(true).Final.Solve, solve(false).Final.Solve; !(loss < 0.97*sign) {
					t.Errorf("loss %g, by sign %g", loss, sign)
				}
			})
		}
	}
}
