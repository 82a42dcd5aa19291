package quantsim

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim/encoding"
)

// placed is where AIMET put a quantizer; bench/interop/placement.py writes the files.
type placed struct {
	Enabled, Symmetric, Strict, Unsigned bool
	Bitwidth, Axis, Group                int
	Kind                                 string
}

// TestPlacement compares with AIMET on small graphs, one for each rule, with three configs.
func TestPlacement(t *testing.T) {
	files, err := filepath.Glob("testdata/placement/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	tensors := 0
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
				cfg.ParamBits, cfg.OutputBits, cfg.ConfigFile = 4, 8, name
				if activations == "int16" {
					cfg.OutputBits = 16
				}
				s, err := New(g, cfg)
				if err != nil {
					t.Fatal(err)
				}
				tensors += comparePlacement(t, s, want)
			})
		}
	}
	t.Logf("%d quantizers", tensors)
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
