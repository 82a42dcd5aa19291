package encoding_test

import (
	"bytes"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roundel/internal/golden"
	"roundel/quantsim/encoding"
	"roundel/tensor"

	"github.com/google/go-cmp/cmp"
)

// TestGoldenFilesByteForByte reads AIMET's own files and writes the same bytes.
func TestGoldenFilesByteForByte(t *testing.T) {
	n := 0
	for _, name := range golden.Cases(t, "quantsim") {
		dir := golden.Dir(t, "quantsim", name)
		for _, v := range []string{"0.6.1", "1.0.0", "2.0.0"} {
			want, err := os.ReadFile(filepath.Join(dir, "encodings_"+v+".json"))
			if os.IsNotExist(err) {
				continue
			}
			f, err := encoding.Parse(name+"/"+v, want)
			if err != nil {
				t.Fatal(err)
			}
			if f.Version != v {
				t.Errorf("%s: version %q, want %q", name, f.Version, v)
			}
			var got bytes.Buffer
			if err := f.Write(&got, v); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got.String()); d != "" {
				t.Errorf("%s %s (-want +got):\n%s", name, v, d)
			}
			n++
		}
	}
	if n < 45 {
		t.Errorf("only %d files", n)
	}
}

func sample() *encoding.File {
	g := encoding.Grid{Bits: 8, Symmetric: true, Axis: 0}
	return &encoding.File{Package: "roundel", Release: "1", Args: &encoding.Args{ActivationBits: 8, ParamBits: 8, DataType: "int",
		Symmetric: true, PerChannel: true, Scheme: "min_max"},
		Entries: []encoding.Entry{
			{Name: "w", Kind: encoding.Param, Encoding: &encoding.Encoding{Grid: g, Scale: []float64{0.5, 0.25}, Offset: []float64{-128, -128},
				Min: []float64{-64, -32}, Max: []float64{63.5, 31.75}}},
			{Name: "x", Kind: encoding.Activation, Encoding: &encoding.Encoding{Grid: encoding.Grid{Bits: 8, Axis: encoding.PerTensor},
				Scale: []float64{1e-05}, Offset: []float64{-3}, Min: []float64{-3e-05}, Max: []float64{252e-05}}},
			{Name: "h", Kind: encoding.Activation, Encoding: &encoding.Encoding{Grid: encoding.Grid{Type: encoding.Float16, Bits: 16, Axis: encoding.PerTensor}}},
		}}
}

func TestVersionsRoundTrip(t *testing.T) {
	for _, v := range []string{"0.6.1", "1.0.0", "2.0.0"} {
		t.Run(v, func(t *testing.T) {
			var b bytes.Buffer
			if err := sample().Write(&b, v); err != nil {
				t.Fatal(err)
			}
			f, err := encoding.Parse("mem", b.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			w, x := f.Find("w"), f.Find("x")
			if w == nil || x == nil {
				t.Fatalf("entries are missing: %+v", f.Entries)
			}
			if err := w.Resolve(tensor.Shape{2, 3}, 0, 1); err != nil {
				t.Fatal(err)
			}
			if w.Axis != 0 || !w.Symmetric || !cmp.Equal(w.Scale, []float64{0.5, 0.25}) || !cmp.Equal(w.Offset, []float64{-128, -128}) {
				t.Errorf("w is %+v", w)
			}
			if x.Axis != encoding.PerTensor || x.Symmetric || x.Scale[0] != 1e-05 || x.Offset[0] != -3 {
				t.Errorf("x is %+v", x)
			}
			if h := f.Find("h"); (h == nil) != (v == "2.0.0") || h != nil && h.Type != encoding.Float16 {
				t.Errorf("h is %+v", h)
			}
		})
	}
}

// TestSpecBlocks is the block-wise example of the spec, in both layouts.
func TestSpecBlocks(t *testing.T) {
	const one = `{"version": "1.0.0", "param_encodings": [{"block_size": 1, "bw": 4, "dtype": "INT", "enc_type": "PER_BLOCK",
 "is_sym": true, "name": "g", "offset": [-8, -8, -8, -8, -8, -8], "scale": [0.19227, 0.03924, 0.11162, 0.20829, 0.03778, 0.28004]}]}`
	const two = `{"version": "2.0.0", "encodings": [{"axis": 0, "block_size": 1, "name": "g", "output_dtype": "int4",
 "y_scale": [[0.19227, 0.11162, 0.03778], [0.03924, 0.20829, 0.28004]]}]}`
	shape := tensor.Shape{2, 3}
	var got []*encoding.Encoding
	for _, text := range []string{one, two, strings.Replace(two, "2.0.0", "2.1.0", 1)} {
		f, err := encoding.Parse("mem", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		e := f.Find("g")
		if err := e.Resolve(shape, 1, 0); err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if d := cmp.Diff(got[0], got[1]) + cmp.Diff(got[1], got[2]); d != "" {
		t.Errorf("1.0.0, 2.0.0 and 2.1.0 differ:\n%s", d)
	}
	var b bytes.Buffer
	f := &encoding.File{Entries: []encoding.Entry{{Name: "g", Kind: encoding.Param, Shape: shape, Encoding: got[0]}}}
	if err := f.Write(&b, "1.0.0"); err != nil {
		t.Fatal(err)
	}
	back, err := encoding.Parse("mem", b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if s := back.Find("g").Scale; s[1] != 0.03924 {
		t.Errorf("written scales are %v", s)
	}
	if err := f.Write(&b, "0.6.1"); err == nil || !strings.Contains(err.Error(), `"g"`) {
		t.Errorf("blocks in 0.6.1: %v", err)
	}
}

func TestAdaroundShapes(t *testing.T) {
	for _, bare := range []bool{false, true} {
		var b bytes.Buffer
		if err := sample().WriteAdaround(&b, bare); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "-128.0") || strings.Contains(b.String(), "version") {
			t.Errorf("bare %v: offsets must be whole and there is no version:\n%s", bare, b.String())
		}
		f, err := encoding.Parse("mem", b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Entries) != 1 || f.Entries[0].Name != "w" || f.Entries[0].Kind != encoding.Param || len(f.Entries[0].Scale) != 2 {
			t.Errorf("bare %v: %+v", bare, f.Entries)
		}
	}
	f, err := encoding.Parse("mem", []byte(`[{"name": "w", "output_dtype": "int4", "y_scale": 0.5}]`))
	if err != nil || len(f.Entries) != 1 || f.Entries[0].Bits != 4 || f.Entries[0].Offset[0] != -8 {
		t.Errorf("a bare list: %+v, %v", f, err)
	}
}

func TestParseErrorsNameThePlace(t *testing.T) {
	legacy := func(body string) string {
		return `{"param_encodings": {"conv.weight": [` + body + `]}}`
	}
	cases := []struct{ name, text, want string }{
		{"not json", `{"a": `, "line 1"},
		{"no file", ``, "too early"},
		{"trailing", `{} {}`, "more data"},
		{"twice", `{"version": "1.0.0", "version": "1.0.0"}`, "twice"},
		{"version", `{"version": "3.0", "encodings": []}`, "0.6.1, 1.0.0"},
		{"unknown key", legacy(`{"bitwidht": 8}`), `param_encodings["conv.weight"][0].bitwidht: unknown key`},
		{"missing", legacy(`{"bitwidth": 8, "dtype": "int", "is_symmetric": "True", "offset": -8}`), `"scale" is missing`},
		{"type", legacy(`{"bitwidth": "8", "dtype": "int", "is_symmetric": "True", "offset": -8, "scale": 1}`), `[0].bitwidth: a string where a number`},
		{"scale", legacy(`{"bitwidth": 8, "dtype": "int", "is_symmetric": "True", "offset": -8, "scale": 0}`), "not a positive number"},
		{"offset", legacy(`{"bitwidth": 8, "dtype": "int", "is_symmetric": "True", "offset": -8.5, "scale": 1}`), "not an integer"},
		{"range", legacy(`{"bitwidth": 8, "dtype": "int", "is_symmetric": "True", "offset": 1, "scale": 1}`), "offset 1"},
		{"mixed", legacy(`{"bitwidth": 8, "dtype": "int", "is_symmetric": "True", "offset": -8, "scale": 1},
			{"bitwidth": 4, "dtype": "int", "is_symmetric": "True", "offset": -8, "scale": 1}`), `[1]: 4 bits`},
		{"torch", `{"version": "0.6.1", "activation_encodings": {"conv": {"input": {}}}}`, "PyTorch"},
		{"enc_type", `[{"name": "w", "bw": 8, "dtype": "INT", "enc_type": "PER_CHANEL", "is_sym": true, "scale": [1], "offset": [0]}]`, `[0].enc_type`},
		{"duplicate", `[{"name": "w", "output_dtype": "int8", "y_scale": 1}, {"name": "w", "output_dtype": "int8", "y_scale": 1}]`, `at [0]`},
		{"zero point", `[{"name": "w", "output_dtype": "int4", "y_scale": 1, "y_zero_point": 8}]`, "int4"},
		{"no axis", `[{"name": "w", "output_dtype": "int4", "y_scale": [1, 2]}]`, "without axis"},
		{"ragged", `[{"name": "w", "output_dtype": "int4", "block_size": 2, "axis": 0, "y_scale": [[1, 2], [3]]}]`, "match"},
		{"float8", `[{"name": "w", "output_dtype": "float8e4m3fn", "y_scale": 1}]`, "output_dtype"},
		{"deep", strings.Repeat("[", 100000), "nesting"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := encoding.Parse("file.encodings", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "file.encodings") {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestPartialEntry(t *testing.T) {
	f, err := encoding.Parse("mem", []byte(`{"param_encodings": {"w": [{"bitwidth": 8, "dtype": "int", "is_symmetric": "False", "min": -1, "max": 1.55}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	e := f.Find("w")
	if math.Abs(e.Scale[0]-0.01) > 1e-12 || e.Offset[0] != -100 || e.Min[0] != -1 || e.Max[0] != 1.55 {
		t.Errorf("have %+v", e)
	}
}

// TestNamesOutsideUTF8: JSON would write U+FFFD for such bytes, and the entry would describe no tensor of the model.
func TestNamesOutsideUTF8(t *testing.T) {
	e := &encoding.Encoding{Grid: encoding.Grid{Bits: 8, Axis: encoding.PerTensor}, Scale: []float64{1}, Offset: []float64{-128},
		Min: []float64{-128}, Max: []float64{127}}
	f := &encoding.File{Entries: []encoding.Entry{{Name: "conv\xff.weight", Kind: encoding.Param, Shape: tensor.Shape{1}, Encoding: e}}}
	for _, version := range []string{"0.6.1", "1.0.0", "2.0.0"} {
		if err := f.Write(io.Discard, version); err == nil || !strings.Contains(err.Error(), `\xff`) {
			t.Errorf("%s: %v", version, err)
		}
	}
	if err := f.WriteAdaround(io.Discard, true); err == nil || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("AdaRound: %v", err)
	}
}
