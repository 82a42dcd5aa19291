package onnx

import (
	"fmt"
	"math"

	"roundel/onnx/internal/wire"
)

// maxDepth bounds the nesting of messages; protobuf's own readers stop at the same depth.
const maxDepth = 100

// message is a protobuf message that describes its fields once, in the order of
// their numbers, for reading, for measuring and for writing.
type message interface {
	fields(c *codec)
	ext() *extra
}

// extra is what a message remembers beyond its fields, so that writing gives back what was read.
type extra struct {
	// has has bit f set for a scalar field f that was present, even if it was zero, and for
	// a repeated field whose numbers were packed where the schema has them apart, or the reverse.
	has     uint32
	unknown []byte // fields that we do not know, as they were read
}

func (e *extra) ext() *extra { return e }

// Unknown returns the fields of the message that this package does not know, as raw protobuf.
func (e *extra) Unknown() []byte { return e.unknown }

type mode uint8

const (
	decoding mode = iota
	sizing
	encoding
)

// codec walks messages. Reading: each wire field is offered to the message's
// fields method, and the call with the matching number takes it. Writing: two
// walks, the first of which notes the size of each nested message in order.
type codec struct {
	mode mode
	x    *extra // of the current message

	buf      []byte // decoding
	pos, end int
	field    int // 0 once it was taken
	typ      wire.Type
	depth    int
	err      *SyntaxError

	swap  map[*Tensor]*Tensor // writing: tensors to be replaced
	n     int                 // sizing
	sizes []int               // sizing and encoding
	next  int
	out   []byte // encoding
}

// decode reads all of b into m. Byte slices in m are parts of b.
func decode(b []byte, m message) error {
	c := &codec{buf: b, end: len(b)}
	c.message(m, len(b))
	if c.err != nil {
		return c.err
	}
	return nil
}

// encode returns the bytes of m, with the tensors that are keys of swap replaced by their values.
func encode(m message, swap map[*Tensor]*Tensor) []byte {
	c := &codec{mode: sizing, swap: swap}
	c.put(m)
	c.mode, c.out = encoding, make([]byte, 0, c.n)
	c.put(m)
	return c.out
}

// size returns the number of bytes that encode would return.
func size(m message, swap map[*Tensor]*Tensor) int {
	c := &codec{mode: sizing, swap: swap}
	c.put(m)
	return c.n
}

// fail records the first error, at the given absolute position.
func (c *codec) fail(pos int, path string, err error) {
	if c.err == nil {
		c.err = &SyntaxError{Offset: int64(pos), Path: path, Err: err}
	}
}

func (c *codec) message(m message, end int) {
	if c.depth++; c.depth > maxDepth {
		c.fail(c.pos, "", fmt.Errorf("messages are nested more than %d deep", maxDepth))
		return
	}
	x, outer := c.x, c.end
	c.x, c.end = m.ext(), end
	for c.pos < c.end && c.err == nil {
		start := c.pos
		f, t, n, err := wire.ReadTag(c.buf[c.pos:c.end])
		c.pos += n
		if err != nil {
			c.fail(c.pos, "", err)
			break
		}
		c.field, c.typ = f, t
		m.fields(c)
		if c.field == 0 || c.err != nil {
			continue
		}
		n, err = wire.Skip(c.buf[c.pos:c.end], f, t)
		c.pos += n
		if err != nil {
			c.fail(c.pos, fmt.Sprintf("field %d", f), err)
			break
		}
		c.x.unknown = append(c.x.unknown, c.buf[start:c.pos]...)
	}
	c.x, c.end, c.field = x, outer, 0
	c.depth--
}

// take reports whether the current wire field is f, and claims it. A known field of another wire type is an error.
func (c *codec) take(f int, name string, t wire.Type) bool {
	if c.field != f {
		return false
	}
	c.field = 0
	if c.typ != t {
		c.fail(c.pos, name, fmt.Errorf("a %v where a %v is wanted", c.typ, t))
		return false
	}
	return true
}

func (c *codec) readVarint(name string) uint64 {
	v, n, err := wire.ReadVarint(c.buf[c.pos:c.end])
	c.pos += n
	if err != nil {
		c.fail(c.pos, name, err)
	}
	return v
}

func (c *codec) readFixed32(name string) uint32 {
	v, n, err := wire.ReadFixed32(c.buf[c.pos:c.end])
	c.pos += n
	if err != nil {
		c.fail(c.pos, name, err)
	}
	return v
}

func (c *codec) readFixed64(name string) uint64 {
	v, n, err := wire.ReadFixed64(c.buf[c.pos:c.end])
	c.pos += n
	if err != nil {
		c.fail(c.pos, name, err)
	}
	return v
}

// readBytes returns a part of the input, not nil even if empty.
func (c *codec) readBytes(name string) []byte {
	v, n, err := wire.ReadBytes(c.buf[c.pos:c.end])
	c.pos += n
	if err != nil {
		c.fail(c.pos, name, err)
	}
	return v
}

// put writes, or measures, the fields of m and what it has that we do not know.
func (c *codec) put(m message) {
	if t, ok := m.(*Tensor); ok && c.swap[t] != nil {
		m = c.swap[t]
	}
	x := c.x
	c.x = m.ext()
	m.fields(c)
	c.raw(c.x.unknown)
	c.x = x
}

func (c *codec) raw(b []byte) {
	if c.mode == sizing {
		c.n += len(b)
		return
	}
	c.out = append(c.out, b...)
}

func (c *codec) varint(v uint64) {
	if c.mode == sizing {
		c.n += wire.SizeVarint(v)
		return
	}
	c.out = wire.AppendVarint(c.out, v)
}

func (c *codec) tag(f int, t wire.Type) { c.varint(uint64(f)<<3 | uint64(t)) }

func (c *codec) fixed32(v uint32) {
	if c.mode == sizing {
		c.n += 4
		return
	}
	c.out = wire.AppendFixed32(c.out, v)
}

func (c *codec) fixed64(v uint64) {
	if c.mode == sizing {
		c.n += 8
		return
	}
	c.out = wire.AppendFixed64(c.out, v)
}

// nested writes a length-delimited field whose content body writes.
func (c *codec) nested(f int, body func()) {
	c.tag(f, wire.Bytes)
	if c.mode == encoding {
		c.varint(uint64(c.sizes[c.next]))
		c.next++
		body()
		return
	}
	slot, start := len(c.sizes), c.n
	c.sizes = append(c.sizes, 0)
	body()
	c.sizes[slot] = c.n - start
	c.varint(uint64(c.sizes[slot]))
}

// str is an optional string.
func (c *codec) str(f int, name string, p *string) {
	if c.mode == decoding {
		if c.take(f, name, wire.Bytes) {
			*p = string(c.readBytes(name))
			c.x.has |= 1 << f
		}
		return
	}
	if *p != "" || c.x.has&(1<<f) != 0 {
		c.tag(f, wire.Bytes)
		c.varint(uint64(len(*p)))
		if c.mode == sizing {
			c.n += len(*p)
		} else {
			c.out = append(c.out, *p...)
		}
	}
}

// strs is a repeated string.
func (c *codec) strs(f int, name string, p *[]string) {
	if c.mode == decoding {
		if c.take(f, name, wire.Bytes) {
			*p = append(*p, string(c.readBytes(name)))
		}
		return
	}
	for _, s := range *p {
		c.tag(f, wire.Bytes)
		c.varint(uint64(len(s)))
		if c.mode == sizing {
			c.n += len(s)
		} else {
			c.out = append(c.out, s...)
		}
	}
}

// bytes is an optional byte string; nil is absent. With force it is written even so.
func (c *codec) bytes(f int, name string, p *[]byte, force bool) {
	if c.mode == decoding {
		if c.take(f, name, wire.Bytes) {
			*p = c.readBytes(name)
		}
		return
	}
	if *p != nil || force {
		c.tag(f, wire.Bytes)
		c.varint(uint64(len(*p)))
		c.raw(*p)
	}
}

// byteses is a repeated byte string, also used for messages that are kept raw.
func (c *codec) byteses(f int, name string, p *[][]byte) {
	if c.mode == decoding {
		if c.take(f, name, wire.Bytes) {
			*p = append(*p, c.readBytes(name))
		}
		return
	}
	for _, b := range *p {
		c.tag(f, wire.Bytes)
		c.varint(uint64(len(b)))
		c.raw(b)
	}
}

// num is an optional int32, int64 or enum. With force it is written even if it is zero and was not read.
func num[T ~int32 | ~int64](c *codec, f int, name string, p *T, force bool) {
	if c.mode == decoding {
		if c.take(f, name, wire.Varint) {
			*p = T(c.readVarint(name))
			c.x.has |= 1 << f
		}
		return
	}
	if *p != 0 || force || c.x.has&(1<<f) != 0 {
		c.tag(f, wire.Varint)
		c.varint(uint64(int64(*p)))
	}
}

// float is an optional 32-bit float.
func (c *codec) float(f int, name string, p *float32, force bool) {
	if c.mode == decoding {
		if c.take(f, name, wire.Fixed32) {
			*p = math.Float32frombits(c.readFixed32(name))
			c.x.has |= 1 << f
		}
		return
	}
	if math.Float32bits(*p) != 0 || force || c.x.has&(1<<f) != 0 {
		c.tag(f, wire.Fixed32)
		c.fixed32(math.Float32bits(*p))
	}
}

// one is an optional message; when it appears more than once the parts are merged.
func one[T any, P interface {
	*T
	message
}](c *codec, f int, name string, p *P) {
	if c.mode != decoding {
		if *p != nil {
			c.nested(f, func() { c.put(*p) })
		}
		return
	}
	if c.take(f, name, wire.Bytes) {
		if *p == nil {
			*p = P(new(T))
		}
		c.inner(name, *p)
	}
}

// many is a repeated message.
func many[T any, P interface {
	*T
	message
}](c *codec, f int, name string, p *[]P) {
	if c.mode != decoding {
		for _, m := range *p {
			c.nested(f, func() { c.put(m) })
		}
		return
	}
	if c.take(f, name, wire.Bytes) {
		m := P(new(T))
		*p = append(*p, m)
		c.inner(name, m)
		if c.err != nil {
			c.err.Path = fmt.Sprintf("%s[%d]%s", name, len(*p)-1, c.err.Path[len(name):])
		}
	}
}

// inner reads a length and a message of that length.
func (c *codec) inner(name string, m message) {
	body := c.readBytes(name)
	if c.err != nil {
		return
	}
	end := c.pos
	c.pos = end - len(body)
	c.message(m, end)
	if c.err == nil {
		return
	}
	if c.err.Path != "" {
		c.err.Path = "." + c.err.Path
	}
	c.err.Path = name + c.err.Path
}
