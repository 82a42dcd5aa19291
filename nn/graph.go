// Package nn holds the executable graph: its intermediate representation, the
// operator table with shape inference and a plain reference for every operator,
// and the compiled Program that runs it fast.
//
// A Graph is canonical: package onnx/convert brings every supported opset to one
// form (for instance Clip bounds, Squeeze axes and Pad widths are inputs, not
// attributes), so the operator table has one row per operator.
package nn

import (
	"fmt"
	"slices"

	"roundel/tensor"
)

// Dim is one dimension of a value: a known extent, or a symbol such as "N" when Size is negative.
type Dim struct {
	Size int    // extent, or -1 when unknown
	Sym  string // name of an unknown extent, "" if it has none
}

// Known returns a dimension of extent n.
func Known(n int) Dim { return Dim{Size: n} }

// IsKnown reports whether the extent is known.
func (d Dim) IsKnown() bool { return d.Size >= 0 }

// String returns the extent, the symbol or "?".
func (d Dim) String() string {
	switch {
	case d.Size >= 0:
		return fmt.Sprint(d.Size)
	case d.Sym != "":
		return d.Sym
	}
	return "?"
}

// Type is the static type of a value. A nil Dims with Ranked false means that the rank is unknown.
type Type struct {
	DType  tensor.DType
	Dims   []Dim
	Ranked bool
}

// Shape returns the shape when every dimension is known.
func (t Type) Shape() (tensor.Shape, bool) {
	if !t.Ranked {
		return nil, false
	}
	s := make(tensor.Shape, len(t.Dims))
	for i, d := range t.Dims {
		if !d.IsKnown() {
			return nil, false
		}
		s[i] = d.Size
	}
	return s, true
}

// String formats t as "float32[N 3 224 224]".
func (t Type) String() string {
	if !t.Ranked {
		return t.DType.String() + "[?]"
	}
	return fmt.Sprintf("%v%v", t.DType, t.Dims)
}

// AttrKind says which field of an Attr is set.
type AttrKind uint8

// The kinds of attribute.
const (
	AttrInt AttrKind = iota + 1
	AttrFloat
	AttrString
	AttrTensor
	AttrGraph
	AttrInts
	AttrFloats
	AttrStrings
)

// Attr is an attribute of a node.
type Attr struct {
	Kind    AttrKind
	I       int64
	F       float32
	S       string
	T       tensor.Any
	G       *Graph
	Ints    []int64
	Floats  []float32
	Strings []string
}

// Node is one operation. An empty input name is an absent optional input, an empty output name an unused output.
type Node struct {
	Name    string // unique in the graph
	Op      string // "Conv"; operators outside the default domain are "domain::Op"
	Inputs  []string
	Outputs []string
	Attrs   map[string]Attr
	// Origin is what the importer made the node from (for ONNX, the index of the
	// NodeProto plus one); zero for nodes that a rewrite made or changed in meaning.
	Origin int
}

// Int returns the integer attribute name, or def when it is absent.
func (n *Node) Int(name string, def int64) int64 {
	if a, ok := n.Attrs[name]; ok && a.Kind == AttrInt {
		return a.I
	}
	return def
}

// Float returns the float attribute name, or def when it is absent.
func (n *Node) Float(name string, def float32) float32 {
	if a, ok := n.Attrs[name]; ok && a.Kind == AttrFloat {
		return a.F
	}
	return def
}

// Str returns the string attribute name, or def when it is absent.
func (n *Node) Str(name, def string) string {
	if a, ok := n.Attrs[name]; ok && a.Kind == AttrString {
		return a.S
	}
	return def
}

// Ints returns the integer list attribute name, or nil when it is absent.
func (n *Node) Ints(name string) []int64 {
	if a, ok := n.Attrs[name]; ok && a.Kind == AttrInts {
		return a.Ints
	}
	return nil
}

// In returns input i, or "" when the node has fewer inputs.
func (n *Node) In(i int) string {
	if i < len(n.Inputs) {
		return n.Inputs[i]
	}
	return ""
}

// Out returns output i, or "" when the node has fewer outputs.
func (n *Node) Out(i int) string {
	if i < len(n.Outputs) {
		return n.Outputs[i]
	}
	return ""
}

// ValueInfo names a graph input or output with its declared type.
type ValueInfo struct {
	Name string
	Type Type
}

// Graph is a list of nodes in execution order over named values.
//
// Constants (initializers and Constant nodes alike) are in Consts. Shared
// tensors are never written to: a rewrite replaces them.
type Graph struct {
	Name    string
	Nodes   []*Node
	Inputs  []ValueInfo // without the names that are in Consts
	Outputs []ValueInfo
	Consts  map[string]tensor.Any
	// Types has the inferred type of every value after Infer or Verify.
	Types map[string]Type
}

// Clone returns a copy whose nodes and maps may be changed freely; tensors are shared.
func (g *Graph) Clone() *Graph {
	c := &Graph{Name: g.Name, Inputs: slices.Clone(g.Inputs), Outputs: slices.Clone(g.Outputs),
		Consts: make(map[string]tensor.Any, len(g.Consts)), Types: make(map[string]Type, len(g.Types))}
	for _, n := range g.Nodes {
		m := *n
		m.Inputs, m.Outputs = slices.Clone(n.Inputs), slices.Clone(n.Outputs)
		m.Attrs = make(map[string]Attr, len(n.Attrs))
		for k, v := range n.Attrs {
			m.Attrs[k] = v
		}
		c.Nodes = append(c.Nodes, &m)
	}
	for k, v := range g.Consts {
		c.Consts[k] = v
	}
	for k, v := range g.Types {
		c.Types[k] = v
	}
	return c
}

// Producer returns the node that makes the value name, or nil for inputs and constants.
func (g *Graph) Producer(name string) *Node {
	for _, n := range g.Nodes {
		if name != "" && slices.Contains(n.Outputs, name) {
			return n
		}
	}
	return nil
}

// Consumers returns the nodes that read the value name, themselves or in their subgraphs, in execution order, each once.
func (g *Graph) Consumers(name string) []*Node {
	var out []*Node
	for _, n := range g.Nodes {
		if name != "" && slices.Contains(reads(n), name) {
			out = append(out, n)
		}
	}
	return out
}

// IsOutput reports whether name is a graph output.
func (g *Graph) IsOutput(name string) bool {
	return slices.ContainsFunc(g.Outputs, func(v ValueInfo) bool { return v.Name == name })
}

// ConstF32 returns the float32 constant name, or nil when name is not one.
func (g *Graph) ConstF32(name string) *tensor.Dense[float32] {
	t, _ := g.Consts[name].(*tensor.Dense[float32])
	return t
}

// NodeError is an error about one node of a model.
type NodeError struct {
	Node, Op string
	Err      error
}

// Error names the node and its operator.
func (e *NodeError) Error() string { return fmt.Sprintf("nn: node %q (%s): %v", e.Node, e.Op, e.Err) }

// Unwrap returns the cause.
func (e *NodeError) Unwrap() error { return e.Err }
