package golden

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"roundel/tensor"
)

func TestClose(t *testing.T) {
	f := func(v ...float32) tensor.Any { return tensor.From(v, len(v)) }
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	tests := []struct {
		name       string
		got, want  tensor.Any
		rtol, atol float64
		diff       string // part of the error, "" for none
	}{
		{"equal", f(1, 2), f(1, 2), 0, 0, ""},
		{"within atol", f(1, 2.5), f(1, 2), 0, 0.5, ""},
		{"beyond atol", f(1, 2.75, 4), f(1, 2, 3), 0, 0.5, "at [1] got 2.75, want 2; 2 of 3"},
		{"within rtol", f(110), f(100), 0.125, 0, ""},
		{"nan equals nan", f(nan), f(nan), 0, 0, ""},
		{"nan differs", f(nan), f(1), 1, 1, "got NaN"},
		{"nan wanted", f(1), f(nan), 1, 1, "want NaN"},
		{"inf equals inf", f(inf), f(inf), 0, 0, ""},
		{"inf differs", f(1), f(inf), 1, 1, "want +Inf"},
		{"inf sign", f(inf), f(-inf), 1, 1, "got +Inf"},
		{"shape", f(1), tensor.Scalar[float32](1), 1, 1, "shape"},
		{"dtype", tensor.From([]int8{3}, 1), f(3), 0, 0, ""},
		{"half", tensor.From([]tensor.F16{0x3c00, 0xc000, 0x0001, 0x7c00, 0x3555}, 5),
			f(1, -2, 1.0/(1<<24), inf, 0.333251953125), 0, 0, ""},
		{"nil", nil, f(1), 0, 0, "got <nil>"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Close(tt.got, tt.want, tt.rtol, tt.atol)
			if (err == nil) != (tt.diff == "") || err != nil && !strings.Contains(err.Error(), tt.diff) {
				t.Errorf("Close = %v, want %q", err, tt.diff)
			}
		})
	}
}

func TestIndex(t *testing.T) {
	if got := index(23, tensor.Shape{2, 3, 4}); !got.Equal(tensor.Shape{1, 2, 3}) {
		t.Errorf("index = %v", got)
	}
}

// TestEveryNpy reads every .npy file that a manifest names and compares it with the declared type and shape.
func TestEveryNpy(t *testing.T) {
	for _, kind := range []string{"encodings", "adaround", "quantsim", "prepare", "autograd", "runtime", "images"} {
		t.Run(kind, func(t *testing.T) {
			Each(t, kind, func(t *testing.T, m *Manifest) {
				n := 0
				for _, part := range []map[string]json.RawMessage{m.Inputs, m.Expected} {
					for name, raw := range part {
						ref := parseRef(raw)
						if !strings.HasSuffix(ref.File, ".npy") {
							continue
						}
						n++
						a := Npy(t, m.file(t, part, name))
						if a.DType().String() != ref.DType || !a.Shape().Equal(ref.Shape) {
							t.Errorf("%s: have %v%v, manifest says %s%v", ref.File, a.DType(), a.Shape(), ref.DType, ref.Shape)
						}
					}
				}
				if n == 0 {
					t.Errorf("no .npy in %s", m.Dir)
				}
			})
		})
	}
}

type fileRef struct {
	File, DType string
	Shape       tensor.Shape
}

// parseRef returns the file reference in raw, or an empty one when raw is a plain value.
func parseRef(raw json.RawMessage) (ref fileRef) {
	if json.Unmarshal(raw, &ref) != nil {
		return fileRef{}
	}
	return ref
}
