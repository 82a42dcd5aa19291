package encoding_test

import (
	"fmt"
	"math"
	"runtime"
	"testing"

	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// tailed returns data of the shapes that ranges are chosen for: normal, one-sided, heavy tails.
func tailed(kind string, n int) []float32 {
	x := normal(11, n)
	for i, v := range x {
		switch kind {
		case "one-sided":
			x[i] = max(v, 0)
		case "heavy tails":
			x[i] = v * v * v
		}
	}
	return x
}

func scheme(t *testing.T, x []float32, g encoding.Grid, s encoding.Scheme) *encoding.Encoding {
	t.Helper()
	e, err := encoding.Compute(t.Context(), "x", x, tensor.Shape{len(x)}, g, encoding.Method{Scheme: s})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func squared(t *testing.T, e *encoding.Encoding, x []float32) float64 {
	t.Helper()
	q := make([]float32, len(x))
	if err := e.QuantizeDequantize(q, x, tensor.Shape{len(x)}); err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i, v := range q {
		d := float64(v) - float64(x[i])
		sum += d * d
	}
	return sum / float64(len(x))
}

// TestMSEIsNearTheBest tries every range of a fine mesh on the data itself: none may have much less error than that of the scheme.
func TestMSEIsNearTheBest(t *testing.T) {
	for _, kind := range []string{"normal", "one-sided", "heavy tails"} {
		x := tailed(kind, 3000)
		lo, hi := tensor.MinMax(x)
		for _, bits := range []int{3, 4, 8} {
			for _, sym := range []bool{false, true} {
				g := encoding.Grid{Bits: bits, Symmetric: sym, Axis: encoding.PerTensor}
				best := math.Inf(1)
				for i := 1; i <= 40; i++ {
					for j := 0; j <= 40; j++ {
						a, b := lo*float32(j)/40, hi*float32(i)/40
						if sym && j != i || !sym && lo == 0 && j > 0 {
							continue
						}
						best = min(best, squared(t, scheme(t, []float32{a, b}, g, encoding.SchemeTF), x))
					}
				}
				if got := squared(t, scheme(t, x, g, encoding.SchemeMSE), x); got > 1.05*best {
					t.Errorf("%s, %d bits, symmetric %v: error %.3g, possible is %.3g", kind, bits, sym, got, best)
				}
			}
		}
	}
}

// divergenceOf is the Kullback-Leibler divergence by its definition: bins of the data beyond the range count at its last
// bin within, and each code spreads its share evenly over the bins that round to it.
func divergenceOf(e *encoding.Encoding, x []float32, width float64) float64 {
	lo, hi := e.Bounds(0)
	code := func(b int) float64 { return math.RoundToEven((float64(b) + 0.5) * width / e.Scale[0]) }
	within := func(b int) bool {
		v := (float64(b) + 0.5) * width / e.Scale[0]
		return v >= lo-0.5 && v <= hi+0.5
	}
	p, first, last := map[int]float64{}, math.MaxInt, math.MinInt
	for _, v := range x {
		b := int(math.Floor(float64(v) / width))
		p[b] += 1 / float64(len(x))
		if within(b) {
			first, last = min(first, b), max(last, b)
		}
	}
	q, bins, total := map[float64]float64{}, map[float64]int{}, 0.0
	for b, m := range p {
		if within(b) {
			q[code(b)] += m
			bins[code(b)]++
			total += m
		}
	}
	clipped := map[int]float64{}
	for b, m := range p {
		clipped[min(max(b, first), last)] += m
	}
	sum := 0.0
	for b, m := range clipped {
		sum += m * math.Log(m/(q[code(b)]/float64(bins[code(b)])/total))
	}
	return sum
}

// TestEntropyIsTheLeastDivergence: no symmetric shrinking of the range has a smaller divergence.
func TestEntropyIsTheLeastDivergence(t *testing.T) {
	for _, kind := range []string{"normal", "one-sided", "heavy tails"} {
		x := tailed(kind, 20000)
		lo, hi := tensor.MinMax(x)
		_, exp := math.Frexp(float64(max(-lo, hi)))
		width := math.Ldexp(1, exp-11)
		for _, sym := range []bool{false, true} {
			g := encoding.Grid{Bits: 4, Symmetric: sym, Axis: encoding.PerTensor}
			got := divergenceOf(scheme(t, x, g, encoding.SchemeEntropy), x, width)
			whole := divergenceOf(scheme(t, x, g, encoding.SchemeTF), x, width)
			for i := 8; i <= 128; i++ {
				f := float32(i) / 128
				if d := divergenceOf(scheme(t, []float32{lo * f, hi * f}, g, encoding.SchemeTF), x, width); d < got*(1-0.005) {
					t.Errorf("%s, symmetric %v: divergence %.5f, with %v of the range %.5f", kind, sym, got, f, d)
				}
			}
			t.Logf("%s, symmetric %v: %.5f, whole range %.5f", kind, sym, got, whole)
			if got > whole {
				t.Errorf("%s: the divergence is larger than that of the whole range", kind)
			}
		}
	}
}

// TestEveryBitwidth: from 2 to 16 bits and with 32 every value within the range moves by half a step at most, beyond it to the
// end, and the grid has zero and as many codes as it should.
func TestEveryBitwidth(t *testing.T) {
	x := tailed("normal", 500)
	for _, bits := range []int{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 32} {
		for _, g := range []encoding.Grid{{}, {Symmetric: true}, {Symmetric: true, Strict: true}, {Symmetric: true, Unsigned: true}} {
			g.Bits, g.Axis = bits, encoding.PerTensor
			e := scheme(t, x, g, encoding.SchemeTF)
			lo, hi := e.Bounds(0)
			codes := math.Ldexp(1, bits)
			if g.Strict {
				codes--
			}
			if hi-lo+1 != codes || lo > 0 || hi < 0 || g.Symmetric && !g.Strict && lo != -codes/2 || g.Strict && lo != -hi {
				t.Errorf("%+v: codes %v to %v", g, lo, hi)
			}
			q := make([]float32, len(x))
			if err := e.QuantizeDequantize(q, x, tensor.Shape{len(x)}); err != nil {
				t.Fatal(err)
			}
			s := e.Scale[0]
			for i, v := range q {
				end := min(max(float64(x[i]), lo*s), hi*s)
				if d := math.Abs(float64(v) - end); d > 0.5*s*(1+1e-3)+3e-7*math.Abs(end) {
					t.Errorf("%+v: %v became %v, scale %v", g, x[i], v, s)
					break
				}
			}
		}
	}
}

// TestSmallTensors: one element, an all-zero channel among others, and what is below normal float32 numbers.
func TestSmallTensors(t *testing.T) {
	tiny := float32(math.SmallestNonzeroFloat32)
	for _, m := range allMethods() {
		for _, g := range []encoding.Grid{{}, {Symmetric: true}, {Symmetric: true, Strict: true}, {Symmetric: true, Unsigned: true}} {
			g.Bits, g.Axis = 8, encoding.PerTensor
			for _, v := range []float32{5, -5, 0, tiny, -tiny, 1e-40, math.MaxFloat32, -math.MaxFloat32} {
				e, err := encoding.Compute(t.Context(), "x", []float32{v}, tensor.Shape{}, g, m)
				if err != nil {
					t.Errorf("%v %+v: %v", m, g, err)
					continue
				}
				if err := e.Validate(tensor.Shape{}); err != nil || math.IsInf(float64(float32(e.Scale[0])), 0) {
					t.Errorf("%v of %v: %v %+v", m, v, err, e)
				}
				q := []float32{v}
				if err := e.QuantizeDequantize(q, q, tensor.Shape{}); err != nil {
					t.Fatal(err)
				}
				if s := e.Scale[0]; math.Abs(float64(q[0])-float64(v)) > 0.02*math.Abs(float64(v))+s && math.Abs(float64(v)) < 1e30 {
					t.Errorf("%v %+v: %v became %v, scale %v", m, g, v, q[0], s)
				}
			}
			g.Axis = 0
			e, err := encoding.Compute(t.Context(), "w", []float32{0, 0, 1, -1, tiny, 0}, tensor.Shape{3, 2}, g, m)
			if err != nil || e.Validate(tensor.Shape{3, 2}) != nil || !(e.Scale[1] > 0.5/128) {
				t.Errorf("%v %+v: %+v, %v", m, g, e, err)
			}
		}
	}
}

// TestAnalyzerMemory: what an analyzer holds does not grow with the number of batches.
func TestAnalyzerMemory(t *testing.T) {
	x := normal(1, 1<<14)
	for _, m := range allMethods() {
		t.Run(fmt.Sprint(m.Scheme), func(t *testing.T) {
			a := analyzer(t, m)
			held := func() int64 {
				var s runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&s)
				return int64(s.HeapAlloc)
			}
			var start int64
			for i := range 60 {
				if err := a.Observe(x, tensor.Shape{len(x)}); err != nil {
					t.Fatal(err)
				}
				if i == 2 {
					start = held()
				}
			}
			if grown := held() - start; grown > int64(len(x)) { // a quarter of one batch; 57 were observed
				t.Errorf("%d bytes more after 57 batches", grown)
			}
			runtime.KeepAlive(a)
		})
	}
}
