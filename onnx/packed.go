package onnx

import (
	"errors"
	"math"

	"roundel/onnx/internal/wire"
)

// The repeated numbers. Each may be written one by one or packed in one
// length-delimited field; both are read, and written in the form that was read.

var errPacked = errors.New("packed numbers do not fill their field")

// ints is a repeated int32, int64 or uint64. packed is the form that the schema prescribes.
func ints[T ~int32 | ~int64 | ~uint64](c *codec, f int, name string, packed bool, p *[]T) {
	if c.mode != decoding {
		writeList(c, f, packed, wire.Varint, *p, func(v T) { c.varint(uint64(v)) })
		return
	}
	b, ok := c.list(f, name, packed, wire.Varint)
	if !ok {
		return
	}
	if b == nil {
		*p = append(*p, T(c.readVarint(name)))
		return
	}
	n := 0
	for _, x := range b {
		if x < 0x80 {
			n++
		}
	}
	s := grow(*p, n)
	for len(b) > 0 {
		v, k, err := wire.ReadVarint(b)
		if err != nil {
			c.fail(c.pos-len(b)+k, name, err)
			return
		}
		s, b = append(s, T(v)), b[k:]
	}
	*p = s
}

// floats is a repeated 32-bit float.
func floats(c *codec, f int, name string, packed bool, p *[]float32) {
	if c.mode != decoding {
		writeList(c, f, packed, wire.Fixed32, *p, func(v float32) { c.fixed32(math.Float32bits(v)) })
		return
	}
	b, ok := c.list(f, name, packed, wire.Fixed32)
	if !ok {
		return
	}
	if b == nil {
		*p = append(*p, math.Float32frombits(c.readFixed32(name)))
		return
	}
	if len(b)%4 != 0 {
		c.fail(c.pos, name, errPacked)
		return
	}
	s := grow(*p, len(b)/4)
	for ; len(b) > 0; b = b[4:] {
		v, _, _ := wire.ReadFixed32(b)
		s = append(s, math.Float32frombits(v))
	}
	*p = s
}

// doubles is a repeated 64-bit float.
func doubles(c *codec, f int, name string, packed bool, p *[]float64) {
	if c.mode != decoding {
		writeList(c, f, packed, wire.Fixed64, *p, func(v float64) { c.fixed64(math.Float64bits(v)) })
		return
	}
	b, ok := c.list(f, name, packed, wire.Fixed64)
	if !ok {
		return
	}
	if b == nil {
		*p = append(*p, math.Float64frombits(c.readFixed64(name)))
		return
	}
	if len(b)%8 != 0 {
		c.fail(c.pos, name, errPacked)
		return
	}
	s := grow(*p, len(b)/8)
	for ; len(b) > 0; b = b[8:] {
		v, _, _ := wire.ReadFixed64(b)
		s = append(s, math.Float64frombits(v))
	}
	*p = s
}

// grow makes room for exactly n more elements when s is empty, as it is unless the field is split.
func grow[T any](s []T, n int) []T {
	if s == nil {
		return make([]T, 0, n)
	}
	return s
}

// list claims field f. It returns the packed numbers, or nil when a single one follows.
func (c *codec) list(f int, name string, packed bool, elem wire.Type) (b []byte, ok bool) {
	if c.field != f {
		return nil, false
	}
	isPacked := c.typ == wire.Bytes
	if isPacked != packed {
		c.x.has |= 1 << f
	}
	if !isPacked {
		return nil, c.take(f, name, elem)
	}
	c.field = 0
	b = c.readBytes(name)
	return b, c.err == nil
}

func writeList[T any](c *codec, f int, packed bool, elem wire.Type, s []T, put func(T)) {
	if c.x.has&(1<<f) != 0 {
		packed = !packed
	}
	switch {
	case len(s) == 0:
	case packed:
		c.nested(f, func() {
			for _, v := range s {
				put(v)
			}
		})
	default:
		for _, v := range s {
			c.tag(f, elem)
			put(v)
		}
	}
}
