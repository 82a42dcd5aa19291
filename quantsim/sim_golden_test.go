package quantsim

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"roundel/internal/golden"
	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim/encoding"
	"roundel/tensor"

	"github.com/google/go-cmp/cmp"
)

// goldenSim makes the simulation of a case, not yet calibrated.
func goldenSim(t *testing.T, m *golden.Manifest, workers int) *Sim {
	t.Helper()
	model, err := onnx.Read(m.Model(t))
	if err != nil {
		t.Fatal(err)
	}
	g, err := convert.ToGraph(model)
	if err != nil {
		t.Fatal(err)
	}
	cfg := goldenConfig(t, m)
	cfg.Workers = workers
	s, err := New(g, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := m.Inputs["param_encodings"]; ok {
		if err := s.SetAndFreezeParamEncodings(m.InputFile(t, "param_encodings")); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// feeds returns the inputs of batch i of a kind ("calib", "test"), nil when there are no more.
func feeds(t *testing.T, m *golden.Manifest, kind string, i int) map[string]tensor.Any {
	var names []string
	m.Param(t, "input_names", &names)
	out := map[string]tensor.Any{}
	for _, n := range names {
		key := fmt.Sprintf("%s%d_%s", kind, i, n)
		if _, ok := m.Inputs[key]; !ok {
			return nil
		}
		out[n] = m.Input(t, key)
	}
	return out
}

func calibrateGolden(t *testing.T, m *golden.Manifest, s *Sim) {
	t.Helper()
	err := s.ComputeEncodings(context.Background(), func(run func(map[string]tensor.Any) error) error {
		for i := 0; ; i++ {
			f := feeds(t, m, "calib", i)
			if f == nil {
				return nil
			}
			if err := run(f); err != nil {
				return err
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestGoldenEncodings(t *testing.T) {
	same, other, bits := 0, 0, 0
	golden.Each(t, "quantsim", func(t *testing.T, m *golden.Manifest) {
		var want map[string]goldenQuantizer
		golden.JSON(t, m.WantFile(t, "quantizers"), &want)
		s := goldenSim(t, m, 2)
		calibrateGolden(t, m, s)
		enhanced := s.cfg.Method.Scheme == encoding.SchemeTFEnhanced
		for name, w := range want {
			st, _ := s.State(name)
			if !w.Enabled || len(w.Scale) == 0 {
				continue
			}
			if st.Frozen != w.Frozen {
				t.Errorf("%s: frozen %v, want %v", name, st.Frozen, w.Frozen)
			}
			for i := range w.Scale {
				got := st.Encoding
				switch {
				case math.Abs(got.Scale[i]-w.Scale[i]) <= 1e-5*w.Scale[i] && got.Offset[i] == w.Offset[i]:
					same++
				case enhanced && math.Abs(got.Scale[i]-w.Scale[i]) <= 0.08*w.Scale[i]:
					other++
					t.Logf("%s channel %d: another candidate: %v %v, want %v %v", name, i, got.Scale[i], got.Offset[i], w.Scale[i], w.Offset[i])
				default:
					t.Errorf("%s channel %d: %v %v, want %v %v", name, i, got.Scale[i], got.Offset[i], w.Scale[i], w.Offset[i])
				}
				if float32(got.Scale[i]) == float32(w.Scale[i]) {
					bits++
				}
			}
		}
	})
	t.Logf("%d encodings equal (%d of them to the last bit of float32), %d neighbouring candidates", same, bits, other)
}

// TestGoldenEncodingFiles compares our file with AIMET's own. With equal scales it must be the same text.
func TestGoldenEncodingFiles(t *testing.T) {
	golden.Each(t, "quantsim", func(t *testing.T, m *golden.Manifest) {
		if _, ok := m.Expected["encodings_1.0.0"]; !ok {
			t.Skip("no exported files")
		}
		s := goldenSim(t, m, 1)
		loadGolden(t, m, s)
		for _, v := range []string{"0.6.1", "1.0.0", "2.0.0"} {
			want, err := os.ReadFile(m.WantFile(t, "encodings_"+v))
			if err != nil {
				t.Fatal(err)
			}
			f, err := s.Encodings(OptionsFor(v))
			if err != nil {
				t.Fatal(err)
			}
			f.Package, f.Release = "aimet-onnx", "2.42.0"
			var got bytes.Buffer
			if err := f.Write(&got, v); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got.String()); d != "" {
				t.Errorf("%s (-want +got):\n%s", v, d)
			}
		}
	})
}

// loadGolden gives every quantizer AIMET's own encoding.
func loadGolden(t *testing.T, m *golden.Manifest, s *Sim) {
	t.Helper()
	var want map[string]goldenQuantizer
	golden.JSON(t, m.WantFile(t, "quantizers"), &want)
	for _, name := range s.Tensors() {
		w := want[name]
		if !w.Enabled || len(w.Scale) == 0 {
			continue
		}
		st, _ := s.State(name)
		e := &encoding.Encoding{Grid: st.Grid, Scale: w.Scale, Offset: w.Offset, Min: w.Min, Max: w.Max}
		if st.Frozen {
			continue
		}
		if err := s.SetEncoding(name, e, false); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGoldenNodeByNode feeds AIMET's simulated values of inner tensors to each node and
// compares what it makes. A value may differ by one step where the sum lies on a tie:
// we round ties to even, AIMET up, and sums come in another order.
func TestGoldenNodeByNode(t *testing.T) {
	equal, steps := 0, 0
	golden.Each(t, "quantsim", func(t *testing.T, m *golden.Manifest) {
		if !slices.ContainsFunc(keys(m.Expected), func(k string) bool { return strings.HasPrefix(k, "inter0_") }) {
			t.Skip("no inner values")
		}
		s := goldenSim(t, m, 1)
		loadGolden(t, m, s)
		known := feeds(t, m, "test", 0)
		inner := map[string]*tensor.Dense[float32]{}
		for k := range m.Expected {
			if name, ok := strings.CutPrefix(k, "inter0_"); ok {
				inner[name] = m.Want(t, k).(*tensor.Dense[float32])
			}
		}
		for _, o := range s.g.Outputs {
			inner[o.Name] = m.Want(t, "sim0_"+o.Name).(*tensor.Dense[float32])
		}
		for name, want := range inner {
			if s.g.Producer(name) == nil {
				continue
			}
			// Everything else that is known is fed, so only the nodes behind this value run.
			feed := map[string]tensor.Any{}
			var names []string
			for k, v := range known {
				feed[k] = v
			}
			for k, v := range inner {
				if k != name && s.g.Consts[k] == nil && !after(s, k, name) {
					feed[k] = v
				}
			}
			for k := range feed {
				names = append(names, k)
			}
			slices.Sort(names)
			p, err := s.Compile(t.Context(), nn.CompileOptions{Feeds: names, Fetches: []string{name}})
			if err != nil {
				t.Fatal(err)
			}
			out, err := p.Run(context.Background(), feed)
			if err != nil {
				t.Fatal(err)
			}
			got := out[name].(*tensor.Dense[float32])
			step := 1e-4
			if src := s.enabledSource(name); src != "" {
				step = s.quant[src].enc.Scale[0]
			}
			for i, v := range got.Data() {
				d := math.Abs(float64(v) - float64(want.Data()[i]))
				switch {
				case d <= 1e-5*math.Abs(float64(v))+1e-6:
					equal++
				case d <= 1.001*step:
					steps++
				default:
					t.Fatalf("%s[%d] = %v, want %v (step %v)", name, i, v, want.Data()[i], step)
				}
			}
		}
	})
	t.Logf("%d values equal, %d one step apart", equal, steps)
	if steps*20 > equal {
		t.Errorf("too many values differ by a step")
	}
}

// after reports whether value a is made from value b.
func after(s *Sim, a, b string) bool {
	o := s.g.Producer(a)
	return o != nil && slices.ContainsFunc(o.Inputs, func(in string) bool { return in == b || after(s, in, b) })
}

func keys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}

// TestGoldenOutputs runs whole models. The outputs of AIMET's simulator (sim) round ties
// up, those of its QDQ export in ONNX Runtime (qdq) to even as we do. Where an average
// pool follows a tensor of the same scale (concat_branches), a fifth of its values are
// ties; besides, ONNX Runtime adds a window column by column, so that some ties fall
// to the other side in float32. TestGoldenNodeByNode has that network node by node.
func TestGoldenOutputs(t *testing.T) {
	golden.Each(t, "quantsim", func(t *testing.T, m *golden.Manifest) {
		s := goldenSim(t, m, 2)
		loadGolden(t, m, s)
		for i := 0; ; i++ {
			f := feeds(t, m, "test", i)
			if f == nil {
				break
			}
			out, err := s.Forward(context.Background(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range s.g.Outputs {
				got := out[o.Name].(*tensor.Dense[float32])
				st, _ := s.State(o.Name)
				for _, kind := range []string{"sim", "qdq"} {
					key := fmt.Sprintf("%s%d_%s", kind, i, o.Name)
					if _, ok := m.Expected[key]; ok {
						pools := strings.HasPrefix(m.Case, "concat")
						compareOutput(t, key, got, m.Want(t, key).(*tensor.Dense[float32]), st.Encoding.Scale[0], pools)
					}
				}
			}
		}
	})
}

func compareOutput(t *testing.T, what string, got, want *tensor.Dense[float32], step float64, pools bool) {
	t.Helper()
	most, changed, noise, power := 0.0, 0, 0.0, 0.0
	for i, v := range got.Data() {
		d := math.Abs(float64(v) - float64(want.Data()[i]))
		noise, power = noise+d*d, power+float64(v)*float64(v)
		most = max(most, d/step)
		if d > 0.01*step {
			changed++
		}
	}
	share := float64(changed) / float64(got.Len())
	t.Logf("%s: at most %.2f steps, %.1f %% changed, SQNR %.1f dB", what, most, 100*share, 10*math.Log10(power/noise))
	if (most > 3.01 || share > 0.15) && !pools || most > 10 {
		t.Errorf("%s: at most %.2f steps, %.1f %% changed", what, most, 100*share)
	}
}

func TestFreezeComesFirst(t *testing.T) {
	m := golden.Load(t, "quantsim", "residual_frozen_params")
	s := goldenSim(t, m, 1)
	calibrateGolden(t, m, s)
	err := s.SetAndFreezeParamEncodings(filepath.Join(m.Dir, "param_encodings.json"))
	if err == nil || !strings.Contains(err.Error(), "ComputeEncodings") {
		t.Errorf("error %v", err)
	}
}

// TestWorkersDoNotMatter: encodings and outputs are the same bits for any number of workers.
func TestWorkersDoNotMatter(t *testing.T) {
	for _, name := range []string{"concat_branches_w4a8_tf_enhanced", "residual_w8a8_per_channel", "attention_w4a8_tf_enhanced"} {
		m := golden.Load(t, "quantsim", name)
		var first map[string]*encoding.Encoding
		var out map[string]tensor.Any
		for _, workers := range []int{1, 2, 3} {
			s := goldenSim(t, m, workers)
			calibrateGolden(t, m, s)
			encs := map[string]*encoding.Encoding{}
			for _, n := range s.Tensors() {
				st, _ := s.State(n)
				encs[n] = st.Encoding
			}
			res, err := s.Forward(context.Background(), feeds(t, m, "test", 0))
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first, out = encs, res
				continue
			}
			if d := cmp.Diff(first, encs); d != "" {
				t.Errorf("%s: encodings differ with %d workers:\n%s", name, workers, d)
			}
			for k, v := range res {
				if !slices.Equal(v.(*tensor.Dense[float32]).Data(), out[k].(*tensor.Dense[float32]).Data()) {
					t.Errorf("%s: output %s differs with %d workers", name, k, workers)
				}
			}
		}
	}
}
