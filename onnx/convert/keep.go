package convert

import (
	"slices"

	"roundel/nn"
	"roundel/onnx"
	"roundel/tensor"
)

// node returns the NodeProto of n. r is what base's node that n came from means, or nil.
func (l *level) node(n, r *nn.Node) *onnx.Node {
	var old *onnx.Node
	if r != nil && n.Origin > 0 && n.Origin <= len(l.base.Nodes) {
		old = l.base.Nodes[n.Origin-1]
		if p := l.patched(n, r, old); p != nil {
			return p
		}
	}
	p, err := l.lower(n, r, old)
	if err != nil {
		l.fail(n, err)
		return &onnx.Node{}
	}
	if old != nil {
		p.DocString, p.Metadata, p.Devices = old.DocString, old.Metadata, old.Devices
	}
	return p
}

// patched returns old with the names of n, if n differs from r, the meaning of old, in names only; else nil.
func (l *level) patched(n, r *nn.Node, old *onnx.Node) *onnx.Node {
	if n.Op != r.Op || !sameAttrs(n.Attrs, r.Attrs) {
		return nil
	}
	inputs, ok := l.patchNames(n.Inputs, r.Inputs, old.Inputs)
	if !ok {
		return nil
	}
	outputs, ok := l.patchNames(n.Outputs, r.Outputs, old.Outputs)
	if !ok || len(n.Outputs) != len(r.Outputs) {
		return nil
	}
	p := *old
	p.Inputs, p.Outputs, p.Attributes = inputs, outputs, slices.Clone(old.Attributes)
	if n.Name != r.Name {
		p.Name = n.Name
	}
	return &p
}

// patchNames changes in old what differs between now and was, the canonical form of old.
// It fails where a name that differs is of the canonical form only.
func (l *level) patchNames(now, was, old []string) ([]string, bool) {
	plain := slices.Equal(was, trim(old))
	out := slices.Clone(old)
	for i := range max(len(now), len(was)) {
		a, b := nameAt(now, i), nameAt(was, i)
		switch {
		case a == b:
			if a != "" && !slices.Contains(old, a) && !l.sameConst(a) {
				return nil, false
			}
		case plain || i < len(old) && old[i] == b:
			for len(out) <= i {
				out = append(out, "")
			}
			out[i] = a
		default:
			return nil, false
		}
	}
	if len(now) < len(was) {
		out = trim(out)
	}
	return out, true
}

func nameAt(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return ""
}

// sameConst reports whether a constant made by an upgrade is still what it was.
func (l *level) sameConst(name string) bool {
	now, was := l.g.Consts[name], l.ref.Consts[name]
	return now != nil && was != nil && equal(now, was)
}

func sameAttrs(a, b map[string]nn.Attr) bool {
	if len(a) != len(b) {
		return false
	}
	for name, x := range a {
		if y, ok := b[name]; !ok || !sameAttr(x, y) {
			return false
		}
	}
	return true
}

func sameAttr(x, y nn.Attr) bool {
	if x.Kind != y.Kind {
		return false
	}
	switch x.Kind {
	case nn.AttrInt:
		return x.I == y.I
	case nn.AttrFloat:
		return equal(tensor.Scalar(x.F), tensor.Scalar(y.F))
	case nn.AttrString:
		return x.S == y.S
	case nn.AttrTensor:
		return equal(x.T, y.T)
	case nn.AttrInts:
		return slices.Equal(x.Ints, y.Ints)
	case nn.AttrFloats:
		return equal(tensor.From(x.Floats, len(x.Floats)), tensor.From(y.Floats, len(y.Floats)))
	case nn.AttrStrings:
		return slices.Equal(x.Strings, y.Strings)
	case nn.AttrGraph:
		return sameGraph(x.G, y.G)
	}
	return false
}

// sameGraph reports whether two inner graphs are the same in everything but inferred types.
func sameGraph(x, y *nn.Graph) bool {
	sameValue := func(a, b nn.ValueInfo) bool { return a.Name == b.Name && sameType(a.Type, b.Type) }
	sameNode := func(a, b *nn.Node) bool {
		return a.Name == b.Name && a.Op == b.Op && a.Origin == b.Origin && slices.Equal(a.Inputs, b.Inputs) &&
			slices.Equal(a.Outputs, b.Outputs) && sameAttrs(a.Attrs, b.Attrs)
	}
	if x.Name != y.Name || len(x.Consts) != len(y.Consts) || !slices.EqualFunc(x.Nodes, y.Nodes, sameNode) ||
		!slices.EqualFunc(x.Inputs, y.Inputs, sameValue) || !slices.EqualFunc(x.Outputs, y.Outputs, sameValue) {
		return false
	}
	for name, v := range x.Consts {
		if w := y.Consts[name]; w == nil || !equal(v, w) {
			return false
		}
	}
	return true
}
