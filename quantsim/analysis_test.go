package quantsim

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"testing"

	"roundel/internal/golden"
	"roundel/nn"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

func TestSensitivity(t *testing.T) {
	m := golden.Load(t, "quantsim", "residual_w4a8_tf_enhanced")
	s := goldenSim(t, m, 1)
	calibrateGolden(t, m, s)
	x := feeds(t, m, "test", 0)
	float, err := nn.Compile(t.Context(), s.g, nn.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	want, err := float.Run(ctx, x)
	if err != nil {
		t.Fatal(err)
	}
	ref := want["y"].(*tensor.Dense[float32]).Data()
	noise := func(y []float32) float64 {
		sum := 0.0
		for i, v := range y {
			sum += math.Pow(float64(v)-float64(ref[i]), 2)
		}
		return sum
	}
	var seen []string
	r, err := s.Sensitivity(ctx, func(ctx context.Context, p *nn.Program) (float64, error) {
		out, err := p.Run(ctx, x)
		if err != nil {
			return 0, err
		}
		return noise(out["y"].(*tensor.Dense[float32]).Data()), nil
	}, func(node string, i, n int) { seen = append(seen, node) })
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.Forward(ctx, x)
	if err != nil {
		t.Fatal(err)
	}
	if r.Float != 0 || float64(r.Quantized) != noise(all["y"].(*tensor.Dense[float32]).Data()) {
		t.Errorf("float %v, quantized %v", r.Float, r.Quantized)
	}
	if len(r.Layers) != len(seen) || len(seen) < 6 {
		t.Errorf("%d layers, progress for %d", len(r.Layers), len(seen))
	}
	for _, l := range r.Layers {
		t.Logf("%-28s %-20s alone %.3g without %.3g of %.3g", l.Node, l.Op, l.Alone, l.Without, r.Quantized)
		if l.Alone <= 0 || l.Alone > 4*r.Quantized {
			t.Errorf("%s alone: %v", l.Node, l.Alone)
		}
	}
	first := slices.IndexFunc(r.Layers, func(l LayerScore) bool { return l.Node == "conv_conv1" })
	if first < 0 {
		t.Fatal("no conv1")
	}
	// By hand: only conv1 with its weight, its output and the graph input; and all but these.
	for _, alone := range []bool{true, false} {
		s := goldenSim(t, m, 1)
		calibrateGolden(t, m, s)
		for _, name := range s.Tensors() {
			if st, _ := s.State(name); st.Enabled && slices.Contains([]string{"x", "conv1", "conv1.weight"}, name) != alone {
				if err := s.SetEnabled(false, name); err != nil {
					t.Fatal(err)
				}
			}
		}
		out, err := s.Forward(ctx, x)
		if err != nil {
			t.Fatal(err)
		}
		want := r.Layers[first].Without
		if alone {
			want = r.Layers[first].Alone
		}
		if got := noise(out["y"].(*tensor.Dense[float32]).Data()); got != float64(want) {
			t.Errorf("conv1 alone %v: by hand %v, by Sensitivity %v", alone, got, want)
		}
	}
}

func TestSQNRAndRanges(t *testing.T) {
	sqnr := map[string][]TensorSQNR{}
	for _, name := range []string{"residual_w8a8_per_channel", "residual_w8a16_per_tensor", "residual_w4a8_tf_enhanced"} {
		m := golden.Load(t, "quantsim", name)
		s := goldenSim(t, m, 1)
		calibrateGolden(t, m, s)
		r, err := s.SQNR(context.Background(), SQNROptions{}, func(run func(map[string]tensor.Any) error) error { return run(feeds(t, m, "test", 0)) })
		if err != nil {
			t.Fatal(err)
		}
		sqnr[name] = r
		ranges, err := s.Ranges()
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range ranges {
			if x.Kind == "param" && (x.SQNR < Number(4*x.Bits) || x.SQNR > Number(8*x.Bits)) {
				t.Errorf("%s: %s keeps %.1f dB at %d bits", name, x.Tensor, x.SQNR, x.Bits)
			}
			if st, _ := s.State(x.Tensor); x.Clipped > 0 && st.Method.Scheme == encoding.SchemeTF {
				t.Errorf("%s: min-max clips %v of %s", name, x.Clipped, x.Tensor)
			}
		}
		if b, err := json.Marshal(map[string]any{"ranges": ranges, "sqnr": r}); err != nil || !json.Valid(b) {
			t.Errorf("JSON: %v", err)
		}
	}
	last := func(name string) float64 { r := sqnr[name]; return float64(r[len(r)-1].SQNR) }
	if a, b, c := last("residual_w8a8_per_channel"), last("residual_w8a16_per_tensor"), last("residual_w4a8_tf_enhanced"); !(a > 25 && b > 25 && c < a) {
		t.Errorf("output SQNR: w8a8 %.1f, w8a16 %.1f, w4a8 %.1f dB", a, b, c)
	}
}

func TestNumberJSON(t *testing.T) {
	b, err := json.Marshal([]Number{1.5, Number(math.Inf(1)), Number(math.NaN()), 1e-300})
	if err != nil || string(b) != "[1.5,null,null,1e-300]" {
		t.Errorf("%s, %v", b, err)
	}
}

// TestEdits walks through what can be changed by hand, and what cannot.
func TestEdits(t *testing.T) {
	m := golden.Load(t, "quantsim", "residual_w8a8_per_channel")
	s := goldenSim(t, m, 1)
	if _, err := s.Forward(context.Background(), feeds(t, m, "test", 0)); err == nil {
		t.Error("Forward before calibration")
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	bad := func(err error) {
		t.Helper()
		if err == nil {
			t.Error("no error")
		}
	}
	ok(s.SetPrecision(encoding.Int, 4, "conv1.weight", "fc.weight"))
	ok(s.SetPrecision(encoding.Float16, 16, "conv1"))
	ok(s.SetPrecision(encoding.Int, 16, "relu2"))
	ok(s.SetSymmetry(true, false, true, "gap"))
	ok(s.SetMethod(encoding.Method{Scheme: encoding.SchemeMSE}, "conv2"))
	ok(s.SetEnabled(true, "conv2.bias"))
	bad(s.SetEnabled(true, "nothing"))
	bad(s.SetEnabled(true, "flat")) // only moved data
	bad(s.SetPrecision(encoding.Int, 1, "conv1.weight"))
	bad(s.SetPrecision(encoding.BFloat16, 8, "conv1.weight"))
	bad(s.SetBlocks(3, "conv2.weight"))
	bad(s.SetBlocks(2, "gap"))
	bad(s.Freeze("conv2"))
	bad(s.Exclude("no such node"))
	ok(s.Exclude("gemm_y"))
	calibrateGolden(t, m, s)
	check := func(name string, bits int, typ encoding.DataType, scales int, on bool) {
		t.Helper()
		st, _ := s.State(name)
		n := 0
		if st.Encoding != nil {
			n = len(st.Encoding.Scale)
		}
		if st.Grid.Bits != bits || st.Grid.Type != typ || n != scales || st.Enabled != on {
			t.Errorf("%s: %d bits, %v, %d scales, enabled %v", name, st.Grid.Bits, st.Grid.Type, n, st.Enabled)
		}
	}
	check("conv1.weight", 4, encoding.Int, 8, true)
	check("conv1", 16, encoding.Float16, 0, true)
	check("relu2", 16, encoding.Int, 1, true)
	check("fc.weight", 4, encoding.Int, 0, false)
	check("conv2.bias", 8, encoding.Int, 8, true)
	if st, _ := s.State("gap"); st.Encoding.Offset[0] != 0 {
		t.Errorf("gap is never negative and unsigned: offset %v", st.Encoding.Offset[0])
	}
	if _, err := s.Forward(context.Background(), feeds(t, m, "test", 0)); err != nil {
		t.Error(err)
	}
	ok(s.Freeze("conv2"))
	bad(s.SetEnabled(false, "conv2"))
	bad(s.Exclude("conv_conv2"))
	before, _ := s.State("conv2")
	calibrateGolden(t, m, s)
	if after, _ := s.State("conv2"); after.Encoding != before.Encoding {
		t.Error("a frozen encoding was computed anew")
	}
}

// TestFailedCalibrationChangesNothing covers errors of the callback, of the data, and no data at all.
func TestFailedCalibrationChangesNothing(t *testing.T) {
	m := golden.Load(t, "quantsim", "concat_branches_w4a8_tf_enhanced")
	s := goldenSim(t, m, 2)
	calibrateGolden(t, m, s)
	states := func() []State {
		var out []State
		for _, n := range s.Tensors() {
			st, _ := s.State(n)
			out = append(out, st)
		}
		return out
	}
	want := states()
	nan := feeds(t, m, "calib", 0)["x"].(*tensor.Dense[float32]).Clone()
	nan.Data()[5] = float32(math.NaN())
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		ctx context.Context
		f   func(run func(map[string]tensor.Any) error) error
	}{
		"no data":   {context.Background(), func(func(map[string]tensor.Any) error) error { return nil }},
		"NaN":       {context.Background(), func(run func(map[string]tensor.Any) error) error { return run(map[string]tensor.Any{"x": nan}) }},
		"wrong":     {context.Background(), func(run func(map[string]tensor.Any) error) error { return run(map[string]tensor.Any{"z": nan}) }},
		"cancelled": {cancelled, func(run func(map[string]tensor.Any) error) error { return run(feeds(t, m, "calib", 0)) }},
	} {
		if err := s.ComputeEncodings(c.ctx, c.f); err == nil {
			t.Errorf("%s: no error", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
		for i, st := range states() {
			if st.Encoding != want[i].Encoding {
				t.Errorf("%s: the encoding of %s changed", name, st.Tensor)
			}
		}
	}
}
