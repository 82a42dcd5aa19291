package encoding_test

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"roundel/internal/golden"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// row is one calibration of rows.json; the torch rows use a signed grid from qmin to qmax.
type row struct {
	Row                     int
	Scheme, Mode            string
	Bitwidth                int
	Symmetric, Strict       bool
	Unsigned                bool
	PerChannel              bool `json:"per_channel"`
	ChannelAxis             *int `json:"channel_axis"`
	Percentile              *float64
	QMin                    *float64
	Scale, Offset, Min, Max []float64
}

func (r row) grid() encoding.Grid {
	g := encoding.Grid{Bits: r.Bitwidth, Symmetric: r.Symmetric, Strict: r.Strict, Unsigned: r.Unsigned, Axis: encoding.PerTensor}
	if r.PerChannel {
		g.Axis = *r.ChannelAxis
	}
	return g
}

func (r row) method(t *testing.T) encoding.Method {
	s, err := encoding.ParseScheme(strings.TrimSuffix(r.Scheme, "99"))
	if err != nil {
		t.Fatal(err)
	}
	m := encoding.Method{Scheme: s}
	if r.Percentile != nil {
		m.Percentile = *r.Percentile
	}
	if r.Scheme == "percentile99" {
		m.Percentile = 99
	}
	return m
}

// tally counts encodings that agree, by scheme.
type tally map[string]*[4]int // same, neighbouring candidate, different, by intent

func (c tally) at(scheme string) *[4]int {
	if c[scheme] == nil {
		c[scheme] = new([4]int)
	}
	return c[scheme]
}

// folders returns the cases that are committed here, and all others where the shared folder is present.
func folders(t *testing.T) map[string]string {
	own, err := filepath.Glob("testdata/golden/*")
	if err != nil || len(own) == 0 {
		t.Fatalf("no golden cases in testdata: %v", err)
	}
	out := map[string]string{}
	for _, d := range own {
		out[filepath.Base(d)] = d
	}
	t.Run("shared", func(t *testing.T) {
		for _, name := range golden.Cases(t, "encodings") {
			out[name] = golden.Dir(t, "encodings", name)
		}
	})
	delete(out, loaded) // another format; TestGoldenLoaded reads it
	return out
}

const loaded = "loaded_rounding_and_saturation"

func batches(t *testing.T, dir string) []*tensor.Dense[float32] {
	paths, err := filepath.Glob(filepath.Join(dir, "inputs_x[0-9].npy"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no inputs in %s: %v", dir, err)
	}
	var out []*tensor.Dense[float32]
	for _, p := range paths { // Glob sorts
		out = append(out, golden.NpyOf[float32](t, p))
	}
	return out
}

func calibrate(t *testing.T, r row, xs []*tensor.Dense[float32]) *encoding.Encoding {
	a, err := encoding.NewAnalyzer("x", r.grid(), r.method(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range xs {
		if err := a.Observe(x.Data(), x.Shape()); err != nil {
			t.Fatal(err)
		}
	}
	e, err := a.Encoding()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func near(a, b, rtol float64) bool { return math.Abs(a-b) <= rtol*math.Abs(b) }

func TestGoldenCalibration(t *testing.T) {
	total := tally{}
	for name, dir := range folders(t) {
		t.Run(name, func(t *testing.T) {
			xs := batches(t, dir)
			var rows []row
			golden.JSON(t, filepath.Join(dir, "rows.json"), &rows)
			for _, r := range rows {
				torch := strings.HasPrefix(name, "torch")
				if torch && r.Scheme != "min_max" {
					continue // torch has other analyzers for these; the native ones are the reference
				}
				e := calibrate(t, r, xs)
				if len(e.Scale) != len(r.Scale) {
					t.Fatalf("row %d: %d scales, want %d", r.Row, len(e.Scale), len(r.Scale))
				}
				for i := range e.Scale {
					compare(t, total, r, i, e, torch)
				}
			}
		})
	}
	for s, c := range total {
		t.Logf("%-12s %d equal, %d neighbouring candidate, %d different, %d otherwise by intent", s, c[0], c[1], c[2], c[3])
	}
	if c := total["tf_enhanced"]; c != nil && float64(c[0]) < 0.995*float64(c[0]+c[1]+c[2]) {
		t.Errorf("tf_enhanced: only %d of %d are the same candidate", c[0], c[0]+c[1]+c[2])
	}
}

func compare(t *testing.T, total tally, r row, i int, e *encoding.Encoding, torch bool) {
	want := r.Offset[i]
	if torch {
		want += *r.QMin // onto the unsigned code
	}
	c := total.at(r.Scheme)
	switch {
	case r.Scheme == "tf_enhanced" && r.Strict && want == e.Offset[i]-1 && near(r.Scale[i], 2/(e.Steps()+1), 1e-9):
		// An all-zero tensor: the reference gives it the grid of [-1, 1] that is not strict; ours is.
		c[3]++
	case torch && r.Bitwidth == 16 && math.Abs(want-e.Offset[i]) == 1 && near(e.Scale[i], r.Scale[i], 1e-5):
		// torch divides in float32, whose spacing at 37158.5 is 1/256.
		c[3]++
	case near(e.Scale[i], r.Scale[i], 1e-5) && e.Offset[i] == want:
		c[0]++
	case r.Scheme == "tf_enhanced" && near(e.Scale[i], r.Scale[i], 0.2):
		c[1]++
		t.Logf("row %d channel %d %s %d bit: have %v %v, want %v %v", r.Row, i, r.Mode, r.Bitwidth, e.Scale[i], e.Offset[i], r.Scale[i], want)
	default:
		c[2]++
		t.Errorf("row %d channel %d %s %s %d bit: have scale %v offset %v, want %v %v", r.Row, i, r.Scheme, r.Mode, r.Bitwidth,
			e.Scale[i], e.Offset[i], r.Scale[i], want)
	}
	if r.Scheme == "min_max" && float32(e.Scale[i]) != float32(r.Scale[i]) && !torch {
		t.Errorf("row %d channel %d: min-max scale %v is not %v to float32", r.Row, i, e.Scale[i], r.Scale[i])
	}
}

// given is the encoding that a row lists.
func (r row) given() *encoding.Encoding {
	e := &encoding.Encoding{Grid: r.grid(), Scale: r.Scale, Offset: append([]float64{}, r.Offset...), Min: r.Min, Max: r.Max}
	if r.QMin != nil {
		for i := range e.Offset {
			e.Offset[i] += *r.QMin
		}
	}
	return e
}

// TestGoldenQuantizeDequantize applies the listed encodings. The native simulator
// rounds exact ties up and ours rounds them to even, so an element may differ by one
// step, but only if x/scale lies within float32 noise of a tie; torch rounds as we do.
func TestGoldenQuantizeDequantize(t *testing.T) {
	same, ties := 0, 0
	for name, dir := range folders(t) {
		t.Run(name, func(t *testing.T) {
			x := batches(t, dir)[0]
			want := golden.NpyOf[float32](t, filepath.Join(dir, "expected_qdq.npy")).Data()
			var rows []row
			golden.JSON(t, filepath.Join(dir, "rows.json"), &rows)
			got := make([]float32, x.Len())
			for k, r := range rows {
				e := r.given()
				if err := e.QuantizeDequantize(got, x.Data(), x.Shape()); err != nil {
					t.Fatalf("row %d: %v", k, err)
				}
				w := want[k*x.Len() : (k+1)*x.Len()]
				e.Runs(x.Shape(), func(g, lo, hi int) {
					for i := lo; i < hi; i++ {
						switch err := explain(x.Data()[i], got[i], w[i], e.Scale[g], e.Offset[g]); {
						case err == nil:
							same++
						case err == errTie && !strings.HasPrefix(name, "torch"):
							ties++
						default:
							t.Errorf("row %d element %d: %v", k, i, err)
						}
					}
				})
			}
		})
	}
	t.Logf("%d elements equal, %d exact ties rounded the other way", same, ties)
}

var errTie = fmt.Errorf("a tie")

// explain returns nil if got is want, errTie if they differ by a step because x/scale
// is a tie to within the rounding of x/scale - offset in float32, which is what the native simulator rounds.
func explain(x, got, want float32, scale, offset float64) error {
	diff := math.Abs(float64(got) - float64(want))
	if diff <= 1e-7+1e-5*math.Abs(float64(want)) && diff < 0.5*scale {
		return nil
	}
	v := float64(x) / scale
	if diff < 1.001*scale && math.Abs(v-math.Floor(v)-0.5) < 0x1p-22*max(1, math.Abs(v), math.Abs(offset)) {
		return errTie
	}
	return fmt.Errorf("x = %v, scale %v: have %v, want %v", x, scale, got, want)
}

func TestGoldenLoaded(t *testing.T) {
	dir := filepath.Join("testdata", "golden", loaded)
	m := &golden.Manifest{Dir: dir}
	golden.JSON(t, filepath.Join(dir, "manifest.json"), m)
	var rows []struct {
		Bitwidth                int
		Min, Max, Scale, Offset float64
	}
	m.Param(t, "rows", &rows)
	x := m.Input(t, "x").(*tensor.Dense[float32])
	want := golden.NpyOf[float32](t, filepath.Join(dir, "expected_qdq.npy")).Data()
	ties := 0
	for k, r := range rows {
		e := &encoding.Encoding{Grid: encoding.Grid{Bits: r.Bitwidth, Axis: encoding.PerTensor},
			Scale: []float64{r.Scale}, Offset: []float64{r.Offset}, Min: []float64{r.Min}, Max: []float64{r.Max}}
		got, err := e.QuantizeDequantizeTensor(x)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range got.Data() {
			switch err := explain(x.Data()[i], v, want[k*x.Len()+i], r.Scale, r.Offset); err {
			case nil:
			case errTie:
				ties++
			default:
				t.Errorf("row %d (%+v) element %d: %v", k, r, i, err)
			}
		}
	}
	t.Logf("%d of %d are exact ties rounded the other way", ties, len(rows)*x.Len())
}
