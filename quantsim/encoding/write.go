package encoding

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"unicode/utf8"

	"roundel/internal/jsontree"
	"roundel/tensor"
)

// Write writes f in the given version (0.6.1, 1.0.0 or 2.0.0), as AIMET 2.42 lays it out:
// keys sorted, an indent of four, entries of lists in order. f.Version is not
// consulted. What a version cannot hold is an error that names the tensor: blocks in
// 0.6.1, and bfloat16 in 0.6.1 and 1.0.0. Version 2 has no entries for float types;
// absence means float.
func (f *File) Write(w io.Writer, version string) error {
	if err := CheckVersion(version); err != nil {
		return err
	}
	if err := f.checkNames(); err != nil {
		return err
	}
	doc := map[string]any{"version": version, "producer": map[string]any{"package": f.Package, "version": f.Release}}
	if version == "2.0.0" {
		list, err := f.list(AnyKind, onnxEntry)
		if err != nil {
			return err
		}
		doc["encodings"] = list
		return emit(w, doc)
	}
	if a := f.Args; a != nil {
		doc["quantizer_args"] = map[string]any{"activation_bitwidth": a.ActivationBits, "param_bitwidth": a.ParamBits,
			"dtype": a.DataType, "is_symmetric": a.Symmetric, "per_channel_quantization": a.PerChannel, "quant_scheme": a.Scheme}
	}
	if f.Annotated || len(f.Excluded) > 0 {
		names := []any{}
		for _, x := range f.Excluded {
			names = append(names, x)
		}
		doc["excluded_layers"] = names
	}
	for key, kind := range map[string]Kind{"param_encodings": Param, "activation_encodings": Activation} {
		var section any
		var err error
		if version == "0.6.1" {
			section, err = f.dict(kind, false)
		} else {
			section, err = f.list(kind, listEntry)
		}
		if err != nil {
			return err
		}
		doc[key] = section
	}
	return emit(w, doc)
}

// WriteAdaround writes the parameter file of AdaRound: {"param_encodings": {name:
// [one 0.6.1 element per channel]}} with whole offsets, or only the inside of it, as
// versions of AIMET before 1.32 and aimet-onnx want it, if bare. Activations are left out.
func (f *File) WriteAdaround(w io.Writer, bare bool) error {
	if err := f.checkNames(); err != nil {
		return err
	}
	dict, err := f.dict(Param, true)
	if err != nil {
		return err
	}
	if bare {
		return emit(w, dict)
	}
	return emit(w, map[string]any{"param_encodings": dict})
}

// checkNames refuses what JSON would change: bytes that are not UTF-8 become others, and the name is of no tensor.
func (f *File) checkNames() error {
	for _, e := range f.Entries {
		if !utf8.ValidString(e.Name) {
			return &TensorError{e.Name, errors.New("the name is not UTF-8, which JSON cannot hold; rename the tensor in the model")}
		}
	}
	return nil
}

func emit(w io.Writer, v any) error {
	_, err := w.Write(jsontree.Marshal(v))
	return err
}

// of reports whether e belongs to the section kind; an entry of unknown kind counts as a parameter.
func (e Entry) of(kind Kind) bool {
	return kind == AnyKind || (e.Kind == Activation) == (kind == Activation)
}

func (f *File) dict(kind Kind, whole bool) (map[string]any, error) {
	out := map[string]any{}
	for _, e := range f.Entries {
		if !e.of(kind) {
			continue
		}
		list, err := legacyList(e, whole)
		if err != nil {
			return nil, &TensorError{e.Name, err}
		}
		out[e.Name] = list
	}
	return out, nil
}

func (f *File) list(kind Kind, entry func(Entry) (map[string]any, error)) ([]any, error) {
	out := []any{}
	for _, e := range f.Entries {
		if !e.of(kind) {
			continue
		}
		m, err := entry(e)
		if err != nil {
			return nil, &TensorError{e.Name, err}
		}
		if m != nil {
			m["name"] = e.Name
			out = append(out, m)
		}
	}
	return out, nil
}

var errBFloat16 = errors.New("this version of the encodings format has no bfloat16; write version 2.0.0, or use float16")

// legacyList is the 0.6.1 list of a tensor. whole writes offsets without a fraction, as torch does.
func legacyList(e Entry, whole bool) ([]any, error) {
	switch {
	case e.Type == BFloat16:
		return nil, errBFloat16
	case e.Type != Int:
		return []any{map[string]any{"bitwidth": e.Bits, "dtype": "float"}}, nil
	case e.BlockSize > 0:
		return nil, errors.New("version 0.6.1 cannot describe blocks; write version 1.0.0 or 2.0.0")
	}
	sym := "False"
	if e.Symmetric {
		sym = "True"
	}
	out := make([]any, len(e.Scale))
	for i, s := range e.Scale {
		var offset any = e.Offset[i]
		if whole {
			offset = int(e.Offset[i])
		}
		lo, hi := s*e.Offset[i], s*(e.Offset[i]+e.Steps())
		if l, h := e.Bounds(i); l > e.Offset[i] || h < e.Offset[i]+e.Steps() {
			lo, hi = e.Min[i], e.Max[i] // a range narrower than the grid, from a file
		}
		out[i] = map[string]any{"bitwidth": e.Bits, "dtype": "int", "is_symmetric": sym,
			"min": lo, "max": hi, "offset": offset, "scale": s}
	}
	return out, nil
}

// listEntry is a 1.0.0 entry.
func listEntry(e Entry) (map[string]any, error) {
	switch e.Type {
	case BFloat16:
		return nil, errBFloat16
	case Float16, Float32:
		return map[string]any{"bw": e.Bits, "dtype": "FLOAT", "enc_type": "PER_TENSOR"}, nil
	}
	m := map[string]any{"bw": e.Bits, "dtype": "INT", "is_sym": e.Symmetric}
	scale, offset := e.Scale, e.Offset
	switch {
	case e.BlockSize > 0:
		m["enc_type"], m["block_size"] = "PER_BLOCK", e.BlockSize
		if len(e.Shape) == 2 && e.Axis == 1 {
			blocks := e.Shape[0] / e.BlockSize
			scale, offset = transpose(scale, blocks), transpose(offset, blocks)
		} else if e.Shape == nil {
			return nil, errors.New("the shape of the tensor is needed to write its blocks")
		}
	case e.Axis == PerTensor:
		m["enc_type"] = "PER_TENSOR"
	default:
		m["enc_type"] = "PER_CHANNEL"
	}
	m["scale"], m["offset"] = scale, offset
	return m, nil
}

// transpose turns a row-major matrix of the given number of rows around.
func transpose(v []float64, rows int) []float64 {
	cols := len(v) / rows
	out := make([]float64, 0, len(v))
	for c := range cols {
		for r := range rows {
			out = append(out, v[r*cols+c])
		}
	}
	return out
}

// OnnxType returns how the encoding is written where ONNX names are used (encodings
// 2.0.0, QuantizeLinear): whether the integer type is signed, and the zero point of
// each group. Activations are always unsigned, symmetric parameters signed:
// zp = -(offset + 2^(b-1)) if signed, else -offset.
func (e *Encoding) OnnxType(kind Kind) (signed bool, zeroPoints []float64) {
	unsigned := !slices.ContainsFunc(e.Offset, func(o float64) bool { return o != 0 })
	signed = kind != Activation && e.Symmetric && !unsigned
	zeroPoints = make([]float64, len(e.Offset))
	for i, o := range e.Offset {
		zeroPoints[i] = 0 - o // 0 rather than -0
		if signed {
			zeroPoints[i] = -math.Ldexp(1, e.Bits-1) - o
		}
	}
	return signed, zeroPoints
}

// onnxEntry is a 2.0.0 entry, nil for float types.
func onnxEntry(e Entry) (map[string]any, error) {
	if e.Type != Int {
		return nil, nil
	}
	signed, zeros := e.OnnxType(e.Kind)
	m := map[string]any{"output_dtype": fmt.Sprintf("uint%d", e.Bits)}
	if signed {
		m["output_dtype"] = fmt.Sprintf("int%d", e.Bits)
	}
	put := func(key string, v []float64, whole bool) { m[key] = nest(v, tensor.Shape{len(v)}, whole) }
	switch {
	case e.BlockSize > 0:
		if e.Shape == nil {
			return nil, errors.New("the shape of the tensor is needed to write its blocks")
		}
		m["axis"], m["block_size"] = e.BlockAxis, e.BlockSize
		put = func(key string, v []float64, whole bool) { m[key] = nest(v, e.ScaleShape(e.Shape), whole) }
	case e.Axis >= 0:
		m["axis"] = e.Axis
	case e.Axis == AxisUnknown:
		return nil, errors.New("the channel axis is not known; resolve the encoding against a model first")
	default:
		put = func(key string, v []float64, whole bool) { m[key] = nest(v, nil, whole) }
	}
	put("y_scale", e.Scale, false)
	if slices.ContainsFunc(zeros, func(z float64) bool { return z != 0 }) {
		put("y_zero_point", zeros, true)
	}
	return m, nil
}

// nest makes nested lists of the given shape, of integers if whole.
func nest(v []float64, shape tensor.Shape, whole bool) any {
	if len(shape) == 0 {
		if whole {
			return int(v[0])
		}
		return v[0]
	}
	out := make([]any, shape[0])
	each := len(v) / max(shape[0], 1)
	for i := range out {
		out[i] = nest(v[i*each:(i+1)*each], shape[1:], whole)
	}
	return out
}
