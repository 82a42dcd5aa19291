package adaround

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"testing"

	"roundel/asm"
)

// adamSteps is testdata/adam_steps.json, written by bench/peers/adam_steps.py.
type adamSteps struct {
	Iterations int        `json:"iterations"`
	WarmStart  float64    `json:"warm_start"`
	Lambda     float64    `json:"lambda"`
	Beta       [2]float64 `json:"beta"`
	LR         float64    `json:"lr"`
	Betas      []*float64 `json:"betas"` // nil during the warm start
	Outputs    int        `json:"outputs"`
	Columns    int        `json:"columns"`
	Layers     []struct {
		Activation string               `json:"activation"`
		Weight     []float32            `json:"weight"`
		Bias       []float32            `json:"bias"`
		Scale      []float32            `json:"scale"`
		Lo         int32                `json:"lo"`
		Hi         int32                `json:"hi"`
		Columns    []float32            `json:"columns"`
		Targets    []float32            `json:"targets"`
		V0         []float32            `json:"v0"`
		H0         []float32            `json:"h0"`
		Recon      []float64            `json:"recon"`
		Penalty    []float64            `json:"penalty"`
		Gradient   map[string][]float32 `json:"gradient"` // by V, before the step
		After      map[string][]float32 `json:"after"`    // V after it
	} `json:"layers"`
}

// TestAdamSteps: V and h(V) at the start, β, both losses and the gradient of a step, and V after 1, 5 and 20 steps are PyTorch's.
func TestAdamSteps(t *testing.T) {
	raw, err := os.ReadFile("testdata/adam_steps.json")
	if err != nil {
		t.Fatal(err)
	}
	var f adamSteps
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	for i, l := range f.Layers {
		p := &Problem{Groups: 1, K: f.Columns, O: f.Outputs, Weight: l.Weight, Bias: l.Bias, Scale: l.Scale, Act: testActs[l.Activation],
			Solve: Samples{P: len(l.Columns) / f.Columns, A: l.Columns, Y: l.Targets}}
		for range p.O {
			p.Lo, p.Hi = append(p.Lo, l.Lo), append(p.Hi, l.Hi)
		}
		for _, k := range asm.Available() {
			t.Run(l.Activation+"/isa="+k.ISA, func(t *testing.T) { f.check(t, i, p, k) })
		}
	}
}

func (f *adamSteps) check(t *testing.T, layer int, p *Problem, k asm.Kernels) {
	l := f.Layers[layer]
	s := SolverAdam{Iterations: f.Iterations, LearningRate: f.LR, RegParam: f.Lambda, BetaRange: f.Beta, WarmStart: f.WarmStart}
	b := newAdamBlock(s, p, 0, p.O, k)
	b.trace = true
	compare := func(what string, got func(i int) float32, want []float32, tol float64) {
		if len(want) != len(p.Weight) {
			t.Fatalf("%s: %d values in the fixture, want %d", what, len(want), len(p.Weight))
		}
		for i, w := range want { // [outputs][columns]; ours is [columns][n]
			if g := got(i%p.K*b.n + i/p.K); !(math.Abs(float64(g-w)) <= tol) {
				t.Errorf("%s: weight %d: %g, PyTorch %g", what, i, g, w)
			}
		}
	}
	v := func(i int) float32 { return b.alpha[i] }
	compare("V at the start", v, l.V0, 2e-6)
	compare("h at the start", func(i int) float32 { h, _ := rectify(b.alpha[i], b.sigma[i]); return h }, l.H0, 1e-6)
	sched := anneal{s.Iterations, s.WarmStart, s.BetaRange[0], s.BetaRange[1]}
	for i := range s.Iterations {
		beta, on := sched.at(i)
		if on != (f.Betas[i] != nil) || on && math.Abs(beta-*f.Betas[i]) > 1e-12 {
			t.Errorf("step %d: β is %g, %t", i+1, beta, on)
		}
		b.begin()
		b.batch(b.a, b.fy, p.Solve.P)
		lambda := float32(0)
		if on {
			lambda = float32(s.RegParam)
		}
		name := strconv.Itoa(i + 1)
		if want, ok := l.Gradient[name]; ok {
			compare("gradient of step "+name, func(i int) float32 { g, _ := b.slope(i, lambda, float32(beta)); return g }, want, 1e-5)
		}
		b.descend(i, sched)
		closeTo(t, fmt.Sprint("reconstruction loss of step ", i+1), b.recon, l.Recon[i], 1e-5, 0)
		closeTo(t, fmt.Sprint("rounding loss of step ", i+1), b.penalty, l.Penalty[i], 1e-4, 0)
		if want, ok := l.After[name]; ok {
			compare("V after step "+name, v, want, 2e-6)
		}
	}
}
