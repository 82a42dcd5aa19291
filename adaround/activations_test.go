package adaround

import (
	"math"
	"slices"
	"testing"

	"roundel/tensor"
)

// TestActivationsQuantizeInputs: with quantized activations every layer is solved for inputs on their grid, the graph's own
// input too, and for the targets of the float network.
func TestActivationsQuantizeInputs(t *testing.T) {
	g, cfg := twoLayers(t, "")
	plain, err := newRun(t.Context(), g, cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Activations = map[string]tensor.FakeQuant{}
	for _, l := range plain.layers {
		cfg.Activations[l.input] = tensor.FakeQuant{Scale: 0.25, QMin: -1000, QMax: 1000}
	}
	quantized, err := newRun(t.Context(), g, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range plain.layers {
		want, err := plain.sample(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		got, err := quantized.sample(t.Context(), quantized.layers[i])
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range got.Solve.A {
			if q := float64(v) * 4; q != math.Round(q) {
				t.Fatalf("layer %q sees %g, not on the grid of its input", l.node.Name, v)
			}
		}
		if slices.Equal(got.Solve.A, want.Solve.A) {
			t.Errorf("layer %q: nothing was quantized", l.node.Name)
		}
		if !slices.Equal(got.Solve.Y, want.Solve.Y) {
			t.Errorf("layer %q: other targets", l.node.Name)
		}
	}
}
