package convert_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"roundel/internal/golden"
	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/tensor"
)

// TestRuntimeGolden compares nn.Eval with ONNX Runtime, and the inferred types with what comes out.
func TestRuntimeGolden(t *testing.T) {
	golden.Each(t, "runtime", func(t *testing.T, m *golden.Manifest) {
		model, err := onnx.Read(m.Model(t))
		if err != nil {
			t.Fatal(err)
		}
		g, err := convert.ToGraph(model)
		if err != nil {
			t.Fatal(err)
		}
		if err := nn.Verify(g); err != nil {
			t.Fatal(err)
		}
		feeds := map[string]tensor.Any{}
		for _, in := range g.Inputs {
			feeds[in.Name] = m.Input(t, in.Name)
		}
		got, err := nn.Eval(context.Background(), g, feeds)
		if err != nil {
			t.Fatal(err)
		}
		if len(g.Outputs) < len(m.Expected) {
			t.Errorf("%d outputs, %d expected", len(g.Outputs), len(m.Expected))
		}
		for _, out := range g.Outputs {
			want := m.Want(t, out.Name)
			if want.DType() == tensor.Uint8 && got[out.Name].DType() == tensor.Bool { // as the fixtures keep bools
				want = tensor.Cast(want, tensor.Bool)
			}
			if got[out.Name].DType() != want.DType() {
				t.Errorf("%s is %v, want %v", out.Name, got[out.Name].DType(), want.DType())
			}
			rtol, atol := m.Tol(t, "rtol"), m.Tol(t, "atol")
			if !want.DType().IsFloat() {
				rtol, atol = 0, 0
			}
			if err := golden.Close(got[out.Name], want, rtol, atol); err != nil {
				t.Errorf("%s: %v", out.Name, err)
			}
			if err := agrees(g.Types[out.Name], got[out.Name]); err != nil {
				t.Errorf("%s: %v", out.Name, err)
			}
		}
		symbolicBatch(t, g, got)
	})
}

// symbolicBatch infers g again with a symbol for the first dimension of every input; the types must still agree with got.
func symbolicBatch(t *testing.T, g *nn.Graph, got map[string]tensor.Any) {
	s := g.Clone()
	for i := range s.Inputs {
		ty := &s.Inputs[i].Type
		if len(ty.Dims) > 0 {
			ty.Dims = slices.Clone(ty.Dims)
			ty.Dims[0] = nn.Dim{Size: -1, Sym: "N"}
		}
	}
	if err := nn.Infer(s); err != nil {
		t.Errorf("with a symbolic batch: %v", err)
		return
	}
	for name, v := range got {
		if err := agrees(s.Types[name], v); err != nil {
			t.Errorf("with a symbolic batch: %s: %v", name, err)
		}
	}
}

// agrees reports whether a tensor has a type.
func agrees(ty nn.Type, v tensor.Any) error {
	bad := ty.DType != v.DType() || ty.Ranked && len(ty.Dims) != len(v.Shape())
	for i := 0; ty.Ranked && !bad && i < len(ty.Dims); i++ {
		bad = ty.Dims[i].IsKnown() && ty.Dims[i].Size != v.Shape()[i]
	}
	if bad {
		return fmt.Errorf("inferred as %v, but it is %v%v", ty, v.DType(), v.Shape())
	}
	return nil
}

// TestModelTypes infers whole models; the batch stays a symbol to the end.
func TestModelTypes(t *testing.T) {
	for _, c := range []struct{ file, output, want string }{
		{"mobilenet_v2.onnx", "output", "1000]"},
		{"mobilenet_v2_bn.onnx", "output", "1000]"},
		{"resnet18_random.onnx", "", "1000]"},
		{"fashion_mobilenet.onnx", "logits", "10]"},
		{"fashion_resnet.onnx", "logits", "10]"},
	} {
		t.Run(c.file, func(t *testing.T) {
			m, err := onnx.Read(golden.Shared(t, filepath.Join("models", c.file)))
			if err != nil {
				t.Fatal(err)
			}
			g, err := convert.ToGraph(m)
			if err != nil {
				t.Fatal(err)
			}
			if err := nn.Verify(g); err != nil {
				t.Fatal(err)
			}
			out, in := g.Types[g.Outputs[0].Name], g.Inputs[0].Type
			if got := out.String(); !strings.HasSuffix(got, c.want) || len(out.Dims) != 2 || out.Dims[0] != in.Dims[0] {
				t.Errorf("input %v gives %s", in, got)
			}
			for name, ty := range g.Types {
				for _, d := range ty.Dims {
					if !d.IsKnown() && d.Sym == "" {
						t.Errorf("%s has an unknown extent: %v", name, ty)
					}
				}
			}
		})
	}
}
