package data

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"roundel/tensor"
)

const npyMagic = "\x93NUMPY"

// maxRank bounds the number of dimensions of a NumPy array; NumPy itself stops at 64.
const maxRank = 64

// npyPlan is everything the header says: how to turn the bytes after it into a tensor.
type npyPlan struct {
	dtype   tensor.DType
	order   binary.ByteOrder
	fortran bool
	shape   tensor.Shape
	offset  int64 // of the first element in the file
}

// bytes returns the size of the elements; parseNpyHeader has checked that it does not overflow.
func (p npyPlan) bytes() int64 { return int64(p.shape.Len()) * int64(p.dtype.Size()) }

// readNpyPlan parses the header of a .npy file of the given size (format 1.0, 2.0 or 3.0)
// and checks that the file is long enough for the shape it promises.
func readNpyPlan(r io.ReaderAt, size int64) (npyPlan, error) {
	var pre [12]byte
	if size < 10 {
		return npyPlan{}, fmt.Errorf("%d bytes are too few for a .npy file", size)
	}
	if _, err := r.ReadAt(pre[:min(size, 12)], 0); err != nil && err != io.EOF {
		return npyPlan{}, err
	}
	if string(pre[:6]) != npyMagic {
		return npyPlan{}, errors.New("not a .npy file (its first six bytes are not \\x93NUMPY)")
	}
	var start, length int64
	switch pre[6] {
	case 1:
		start, length = 10, int64(binary.LittleEndian.Uint16(pre[8:]))
	case 2, 3:
		start, length = 12, int64(binary.LittleEndian.Uint32(pre[8:]))
	default:
		return npyPlan{}, fmt.Errorf(".npy format version %d.%d is not known (1, 2 and 3 are); save it again with numpy.save", pre[6], pre[7])
	}
	if start+length > size {
		return npyPlan{}, fmt.Errorf("the header of %d bytes is longer than the file of %d bytes; the file is truncated", length, size)
	}
	head := make([]byte, length)
	if _, err := r.ReadAt(head, start); err != nil && err != io.EOF {
		return npyPlan{}, err
	}
	p, err := parseNpyHeader(string(head))
	if err != nil {
		return npyPlan{}, err
	}
	p.offset = start + length
	if p.bytes() > size-p.offset {
		return npyPlan{}, fmt.Errorf("shape %v of %v needs %d bytes, the file has %d; the file is truncated", p.shape, p.dtype, p.bytes(), size-p.offset)
	}
	return p, nil
}

// parseNpyHeader reads the Python dictionary of a header, such as
// {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }.
func parseNpyHeader(text string) (npyPlan, error) {
	var p npyPlan
	s := &npyScanner{text: text}
	seen := map[string]bool{}
	s.want('{')
	for s.err == nil && !s.accept('}') {
		key := s.str()
		s.want(':')
		if s.err == nil && seen[key] {
			return p, fmt.Errorf("the header has %q twice", key)
		}
		seen[key] = true
		switch key {
		case "descr":
			p.dtype, p.order = s.descr()
		case "fortran_order":
			p.fortran = s.boolean()
		case "shape":
			p.shape = s.tuple()
		default:
			s.fail("unexpected key %q", key)
		}
		if s.err == nil && !s.accept(',') && !s.peek('}') {
			s.fail("no comma between entries")
		}
	}
	if s.err != nil {
		return p, s.err
	}
	for _, k := range []string{"descr", "fortran_order", "shape"} {
		if !seen[k] {
			return p, fmt.Errorf("the header has no %q", k)
		}
	}
	if strings.Trim(s.text[s.pos:], " \n\x00") != "" {
		return p, errors.New("the header goes on after its dictionary")
	}
	return p, checkExtent(p)
}

// checkExtent rejects shapes whose size in bytes does not fit an int.
func checkExtent(p npyPlan) error {
	n := p.dtype.Size()
	for _, d := range p.shape {
		if d != 0 && n > math.MaxInt/d {
			return fmt.Errorf("shape %v is too large", p.shape)
		}
		n *= d
	}
	return nil
}

// npyScanner reads the few Python literals that a header can hold. After the first error it does nothing.
type npyScanner struct {
	text string
	pos  int
	err  error
}

func (s *npyScanner) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("bad .npy header at byte %d: "+format, append([]any{s.pos}, args...)...)
	}
}

func (s *npyScanner) peek(c byte) bool {
	for s.pos < len(s.text) && (s.text[s.pos] == ' ' || s.text[s.pos] == '\n' || s.text[s.pos] == '\t') {
		s.pos++
	}
	return s.pos < len(s.text) && s.text[s.pos] == c
}

func (s *npyScanner) accept(c byte) bool {
	if s.err != nil || !s.peek(c) {
		return false
	}
	s.pos++
	return true
}

func (s *npyScanner) want(c byte) {
	if !s.accept(c) {
		s.fail("%q expected", c)
	}
}

// str reads a string in single or double quotes; headers have no escapes.
func (s *npyScanner) str() string {
	for _, q := range []byte{'\'', '"'} {
		if s.accept(q) {
			end := strings.IndexByte(s.text[s.pos:], q)
			if end < 0 {
				break
			}
			v := s.text[s.pos : s.pos+end]
			s.pos += end + 1
			return v
		}
	}
	s.fail("string expected")
	return ""
}

func (s *npyScanner) boolean() bool {
	s.peek(0) // skips blanks
	for word, v := range map[string]bool{"True": true, "False": false} {
		if s.err == nil && strings.HasPrefix(s.text[s.pos:], word) {
			s.pos += len(word)
			return v
		}
	}
	s.fail("True or False expected")
	return false
}

// tuple reads "(2, 3)", "(2,)" or "()"; Python 2 wrote "2L".
func (s *npyScanner) tuple() tensor.Shape {
	shape := tensor.Shape{}
	s.want('(')
	for s.err == nil && !s.accept(')') {
		s.peek(0)
		end := s.pos
		for end < len(s.text) && s.text[end] >= '0' && s.text[end] <= '9' {
			end++
		}
		d, err := strconv.Atoi(s.text[s.pos:end])
		if err != nil || len(shape) == maxRank {
			s.fail("dimension expected")
			break
		}
		s.pos = end
		s.accept('L')
		shape = append(shape, d)
		if !s.accept(',') && !s.peek(')') {
			s.fail("no comma between dimensions")
		}
	}
	return shape
}

// npyTypes maps the kind and size of a descr to an element type. bfloat16 has no
// NumPy type of its own; ml_dtypes saves it as a void of two bytes.
var npyTypes = map[string]tensor.DType{
	"f4": tensor.Float32, "f8": tensor.Float64, "f2": tensor.Float16, "V2": tensor.BFloat16,
	"i1": tensor.Int8, "i2": tensor.Int16, "i4": tensor.Int32, "i8": tensor.Int64,
	"u1": tensor.Uint8, "u2": tensor.Uint16, "u4": tensor.Uint32, "u8": tensor.Uint64, "b1": tensor.Bool,
}

func (s *npyScanner) descr() (tensor.DType, binary.ByteOrder) {
	if s.peek('[') {
		s.fail("the array has a structured dtype; save one plain array per input")
		return 0, nil
	}
	d := s.str()
	if s.err != nil {
		return 0, nil
	}
	var order binary.ByteOrder = binary.LittleEndian
	kind := strings.TrimLeft(d, "<>|=")
	if strings.HasPrefix(d, ">") {
		order = binary.BigEndian
	}
	dt, ok := npyTypes[kind]
	if !ok || len(d)-len(kind) > 1 {
		s.fail("element type %q is not supported; convert the array to a float, integer or bool type", d)
	}
	return dt, order
}
