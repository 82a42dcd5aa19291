// Package wire reads and writes the protobuf wire format: varints, tags,
// fixed-width numbers and length-delimited bytes. The functions keep no state.
//
// A reader takes the rest of the input and returns the value and the number of
// bytes it used. On error that number is the position, within the slice it was
// given, of the byte that is wrong; the caller adds its own offset.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Type is the wire type in the low three bits of a tag.
type Type uint8

// The wire types.
const (
	Varint     Type = 0
	Fixed64    Type = 1
	Bytes      Type = 2
	StartGroup Type = 3
	EndGroup   Type = 4
	Fixed32    Type = 5
)

// String returns a short name for messages.
func (t Type) String() string {
	switch t {
	case Varint:
		return "varint"
	case Fixed64:
		return "64-bit"
	case Bytes:
		return "length-delimited"
	case StartGroup, EndGroup:
		return "group"
	case Fixed32:
		return "32-bit"
	}
	return fmt.Sprintf("wire type %d", uint8(t))
}

// MaxField is the largest field number.
const MaxField = 1<<29 - 1

// ErrTruncated means that the input ends inside a value.
var ErrTruncated = errors.New("the data ends inside a field")

var (
	errOverflow = errors.New("varint is longer than 64 bits")
	errField    = errors.New("field number out of range")
	errGroup    = errors.New("group ends that was not started")
	errDepth    = errors.New("groups are nested too deep")
)

// ReadVarint reads a varint of at most 64 bits. Longer encodings than needed are legal.
func ReadVarint(b []byte) (v uint64, n int, err error) {
	for i := range b {
		if i == 10 {
			break
		}
		c := b[i]
		if i == 9 && c > 1 {
			return 0, i, errOverflow
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v, i + 1, nil
		}
	}
	return 0, len(b), ErrTruncated
}

// ReadTag reads a field number and wire type.
func ReadTag(b []byte) (field int, t Type, n int, err error) {
	v, n, err := ReadVarint(b)
	if err != nil {
		return 0, 0, n, err
	}
	if f := v >> 3; f == 0 || f > MaxField {
		return 0, 0, 0, errField
	}
	if t = Type(v & 7); t > Fixed32 {
		return 0, 0, 0, fmt.Errorf("unknown %v", t)
	}
	return int(v >> 3), t, n, nil
}

// ReadFixed32 reads a little-endian 32-bit value.
func ReadFixed32(b []byte) (v uint32, n int, err error) {
	if len(b) < 4 {
		return 0, len(b), ErrTruncated
	}
	return binary.LittleEndian.Uint32(b), 4, nil
}

// ReadFixed64 reads a little-endian 64-bit value.
func ReadFixed64(b []byte) (v uint64, n int, err error) {
	if len(b) < 8 {
		return 0, len(b), ErrTruncated
	}
	return binary.LittleEndian.Uint64(b), 8, nil
}

// ReadBytes reads a length and that many bytes. The result is a part of b with no spare capacity, not a copy.
func ReadBytes(b []byte) (v []byte, n int, err error) {
	size, n, err := ReadVarint(b)
	if err != nil {
		return nil, n, err
	}
	if rest := uint64(len(b) - n); size > rest {
		return nil, n, fmt.Errorf("%w: it needs %d bytes and %d are left", ErrTruncated, size, rest)
	}
	end := n + int(size)
	return b[n:end:end], end, nil
}

// maxGroups bounds the nesting of (unknown) groups.
const maxGroups = 100

// Skip returns the length of the value that follows a tag of type t.
// For a group this includes the closing tag of the same field number.
func Skip(b []byte, field int, t Type) (n int, err error) { return skip(b, field, t, 0) }

func skip(b []byte, field int, t Type, depth int) (n int, err error) {
	switch t {
	case Varint:
		_, n, err = ReadVarint(b)
	case Fixed32:
		_, n, err = ReadFixed32(b)
	case Fixed64:
		_, n, err = ReadFixed64(b)
	case Bytes:
		_, n, err = ReadBytes(b)
	case StartGroup:
		return skipGroup(b, field, depth)
	default:
		return 0, errGroup
	}
	return n, err
}

func skipGroup(b []byte, field, depth int) (n int, err error) {
	if depth == maxGroups {
		return 0, errDepth
	}
	for {
		f, t, k, err := ReadTag(b[n:])
		if err != nil {
			return n + k, err
		}
		n += k
		if t == EndGroup {
			if f != field {
				return n - k, errGroup
			}
			return n, nil
		}
		k, err = skip(b[n:], f, t, depth+1)
		n += k
		if err != nil {
			return n, err
		}
	}
}

// AppendVarint appends v in its shortest form.
func AppendVarint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

// AppendTag appends a field number and wire type.
func AppendTag(b []byte, field int, t Type) []byte {
	return AppendVarint(b, uint64(field)<<3|uint64(t))
}

// AppendFixed32 appends v, little-endian.
func AppendFixed32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }

// AppendFixed64 appends v, little-endian.
func AppendFixed64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

// SizeVarint returns the length of v's shortest form.
func SizeVarint(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// SizeTag returns the length of a tag of the given field.
func SizeTag(field int) int { return SizeVarint(uint64(field) << 3) }

// SizeBytes returns the length of n bytes with their length in front.
func SizeBytes(n int) int { return SizeVarint(uint64(n)) + n }
