package convert

import (
	"cmp"
	"fmt"
	"maps"

	"roundel/nn"
	"roundel/onnx"
)

// maxInlined bounds the nodes that calls of functions unfold to; nested calls multiply.
const maxInlined = 1 << 16

// funcID is what a call names a function by.
type funcID struct{ domain, name, overload string }

func idOf(domain, name, overload string) funcID {
	if domain == "ai.onnx" {
		domain = ""
	}
	return funcID{domain, name, overload}
}

// protoNode is a node of the model, or of a function's body with its names made unique.
type protoNode struct {
	*onnx.Node
	origin int   // index in its graph plus one; 0 inside a function
	opset  int64 // of ONNX's own domain, for this node
}

// opsetOf returns the version of p's operator in ONNX's own domain, or false when
// it is of another domain. The quantization operators that ONNX Runtime's domain
// had first are the ones of opset 21 and later, in everything but name.
func opsetOf(p protoNode) (v int64, ok bool) {
	switch p.Domain {
	case "", "ai.onnx":
		return p.opset, true
	case "com.microsoft":
		switch p.OpType {
		case "QuantizeLinear", "DequantizeLinear", "Gelu":
			return MaxOpset, true
		}
	}
	return 0, false
}

// expand returns the nodes of a graph with the calls of functions replaced by their bodies.
func (s *scope) expand(nodes []*onnx.Node, v int64) []protoNode {
	var out []protoNode
	for i, n := range nodes {
		p := protoNode{n, i + 1, v}
		if f := s.funcs[idOf(n.Domain, n.OpType, n.Overload)]; f != nil {
			if err := s.inline(p, f, nil, &out); err != nil {
				s.fail(&nn.NodeError{Node: n.Name, Op: n.OpType, Err: err})
			}
			continue
		}
		out = append(out, p)
	}
	return out
}

// inline appends the body of f as called by p. stack has the functions around the call.
func (s *scope) inline(p protoNode, f *onnx.Function, stack []*onnx.Function, out *[]protoNode) error {
	for _, g := range stack {
		if g == f {
			return fmt.Errorf("function %q calls itself", f.Name)
		}
	}
	if len(p.Inputs) > len(f.Inputs) || len(p.Outputs) > len(f.Outputs) {
		return fmt.Errorf("function %q has %d inputs and %d outputs, the call %d and %d",
			f.Name, len(f.Inputs), len(f.Outputs), len(p.Inputs), len(p.Outputs))
	}
	v := f.Opset("")
	if v == 0 {
		v = p.opset
	}
	if v < MinOpset || v > MaxOpset {
		return onnx.Unsupportedf("opset %d of function %q", v, f.Name)
	}
	prefix := p.Name
	if prefix == "" {
		prefix = s.nodes.fresh("/" + p.OpType)
	}
	r := &renamer{prefix: prefix + "/", values: s.values, nodes: s.nodes, count: &s.inlined, names: map[string]string{},
		attrs: map[string]*onnx.Attribute{}}
	s.bindAttrs(r, p, f)
	for i, name := range f.Inputs {
		r.names[name] = ""
		if i < len(p.Inputs) {
			r.names[name] = p.Inputs[i]
		}
	}
	for i, name := range f.Outputs {
		if i >= len(p.Outputs) || p.Outputs[i] == "" {
			continue
		}
		if from, ok := r.names[name]; ok { // an output that is an input, or given out twice
			*out = append(*out, protoNode{&onnx.Node{Name: r.prefix + name, OpType: "Identity", Inputs: []string{from},
				Outputs: []string{p.Outputs[i]}}, 0, v})
			continue
		}
		r.names[name] = p.Outputs[i]
	}
	for _, n := range f.Nodes {
		q := protoNode{r.node(n), 0, v}
		if s.inlined > maxInlined {
			return onnx.Unsupportedf("functions that unfold to more than %d nodes", maxInlined)
		}
		s.markUsed(q.Node)
		if g := s.funcs[idOf(n.Domain, n.OpType, n.Overload)]; g != nil {
			if err := s.inline(q, g, append(stack, f), out); err != nil {
				return err
			}
			continue
		}
		*out = append(*out, q)
	}
	return nil
}

// bindAttrs notes the values of f's attributes: those of the call, else the defaults.
func (s *scope) bindAttrs(r *renamer, p protoNode, f *onnx.Function) {
	for _, a := range f.AttributeProto {
		r.attrs[a.Name] = a
	}
	for _, a := range p.Attributes {
		r.attrs[a.Name] = a
	}
}

// markUsed notes what n and its inner graphs read, and the names that they define.
func (im *importer) markUsed(n *onnx.Node) {
	im.scan(&onnx.Graph{Nodes: []*onnx.Node{n}})
}

// renamer copies the body of a function for one call.
type renamer struct {
	prefix string
	values namer
	nodes  namer
	count  *int              // of nodes made
	names  map[string]string // of the body to the caller's
	attrs  map[string]*onnx.Attribute
}

func (r *renamer) value(name string) string {
	if name == "" {
		return ""
	}
	if to, ok := r.names[name]; ok {
		return to
	}
	to := r.values.fresh(r.prefix + name)
	r.names[name] = to
	return to
}

func (r *renamer) node(n *onnx.Node) *onnx.Node {
	*r.count++
	c := &onnx.Node{OpType: n.OpType, Domain: n.Domain, Overload: n.Overload}
	c.Name = r.nodes.fresh(r.prefix + cmp.Or(n.Name, n.OpType))
	for _, in := range n.Inputs {
		c.Inputs = append(c.Inputs, r.value(in))
	}
	for _, out := range n.Outputs {
		c.Outputs = append(c.Outputs, r.value(out))
	}
	for _, a := range n.Attributes {
		if a = r.attr(a); a != nil {
			c.Attributes = append(c.Attributes, a)
		}
	}
	return c
}

// attr returns a with references resolved, or nil when it refers to an attribute that was not given.
func (r *renamer) attr(a *onnx.Attribute) *onnx.Attribute {
	if a.RefAttrName != "" {
		v := r.attrs[a.RefAttrName]
		if v == nil {
			return nil
		}
		c := *v
		c.Name = a.Name
		return &c
	}
	if a.G == nil {
		return a
	}
	c := *a
	c.G = r.graph(a.G)
	return &c
}

// graph copies an inner graph. Its own names are renamed too, so that two calls do not define the same value.
func (r *renamer) graph(g *onnx.Graph) *onnx.Graph {
	inner := &renamer{prefix: r.prefix, values: r.values, nodes: r.nodes, count: r.count, names: maps.Clone(r.names), attrs: r.attrs}
	c := &onnx.Graph{Name: g.Name}
	for _, vi := range g.Inputs {
		c.Inputs = append(c.Inputs, inner.info(vi))
	}
	for _, t := range g.Initializers {
		u := *t
		u.Name = inner.value(t.Name)
		c.Initializers = append(c.Initializers, &u)
	}
	for _, n := range g.Nodes {
		c.Nodes = append(c.Nodes, inner.node(n))
	}
	for _, vi := range g.Outputs {
		c.Outputs = append(c.Outputs, inner.info(vi))
	}
	return c
}

func (r *renamer) info(vi *onnx.ValueInfo) *onnx.ValueInfo {
	c := *vi
	c.Name = r.value(vi.Name)
	return &c
}
