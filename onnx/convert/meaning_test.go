package convert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"roundel/nn"
	"roundel/onnx"
	"roundel/tensor"
)

// jsonTensor is a tensor of testdata/cases.json.
type jsonTensor struct {
	DType string
	Shape []int
	Data  []float64
}

func (j jsonTensor) tensor(t *testing.T) tensor.Any {
	t.Helper()
	for d := tensor.Float32; d <= tensor.Bool; d++ {
		if d.String() == j.DType {
			return tensor.Cast(tensor.From(j.Data, j.Shape...), d)
		}
	}
	t.Fatalf("no type %q", j.DType)
	return nil
}

type meaningCase struct {
	Opset           int64
	Inputs, Outputs map[string]jsonTensor
}

// TestMeaning compares the canonical graph of each test model with what ONNX
// Runtime computes from the file, also after the graph went through each opset.
func TestMeaning(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases map[string]meaningCase
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	ran, through := 0, 0
	for name, c := range cases {
		if len(c.Outputs) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			g, err := ToGraph(load(t, filepath.Join("testdata", name+".onnx")))
			if err != nil {
				t.Fatal(err)
			}
			var missing *nn.UnsupportedError
			if err := nn.Verify(g); errors.As(err, &missing) {
				t.Skip(err)
			} else if err != nil {
				t.Fatal(err)
			}
			ran++
			if err := c.check(t, g); err != nil {
				t.Fatal(err)
			}
			for v := int64(MinOpset); v <= MaxOpset; v++ {
				back, err := throughOpset(g, v)
				var u *onnx.UnsupportedError
				if errors.As(err, &u) || name == "split18" && v < 18 { // before, parts had to be equal
					continue
				}
				if err == nil {
					err = c.check(t, back)
				}
				if err != nil {
					t.Errorf("through opset %d: %v", v, err)
				}
				through++
			}
		})
	}
	t.Logf("%d models, %d ways through another opset", ran, through)
	if ran < 55 {
		t.Errorf("only %d models were run", ran)
	}
}

// throughOpset writes g as new nodes of opset v and reads it again.
func throughOpset(g *nn.Graph, v int64) (*nn.Graph, error) {
	c := g.Clone()
	for _, n := range c.Nodes {
		n.Origin = 0
	}
	base := &onnx.Model{IRVersion: 10, Graph: &onnx.Graph{}}
	base.SetOpset("", v)
	m, err := ToModel(c, base)
	if err != nil {
		return nil, err
	}
	return ToGraph(m)
}

// check runs g and compares its outputs: |got - want| <= 1e-5 (1 + |want|), for sums of a few float32 numbers.
func (c meaningCase) check(t *testing.T, g *nn.Graph) error {
	feeds := map[string]tensor.Any{}
	for name, v := range c.Inputs {
		feeds[name] = v.tensor(t)
	}
	out, err := nn.Eval(context.Background(), g, feeds)
	if err != nil {
		return err
	}
	for name, w := range c.Outputs {
		got, want := out[name], w.tensor(t)
		if got == nil || got.DType() != want.DType() || !got.Shape().Equal(want.Shape()) {
			return fmt.Errorf("%s: got %v, want %v%v", name, got, want.DType(), want.Shape())
		}
		x, y := tensor.Float64s(got), tensor.Float64s(want)
		for i := range x {
			if d := math.Abs(x[i] - y[i]); !(d <= 1e-5*(1+math.Abs(y[i]))) {
				return fmt.Errorf("%s[%d]: got %v, want %v", name, i, x[i], y[i])
			}
		}
	}
	return nil
}
