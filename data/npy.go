package data

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"roundel/internal/regular"
	"roundel/tensor"
)

// ReadNpy reads the NumPy array in the file path. See DecodeNpy.
func ReadNpy(path string) (tensor.Any, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	t, err := DecodeNpy(f, st.Size())
	if err != nil {
		return nil, fmt.Errorf("data: %s: %w", path, err)
	}
	return t, nil
}

// DecodeNpy reads a NumPy array from a .npy file of size bytes: formats 1.0 to 3.0,
// either byte order, C or Fortran layout, and every element type of package tensor
// (bfloat16 as the void V2 that ml_dtypes writes). The result is row-major. Memory is
// bounded by size, whatever the header claims.
func DecodeNpy(r io.ReaderAt, size int64) (tensor.Any, error) {
	p, err := readNpyPlan(r, size)
	if err != nil {
		return nil, err
	}
	return p.read(io.NewSectionReader(r, p.offset, p.bytes()), p.shape)
}

// read decodes a tensor of the given shape, a part of the plan's, from r.
func (p npyPlan) read(r io.Reader, shape tensor.Shape) (tensor.Any, error) {
	o := p.order
	switch p.dtype {
	case tensor.Float32:
		return readElems(r, p, shape, func(b []byte) float32 { return math.Float32frombits(o.Uint32(b)) })
	case tensor.Float64:
		return readElems(r, p, shape, func(b []byte) float64 { return math.Float64frombits(o.Uint64(b)) })
	case tensor.Float16:
		return readElems(r, p, shape, func(b []byte) tensor.F16 { return tensor.F16(o.Uint16(b)) })
	case tensor.BFloat16:
		return readElems(r, p, shape, func(b []byte) tensor.BF16 { return tensor.BF16(o.Uint16(b)) })
	case tensor.Int8:
		return readElems(r, p, shape, func(b []byte) int8 { return int8(b[0]) })
	case tensor.Int16:
		return readElems(r, p, shape, func(b []byte) int16 { return int16(o.Uint16(b)) })
	case tensor.Int32:
		return readElems(r, p, shape, func(b []byte) int32 { return int32(o.Uint32(b)) })
	case tensor.Int64:
		return readElems(r, p, shape, func(b []byte) int64 { return int64(o.Uint64(b)) })
	case tensor.Uint8:
		return readElems(r, p, shape, func(b []byte) uint8 { return b[0] })
	case tensor.Uint16:
		return readElems(r, p, shape, o.Uint16)
	case tensor.Uint32:
		return readElems(r, p, shape, o.Uint32)
	case tensor.Uint64:
		return readElems(r, p, shape, o.Uint64)
	default:
		return readElems(r, p, shape, func(b []byte) bool { return b[0] != 0 })
	}
}

// readElems is the one loop that all element types share.
func readElems[T tensor.Elem](r io.Reader, p npyPlan, shape tensor.Shape, get func([]byte) T) (tensor.Any, error) {
	size := p.dtype.Size()
	out := tensor.New[T](shape...)
	data := out.Data()
	buf := make([]byte, min(len(data)*size, 1<<16))
	for len(data) > 0 {
		part := buf[:min(len(buf), len(data)*size)]
		if _, err := io.ReadFull(r, part); err != nil {
			return nil, fmt.Errorf("reading elements: %w", err)
		}
		for i := 0; i < len(part); i += size {
			data[i/size] = get(part[i:])
		}
		data = data[len(part)/size:]
	}
	if p.fortran && len(shape) > 1 {
		return fromFortran(out), nil
	}
	return out, nil
}

// fromFortran reorders elements that lie first-dimension-fastest into row-major order.
func fromFortran[T tensor.Elem](t *tensor.Dense[T]) *tensor.Dense[T] {
	shape := t.Shape()
	out := tensor.New[T](shape...)
	stride := make([]int, len(shape))
	n := 1
	for i, d := range shape {
		stride[i] = n
		n *= d
	}
	idx := make([]int, len(shape))
	from := 0
	src, dst := t.Data(), out.Data()
	for i := range dst {
		dst[i] = src[from]
		for d := len(shape) - 1; d >= 0; d-- {
			idx[d]++
			from += stride[d]
			if idx[d] < shape[d] {
				break
			}
			from -= idx[d] * stride[d]
			idx[d] = 0
		}
	}
	return out
}

// WriteNpy writes t to the file path as .npy. See EncodeNpy.
func WriteNpy(path string, t tensor.Any) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	err = EncodeNpy(f, t)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("data: writing %s: %w", path, err)
	}
	return nil
}

// EncodeNpy writes t as .npy format 1.0, little endian, C order; the same tensor always gives the same bytes.
func EncodeNpy(w io.Writer, t tensor.Any) error {
	bw := bufio.NewWriter(w)
	bw.WriteString(npyHead(t))
	switch t := t.(type) {
	case *tensor.Dense[float32]:
		writeElems(bw, t, func(b []byte, v float32) { le.PutUint32(b, math.Float32bits(v)) })
	case *tensor.Dense[float64]:
		writeElems(bw, t, func(b []byte, v float64) { le.PutUint64(b, math.Float64bits(v)) })
	case *tensor.Dense[tensor.F16]:
		writeElems(bw, t, func(b []byte, v tensor.F16) { le.PutUint16(b, uint16(v)) })
	case *tensor.Dense[tensor.BF16]:
		writeElems(bw, t, func(b []byte, v tensor.BF16) { le.PutUint16(b, uint16(v)) })
	case *tensor.Dense[int8]:
		writeElems(bw, t, func(b []byte, v int8) { b[0] = byte(v) })
	case *tensor.Dense[int16]:
		writeElems(bw, t, func(b []byte, v int16) { le.PutUint16(b, uint16(v)) })
	case *tensor.Dense[int32]:
		writeElems(bw, t, func(b []byte, v int32) { le.PutUint32(b, uint32(v)) })
	case *tensor.Dense[int64]:
		writeElems(bw, t, func(b []byte, v int64) { le.PutUint64(b, uint64(v)) })
	case *tensor.Dense[uint8]:
		bw.Write(t.Data())
	case *tensor.Dense[uint16]:
		writeElems(bw, t, le.PutUint16)
	case *tensor.Dense[uint32]:
		writeElems(bw, t, le.PutUint32)
	case *tensor.Dense[uint64]:
		writeElems(bw, t, le.PutUint64)
	case *tensor.Dense[bool]:
		writeElems(bw, t, func(b []byte, v bool) {
			b[0] = 0
			if v {
				b[0] = 1
			}
		})
	}
	return bw.Flush()
}

var le = binary.LittleEndian

func writeElems[T tensor.Elem](w *bufio.Writer, t *tensor.Dense[T], put func([]byte, T)) {
	b := make([]byte, t.DType().Size())
	for _, v := range t.Data() {
		put(b, v)
		w.Write(b) // the first error stays with w until Flush
	}
}

// npyHead returns magic, version and dictionary, padded so that the elements begin at a multiple of 64.
func npyHead(t tensor.Any) string {
	kind := ""
	for k, dt := range npyTypes {
		if dt == t.DType() {
			kind = k
		}
	}
	sign := "<"
	if t.DType().Size() == 1 {
		sign = "|"
	}
	dims := ""
	for _, d := range t.Shape() {
		dims += fmt.Sprintf("%d, ", d)
	}
	switch len(t.Shape()) {
	case 0:
	case 1:
		dims = strings.TrimSuffix(dims, " ")
	default:
		dims = strings.TrimSuffix(dims, ", ")
	}
	dict := fmt.Sprintf("{'descr': '%s%s', 'fortran_order': False, 'shape': (%s), }", sign, kind, dims)
	pad := 63 - (10+len(dict))%64
	dict += strings.Repeat(" ", pad) + "\n"
	return npyMagic + "\x01\x00" + string(le.AppendUint16(nil, uint16(len(dict)))) + dict
}
