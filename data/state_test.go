package data

import (
	"context"
	"path/filepath"
	"testing"

	"roundel/tensor"
)

// TestStates: the batch of an input need not be its first dimension, and a state may be missing.
func TestStates(t *testing.T) {
	audio, rate := tensor.New[float32](3, 5), tensor.From([]int64{8, 8, 16}, 3)
	state := tensor.New[float32](3, 2, 4)
	state.Data()[8] = 7 // the first of sample 1
	whole := tensor.New[float32](3, 2, 1, 4)
	one := tensor.New[float32](2, 4)
	inputs := []Input{{Name: "x", DType: tensor.Float32, Shape: []int{-1}}, {Name: "s", DType: tensor.Float32, Shape: []int{2, 4}, Batch: 1, Zero: true},
		{Name: "r", DType: tensor.Int64, Shape: []int{}, Batch: NoBatch}}
	for name, arrays := range map[string]map[string]tensor.Any{
		"state of each sample":           {"x": audio, "s": state, "r": rate},
		"state with its batch dimension": {"x": audio, "s": whole, "r": rate},
		"one state and rate for all":     {"x": audio, "s": one, "r": tensor.From([]int64{16})},
		"no state":                       {"x": audio, "r": rate},
	} {
		var list []any
		for k, a := range arrays {
			list = append(list, k, a)
		}
		dir := tree(t, map[string][]byte{"a.npz": npzBytes(0, list...)})
		src, err := Open(filepath.Join(dir, "a.npz"), Options{Inputs: inputs})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if src.Len() != 3 {
			t.Fatalf("%s: %d samples", name, src.Len())
		}
		s, err := src.At(context.Background(), 1)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for k, want := range map[string]tensor.Shape{"x": {1, 5}, "s": {2, 1, 4}, "r": {}} {
			if have := s.Inputs[k].Shape(); !have.Equal(want) {
				t.Errorf("%s: %s is %v, want %v", name, k, have, want)
			}
		}
		if v := tensor.Float64s(s.Inputs["s"])[0]; name == "state of each sample" && v != 7 {
			t.Errorf("the state of sample 1 begins with %v", v)
		}
	}
	// A model with one input and states reads a plain array.
	dir := tree(t, map[string][]byte{"x.npy": npyBytes(audio)})
	src, err := Open(filepath.Join(dir, "x.npy"), Options{Inputs: inputs[:2]})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := src.At(context.Background(), 2); err != nil || !s.Inputs["s"].Shape().Equal(tensor.Shape{2, 1, 4}) {
		t.Error(s.Inputs["s"], err)
	}
	if _, err := Open(filepath.Join(dir, "x.npy"), Options{Inputs: inputs}); err == nil {
		t.Error("the rate is missing and that was not noticed")
	}
}
