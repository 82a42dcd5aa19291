package convert

import (
	"errors"
	"fmt"
	"slices"

	"roundel/nn"
	"roundel/onnx"
	"roundel/tensor"
)

// ToModel returns base with its graph replaced by g, in base's operator sets: it
// is how a rewritten graph is written. Nodes that came from base and mean what they
// meant keep their NodeProto, with inputs and outputs renamed where they were;
// other nodes are new. Constants that differ from base's replace them, those that
// nothing reads any more are dropped, and new ones become initializers; what base
// itself did not use stays. Metadata and fields that this package does not know stay.
//
// base is not changed; the result shares tensors with it. Anything that base's
// operator sets cannot express is an *onnx.UnsupportedError that names the node.
func ToModel(g *nn.Graph, base *onnx.Model) (*onnx.Model, error) {
	ref, err := ToGraph(base)
	if err != nil {
		return nil, err
	}
	e := &exporter{opset: base.Opset(""), oldIR: base.IRVersion < 4}
	out := *base
	out.OpsetImport, out.Metadata = slices.Clone(base.OpsetImport), slices.Clone(base.Metadata)
	out.Graph = e.graph(g, base.Graph, ref, nil)
	if len(e.errs) > 0 {
		return nil, fmt.Errorf("convert: %w", errors.Join(e.errs...))
	}
	return &out, nil
}

type exporter struct {
	opset int64
	oldIR bool // initializers must be inputs too
	errs  []error
}

// level is one graph while it is written. base and ref may be empty, never nil.
type level struct {
	*exporter
	outer *level
	g     *nn.Graph
	base  *onnx.Graph
	ref   *nn.Graph // what base means

	nodes  []*onnx.Node             // one for each node of g
	inits  []*onnx.Tensor           // made by lowering
	packed map[string]onnx.DataType // new constants that are of 4 bits
	needed map[string]bool          // values that are read
	order  []string                 // the same, in order of first use
	made   map[string]bool          // values that nodes make, and inputs
}

// graph writes g over base, of which ref is the meaning.
func (e *exporter) graph(g *nn.Graph, base *onnx.Graph, ref *nn.Graph, outer *level) *onnx.Graph {
	if base == nil || ref == nil {
		base, ref = &onnx.Graph{}, &nn.Graph{}
	}
	l := &level{exporter: e, outer: outer, g: g, base: base, ref: ref, packed: map[string]onnx.DataType{},
		needed: map[string]bool{}, made: map[string]bool{}}
	origins := map[int]*nn.Node{}
	for _, n := range ref.Nodes {
		origins[n.Origin] = n
	}
	for _, v := range g.Inputs {
		l.made[v.Name] = true
	}
	for _, n := range g.Nodes {
		p := l.node(n, origins[n.Origin])
		l.nodes = append(l.nodes, p)
		for _, o := range p.Outputs {
			l.made[o] = true
		}
		for _, in := range reads(p) {
			l.need(in)
		}
	}
	for _, v := range g.Outputs {
		l.need(v.Name)
	}
	for _, n := range g.Nodes { // what is dequantized has the type of the zero point
		if t := l.packed[n.In(2)]; t != 0 && n.Op == "DequantizeLinear" {
			l.packed[n.In(0)] = t
		}
	}
	out := *base
	out.Name = g.Name
	l.checkNeeded()
	out.Nodes = l.placeConstants()
	l.initializers(&out)
	l.values(&out)
	return &out
}

func (l *level) need(name string) {
	if name != "" && !l.needed[name] {
		l.needed[name] = true
		l.order = append(l.order, name)
	}
}

func (l *level) fail(n *nn.Node, err error) {
	l.errs = append(l.errs, &nn.NodeError{Node: n.Name, Op: n.Op, Err: err})
}

// constant returns a constant of this graph or of one around it, or nil.
func (l *level) constant(name string) tensor.Any {
	for ; l != nil && name != ""; l = l.outer {
		if v := l.g.Consts[name]; v != nil {
			return v
		}
	}
	return nil
}

// defined reports whether an enclosing graph has a value of that name.
func (l *level) defined(name string) bool {
	for ; l != nil; l = l.outer {
		if l.made[name] || l.g.Consts[name] != nil || l.g.Producer(name) != nil {
			return true
		}
	}
	return false
}

// checkNeeded fails for values that are read and that nothing makes.
func (l *level) checkNeeded() {
	for _, name := range l.order {
		if !l.made[name] && l.g.Consts[name] == nil && !l.defined(name) && !l.isInit(name) {
			l.errs = append(l.errs, fmt.Errorf("value %q is read and nothing makes it", name))
		}
	}
}

func (l *level) isInit(name string) bool {
	return slices.ContainsFunc(l.inits, func(t *onnx.Tensor) bool { return t.Name == name })
}

// reads returns what p reads: its inputs, and what its inner graphs take from around them.
func reads(p *onnx.Node) []string {
	out := slices.Clone(p.Inputs)
	for _, a := range p.Attributes {
		if a.G == nil {
			continue
		}
		own := map[string]bool{}
		for _, t := range a.G.Initializers {
			own[t.Name] = true
		}
		for _, t := range a.G.SparseInitializers {
			if t.Values != nil {
				own[t.Values.Name] = true
			}
		}
		for _, v := range a.G.Inputs {
			own[v.Name] = true
		}
		var inner []string
		for _, n := range a.G.Nodes {
			for _, o := range n.Outputs {
				own[o] = true
			}
			inner = append(inner, reads(n)...)
		}
		for _, v := range a.G.Outputs {
			inner = append(inner, v.Name)
		}
		for _, name := range inner {
			if name != "" && !own[name] {
				out = append(out, name)
			}
		}
	}
	return out
}

// placeConstants returns the nodes with base's Constant nodes put back where they
// were, or earlier where a moved node reads them.
func (l *level) placeConstants() []*onnx.Node {
	byName := map[string]int{}
	for i, n := range l.base.Nodes {
		if isConstant(n) && len(n.Outputs) == 1 {
			byName[n.Outputs[0]] = i
		}
	}
	var out []*onnx.Node
	placed := map[int]bool{}
	place := func(i int) {
		if placed[i] {
			return
		}
		placed[i] = true
		if n := l.constantNode(l.base.Nodes[i]); n != nil {
			out = append(out, n)
		}
	}
	next := 0
	upTo := func(end int) {
		for ; next < min(end, len(l.base.Nodes)); next++ {
			if n := l.base.Nodes[next]; isConstant(n) && len(n.Outputs) == 1 {
				place(next)
			}
		}
	}
	for i, p := range l.nodes {
		upTo(l.g.Nodes[i].Origin - 1)
		for _, in := range reads(p) {
			if j, ok := byName[in]; ok {
				place(j)
			}
		}
		out = append(out, p)
	}
	upTo(len(l.base.Nodes))
	return out
}

// constantNode returns a Constant node with its present value, or nil when it is to go.
func (l *level) constantNode(n *onnx.Node) *onnx.Node {
	name := n.Outputs[0]
	was := l.ref.Consts[name]
	if l.made[name] || was != nil && !l.needed[name] {
		return nil
	}
	now := l.g.Consts[name]
	if now == nil || was != nil && equal(was, now) {
		return n
	}
	old := n.Attribute("value")
	if old == nil || old.T == nil {
		old = &onnx.Attribute{T: &onnx.Tensor{}}
	}
	c := *n
	c.Attributes = []*onnx.Attribute{onnx.TensorAttr("value", l.replaced(old.T, now))}
	c.Attributes[0].T.Name = old.T.Name
	return &c
}

// replaced returns t with other elements, still packed to 4 bits if it was and they fit the type.
func (l *level) replaced(t *onnx.Tensor, v tensor.Any) *onnx.Tensor {
	out := FromTensor(t.Name, v)
	if t.DataType == onnx.Int4 && v.DType() == tensor.Int8 || t.DataType == onnx.Uint4 && v.DType() == tensor.Uint8 {
		packed, err := PackTensor(t.Name, v, t.DataType)
		if err != nil {
			l.errs = append(l.errs, err)
			return out
		}
		out = packed
	}
	out.DocString, out.Metadata = t.DocString, t.Metadata
	return out
}
