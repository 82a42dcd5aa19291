// Package jsontree reads JSON files whose every field matters. A document becomes a
// tree of nodes that know their path; accessors collect what is wrong, so that a
// reader reports all problems of a file at once and each names its place.
package jsontree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxDepth bounds nesting; real files have less than ten levels.
const maxDepth = 64

// maxErrors is how many problems are reported; a file of another kind would give thousands.
const maxErrors = 20

// Doc is a parsed document and the problems found so far.
type Doc struct {
	Root   *Node
	source string
	errs   []error
}

// Node is one value of a document. The zero kind is an absent value: accessors of it return zeros and report nothing.
type Node struct {
	doc    *Doc
	path   string
	kind   kind
	keys   []string
	fields map[string]*Node
	list   []*Node
	text   string // of a string or a number
	truth  bool
}

type kind uint8

const (
	absent kind = iota
	object
	array
	str
	number
	boolean
	null
)

var kindNames = [...]string{"nothing", "an object", "a list", "a string", "a number", "a boolean", "null"}

// Parse reads one JSON value; source names it in errors. Duplicate keys and trailing data are errors.
func Parse(source string, data []byte) (*Doc, error) {
	d := &Doc{source: source}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	root, err := d.value(dec, "", 0)
	if err == nil {
		if _, extra := dec.Token(); extra != io.EOF {
			err = errors.New("more data after the document")
		}
	}
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the file ends too early")
		}
		line, col := position(data, dec.InputOffset())
		return nil, fmt.Errorf("%s: line %d, column %d: %w", source, line, col, err)
	}
	d.Root = root
	return d, nil
}

func position(data []byte, off int64) (line, col int) {
	head := data[:min(int(off), len(data))]
	return 1 + bytes.Count(head, []byte{'\n'}), len(head) - bytes.LastIndexByte(head, '\n')
}

func (d *Doc) value(dec *json.Decoder, path string, depth int) (*Node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nesting deeper than %d", maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	n := &Node{doc: d, path: path}
	switch v := tok.(type) {
	case string:
		n.kind, n.text = str, v
	case json.Number:
		n.kind, n.text = number, v.String()
	case bool:
		n.kind, n.truth = boolean, v
	case nil:
		n.kind = null
	case json.Delim:
		if v == '[' {
			return n, n.readList(dec, depth)
		}
		return n, n.readObject(dec, depth)
	}
	return n, nil
}

func (n *Node) readList(dec *json.Decoder, depth int) error {
	n.kind = array
	for dec.More() {
		c, err := n.doc.value(dec, fmt.Sprintf("%s[%d]", n.path, len(n.list)), depth+1)
		if err != nil {
			return err
		}
		n.list = append(n.list, c)
	}
	_, err := dec.Token()
	return err
}

func (n *Node) readObject(dec *json.Decoder, depth int) error {
	n.kind, n.fields = object, map[string]*Node{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		key, ok := tok.(string)
		if !ok {
			return fmt.Errorf("%v where a key is expected", tok)
		}
		if n.fields[key] != nil {
			return fmt.Errorf("%s appears twice", n.child(key))
		}
		c, err := n.doc.value(dec, n.child(key), depth+1)
		if err != nil {
			return err
		}
		n.keys, n.fields[key] = append(n.keys, key), c
	}
	_, err := dec.Token()
	return err
}

// child returns the path of a field: a.b, or a["b.c"] when the key is not a plain word.
func (n *Node) child(key string) string {
	plain := key != "" && strings.IndexFunc(key, func(r rune) bool {
		return !(r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}) < 0
	switch {
	case !plain:
		return n.path + "[" + strconv.Quote(key) + "]"
	case n.path == "":
		return key
	}
	return n.path + "." + key
}

// Err returns all problems, or nil.
func (d *Doc) Err() error { return errors.Join(d.errs...) }

// Errorf records a problem at n.
func (n *Node) Errorf(format string, args ...any) {
	d := n.doc
	if d == nil || len(d.errs) > maxErrors {
		return
	}
	if len(d.errs) == maxErrors {
		d.errs = append(d.errs, fmt.Errorf("%s: and more", d.source))
		return
	}
	path := n.path
	if path == "" {
		path = "the document"
	}
	d.errs = append(d.errs, fmt.Errorf("%s: %s: %w", d.source, path, fmt.Errorf(format, args...)))
}

// Path returns the place of n in the document.
func (n *Node) Path() string { return n.path }

// Present reports whether there is a value.
func (n *Node) Present() bool { return n.kind != absent }

// IsObject reports whether n is an object.
func (n *Node) IsObject() bool { return n.kind == object }

// IsList reports whether n is a list.
func (n *Node) IsList() bool { return n.kind == array }

// want records a problem unless n has the kind k; false means that there is nothing to read.
func (n *Node) want(k kind) bool {
	if n.kind != k && n.kind != absent {
		n.Errorf("%s where %s is expected", kindNames[n.kind], kindNames[k])
	}
	return n.kind == k
}

// Keys returns the keys of an object in file order.
func (n *Node) Keys() []string {
	n.want(object)
	return n.keys
}

// Only records a problem for each key of an object that is not listed.
func (n *Node) Only(keys ...string) {
	if !n.want(object) {
		return
	}
	for _, k := range n.keys {
		if !slices.Contains(keys, k) {
			n.fields[k].Errorf("unknown key; known here are %s", strings.Join(keys, ", "))
		}
	}
}

// Get returns a field that must be there.
func (n *Node) Get(key string) *Node {
	c := n.Opt(key)
	if c.kind == absent && n.kind == object {
		n.Errorf("%q is missing", key)
	}
	return c
}

// Opt returns a field that may be absent.
func (n *Node) Opt(key string) *Node {
	if n.want(object) {
		if c := n.fields[key]; c != nil {
			return c
		}
	}
	return &Node{path: n.path}
}

// List returns the elements of a list.
func (n *Node) List() []*Node {
	n.want(array)
	return n.list
}

// Str returns a string.
func (n *Node) Str() string {
	n.want(str)
	return n.text
}

// Enum returns a string that must be one of values.
func (n *Node) Enum(values ...string) string {
	if n.want(str) && !slices.Contains(values, n.text) {
		n.Errorf("%q is not one of %s", n.text, strings.Join(values, ", "))
	}
	return n.text
}

// Bool returns a boolean.
func (n *Node) Bool() bool {
	n.want(boolean)
	return n.truth
}

// Float returns a finite number.
func (n *Node) Float() float64 {
	if !n.want(number) {
		return 0
	}
	v, err := strconv.ParseFloat(n.text, 64)
	if err != nil || math.IsInf(v, 0) {
		n.Errorf("%s is not a number of 64 bits", n.text)
		return 0
	}
	return v
}

// Int returns a whole number in [lo, hi]; a float without fraction counts.
func (n *Node) Int(lo, hi int64) int64 {
	v := n.Float()
	if n.kind != number {
		return 0
	}
	if v != math.Trunc(v) || v < float64(lo) || v > float64(hi) {
		n.Errorf("%s is not a whole number from %d to %d", n.text, lo, hi)
		return 0
	}
	return int64(v)
}

// Floats returns a list of finite numbers.
func (n *Node) Floats() []float64 {
	var out []float64
	for _, c := range n.List() {
		out = append(out, c.Float())
	}
	return out
}

// IsBool reports whether n is a boolean.
func (n *Node) IsBool() bool { return n.kind == boolean }
