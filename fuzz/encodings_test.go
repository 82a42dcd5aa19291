package fuzz

import (
	"bytes"
	"testing"

	"roundel/quantsim"
	"roundel/quantsim/encoding"
)

// FuzzEncodings: any file that is accepted can be written, and what is written reads back as the same encodings.
func FuzzEncodings(f *testing.F) {
	for _, s := range []string{
		`{"version": "0.6.1", "param_encodings": {"w": [{"bitwidth": 8, "dtype": "int", "is_symmetric": "True", "min": -1, "max": 1, "offset": -128, "scale": 0.0078125}]}, "activation_encodings": {}}`,
		`{"version": "1.0.0", "param_encodings": [{"bw": 4, "dtype": "INT", "enc_type": "PER_CHANNEL", "is_sym": true, "name": "w", "offset": [-8, -8], "scale": [0.5, 1e-5]}], "activation_encodings": [{"bw": 16, "dtype": "FLOAT", "enc_type": "PER_TENSOR", "name": "r"}]}`,
		`{"version": "2.0.0", "encodings": [{"name": "x", "output_dtype": "uint8", "y_scale": 0.5, "y_zero_point": 3}, {"axis": 0, "block_size": 1, "name": "g", "output_dtype": "int4", "y_scale": [[0.1, 0.2], [0.3, 0.4]]}]}`,
		`{"param_encodings": {"w": [{"bitwidth": 8, "dtype": "int", "is_symmetric": "False", "min": -1, "max": 1.5}]}}`,
		`[{"name": "h", "bw": 8, "compressed_bw": 4, "block_size": 2, "dtype": "INT", "enc_type": "LPBQ", "is_sym": true, "offset": [-128], "per_block_int_scale": [16, 3], "scale": [0.01]}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			t.Skip()
		}
		file, err := encoding.Parse("fuzz", b)
		if err != nil {
			return
		}
		for _, v := range []string{"0.6.1", "1.0.0", "2.0.0"} {
			var out bytes.Buffer
			if file.Write(&out, v) != nil {
				continue // a version may lack what another has, but must say so
			}
			back, err := encoding.Parse("written", out.Bytes())
			if err != nil {
				t.Fatalf("%s: %v\n%s", v, err, out.Bytes())
			}
			for _, e := range file.Entries {
				r := back.Find(e.Name)
				if e.Type != encoding.Int {
					continue
				}
				if r == nil || r.Bits != e.Bits || len(r.Scale) != len(e.Scale) {
					t.Fatalf("%s: %q was %+v and became %+v", v, e.Name, e.Encoding, r)
				}
				for i := range e.Scale {
					if r.Scale[i] != e.Scale[i] || r.Offset[i] != e.Offset[i] {
						t.Fatalf("%s: %q scale %d was %v %v and became %v %v", v, e.Name, i, e.Scale[i], e.Offset[i], r.Scale[i], r.Offset[i])
					}
				}
			}
		}
	})
}

// FuzzRules: no config file makes the reader panic, and what it accepts has sensible supergroups.
func FuzzRules(f *testing.F) {
	f.Add([]byte(`{"defaults": {"ops": {"is_output_quantized": "True"}, "params": {"is_quantized": "True"}}, "params": {}, "op_type": {"Relu": {"encoding_constraints": {"min": 0}}}, "supergroups": [{"op_list": ["Conv", "Relu"]}], "model_input": {}, "model_output": {}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			t.Skip()
		}
		r, err := quantsim.ParseRules("fuzz", b)
		if err != nil {
			return
		}
		for _, g := range r.Supergroups {
			if len(g) < 2 {
				t.Fatalf("supergroup %v", g)
			}
		}
	})
}
