package quantsim

import (
	"path/filepath"
	"strings"
	"testing"

	"roundel/internal/golden"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim/encoding"
)

// goldenQuantizer is an entry of quantizers.json.
type goldenQuantizer struct {
	Bitwidth                                     int
	Enabled, Symmetric, Strict, Unsigned, Frozen bool
	PerChannel                                   bool `json:"per_channel"`
	ChannelAxis                                  *int `json:"channel_axis"`
	Scale, Offset, Min, Max                      []float64
	Kind                                         string
	ID                                           *int `json:"quantizer_id"`
}

// goldenConfig is the configuration of a case.
func goldenConfig(t *testing.T, m *golden.Manifest) Config {
	var paramType, actType, scheme string
	m.Param(t, "param_type", &paramType)
	m.Param(t, "activation_type", &actType)
	m.Param(t, "quant_scheme", &scheme)
	s, err := encoding.ParseScheme(scheme)
	if err != nil {
		t.Fatal(err)
	}
	bits := map[string]int{"int4": 4, "int8": 8, "int16": 16}
	cfg := DefaultConfig()
	cfg.Method.Scheme, cfg.ParamBits, cfg.OutputBits, cfg.ConfigFile = s, bits[paramType], bits[actType], "default"
	if files, _ := filepath.Glob(filepath.Join(m.Dir, "config.json")); len(files) == 1 {
		cfg.ConfigFile = files[0]
	}
	return cfg
}

func TestGoldenPlacement(t *testing.T) {
	tensors := 0
	golden.Each(t, "quantsim", func(t *testing.T, m *golden.Manifest) {
		var want map[string]goldenQuantizer
		golden.JSON(t, m.WantFile(t, "quantizers"), &want)
		model, err := onnx.Read(m.Model(t))
		if err != nil {
			t.Fatal(err)
		}
		g, err := convert.ToGraph(model)
		if err != nil {
			t.Fatal(err)
		}
		cfg := goldenConfig(t, m)
		rules, err := LoadRules(cfg.ConfigFile)
		if err != nil {
			t.Fatal(err)
		}
		n, err := newNetwork(g, rules.Passes)
		if err != nil {
			t.Fatal(err)
		}
		p, err := place(n, rules, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for name, w := range want {
			q := p.quant[name]
			if q == nil {
				t.Errorf("%s has no quantizer", name)
				continue
			}
			tensors++
			check := func(what string, got, want any) {
				if got != want {
					t.Errorf("%s: %s is %v, want %v", name, what, got, want)
				}
			}
			check("enabled", q.enabled, w.Enabled)
			check("bitwidth", q.grid.Bits, w.Bitwidth)
			check("symmetric", q.grid.Symmetric, w.Symmetric)
			check("strict", q.grid.Strict, w.Strict)
			check("unsigned", q.grid.Unsigned, w.Unsigned)
			axis := encoding.PerTensor
			if w.PerChannel {
				axis = *w.ChannelAxis
			}
			check("axis", q.grid.Axis, axis)
			check("is a parameter", q.kind == encoding.Param, w.Kind == "param")
			for other, v := range want {
				if w.ID != nil && v.ID != nil && p.quant[other] != nil {
					check("shared with "+other, q == p.quant[other], *w.ID == *v.ID)
				}
			}
		}
		for name := range p.quant {
			if _, ok := want[name]; !ok && !strings.HasPrefix(name, "unused") {
				t.Errorf("%s has a quantizer and should have none", name)
			}
		}
	})
	t.Logf("%d tensors agree in 16 simulations of 5 graphs", tensors)
}
