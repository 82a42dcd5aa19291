package prepare

import (
	"fmt"
	"slices"

	"roundel/nn"
	"roundel/tensor"
)

// editor changes a graph of its own and keeps the tables of who makes and who reads each value.
type editor struct {
	g        *nn.Graph
	producer map[string]*nn.Node
	readers  map[string][]use
	// pinned values must keep their name: graph outputs, and values that the
	// subgraph of a node reads from outside.
	pinned map[string]bool
	report *Report
}

// use is one input slot of a node.
type use struct {
	node *nn.Node
	slot int
}

// edit returns an editor of g, which it will change, that adds to report.
func edit(g *nn.Graph, report *Report) *editor {
	e := &editor{g: g, producer: map[string]*nn.Node{}, readers: map[string][]use{}, pinned: map[string]bool{}, report: report}
	for _, o := range g.Outputs {
		e.pinned[o.Name] = true
	}
	for _, n := range g.Nodes {
		for _, o := range n.Outputs {
			e.producer[o] = n
		}
		for i, in := range n.Inputs {
			if in != "" {
				e.readers[in] = append(e.readers[in], use{n, i})
			}
		}
		e.pinCaptured(n)
	}
	return e
}

// pinCaptured pins every name that a subgraph of n mentions; most are its own, which does no harm.
func (e *editor) pinCaptured(n *nn.Node) {
	for _, a := range n.Attrs {
		if a.G == nil {
			continue
		}
		for _, o := range a.G.Outputs {
			e.pinned[o.Name] = true
		}
		for _, m := range a.G.Nodes {
			for _, in := range m.Inputs {
				e.pinned[in] = true
			}
			e.pinCaptured(m)
		}
	}
}

// soleUse returns the only input that reads name; its node is nil when there is another
// reader or the value must stay visible.
func (e *editor) soleUse(name string) use {
	if r := e.readers[name]; len(r) == 1 && !e.pinned[name] {
		return r[0]
	}
	return use{}
}

// soleReader returns the node that alone reads name, once, through its first input, or nil.
func (e *editor) soleReader(name string) *nn.Node {
	if u := e.soleUse(name); u.slot == 0 {
		return u.node
	}
	return nil
}

// shared reports whether the constant name has another reader than one input of one node.
func (e *editor) shared(name string) bool { return len(e.readers[name]) > 1 || e.pinned[name] }

// setInput makes input slot of n read name, extending the inputs when they are too few.
// A constant that nobody reads any more goes.
func (e *editor) setInput(n *nn.Node, slot int, name string) {
	for len(n.Inputs) <= slot {
		n.Inputs = append(n.Inputs, "")
	}
	old := n.Inputs[slot]
	if old == name {
		return
	}
	n.Inputs[slot] = name
	e.readers[name] = append(e.readers[name], use{n, slot})
	e.unread(old, use{n, slot})
}

func (e *editor) unread(name string, u use) {
	if name == "" {
		return
	}
	e.readers[name] = slices.DeleteFunc(e.readers[name], func(v use) bool { return v == u })
	if len(e.readers[name]) == 0 && !e.pinned[name] {
		delete(e.g.Consts, name)
	}
}

// remove deletes the node n; its outputs must have no readers left.
func (e *editor) remove(n *nn.Node) {
	e.g.Nodes = slices.DeleteFunc(e.g.Nodes, func(m *nn.Node) bool { return m == n })
	for i, in := range n.Inputs {
		e.unread(in, use{n, i})
	}
	for _, o := range n.Outputs {
		if e.producer[o] == n {
			delete(e.producer, o)
			delete(e.g.Types, o)
		}
	}
}

// bypass removes n, whose first output becomes the value from. When that output must keep its
// name, the producer of from takes the name over; bypass reports false, and does nothing,
// when there is no producer or from must keep its name too.
func (e *editor) bypass(n *nn.Node, from string) bool {
	out := n.Outputs[0]
	if !e.pinned[out] {
		e.redirect(out, from)
		e.remove(n)
		return true
	}
	p := e.producer[from]
	if p == nil || e.pinned[from] {
		return false
	}
	typ, typed := e.g.Types[out]
	e.redirect(from, out)
	e.remove(n)
	p.Outputs[slices.Index(p.Outputs, from)] = out
	delete(e.producer, from)
	delete(e.g.Types, from)
	e.producer[out] = p
	if typed {
		e.g.Types[out] = typ
	}
	return true
}

// redirect makes every reader of from read to.
func (e *editor) redirect(from, to string) {
	for _, u := range slices.Clone(e.readers[from]) {
		e.setInput(u.node, u.slot, to)
	}
}

// setConst gives input slot of n the constant t. A constant that only this input reads is replaced under
// its own name; otherwise the new one is called base, or base_1, base_2 and so on when that name is taken.
func (e *editor) setConst(n *nn.Node, slot int, t tensor.Any, base string) {
	name := n.In(slot)
	if name == "" || e.g.Consts[name] == nil || e.shared(name) {
		name = e.fresh(base)
	}
	e.g.Consts[name] = t
	e.g.Types[name] = typeOf(t)
	e.setInput(n, slot, name)
}

// fresh returns base or, when a value of that name exists, base with a number.
func (e *editor) fresh(base string) string {
	name := base
	for i := 1; e.taken(name); i++ {
		name = fmt.Sprintf("%s_%d", base, i)
	}
	return name
}

func (e *editor) taken(name string) bool {
	return e.g.Consts[name] != nil || e.producer[name] != nil || e.pinned[name] || len(e.readers[name]) > 0 ||
		slices.ContainsFunc(e.g.Inputs, func(v nn.ValueInfo) bool { return v.Name == name })
}

// rank returns the number of dimensions of the value name, or -1 when it is not known.
func (e *editor) rank(name string) int {
	if dims := e.dims(name); dims != nil {
		return len(dims)
	}
	return -1
}

// dims returns the dimensions of the value name, nil when its rank is not known.
func (e *editor) dims(name string) []nn.Dim {
	if c := e.g.Consts[name]; c != nil {
		return typeOf(c).Dims
	}
	if t, ok := e.g.Types[name]; ok {
		if !t.Ranked {
			return nil
		}
		return append([]nn.Dim{}, t.Dims...)
	}
	for _, v := range e.g.Inputs {
		if v.Name == name && v.Type.Ranked {
			return append([]nn.Dim{}, v.Type.Dims...)
		}
	}
	return nil
}

func typeOf(t tensor.Any) nn.Type {
	dims := []nn.Dim{}
	for _, d := range t.Shape() {
		dims = append(dims, nn.Known(d))
	}
	return nn.Type{DType: t.DType(), Dims: dims, Ranked: true}
}
