package convert

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"roundel/onnx"
	"roundel/tensor"
)

// TestTypedAndRaw reads one tensor of each type from its typed field and from raw
// data, as the reference implementation wrote them, and writes it back.
func TestTypedAndRaw(t *testing.T) {
	m := load(t, filepath.Join("testdata", "typed.onnx"))
	want := map[string]string{"f32": "float32[2][1.5 -2]", "f64": "float64[2][1.5 -2]", "f16": "float16[2][1.5 -2]", "bf16": "bfloat16[2][1.5 -2]",
		"i8": "int8[2][-128 127]", "i16": "int16[2][-32768 32767]", "i32": "int32[2][-2.147483648e+09 2.147483647e+09]",
		"i64": "int64[2][-9.223372036854776e+18 9.223372036854776e+18]", "u8": "uint8[2][0 255]", "u16": "uint16[2][0 65535]",
		"u32": "uint32[2][0 4.294967295e+09]", "u64": "uint64[2][0 1.8446744073709552e+19]", "b": "bool[2][1 0]",
		"i4": "int8[3][-8 7 -1]", "u4": "uint8[3][0 15 9]"}
	for name, w := range want {
		typed, raw := m.Graph.FindInitializer(name), m.Graph.FindInitializer(name+"_raw")
		if typed.RawData != nil || raw.RawData == nil {
			t.Fatalf("%s: the test model has the wrong fields", name)
		}
		a, err := ToTensor(typed)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := fmt.Sprintf("%v%v%v", a.DType(), a.Shape(), tensor.Float64s(a)); got != w {
			t.Errorf("%s: got %s, want %s", name, got, w)
		}
		if b, err := ToTensor(raw); err != nil || !equal(a, b) {
			t.Errorf("%s: raw data gives %v, %v", name, b, err)
		}
		back, err := PackTensor(name, a, typed.DataType)
		if err != nil || string(back.RawData) != string(raw.RawData) || back.DataType != raw.DataType {
			t.Errorf("%s: written as %x, %v; want %x", name, back.RawData, err, raw.RawData)
		}
	}
	for _, name := range []string{"s", "c64", "f8"} {
		var u *onnx.UnsupportedError
		if _, err := ToTensor(m.Graph.FindInitializer(name)); !errors.As(err, &u) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTensorErrors(t *testing.T) {
	tests := []struct {
		name string
		t    onnx.Tensor
		want string
	}{
		{"range", onnx.Tensor{DataType: onnx.Int8, Dims: []int64{1}, Int32Data: []int32{300}}, "element 0, 300, is not a int8"},
		{"float16 range", onnx.Tensor{DataType: onnx.Float16, Dims: []int64{1}, Int32Data: []int32{1 << 16}}, "is not a float16"},
		{"too few", onnx.Tensor{DataType: onnx.Int64, Dims: []int64{2, 2}, Int64Data: []int64{1}}, "int64[2 2] needs 4 elements and has 1"},
		{"no data", onnx.Tensor{DataType: onnx.Float, Dims: []int64{3}}, "needs 3 elements and has 0"},
		{"odd nibbles", onnx.Tensor{DataType: onnx.Int4, Dims: []int64{3}, RawData: []byte{1}}, "needs 2 bytes and has 1"},
		{"nibbles in a list", onnx.Tensor{DataType: onnx.Uint4, Dims: []int64{3}, Int32Data: []int32{1}}, "needs 2 bytes of int32_data and has 1"},
		{"segment", onnx.Tensor{DataType: onnx.Float, Segment: []byte{8, 1}}, "segments"},
		{"unknown type", onnx.Tensor{DataType: 99}, "data type 99"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ToTensor(&tt.t); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := PackTensor("w", tensor.From([]float32{1}, 1), onnx.Int4); err == nil {
		t.Error("a float tensor was packed")
	}
	empty, err := ToTensor(&onnx.Tensor{DataType: onnx.Float, Dims: []int64{0, 3}})
	if err != nil || !empty.Shape().Equal(tensor.Shape{0, 3}) {
		t.Errorf("empty tensor: %v, %v", empty, err)
	}
}

func TestSparseErrors(t *testing.T) {
	values := FromTensor("v", tensor.From([]float32{1, 2}, 2))
	tests := []struct {
		name string
		s    onnx.SparseTensor
	}{
		{"no indices", onnx.SparseTensor{Values: values, Dims: []int64{3}}},
		{"outside", onnx.SparseTensor{Values: values, Indices: FromTensor("", tensor.From([]int64{0, 3}, 2)), Dims: []int64{3}}},
		{"negative", onnx.SparseTensor{Values: values, Indices: FromTensor("", tensor.From([]int64{0, -1}, 2)), Dims: []int64{3}}},
		{"coordinates outside", onnx.SparseTensor{Values: values, Indices: FromTensor("", tensor.From([]int64{0, 0, 0, 2}, 2, 2)), Dims: []int64{3, 2}}},
		{"wrong count", onnx.SparseTensor{Values: values, Indices: FromTensor("", tensor.From([]int64{0, 0, 0}, 3)), Dims: []int64{3}}},
		{"wrong type", onnx.SparseTensor{Values: values, Indices: FromTensor("", tensor.From([]int32{0, 1}, 2)), Dims: []int64{3}}},
		{"huge", onnx.SparseTensor{Values: values, Indices: FromTensor("", tensor.From([]int64{0, 1}, 2)), Dims: []int64{1 << 30}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if v, err := newImporter(&onnx.Model{}).sparse(&tt.s); err == nil {
				t.Errorf("gave %v", v)
			}
		})
	}
}
