package data

import (
	"bytes"
	"encoding/binary"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"roundel/tensor"
)

// npyFile makes a .npy by hand, independently of EncodeNpy.
func npyFile(major byte, dict string, body ...byte) []byte {
	b := []byte("\x93NUMPY")
	b = append(b, major, 0)
	if major == 1 {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(dict)))
	} else {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(dict)))
	}
	return append(append(b, dict...), body...)
}

func decode(b []byte) (tensor.Any, error) { return DecodeNpy(bytes.NewReader(b), int64(len(b))) }

func TestDecodeNpyForms(t *testing.T) {
	tests := []struct {
		name  string
		file  []byte
		shape tensor.Shape
		want  []int16
	}{
		{"v1 little C", npyFile(1, "{'descr': '<i2', 'fortran_order': False, 'shape': (2, 3), }\n", 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 0xff, 0xff), tensor.Shape{2, 3}, []int16{1, 2, 3, 4, 5, -1}},
		{"v2 big C", npyFile(2, "{'descr': '>i2', 'fortran_order': False, 'shape': (2,)}", 1, 2, 0, 3), tensor.Shape{2}, []int16{258, 3}},
		{"v3 fortran", npyFile(3, "{'descr': '<i2', 'fortran_order': True, 'shape': (2, 3), }", 1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6, 0), tensor.Shape{2, 3}, []int16{1, 2, 3, 4, 5, 6}},
		{"fortran 3d", npyFile(1, "{'descr': '<i2', 'fortran_order': True, 'shape': (2, 1, 2)}", 1, 0, 3, 0, 2, 0, 4, 0), tensor.Shape{2, 1, 2}, []int16{1, 2, 3, 4}},
		{"scalar, other key order and quotes", npyFile(1, `{"shape": (), "fortran_order":False,"descr":"<i2"}`, 7, 0), tensor.Shape{}, []int16{7}},
		{"empty", npyFile(1, "{'descr': '<i2', 'fortran_order': True, 'shape': (0, 3)}"), tensor.Shape{0, 3}, []int16{}},
		{"python 2 long", npyFile(1, "{'descr': '<i2', 'fortran_order': False, 'shape': (1L,)}", 7, 0), tensor.Shape{1}, []int16{7}},
		{"bytes after the array", npyFile(1, "{'descr': '<i2', 'fortran_order': False, 'shape': (1,)}", 7, 0, 9, 9), tensor.Shape{1}, []int16{7}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := decode(tt.file)
			if err != nil {
				t.Fatal(err)
			}
			d, err := tensor.As[int16](a)
			if err != nil {
				t.Fatal(err)
			}
			if !d.Shape().Equal(tt.shape) {
				t.Errorf("shape %v, want %v", d.Shape(), tt.shape)
			}
			for i, v := range tt.want {
				if d.Data()[i] != v {
					t.Errorf("element %d = %d, want %d", i, d.Data()[i], v)
				}
			}
		})
	}
}

// allTypes has one tensor of every element type, with values that a careless conversion changes.
func allTypes() []tensor.Any {
	nan := math.Float32frombits(0x7fc12345)
	return []tensor.Any{
		tensor.From([]float32{0, float32(math.Copysign(0, -1)), nan, math.MaxFloat32, 1e-45, float32(math.Inf(-1))}, 2, 3),
		tensor.From([]float64{math.Pi, math.MaxFloat64, 5e-324}, 3),
		tensor.From([]tensor.F16{0x3c00, 0x7e01, 0xfc00, 1}, 1, 4),
		tensor.From([]tensor.BF16{0x3f80, 0x7fc1, 0x8000, 1}, 4, 1),
		tensor.From([]int8{-128, 127, -1, 0}, 2, 2),
		tensor.From([]int16{-32768, 32767}, 2),
		tensor.From([]int32{math.MinInt32, math.MaxInt32}, 2),
		tensor.From([]int64{math.MinInt64, math.MaxInt64}, 2),
		tensor.From([]uint8{0, 255}, 2),
		tensor.From([]uint16{0, 65535}, 2),
		tensor.From([]uint32{0, math.MaxUint32}, 2),
		tensor.From([]uint64{0, math.MaxUint64}, 2),
		tensor.From([]bool{true, false, true}, 3),
		tensor.Scalar[float32](1.5),
		tensor.New[float32](0, 4),
		tensor.New[float32](2, 1, 1, 1, 5),
	}
}

func TestNpyRoundTrip(t *testing.T) {
	for _, a := range allTypes() {
		t.Run(a.DType().String()+a.Shape().String(), func(t *testing.T) {
			var first, second bytes.Buffer
			if err := EncodeNpy(&first, a); err != nil {
				t.Fatal(err)
			}
			b, err := decode(first.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if b.DType() != a.DType() || !b.Shape().Equal(a.Shape()) {
				t.Fatalf("have %v%v, want %v%v", b.DType(), b.Shape(), a.DType(), a.Shape())
			}
			if err := EncodeNpy(&second, b); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first.Bytes(), second.Bytes()) {
				t.Errorf("not a fixed point:\n% x\n% x", first.Bytes(), second.Bytes())
			}
			if start := first.Len() - a.Len()*a.DType().Size(); start%64 != 0 {
				t.Errorf("elements begin at %d, want a multiple of 64", start)
			}
		})
	}
}

// TestNpyBytes pins the written form to what numpy.save writes for the same array.
func TestNpyBytes(t *testing.T) {
	var b bytes.Buffer
	if err := EncodeNpy(&b, tensor.From([]float32{1, -2}, 2)); err != nil {
		t.Fatal(err)
	}
	dict := "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
	want := "\x93NUMPY\x01\x00\x76\x00" + dict + strings.Repeat(" ", 117-len(dict)) + "\n" + "\x00\x00\x80\x3f\x00\x00\x00\xc0"
	if b.String() != want {
		t.Errorf("got  %q\nwant %q", b.String(), want)
	}
}

func TestDecodeNpyErrors(t *testing.T) {
	good := "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
	dict := func(s string) []byte { return npyFile(1, s, make([]byte, 64)...) }
	tests := []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "too few"},
		{"magic", []byte("PK\x03\x04aaaaaaaaaaaa"), "not a .npy"},
		{"version", npyFile(9, good, make([]byte, 8)...), "version 9.0"},
		{"header beyond file", npyFile(1, good)[:30], "truncated"},
		{"huge header", []byte("\x93NUMPY\x02\x00\xff\xff\xff\xff"), "truncated"},
		{"data truncated", npyFile(1, good, 1, 2, 3), "needs 8 bytes, the file has 3"},
		{"huge shape", dict("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 8), }"), "too large"},
		{"shape beyond int", dict("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }"), "dimension expected"},
		{"big claim", dict("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,), }"), "truncated"},
		{"negative", dict("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"), "dimension expected"},
		{"complex", dict("{'descr': '<c8', 'fortran_order': False, 'shape': (2,), }"), `"<c8" is not supported`},
		{"object", dict("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }"), "not supported"},
		{"structured", dict("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }"), "structured"},
		{"two signs", dict("{'descr': '<<f4', 'fortran_order': False, 'shape': (2,), }"), "not supported"},
		{"no shape", dict("{'descr': '<f4', 'fortran_order': False}"), `no "shape"`},
		{"twice", dict("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}"), "twice"},
		{"unknown key", dict("{'descr': '<f4', 'x': False, 'shape': (2,)}"), "unexpected key"},
		{"not a dict", dict("[1]"), "expected"},
		{"unterminated", dict("{'descr': '<f4"), "string expected"},
		{"number for bool", dict("{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}"), "True or False"},
		{"junk after", dict(good + "x"), "goes on"},
		{"no comma", dict("{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}"), "comma"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if a, err := decode(tt.file); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("decode = %v, %v; want an error with %q", a, err, tt.want)
			}
		})
	}
}

func TestNpyFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.npy")
	if _, err := ReadNpy(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("absent file: %v", err)
	}
	big := tensor.New[float64](300, 100) // more than one read buffer
	for i := range big.Data() {
		big.Data()[i] = float64(i)
	}
	if err := WriteNpy(path, big); err != nil {
		t.Fatal(err)
	}
	a, err := ReadNpy(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tensor.As[float64](a)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got.Data() {
		if v != float64(i) {
			t.Fatalf("element %d = %v", i, v)
		}
	}
	if err := WriteNpy(filepath.Join(path, "x"), big); err == nil {
		t.Error("writing below a file succeeded")
	}
}
