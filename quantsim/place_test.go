package quantsim

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// placed is where AIMET put a quantizer; bench/interop/placement.py writes the files.
type placed struct {
	Enabled, Symmetric, Strict, Unsigned bool
	Bitwidth, Axis, Group                int
	Kind                                 string
	Scale, Offset                        []float64 // after one batch
}

// TestPlacement compares with AIMET on small graphs, one for each rule, with three configs.
func TestPlacement(t *testing.T) {
	files, err := filepath.Glob("testdata/placement/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	tensors, encodings := 0, 0
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var configs map[string]map[string]placed
		if err := json.Unmarshal(b, &configs); err != nil {
			t.Fatal(err)
		}
		model, err := onnx.Read(strings.TrimSuffix(path, ".json") + ".onnx")
		if err != nil {
			t.Fatal(err)
		}
		for config, want := range configs {
			t.Run(strings.TrimSuffix(filepath.Base(path), ".json")+"/"+config, func(t *testing.T) {
				g, err := convert.ToGraph(model)
				if err != nil {
					t.Fatal(err)
				}
				cfg := DefaultConfig()
				name, activations, _ := strings.Cut(config, " ")
				if filepath.Ext(name) != "" { // of our own, not built in
					name = "testdata/placement/configs/" + name
				}
				cfg.ParamBits, cfg.OutputBits, cfg.ConfigFile = 4, 8, name
				if activations == "int16" {
					cfg.OutputBits = 16
				}
				s, err := New(g, cfg)
				if err != nil {
					t.Fatal(err)
				}
				tensors += comparePlacement(t, s, want)
				encodings += compareCalibration(t, s, want)
			})
		}
	}
	t.Logf("%d quantizers, %d scales equal", tensors, encodings)
}

func comparePlacement(t *testing.T, s *Sim, want map[string]placed) int {
	for name, w := range want {
		st, ok := s.State(name)
		if !ok {
			t.Errorf("%s has no quantizer (AIMET: enabled %v)", name, w.Enabled)
			continue
		}
		if st.Enabled != w.Enabled {
			t.Errorf("%s: enabled %v, want %v", name, st.Enabled, w.Enabled)
			continue
		}
		if !w.Enabled {
			continue // settings of what is off do not matter
		}
		if st.Grid.Bits != w.Bitwidth || st.Grid.Symmetric != w.Symmetric || st.Grid.Strict != w.Strict || st.Grid.Unsigned != w.Unsigned {
			t.Errorf("%s: grid %+v, want %+v", name, st.Grid, w)
		}
		if st.Grid.Axis != w.Axis {
			t.Errorf("%s: axis %d, want %d", name, st.Grid.Axis, w.Axis)
		}
		if (st.Kind == encoding.Param) != (w.Kind == "param") {
			t.Errorf("%s: parameter %v, want %s", name, st.Kind == encoding.Param, w.Kind)
		}
		for other, v := range want {
			if x, ok := s.State(other); ok && v.Enabled && (st.Group == x.Group) != (w.Group == v.Group) {
				t.Errorf("%s and %s share a quantizer: %v, want %v", name, other, st.Group == x.Group, w.Group == v.Group)
			}
		}
	}
	for _, name := range s.Tensors() {
		if _, ok := want[name]; !ok {
			if st, _ := s.State(name); st.Enabled {
				t.Errorf("%s has an enabled quantizer and should have none", name)
			}
		}
	}
	return len(want)
}

// rampFeeds returns the inputs of placement.py.
func rampFeeds(t *testing.T, g *nn.Graph) map[string]tensor.Any {
	t.Helper()
	feeds := map[string]tensor.Any{}
	for k, in := range g.Inputs {
		shape, ok := in.Type.Shape()
		if !ok {
			t.Fatalf("input %s has no shape", in.Name)
		}
		if in.Type.DType == tensor.Int64 {
			x := tensor.New[int64](shape...)
			for i := range x.Data() {
				x.Data()[i] = int64(i % 10)
			}
			feeds[in.Name] = x
			continue
		}
		x := tensor.New[float32](shape...)
		for i := range x.Data() {
			x.Data()[i] = float32((i+17*k)*7919%1001)/250 - 2
		}
		feeds[in.Name] = x
	}
	return feeds
}

// compareCalibration calibrates with the inputs of placement.py and counts equal scales.
func compareCalibration(t *testing.T, s *Sim, want map[string]placed) int {
	t.Helper()
	feeds := rampFeeds(t, s.g)
	err := s.ComputeEncodings(context.Background(), func(run func(map[string]tensor.Any) error) error { return run(feeds) })
	if err != nil {
		t.Error(err)
		return 0
	}
	if _, err := s.Forward(context.Background(), feeds); err != nil {
		t.Error(err)
	}
	n := 0
	for name, w := range want {
		st, _ := s.State(name)
		if len(w.Scale) == 0 || !st.Enabled {
			continue
		}
		if len(w.Scale) != len(st.Encoding.Scale) {
			t.Errorf("%s: %d scales, want %d", name, len(st.Encoding.Scale), len(w.Scale))
			continue
		}
		for i, s := range st.Encoding.Scale {
			if math.Abs(s-w.Scale[i]) > 2e-5*w.Scale[i] || math.Abs(st.Encoding.Offset[i]-w.Offset[i]) > math.Ldexp(1, st.Grid.Bits-15) {
				t.Errorf("%s channel %d: %v %v, want %v %v", name, i, s, st.Encoding.Offset[i], w.Scale[i], w.Offset[i])
				continue
			}
			n++
		}
	}
	return n
}
