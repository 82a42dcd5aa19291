package adaround

import (
	"math"
	"slices"
	"strings"
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

// TestActivationsAreChecked: a name that the network does not have, and a grid that is none, are errors.
func TestActivationsAreChecked(t *testing.T) {
	g, cfg := twoLayers(t, "")
	grid := tensor.FakeQuant{Scale: 0.25, QMax: 255}
	cfg.Activations = map[string]tensor.FakeQuant{"h": grid, "hh": grid, "w": grid, "z0": grid}
	_, err := newRun(t.Context(), g, cfg)
	for _, want := range []string{`"hh"; the nearest name is "h"`, `no value is named "z0"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %s", err, want)
		}
	}
	if err != nil && strings.Contains(err.Error(), `is named "w"`) {
		t.Errorf("the bounds of a Clip are constants, and have ranges too: %v", err)
	}
	cfg.Activations = map[string]tensor.FakeQuant{"h": grid, "y": {QMax: 255}}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), `Activations["y"]`) || strings.Contains(err.Error(), `"h"`) {
		t.Errorf("a scale of zero: %v", err)
	}
}

// TestActivationsTakeMemory: the prediction counts the quantized copy of a layer's input.
func TestActivationsTakeMemory(t *testing.T) {
	g, cfg := twoLayers(t, "")
	var bytes [2]int64
	for i := range bytes {
		r, err := newRun(t.Context(), g, cfg)
		if err != nil {
			t.Fatal(err)
		}
		bytes[i] = r.samplingBytes(r.layers[1])
		cfg.Activations = map[string]tensor.FakeQuant{"h": {Scale: 0.25, QMin: -1000, QMax: 1000}}
	}
	if want := bytes[0] + 4*16*5; bytes[1] < want {
		t.Errorf("%d bytes with 16 inputs of 5 values quantized, %d without", bytes[1], bytes[0])
	}
}
