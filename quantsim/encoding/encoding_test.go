package encoding_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"roundel/quantsim/encoding"
	"roundel/tensor"

	"github.com/google/go-cmp/cmp"
)

func normal(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// TestRuns compares with the definition: the group of an element from its index along each axis.
func TestRuns(t *testing.T) {
	shape := tensor.Shape{4, 6, 3, 2}
	for _, g := range []encoding.Grid{
		{Axis: encoding.PerTensor}, {Axis: 0}, {Axis: 1}, {Axis: 3},
		{Axis: 0, BlockAxis: 1, BlockSize: 3}, {Axis: 1, BlockAxis: 0, BlockSize: 2}, {Axis: 3, BlockAxis: 1, BlockSize: 2},
		{Axis: encoding.PerTensor, BlockAxis: 1, BlockSize: 2}, {Axis: 0, BlockAxis: 3, BlockSize: 1}, {Axis: 2, BlockAxis: 1, BlockSize: 6},
	} {
		g.Bits = 8
		if err := g.Validate(shape); err != nil {
			t.Fatal(err)
		}
		scales, want := g.ScaleShape(shape), make([]int, shape.Len())
		st := scales.Strides()
		for i := range want {
			rest := i
			for d := len(shape) - 1; d >= 0; d-- {
				want[i] += rest % shape[d] * scales[d] / shape[d] * st[d]
				rest /= shape[d]
			}
		}
		got := make([]int, shape.Len())
		next := 0
		g.Runs(shape, func(group, lo, hi int) {
			if lo != next {
				t.Fatalf("%+v: run starts at %d, want %d", g, lo, next)
			}
			for ; lo < hi; lo++ {
				got[lo] = group
			}
			next = hi
		})
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%+v: groups differ:\n%s", g, d)
		}
		if scales.Len() != g.Groups(shape) {
			t.Errorf("%+v: %d groups, scales of shape %v", g, g.Groups(shape), scales)
		}
	}
}

func TestQuantizeAgreesWithQuantizeDequantize(t *testing.T) {
	shape := tensor.Shape{5, 8}
	x := normal(1, 40)
	x[3], x[4] = 100, -100
	for _, bits := range []int{2, 3, 4, 8, 16} {
		for _, g := range []encoding.Grid{{Axis: 0}, {Axis: 1, Symmetric: true}, {Axis: 0, Symmetric: true, Strict: true}, {Axis: encoding.PerTensor, Symmetric: true, Unsigned: true}} {
			g.Bits = bits
			e, err := encoding.Compute(t.Context(), "w", x, shape, g, encoding.Method{Scheme: encoding.SchemeTF})
			if err != nil {
				t.Fatal(err)
			}
			k, err := e.Quantize(x, shape)
			if err != nil {
				t.Fatal(err)
			}
			back, err := e.Dequantize(k, shape)
			if err != nil {
				t.Fatal(err)
			}
			sim := make([]float32, 40)
			if err := e.QuantizeDequantize(sim, x, shape); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(sim, back); d != "" {
				t.Errorf("%+v:\n%s", g, d)
			}
			e.Runs(shape, func(group, i, j int) {
				for ; i < j; i++ {
					if c := float64(k[i]) - e.Offset[group]; c < 0 || c > e.Steps() {
						t.Errorf("%+v: code %v", g, c)
					}
					if diff := math.Abs(float64(sim[i]) - float64(x[i])); diff > 0.501*e.Scale[group] && !(g.Axis != 0 && bits == 2) {
						t.Errorf("%+v: %v became %v, scale %v", g, x[i], sim[i], e.Scale[group])
					}
				}
			})
		}
	}
}

func TestHalvesGoToEven(t *testing.T) {
	e := &encoding.Encoding{Grid: encoding.Grid{Bits: 8, Axis: encoding.PerTensor}, Scale: []float64{1}, Offset: []float64{-128}}
	nan := float32(math.NaN())
	x := []float32{0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, 127.5, 300, -300, nan}
	want := []float32{0, 2, 2, 0, -2, -2, 126, 127, 127, -128, -128}
	got := make([]float32, len(x))
	if err := e.QuantizeDequantize(got, x, tensor.Shape{len(x)}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestFloatTypes(t *testing.T) {
	inf := float32(math.Inf(1))
	cases := []struct {
		typ     encoding.DataType
		bits    int
		x, want float32
	}{
		{encoding.Float16, 16, 1.0 / 3, 0.33325195}, {encoding.Float16, 16, 65504, 65504}, {encoding.Float16, 16, 65519.9, 65504},
		{encoding.Float16, 16, 65520, inf}, {encoding.Float16, 16, -65520, -inf}, {encoding.Float16, 16, 0x1p-24, 0x1p-24},
		{encoding.Float16, 16, 0x1p-25, 0}, {encoding.Float16, 16, 0x1.8p-25, 0x1p-24}, {encoding.Float16, 16, 2049, 2048}, {encoding.Float16, 16, 2051, 2052},
		{encoding.Float16, 16, inf, inf}, {encoding.BFloat16, 16, 1.0 / 3, 0.33398438}, {encoding.BFloat16, 16, 0x1.01p0, 1}, {encoding.BFloat16, 16, 0x1.03p0, 0x1.04p0},
		{encoding.Float32, 32, 1.0 / 3, 1.0 / 3},
	}
	for _, c := range cases {
		e := &encoding.Encoding{Grid: encoding.Grid{Type: c.typ, Bits: c.bits, Axis: encoding.PerTensor}}
		got := []float32{c.x}
		if err := e.QuantizeDequantize(got, got, tensor.Shape{1}); err != nil || got[0] != c.want {
			t.Errorf("%v(%v) = %v, want %v (%v)", c.typ, c.x, got[0], c.want, err)
		}
	}
}

// TestPartsOfABatch: neither the cut of a batch into parts nor their order may change a result.
func TestPartsOfABatch(t *testing.T) {
	for _, m := range allMethods() {
		whole, parts := analyzer(t, m), analyzer(t, m)
		for b := range uint64(3) {
			x := normal(b, 4*60)
			for i := range x {
				x[i] *= float32(1 + b)
			}
			if err := whole.Observe(x, tensor.Shape{4, 60}); err != nil {
				t.Fatal(err)
			}
			order := []int{2, 0, 3, 1}
			one, two := parts.Batch(), parts.Batch() // as from two workers
			piece := func(i int) (*encoding.Batch, []float32) {
				if i%2 == 0 {
					return one, x[i*60 : (i+1)*60]
				}
				return two, x[i*60 : (i+1)*60]
			}
			if parts.NeedsRange() {
				for _, i := range order {
					b, x := piece(i)
					if err := b.Range(x, tensor.Shape{60}); err != nil {
						t.Fatal(err)
					}
				}
				one.Merge(two)
				parts.Fix(one)
			}
			for _, i := range order {
				b, x := piece(i)
				if err := b.Add(x, tensor.Shape{60}); err != nil {
					t.Fatal(err)
				}
			}
			one.Merge(two)
			parts.Commit(one)
		}
		a, err := whole.Encoding()
		if err != nil {
			t.Fatal(err)
		}
		b, err := parts.Encoding()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(a, b); d != "" {
			t.Errorf("%v: %s", m, d)
		}
	}
}

func analyzer(t *testing.T, m encoding.Method) *encoding.Analyzer {
	a, err := encoding.NewAnalyzer("x", encoding.Grid{Bits: 8, Axis: encoding.PerTensor}, m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func allMethods() []encoding.Method {
	return []encoding.Method{{Scheme: encoding.SchemeTF}, {Scheme: encoding.SchemeTFEnhanced}, {Scheme: encoding.SchemeLearnTF},
		{Scheme: encoding.SchemeLearnTFEnhanced}, {Scheme: encoding.SchemePercentile, Percentile: 99.9}, {Scheme: encoding.SchemeMSE}, {Scheme: encoding.SchemeEntropy}}
}

// TestComputeIsPerChannelAnalysis: Compute works group by group and must agree with one analyzer over all.
func TestComputeIsPerChannelAnalysis(t *testing.T) {
	shape := tensor.Shape{6, 4, 3}
	x := normal(9, shape.Len())
	for _, m := range allMethods() {
		for _, g := range []encoding.Grid{{Bits: 4, Symmetric: true, Axis: 0}, {Bits: 4, Axis: 1}, {Bits: 4, Symmetric: true, Axis: 1, BlockAxis: 0, BlockSize: 2}} {
			got, err := encoding.Compute(t.Context(), "w", x, shape, g, m)
			if err != nil {
				t.Fatal(err)
			}
			a, err := encoding.NewAnalyzer("w", g, m)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Observe(x, shape); err != nil {
				t.Fatal(err)
			}
			want, err := a.Encoding()
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%v %+v: %s", m, g, d)
			}
		}
	}
}

// TestMSEBeatsMinMax: on data with outliers the searched grids have a smaller error at few bits.
func TestSearchedRangesCutOutliers(t *testing.T) {
	x := normal(3, 4000)
	x[0], x[1] = 40, -35
	shape := tensor.Shape{len(x)}
	errOf := func(m encoding.Method) float64 {
		e, err := encoding.Compute(t.Context(), "x", x, shape, encoding.Grid{Bits: 4, Axis: encoding.PerTensor}, m)
		if err != nil {
			t.Fatal(err)
		}
		q := make([]float32, len(x))
		if err := e.QuantizeDequantize(q, x, shape); err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for i := range x {
			d := float64(q[i]) - float64(x[i])
			sum += d * d
		}
		return sum
	}
	whole := errOf(encoding.Method{Scheme: encoding.SchemeTF})
	mse := errOf(encoding.Method{Scheme: encoding.SchemeMSE})
	for _, m := range allMethods()[1:] {
		if m.Scheme == encoding.SchemeLearnTF {
			continue
		}
		got := errOf(m)
		t.Logf("%v: squared error %.1f (min-max %.1f)", m, got, whole)
		if got > whole {
			t.Errorf("%v has a larger error than min-max", m)
		}
		if got < mse*0.98 {
			t.Errorf("%v has a smaller error than mse", m)
		}
	}
}

func TestDegenerateTensors(t *testing.T) {
	fill := func(v float32) []float32 {
		x := make([]float32, 16)
		for i := range x {
			x[i] = v
		}
		return x
	}
	for name, x := range map[string][]float32{"zero": fill(0), "constant": fill(3), "negative": fill(-3), "tiny": fill(1e-30), "subnormal": fill(1e-44),
		"huge": {3e38, -3e38, 0, 1}, "empty": nil} {
		for _, m := range allMethods() {
			for _, sym := range []bool{false, true} {
				e, err := encoding.Compute(t.Context(), "x", x, tensor.Shape{len(x)}, encoding.Grid{Bits: 8, Symmetric: sym, Axis: encoding.PerTensor}, m)
				if err != nil {
					t.Errorf("%s %v: %v", name, m, err)
					continue
				}
				q := make([]float32, len(x))
				if err := e.QuantizeDequantize(q, x, tensor.Shape{len(x)}); err != nil {
					t.Errorf("%s %v symmetric %v: %v (%+v)", name, m, sym, err, e)
					continue
				}
				for i := range q {
					if q[i] != q[i] || name == "zero" && q[i] != 0 {
						t.Errorf("%s %v: %v became %v", name, m, x[i], q[i])
					}
				}
			}
		}
	}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		_, err := encoding.Compute(t.Context(), "conv1.weight", []float32{1, bad}, tensor.Shape{2}, encoding.Grid{Bits: 8, Axis: encoding.PerTensor}, encoding.Method{Scheme: encoding.SchemeTF})
		if err == nil || !strings.Contains(err.Error(), `"conv1.weight"`) || !strings.Contains(err.Error(), "element 1") {
			t.Errorf("%v: error %v", bad, err)
		}
	}
	a := analyzer(t, encoding.Method{Scheme: encoding.SchemeTF})
	if _, err := a.Encoding(); !errors.Is(err, encoding.ErrNoData) {
		t.Errorf("no data: %v", err)
	}
}

func TestBadGridsAndSchemes(t *testing.T) {
	shape := tensor.Shape{4, 6}
	for name, g := range map[string]encoding.Grid{"bits": {Bits: 1, Axis: -1}, "axis": {Bits: 8, Axis: 2}, "divide": {Bits: 8, Axis: 0, BlockAxis: 1, BlockSize: 4},
		"same": {Bits: 8, Axis: 1, BlockAxis: 1, BlockSize: 2}, "unknown": {Bits: 8, Axis: encoding.AxisUnknown}, "float": {Type: encoding.Float16, Bits: 8, Axis: -1}} {
		if _, err := encoding.Compute(t.Context(), "w", make([]float32, 24), shape, g, encoding.Method{Scheme: encoding.SchemeTF}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, m := range []encoding.Method{{}, {Scheme: 5}, {Scheme: encoding.SchemePercentile, Percentile: 40}, {Scheme: encoding.SchemePercentile, Percentile: 101}} {
		if m.Validate() == nil {
			t.Errorf("%v is valid", m)
		}
	}
	for name, want := range map[string]encoding.Scheme{"tf": 1, "MIN_MAX": 1, "post_training_tf_enhanced": 2, "percentile": 6, "training_range_learning_with_tf_init": 3} {
		if s, err := encoding.ParseScheme(name); err != nil || s != want {
			t.Errorf("%s is %v, %v", name, s, err)
		}
	}
	if _, err := encoding.ParseScheme("best"); err == nil || !strings.Contains(err.Error(), "tf_enhanced") {
		t.Errorf("unknown scheme: %v", err)
	}
}

// TestNaNAnywhere: the fast path of the histogram notices a NaN only by its traces.
func TestNaNAnywhere(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		for _, m := range allMethods() {
			for _, at := range []int{0, 1, 2, 3, 4095, 4096, 9998, 9999} {
				a := analyzer(t, m)
				if err := a.Observe(normal(1, 10000), tensor.Shape{10000}); err != nil {
					t.Fatal(err)
				}
				x := normal(2, 10000)
				x[at] = float32(bad)
				b := a.Batch()
				err := b.Add(x, tensor.Shape{100, 100})
				if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("element %d ", at)) {
					t.Errorf("%v at %d with %v: %v", bad, at, m, err)
				}
			}
		}
	}
}

// TestHistogramCountsLikeTheDefinition compares both paths with floor(x*per) in float32, on edges too.
func TestHistogramCountsLikeTheDefinition(t *testing.T) {
	for k, offset := range []float32{0, 3, -700, 1e5, 0} {
		x := normal(5, 3000+20000*(k/4))
		for i := range x {
			x[i] += offset
		}
		lo, hi := x[0], x[0]
		for _, v := range x {
			lo, hi = min(lo, v), max(hi, v)
		}
		w, per := (hi-lo)/512, 1536/float32(3*(hi-lo))
		for i := range 1000 { // values on and beside the edges of bins
			edge := float32(math.Floor(float64(lo*per))+float64(i%512)) * w
			for _, v := range []float32{edge, math.Nextafter32(edge, 1e9), math.Nextafter32(edge, -1e9)} {
				if v >= lo && v <= hi {
					x = append(x, v)
				}
			}
		}
		first := float32(math.Floor(float64(lo*per))) - 512
		want := make([]float64, 1536)
		for _, v := range x {
			want[int(float32(math.Floor(float64(v*per)))-first)] += 1 / float64(len(x))
		}
		got := encoding.Density(x)
		for i := range want {
			if math.Abs(got[i]-want[i]) > 1e-9 {
				t.Fatalf("offset %v: bin %d is %v, want %v", offset, i, got[i], want[i])
			}
		}
	}
}
