package quantsim

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// smallSim makes a simulation of a graph of testdata/placement; edit may change the graph before.
func smallSim(t *testing.T, name string, cfg Config, edit func(*nn.Graph)) *Sim {
	t.Helper()
	m, err := onnx.Read("testdata/placement/" + name + ".onnx")
	if err != nil {
		t.Fatal(err)
	}
	g, err := convert.ToGraph(m)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(g)
	}
	if cfg.ConfigFile == "" {
		cfg.ConfigFile = "default"
	}
	s, err := New(g, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// calibrateRamp calibrates with the inputs of placement.py, batches times, each scaled by gain.
func calibrateRamp(t *testing.T, s *Sim, gain float32) {
	t.Helper()
	feeds := rampFeeds(t, s.g)
	for _, v := range feeds {
		if x, ok := v.(*tensor.Dense[float32]); ok {
			for i := range x.Data() {
				x.Data()[i] *= gain
			}
		}
	}
	err := s.ComputeEncodings(context.Background(), func(run func(map[string]tensor.Any) error) error { return run(feeds) })
	if err != nil {
		t.Fatal(err)
	}
}

func scaleOf(t *testing.T, s *Sim, name string) float64 {
	t.Helper()
	st, _ := s.State(name)
	if st.Encoding == nil {
		t.Fatalf("%s has no encoding", name)
	}
	return st.Encoding.Scale[0]
}

// scaled returns f with the scales of one tensor multiplied.
func scaled(f *encoding.File, name string, by float64) *encoding.File {
	out := *f
	out.Entries = slices.Clone(f.Entries)
	for i, e := range out.Entries {
		if e.Name == name {
			c := e.Encoding.Clone()
			for k, v := range c.Scale {
				c.SetScale(k, v*by)
			}
			out.Entries[i].Encoding = c
		}
	}
	return &out
}

// TestLoadEncodings: loading overwrites, calibration overwrites what was loaded unless it is frozen, and the options hold.
func TestLoadEncodings(t *testing.T) {
	fresh := func() *Sim { return smallSim(t, "every_rule", DefaultConfig(), nil) }
	first := fresh()
	calibrateRamp(t, first, 1)
	f, err := first.Encodings(OptionsFor("1.0.0"))
	if err != nil {
		t.Fatal(err)
	}
	usual := scaleOf(t, first, "a")
	load := func(s *Sim, f *encoding.File, o LoadOptions) {
		t.Helper()
		if err := s.LoadEncodings(f, o); err != nil {
			t.Fatal(err)
		}
	}
	want := func(s *Sim, what string, scale float64) {
		t.Helper()
		if got := scaleOf(t, s, "a"); got != scale {
			t.Errorf("%s: scale %v, want %v", what, got, scale)
		}
	}
	s := fresh()
	load(s, f, LoadOptions{})
	if _, err := s.Forward(context.Background(), rampFeeds(t, s.g)); err != nil {
		t.Errorf("after loading: %v", err)
	}
	load(s, scaled(f, "a", 2), LoadOptions{})
	want(s, "loaded twice", 2*usual)
	calibrateRamp(t, s, 1)
	want(s, "calibrated after loading", usual)
	load(s, scaled(f, "a", 2), LoadOptions{Freeze: true})
	calibrateRamp(t, s, 1)
	want(s, "calibrated after loading and freezing", 2*usual)
	load(s, f, LoadOptions{})
	want(s, "loaded over what is frozen", 2*usual)
	if !slices.ContainsFunc(s.Warnings(), func(w string) bool { return strings.Contains(w, `"a" is frozen`) }) {
		t.Errorf("warnings %q", s.Warnings())
	}

	part := *f
	part.Entries = slices.DeleteFunc(slices.Clone(f.Entries), func(e encoding.Entry) bool { return e.Name == "m" || e.Name == "fc.weight" })
	s = fresh()
	load(s, &part, LoadOptions{})
	if st, _ := s.State("m"); st.Enabled {
		t.Error("m is not in the file and enabled")
	}
	s = fresh()
	load(s, &part, LoadOptions{Partial: true})
	if _, err := s.Forward(context.Background(), rampFeeds(t, s.g)); err == nil || !strings.Contains(err.Error(), "fc.weight, m") {
		t.Errorf("partial, not calibrated: %v", err)
	}
	calibrateRamp(t, s, 1)
	if st, _ := s.State("m"); !st.Enabled || scaleOf(t, s, "m") != scaleOf(t, first, "m") {
		t.Error("m was not calibrated after a partial load")
	}

	cfg := DefaultConfig()
	cfg.OutputBits = 16
	s = smallSim(t, "every_rule", cfg, nil)
	if err := s.LoadEncodings(f, LoadOptions{}); err == nil || !strings.Contains(err.Error(), `"a": it has 16 bits (int) here and 8 bits (int) in the file`) {
		t.Errorf("other bits: %v", err)
	}
	if st, _ := s.State("x"); st.Encoding != nil {
		t.Error("a refused file has changed something")
	}
	load(s, f, LoadOptions{Reconfigure: true})
	if st, _ := s.State("a"); st.Grid.Bits != 8 {
		t.Errorf("reconfigured to %d bits", st.Grid.Bits)
	}
	part.Entries = append(part.Entries, encoding.Entry{Name: "elsewhere", Kind: encoding.Activation, Encoding: f.Find("a")})
	if err := fresh().LoadEncodings(&part, LoadOptions{}); err == nil || !strings.Contains(err.Error(), `"elsewhere"`) {
		t.Errorf("an unknown name: %v", err)
	}
}

// TestSetAndFreezeEveryFile: the weights of every file format are frozen before calibration and survive it.
func TestSetAndFreezeEveryFile(t *testing.T) {
	source := smallSim(t, "every_rule", DefaultConfig(), nil)
	calibrateRamp(t, source, 1)
	f, err := source.Encodings(EncodingsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f = scaled(f, "c1.weight", 1.25)
	write := map[string]func(*bytes.Buffer) error{
		"adaround":      func(b *bytes.Buffer) error { return f.WriteAdaround(b, false) },
		"adaround bare": func(b *bytes.Buffer) error { return f.WriteAdaround(b, true) },
	}
	for _, v := range []string{"0.6.1", "1.0.0", "2.0.0"} {
		write[v] = func(b *bytes.Buffer) error { return f.Write(b, v) }
	}
	for name, w := range write {
		var b bytes.Buffer
		path := filepath.Join(t.TempDir(), "file")
		if err := w(&b); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		s := smallSim(t, "every_rule", DefaultConfig(), nil)
		if err := s.SetAndFreezeParamEncodings(path); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if st, _ := s.State("a"); st.Encoding != nil || st.Frozen {
			t.Errorf("%s: an activation was set", name)
		}
		calibrateRamp(t, s, 1)
		if st, _ := s.State("c1.weight"); !st.Frozen || !slices.Equal(st.Encoding.Scale, f.Find("c1.weight").Scale) || st.Encoding.Axis != 0 {
			t.Errorf("%s: c1.weight is %+v", name, st)
		}
	}
}

// TestSetAndFreezeRefuses: what does not fit the model is an error, and then nothing is frozen.
func TestSetAndFreezeRefuses(t *testing.T) {
	source := smallSim(t, "every_rule", DefaultConfig(), nil)
	calibrateRamp(t, source, 1)
	f, err := source.Encodings(EncodingsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit func(*encoding.Entry)
		want string
	}{
		"name":       {func(e *encoding.Entry) { e.Name = "c9.weight" }, `"c9.weight" of the file is not one of the model`},
		"activation": {func(e *encoding.Entry) { e.Name = "a" }, `"a" of the file is not one of the model`},
		"channels":   {func(e *encoding.Entry) { e.Scale, e.Offset, e.Min, e.Max = e.Scale[:3], e.Offset[:3], nil, nil }, `"c1.weight"`},
	} {
		bad := scaled(f, "c1.weight", 1)
		i := slices.IndexFunc(bad.Entries, func(e encoding.Entry) bool { return e.Name == "c1.weight" })
		c.edit(&bad.Entries[i])
		s := smallSim(t, "every_rule", DefaultConfig(), nil)
		if err := s.SetAndFreezeParams(bad); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		for _, n := range s.Tensors() {
			if st, _ := s.State(n); st.Frozen {
				t.Errorf("%s: %s was frozen", name, n)
			}
		}
	}
}

func TestSetPercentile(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Method.Scheme, cfg.ParamMethod.Scheme = encoding.SchemePercentile, encoding.SchemeTF
	s := smallSim(t, "every_rule", cfg, nil)
	if err := s.SetMethod(encoding.Method{Scheme: encoding.SchemeTF}, "m"); err != nil {
		t.Fatal(err)
	}
	var a, m []float64
	for _, p := range []float64{100, 95, 80} {
		if err := s.SetPercentile(p); err != nil {
			t.Fatal(err)
		}
		calibrateRamp(t, s, 1)
		a, m = append(a, scaleOf(t, s, "s")), append(m, scaleOf(t, s, "m"))
	}
	if !(a[0] > a[1] && a[1] > a[2]) || m[0] != m[2] {
		t.Errorf("scales by percentile %v, of a min-max tensor %v", a, m)
	}
	for _, p := range []float64{40, 101, math.NaN()} {
		if err := s.SetPercentile(p); err == nil || !strings.Contains(err.Error(), "percentile") {
			t.Errorf("%v: %v", p, err)
		}
	}
}

// TestBiasFitsInt32: weight scales are raised until each bias, at the scale of its accumulator, stays 2^15 below the end
// of int32; scales that are frozen are kept with a warning.
func TestBiasFitsInt32(t *testing.T) {
	big := func(g *nn.Graph) {
		g.Consts["c1.bias"] = tensor.From([]float32{3e6, 0.1, -3e6, 0}, 4)
	}
	s := smallSim(t, "every_rule", DefaultConfig(), big)
	calibrateRamp(t, s, 1)
	plain := smallSim(t, "every_rule", DefaultConfig(), nil)
	calibrateRamp(t, plain, 1)
	st, _ := s.State("c1.weight")
	before, _ := plain.State("c1.weight")
	sx := scaleOf(t, s, "x")
	for i, b := range s.g.Consts["c1.bias"].(*tensor.Dense[float32]).Data() {
		sw := st.Encoding.Scale[i]
		if k := math.Abs(float64(b)) / (sx * sw); k > (1<<31-1<<15)*(1+1e-6) {
			t.Errorf("channel %d: the bias is %v steps", i, k)
		}
		if raised := sw > before.Encoding.Scale[i]; raised != (math.Abs(float64(b)) > 1) {
			t.Errorf("channel %d with bias %v: scale %v, before %v", i, b, sw, before.Encoding.Scale[i])
		}
	}
	f, err := s.Encodings(EncodingsOptions{Bias: true})
	if err != nil {
		t.Fatal(err)
	}
	e := f.Find("c1.bias")
	if e == nil || e.Bits != 32 || e.Offset[0] != -1<<31 || e.Scale[0] != float64(float32(sx)*float32(st.Encoding.Scale[0])) {
		t.Fatalf("the exported bias is %+v", e)
	}
	codes, err := e.Quantize(s.g.Consts["c1.bias"].(*tensor.Dense[float32]).Data(), tensor.Shape{4})
	if err != nil || codes[0] < 1<<30 || codes[2] > -1<<30 {
		t.Errorf("codes %v, %v", codes, err)
	}
	if f, err = s.Encodings(EncodingsOptions{}); err != nil || f.Find("c1.bias") != nil {
		t.Errorf("a bias that was not asked for: %v", err)
	}

	frozen := smallSim(t, "every_rule", DefaultConfig(), big)
	if err := frozen.SetEncoding("c1.weight", before.Encoding, true); err != nil {
		t.Fatal(err)
	}
	calibrateRamp(t, frozen, 1)
	if got, _ := frozen.State("c1.weight"); !slices.Equal(got.Encoding.Scale, before.Encoding.Scale) {
		t.Error("a frozen scale was raised")
	}
	if !slices.ContainsFunc(frozen.Warnings(), func(w string) bool { return strings.Contains(w, `"c1.weight"`) && strings.Contains(w, "overflow") }) {
		t.Errorf("warnings %q", frozen.Warnings())
	}
}

// TestRaised is the rule of adjustWeights by its three conditions.
func TestRaised(t *testing.T) {
	for _, c := range []struct{ have, sx, sy, oy, b, want float64 }{
		{0.5, 1, 0, 0, 1000, 0.5},
		{0x1p-20, 1, 0, 0, 1 << 31, 2147483648. / biasLimit},          // the bias alone
		{1e-9, 1, 1, 0, 0, outputShare},                               // the output's step
		{1e-7, 1, 1, -3000, 0, 3000. / biasLimit},                     // the output's offset
		{1e-7, 1, 1, -3000, 2000, 2000. / biasLimit},                  // they cancel in part, but the bias must fit, too
		{0x1p-24, 0.5, 0.5, -128, -1 << 20, 2 * 1048640. / biasLimit}, // they add
	} {
		if got := raised(c.have, c.sx, c.sy, c.oy, c.b); math.Abs(got-c.want) > 1e-6*c.want || got < c.have {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestAxes computes the scale of every channel and block from the elements that it should cover, by their indices.
func TestAxes(t *testing.T) {
	for _, c := range []struct {
		graph, tensor  string
		channel, block int
		blockSize      int
	}{
		{"orientations", "c.weight", 0, 1, 0}, {"orientations", "t.weight", 1, 0, 0}, {"orientations", "g1.weight", 0, 1, 0},
		{"orientations", "g0.weight", 1, 0, 0}, {"orientations", "m.weight", 1, 0, 0}, {"orientations", "u.weight", 0, 1, 0},
		{"orientations", "m.weight", 1, 0, 3}, {"orientations", "m.weight", 1, 0, 1}, {"orientations", "u.weight", 0, 1, 7},
		{"orientations", "g1.weight", 0, 1, 14}, {"orientations", "g0.weight", 1, 0, 5}, {"orientations", "t.weight", 1, 0, 2},
		{"grouped_transpose", "t.weight", encoding.PerTensor, 0, 0}, {"grouped_transpose", "u.weight", encoding.PerTensor, 0, 0},
	} {
		s := smallSim(t, c.graph, DefaultConfig(), nil)
		if c.blockSize > 0 {
			if err := s.SetBlocks(c.blockSize, c.tensor); err != nil {
				t.Fatal(err)
			}
		}
		// The value itself, without what the bias and the output ask of its scale.
		if err := s.computeConsts(t.Context()); err != nil {
			t.Fatal(err)
		}
		w := s.g.Consts[c.tensor].(*tensor.Dense[float32])
		shape, strides := w.Shape(), w.Shape().Strides()
		want := map[[2]int][2]float64{}
		for i, v := range w.Data() {
			var key [2]int
			if c.channel >= 0 {
				key[0] = i / strides[c.channel] % shape[c.channel]
			}
			if c.blockSize > 0 {
				key[1] = i / strides[c.block] % shape[c.block] / c.blockSize
			}
			r := want[key]
			want[key] = [2]float64{min(r[0], float64(v)), max(r[1], float64(v))}
		}
		st, _ := s.State(c.tensor)
		if len(st.Encoding.Scale) != len(want) || st.Grid.Axis != c.channel {
			t.Errorf("%s: %d scales along axis %d, want %d along %d", c.tensor, len(st.Encoding.Scale), st.Grid.Axis, len(want), c.channel)
			continue
		}
		for key, r := range want {
			at := 0
			if c.channel >= 0 {
				at = key[0]
				if blocks := len(want) / shape[c.channel]; c.blockSize > 0 && c.block > c.channel {
					at = key[0]*blocks + key[1]
				} else if c.blockSize > 0 {
					at = key[1]*shape[c.channel] + key[0]
				}
			}
			if got, scale := st.Encoding.Scale[at], max(r[1]/127, -r[0]/128); math.Abs(got-scale) > 1e-9*scale {
				t.Errorf("%s, blocks of %d: channel and block %v: scale %v, want %v", c.tensor, c.blockSize, key, got, scale)
			}
		}
	}
}

// TestCalibrationMemory: what calibration keeps does not grow with the number of batches.
func TestCalibrationMemory(t *testing.T) {
	for _, scheme := range []encoding.Scheme{encoding.SchemeTF, encoding.SchemeTFEnhanced, encoding.SchemePercentile, encoding.SchemeMSE, encoding.SchemeEntropy} {
		cfg := DefaultConfig()
		cfg.Method.Scheme = scheme
		s := smallSim(t, "every_rule", cfg, nil)
		feeds := rampFeeds(t, s.g)
		held := func() int64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		// All activations of a batch together have some 10 kB, those of 200 batches 2 MB.
		err := s.ComputeEncodings(context.Background(), func(run func(map[string]tensor.Any) error) error {
			var start int64
			for i := range 203 {
				if err := run(feeds); err != nil {
					return err
				}
				if i == 2 {
					start = held()
				}
			}
			if grown := held() - start; grown > 100<<10 {
				t.Errorf("%v: 200 batches left %d bytes behind", scheme, grown)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestWideGrids: with 32 bits everywhere a simulation is the float model but for rounding; and every bitwidth in between runs.
func TestWideGrids(t *testing.T) {
	var last float64
	for _, bits := range []int{4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 32} {
		cfg := DefaultConfig()
		cfg.ParamBits, cfg.OutputBits = bits, bits
		s := smallSim(t, "every_rule", cfg, nil)
		calibrateRamp(t, s, 1)
		r, err := s.SQNR(context.Background(), SQNROptions{Tensors: []string{"y"}}, func(run func(map[string]tensor.Any) error) error { return run(rampFeeds(t, s.g)) })
		if err != nil {
			t.Fatal(err)
		}
		db := float64(r[0].SQNR)
		if db < 4*float64(min(bits, 24)) || db < last-12 {
			t.Errorf("%d bits: %.1f dB, with one bit less %.1f", bits, db, last)
		}
		last = db
	}
	for _, typ := range []encoding.DataType{encoding.Float16, encoding.BFloat16} {
		cfg := DefaultConfig()
		cfg.ParamType, cfg.ParamBits, cfg.OutputType, cfg.OutputBits = typ, 16, typ, 16
		s := smallSim(t, "every_rule", cfg, nil)
		calibrateRamp(t, s, 1)
		r, err := s.SQNR(context.Background(), SQNROptions{Tensors: []string{"y"}}, func(run func(map[string]tensor.Any) error) error { return run(rampFeeds(t, s.g)) })
		if err != nil {
			t.Fatal(err)
		}
		if db, least := float64(r[0].SQNR), map[encoding.DataType]float64{encoding.Float16: 55, encoding.BFloat16: 38}[typ]; db < least || db > least+40 {
			t.Errorf("%v: %.1f dB", typ, db)
		}
	}
}
