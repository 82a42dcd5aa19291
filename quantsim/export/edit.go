package export

import (
	"fmt"
	"slices"

	"roundel/onnx"
)

// editor changes the values of a model's main graph. Nodes are copied before they are changed, so models may share them.
type editor struct {
	m     *onnx.Model
	taken map[string]bool // names of values and nodes
	// after holds new nodes by the index of the node they stand behind; -1 is the beginning.
	after map[int][]*onnx.Node
}

func newEditor(m *onnx.Model) *editor {
	g := *m.Graph
	g.Nodes, g.Initializers = slices.Clone(g.Nodes), slices.Clone(g.Initializers)
	c := *m
	c.Graph = &g
	e := &editor{m: &c, taken: map[string]bool{}, after: map[int][]*onnx.Node{}}
	for i, n := range g.Nodes {
		g.Nodes[i] = copyNode(n)
	}
	e.note(&g)
	return e
}

// note collects the names in use, in inner graphs too.
func (e *editor) note(g *onnx.Graph) {
	for _, v := range slices.Concat(g.Inputs, g.Outputs) {
		e.taken[v.Name] = true
	}
	for _, t := range g.Initializers {
		e.taken[t.Name] = true
	}
	for _, n := range g.Nodes {
		e.taken[n.Name] = true
		for _, o := range n.Outputs {
			e.taken[o] = true
		}
		for _, a := range n.Attributes {
			for _, inner := range append(slices.Clone(a.Graphs), a.G) {
				if inner != nil {
					e.note(inner)
				}
			}
		}
	}
}

func copyNode(n *onnx.Node) *onnx.Node {
	c := *n
	c.Inputs, c.Outputs = slices.Clone(n.Inputs), slices.Clone(n.Outputs)
	return &c
}

// fresh returns name, or name with a number if it is taken, and takes it.
func (e *editor) fresh(name string) string {
	out := name
	for i := 1; e.taken[out]; i++ {
		out = fmt.Sprintf("%s_%d", name, i)
	}
	e.taken[out] = true
	return out
}

// producer returns the index of the node that makes a value, or -1.
func (e *editor) producer(name string) int {
	return slices.IndexFunc(e.m.Graph.Nodes, func(n *onnx.Node) bool { return slices.Contains(n.Outputs, name) })
}

func (e *editor) isOutput(name string) bool {
	return slices.ContainsFunc(e.m.Graph.Outputs, func(v *onnx.ValueInfo) bool { return v.Name == name })
}

// rewire lets every reader of old, in inner graphs too, read name instead. Graph outputs are not readers.
func (e *editor) rewire(old, name string) {
	for _, n := range e.m.Graph.Nodes {
		rewireNode(n, old, name)
	}
	for _, list := range e.after {
		for _, n := range list {
			rewireNode(n, old, name)
		}
	}
}

func rewireNode(n *onnx.Node, old, name string) {
	for i, in := range n.Inputs {
		if in == old {
			n.Inputs[i] = name
		}
	}
	for i, a := range n.Attributes {
		if a.G == nil {
			continue
		}
		if g := rewireGraph(a.G, old, name); g != a.G {
			c := *a
			c.G = g
			n.Attributes = slices.Clone(n.Attributes)
			n.Attributes[i] = &c
		}
	}
}

// rewireGraph returns g if it does not read old from around it, else a copy that reads name.
func rewireGraph(g *onnx.Graph, old, name string) *onnx.Graph {
	for _, v := range g.Inputs {
		if v.Name == old {
			return g
		}
	}
	if g.FindInitializer(old) != nil || slices.ContainsFunc(g.Nodes, func(n *onnx.Node) bool { return slices.Contains(n.Outputs, old) }) {
		return g
	}
	c := *g
	c.Nodes = slices.Clone(g.Nodes)
	for i, n := range c.Nodes {
		c.Nodes[i] = copyNode(n)
		rewireNode(c.Nodes[i], old, name)
	}
	c.Outputs = slices.Clone(g.Outputs)
	for i, v := range c.Outputs {
		if v.Name == old {
			w := *v
			w.Name = name
			c.Outputs[i] = &w
		}
	}
	return &c
}

// insert puts nodes behind node i, or at the beginning for -1.
func (e *editor) insert(i int, nodes ...*onnx.Node) { e.after[i] = append(e.after[i], nodes...) }

// constant adds an initializer.
func (e *editor) constant(t *onnx.Tensor) {
	e.m.Graph.Initializers = append(e.m.Graph.Initializers, t)
	if e.m.IRVersion < 4 {
		e.m.Graph.Inputs = append(slices.Clone(e.m.Graph.Inputs), &onnx.ValueInfo{Name: t.Name, Type: onnx.NewTensorType(t.DataType, t.Dims...)})
	}
}

// drop removes a constant: an initializer, which may be an input too, or a Constant node.
func (e *editor) drop(name string) {
	g := e.m.Graph
	g.Initializers = slices.DeleteFunc(g.Initializers, func(t *onnx.Tensor) bool { return t.Name == name })
	g.Inputs = slices.DeleteFunc(slices.Clone(g.Inputs), func(v *onnx.ValueInfo) bool { return v.Name == name })
	g.ValueInfo = slices.DeleteFunc(slices.Clone(g.ValueInfo), func(v *onnx.ValueInfo) bool { return v.Name == name })
	if i := e.producer(name); i >= 0 {
		g.Nodes[i] = &onnx.Node{} // finish drops it
	}
}

// finish puts the new nodes in their places.
func (e *editor) finish() *onnx.Model {
	g := e.m.Graph
	nodes := slices.Clone(e.after[-1])
	for i, n := range g.Nodes {
		if n.OpType != "" {
			nodes = append(nodes, n)
		}
		nodes = append(nodes, e.after[i]...)
	}
	g.Nodes = nodes
	return e.m
}
