package asm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

func TestRoundStepLayout(t *testing.T) {
	var r RoundStep
	for _, c := range []struct {
		field     string
		got, want uintptr
	}{
		{"V", unsafe.Offsetof(r.V), 0}, {"Sigma", unsafe.Offsetof(r.Sigma), 24}, {"M", unsafe.Offsetof(r.M), 48},
		{"S", unsafe.Offsetof(r.S), 72}, {"Grad", unsafe.Offsetof(r.Grad), 96}, {"Base", unsafe.Offsetof(r.Base), 120},
		{"W", unsafe.Offsetof(r.W), 144}, {"Scale", unsafe.Offsetof(r.Scale), 168}, {"Lo", unsafe.Offsetof(r.Lo), 192},
		{"Hi", unsafe.Offsetof(r.Hi), 216}, {"Rows", unsafe.Offsetof(r.Rows), 240}, {"N", unsafe.Offsetof(r.N), 248},
		{"Step", unsafe.Offsetof(r.Step), 256}, {"Root", unsafe.Offsetof(r.Root), 260}, {"Lambda", unsafe.Offsetof(r.Lambda), 264},
		{"Beta", unsafe.Offsetof(r.Beta), 268},
	} {
		if unsafe.Sizeof(uintptr(0)) == 8 && c.got != c.want {
			t.Errorf("RoundStep.%s is at %d, the assembly reads %d", c.field, c.got, c.want)
		}
	}
}

func TestClampGain(t *testing.T) {
	forEachISA(t, func(t *testing.T, k *Kernels) {
		r := rand.New(rand.NewPCG(11, 1))
		for _, bounds := range [][2]float32{{0, 6}, {0, float32(math.Inf(1))}, {float32(math.Inf(-1)), float32(math.Inf(1))}, {-1, 2}} {
			for n := 0; n <= 5*SumLanes; n += SumLanes {
				z, y, a := normals(r, n, 3), normals(r, n, 5), normals(r, n, 2)
				got := k.ClampGain(z, y, a, -0.7, bounds[0], bounds[1])
				generic := Available()[0]
				if want := generic.ClampGain(z, y, a, -0.7, bounds[0], bounds[1]); got != want {
					t.Fatalf("n=%d bounds %v: %v, generic %v", n, bounds, got, want)
				}
				var exact float64
				for i, v := range a {
					f0 := min(max(z[i], bounds[0]), bounds[1])
					f1 := min(max(float64(z[i])-0.7*float64(v), float64(bounds[0])), float64(bounds[1]))
					exact += math.Pow(f1-float64(y[i])/2, 2) - math.Pow(float64(f0)-float64(y[i])/2, 2)
				}
				if math.Abs(float64(got)-exact) > 1e-4*float64(n+1) {
					t.Fatalf("n=%d bounds %v: %v, exact %v", n, bounds, got, exact)
				}
			}
		}
	})
}

func normals(r *rand.Rand, n int, scale float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(scale * r.NormFloat64())
	}
	return x
}

func TestClampGrad(t *testing.T) {
	forEachISA(t, func(t *testing.T, k *Kernels) {
		r := rand.New(rand.NewPCG(12, 1))
		for n := range 4*4*k.Lanes + 3 {
			buf, y := normals(r, guardZone+n+guardZone, 4), normals(r, n, 4)
			if n > 2 {
				buf[guardZone], buf[guardZone+1] = 0, 6
			}
			want := slices.Clone(buf)
			for i := range n {
				z := want[guardZone+i]
				if want[guardZone+i] = (z - y[i]) * 0.3; !(z > 0 && z < 6) {
					want[guardZone+i] = 0
				}
			}
			k.ClampGrad(buf[guardZone:guardZone+n], y, 0, 6, 0.3)
			compare(t, fmt.Sprint("n=", n), buf, want)
		}
	})
}

// randomStep makes a step with rounding variables of all kinds, the ends of the clip and of the grid included.
func randomStep(r *rand.Rand, rows, n int, lambda, beta float32) *RoundStep {
	size := rows * n
	t := &RoundStep{V: normals(r, size, 2), Sigma: make([]float32, size), M: normals(r, size, 0.01), S: normals(r, size, 0.01),
		Grad: normals(r, size, 0.1), Base: make([]float32, size), W: make([]float32, size), Scale: normals(r, n, 1),
		Lo: make([]float32, n), Hi: make([]float32, n), Rows: rows, N: n, Step: 0.011, Root: 1.3, Lambda: lambda, Beta: beta}
	ends := []float32{0, Saturation, -Saturation, 30, -30, 100, -100, 1e-20}
	for i := range size {
		if r.IntN(4) == 0 {
			t.V[i] = ends[r.IntN(len(ends))]
		}
		if t.Sigma[i] = Sigmoid(t.V[i]); r.IntN(9) == 0 {
			t.Grad[i], t.M[i], t.S[i] = 0, 0, 0
		}
		t.S[i] *= t.S[i]
		t.Base[i] = float32(r.IntN(20) - 10)
	}
	for j := range n {
		t.Lo[j], t.Hi[j], t.Scale[j] = -8, 7, t.Scale[j]*t.Scale[j]+0.01
	}
	return t
}

func (t *RoundStep) clone() *RoundStep {
	c := *t
	for _, f := range []*[]float32{&c.V, &c.Sigma, &c.M, &c.S, &c.W} {
		*f = slices.Clone(*f)
	}
	return &c
}

func TestRoundStep(t *testing.T) {
	forEachISA(t, func(t *testing.T, k *Kernels) {
		for _, reg := range [][2]float32{{0, 0}, {0.01, 20}, {0.01, 7.3}, {1, 2}} {
			for _, shape := range [][2]int{{0, 1}, {1, 1}, {3, 1}, {1, 2}, {5, 2}, {2, 5}} {
				r := rand.New(rand.NewPCG(13, uint64(shape[0])))
				step := randomStep(r, shape[0], shape[1]*k.Lanes, reg[0], reg[1])
				want := step.clone()
				generic := Available()[0]
				generic.Lanes = 1
				for range 3 {
					k.RoundStep(step)
					generic.RoundStep(want)
				}
				name := fmt.Sprintf("λ=%g β=%g %v ", reg[0], reg[1], shape)
				compare(t, name+"V", step.V, want.V)
				compare(t, name+"σ", step.Sigma, want.Sigma)
				compare(t, name+"m", step.M, want.M)
				compare(t, name+"s", step.S, want.S)
				compare(t, name+"W", step.W, want.W)
			}
		}
	})
}

func TestExpLog(t *testing.T) {
	for x := -79.0; x < 80; x += 0.0137 {
		if got, want := float64(Exp(float32(x))), math.Exp(float64(float32(x))); math.Abs(got-want) > 2e-7*want {
			t.Fatalf("Exp(%v) = %v, want %v", x, got, want)
		}
	}
	for x := 1e-37; x < 1e37; x *= 1.037 {
		if got, want := float64(Log(float32(x))), math.Log(float64(float32(x))); math.Abs(got-want) > 2e-7*math.Abs(want)+1e-7 {
			t.Fatalf("Log(%v) = %v, want %v", x, got, want)
		}
	}
}

func BenchmarkRoundStep(b *testing.B) {
	for _, k := range Available() {
		for _, lambda := range []float32{0, 0.01} {
			b.Run(fmt.Sprintf("isa=%s/lambda=%g", k.ISA, lambda), func(b *testing.B) {
				t := randomStep(rand.New(rand.NewPCG(1, 1)), 256, 32, lambda, 7)
				for b.Loop() {
					k.RoundStep(t)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(t.V)), "ns/weight")
			})
		}
	}
}

func BenchmarkClampGain(b *testing.B) {
	for _, k := range Available() {
		b.Run("isa="+k.ISA, func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			z, y, a := normals(r, 16384, 1), normals(r, 16384, 1), normals(r, 16384, 1)
			for b.Loop() {
				k.ClampGain(z, y, a, 0.1, 0, 6)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(a)), "ns/position")
		})
	}
}
