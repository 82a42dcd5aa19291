package onnx

import "iter"

// Tensors returns every tensor of the model: initializers, the parts of sparse
// tensors, and attributes of nodes, in inner graphs and functions too.
func (m *Model) Tensors() iter.Seq[*Tensor] {
	return func(yield func(*Tensor) bool) {
		w := walker{yield: yield}
		w.graph(m.Graph)
		for _, f := range m.Functions {
			w.attributes(f.AttributeProto)
			w.nodes(f.Nodes)
		}
	}
}

// walker calls yield for each tensor until it returns false.
type walker struct {
	yield func(*Tensor) bool
	done  bool
}

func (w *walker) tensors(list ...*Tensor) {
	for _, t := range list {
		if t != nil && !w.done {
			w.done = !w.yield(t)
		}
	}
}

func (w *walker) sparse(list ...*SparseTensor) {
	for _, s := range list {
		if s != nil {
			w.tensors(s.Values, s.Indices)
		}
	}
}

func (w *walker) graph(g *Graph) {
	if g == nil || w.done {
		return
	}
	w.tensors(g.Initializers...)
	w.sparse(g.SparseInitializers...)
	w.nodes(g.Nodes)
}

func (w *walker) nodes(nodes []*Node) {
	for _, n := range nodes {
		w.attributes(n.Attributes)
	}
}

func (w *walker) attributes(list []*Attribute) {
	for _, a := range list {
		w.tensors(a.T)
		w.tensors(a.Tensors...)
		w.sparse(a.SparseTensor)
		w.sparse(a.SparseTensors...)
		w.graph(a.G)
		for _, g := range a.Graphs {
			w.graph(g)
		}
	}
}
