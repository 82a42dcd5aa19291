// Package convert turns an onnx.Model into the canonical nn.Graph and back.
//
// It knows the operator sets 7 to 28: whatever a model uses is brought to the
// newest form of each operator (bounds, axes, pads and sizes are inputs), so that
// package nn has one row per operator; ToModel goes back to the model's own set.
//
// The forms that nn sees, where they differ from ONNX opset 28:
//   - Constant nodes and initializers are both in Graph.Consts; no Constant node is left.
//   - Upsample is Resize with asymmetric coordinates; Scatter is ScatterElements.
//   - Dropout has its first input only; its mask output is kept only where it is used.
//   - Softmax, LogSoftmax and Hardmax from before opset 13 that flatten their input
//     to a matrix have the attribute coerce2d=1, and axis is where the columns begin.
//   - QuantizeLinear whose zero point was int4 or uint4 has output_dtype set: the
//     constants of 4 bits are int8 and uint8 tensors.
//   - Resize inputs that are empty constants are absent.
//   - Trailing absent inputs and outputs are cut off; functions are inlined.
package convert

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"roundel/nn"
	"roundel/onnx"
	"roundel/tensor"
)

// The operator sets of ONNX's own domain that are understood.
const (
	MinOpset = 7
	MaxOpset = 28
)

// importer is the state of one ToGraph.
type importer struct {
	model   *onnx.Model
	funcs   map[funcID]*onnx.Function
	values  namer               // every value name of the model
	nodes   namer               // every node name
	seen    map[string]bool     // node names that a converted node has
	used    map[string]bool     // values that something reads
	foreign map[string][]string // operators of other domains, with their nodes
	inlined int                 // nodes made by calls of functions
	dense   int                 // elements that tensors were unfolded to, see maxDense
	decoded map[*onnx.Tensor]tensor.Any
	errs    []error
}

// scope is one graph of the model: the outermost or the body of a node.
type scope struct {
	*importer
	outer *scope
	g     *nn.Graph
	types map[string]*onnx.Type // declared
	defs  map[string]bool       // values defined here
	todo  map[string]*onnx.Tensor
	spars map[string]*onnx.SparseTensor
	flat  map[string]bool // values that are matrices by what made them
}

// ToGraph returns the graph of m in canonical form. It needs the data of every
// tensor that is used, so external data must have been loaded. All problems are
// reported at once; what is not supported is an *onnx.UnsupportedError. Shapes and
// operators are checked later, by nn.Verify. m is not changed.
func ToGraph(m *onnx.Model) (*nn.Graph, error) {
	if m.Graph == nil {
		return nil, errors.New("convert: the model has no graph")
	}
	v := m.Opset("")
	if v == 0 {
		return nil, errors.New("convert: the model does not import the operators of ONNX's own domain")
	}
	if v < MinOpset || v > MaxOpset {
		return nil, fmt.Errorf("convert: %w", onnx.Unsupportedf("opset %d (%d to %d are); convert the model with onnx.version_converter", v, MinOpset, MaxOpset))
	}
	im := newImporter(m)
	im.scan(m.Graph)
	g := im.graph(m.Graph, nil, v)
	im.reportForeign()
	if len(im.errs) > 0 {
		return nil, fmt.Errorf("convert: %w", errors.Join(im.errs...))
	}
	return g, nil
}

func newImporter(m *onnx.Model) *importer {
	im := &importer{model: m, funcs: map[funcID]*onnx.Function{}, values: newNamer(), nodes: newNamer(),
		seen: map[string]bool{}, used: map[string]bool{}, foreign: map[string][]string{}, decoded: map[*onnx.Tensor]tensor.Any{}}
	for _, f := range m.Functions {
		im.funcs[idOf(f.Domain, f.Name, f.Overload)] = f
	}
	return im
}

func (im *importer) fail(err error) { im.errs = append(im.errs, err) }

// scan notes the names that g and its inner graphs use.
func (im *importer) scan(g *onnx.Graph) {
	for _, t := range g.Initializers {
		im.values.taken[t.Name] = true
	}
	for _, v := range g.Inputs {
		im.values.taken[v.Name] = true
	}
	for _, v := range g.Outputs {
		im.used[v.Name] = true
	}
	for _, n := range g.Nodes {
		im.nodes.taken[n.Name] = true
		for _, s := range n.Inputs {
			im.values.taken[s], im.used[s] = true, true
		}
		for _, s := range n.Outputs {
			im.values.taken[s] = true
		}
		for _, a := range n.Attributes {
			if a.G != nil {
				im.scan(a.G)
			}
			for _, h := range a.Graphs {
				im.scan(h)
			}
		}
	}
}

// namer makes names that nothing has.
type namer struct {
	taken map[string]bool
	next  map[string]int
}

func newNamer() namer { return namer{map[string]bool{}, map[string]int{}} }

// fresh returns stem, or stem with the first free number, and takes it.
func (n namer) fresh(stem string) string {
	name := stem
	for n.taken[name] {
		n.next[stem]++
		name = fmt.Sprintf("%s_%d", stem, n.next[stem])
	}
	n.taken[name] = true
	return name
}

// graph converts p, whose nodes are of opset v unless they come from a function.
func (im *importer) graph(p *onnx.Graph, outer *scope, v int64) *nn.Graph {
	s := &scope{importer: im, outer: outer, types: map[string]*onnx.Type{}, defs: map[string]bool{},
		todo: map[string]*onnx.Tensor{}, spars: map[string]*onnx.SparseTensor{}, flat: map[string]bool{},
		g: &nn.Graph{Name: p.Name, Consts: map[string]tensor.Any{}, Types: map[string]nn.Type{}}}
	for _, list := range [][]*onnx.ValueInfo{p.ValueInfo, p.Inputs, p.Outputs} {
		for _, vi := range list {
			s.types[vi.Name] = vi.Type
		}
	}
	s.initializers(p)
	s.inputs(p)
	nodes := s.expand(p.Nodes, v)
	nodes = s.constants(nodes)
	s.loadUsed(p)
	s.define(nodes)
	for _, n := range nodes {
		s.node(n)
	}
	s.outputs(p)
	s.sort()
	return s.g
}

// initializers notes the constant tensors; they are decoded when something uses them.
func (s *scope) initializers(p *onnx.Graph) {
	for _, t := range p.Initializers {
		if s.def(t.Name, "initializer") {
			s.todo[t.Name] = t
		}
	}
	for _, t := range p.SparseInitializers {
		if t.Values == nil {
			s.fail(errors.New("a sparse initializer has no values"))
		} else if s.def(t.Values.Name, "initializer") {
			s.spars[t.Values.Name] = t
		}
	}
}

// def marks a value as defined in s; a second definition is an error.
func (s *scope) def(name, what string) bool {
	if name == "" {
		s.fail(fmt.Errorf("an %s of graph %q has no name", what, s.g.Name))
		return false
	}
	if s.defs[name] {
		s.fail(fmt.Errorf("value %q is defined twice", name))
		return false
	}
	s.defs[name] = true
	return true
}

func (s *scope) inputs(p *onnx.Graph) {
	for _, vi := range p.Inputs {
		if s.todo[vi.Name] != nil || s.spars[vi.Name] != nil { // a default value, as IR 3 has them all
			continue
		}
		if !s.def(vi.Name, "input") {
			continue
		}
		t, err := typeOf(vi.Type)
		if err != nil {
			s.fail(fmt.Errorf("input %q: %w", vi.Name, err))
		}
		s.g.Inputs = append(s.g.Inputs, nn.ValueInfo{Name: vi.Name, Type: t})
	}
}

func (s *scope) outputs(p *onnx.Graph) {
	for _, vi := range p.Outputs {
		t, err := typeOf(vi.Type)
		if err != nil {
			s.fail(fmt.Errorf("output %q: %w", vi.Name, err))
		}
		if !s.known(vi.Name) {
			s.fail(fmt.Errorf("output %q of graph %q is not made by any node", vi.Name, s.g.Name))
		}
		s.g.Outputs = append(s.g.Outputs, nn.ValueInfo{Name: vi.Name, Type: t})
	}
}

// loadUsed decodes the initializers that something reads.
func (s *scope) loadUsed(p *onnx.Graph) {
	for _, t := range p.Initializers {
		if s.used[t.Name] && s.todo[t.Name] == t {
			v, err := toTensor(t)
			s.setConst(t.Name, v, err)
		}
	}
	for _, t := range p.SparseInitializers {
		if t.Values != nil && s.used[t.Values.Name] && s.spars[t.Values.Name] == t {
			v, err := s.sparse(t)
			s.setConst(t.Values.Name, v, err)
		}
	}
}

func (s *scope) setConst(name string, v tensor.Any, err error) {
	if err != nil {
		s.fail(fmt.Errorf("tensor %q: %w", name, err))
		v = tensor.New[float32](0)
	}
	s.g.Consts[name] = v
}

// known reports whether name is defined here or in an enclosing graph.
func (s *scope) known(name string) bool {
	for ; s != nil; s = s.outer {
		if s.defs[name] {
			return true
		}
	}
	return false
}

// constant returns a constant of this graph or of an enclosing one, or nil.
func (s *scope) constant(name string) tensor.Any {
	for ; s != nil && name != ""; s = s.outer {
		if v := s.g.Consts[name]; v != nil {
			return v
		}
		if s.defs[name] {
			return nil
		}
	}
	return nil
}

// elem returns the ONNX element type that is known for name, or Undefined.
func (s *scope) elem(name string) onnx.DataType {
	for ; s != nil; s = s.outer {
		if t := s.todo[name]; t != nil {
			return t.DataType
		}
		if t := s.types[name]; t != nil && t.Tensor != nil {
			return t.Tensor.ElemType
		}
	}
	return onnx.Undefined
}

// dims returns the declared dimensions of name, or false when the rank is not known.
func (s *scope) dims(name string) ([]*onnx.Dim, bool) {
	for ; s != nil; s = s.outer {
		if t := s.types[name]; t != nil && t.Tensor != nil && t.Tensor.Shape != nil {
			return t.Tensor.Shape.Dims, true
		}
	}
	return nil, false
}

// define notes what the nodes make, before any of them is looked at.
func (s *scope) define(nodes []protoNode) {
	for _, n := range nodes {
		for _, o := range n.Outputs {
			if o != "" {
				s.def(o, "output")
			}
		}
	}
}

// node converts one node that is neither a Constant nor a function call.
func (s *scope) node(p protoNode) {
	n := &nn.Node{Name: s.nodeName(p), Op: p.OpType, Inputs: trim(p.Inputs), Outputs: trim(p.Outputs),
		Origin: p.origin, Attrs: make(map[string]nn.Attr, len(p.Attributes))}
	bad := func(err error) { s.fail(&nn.NodeError{Node: n.Name, Op: n.Op, Err: err}) }
	v, ok := opsetOf(p)
	if !ok {
		key := p.Domain + "::" + p.OpType
		s.foreign[key] = append(s.foreign[key], n.Name)
		return
	}
	for _, in := range n.Inputs {
		if in != "" && !s.known(in) {
			bad(fmt.Errorf("input %q is not made by any node", in))
		}
	}
	for _, a := range p.Attributes {
		at, err := s.attr(a, p.opset)
		if err != nil {
			bad(fmt.Errorf("attribute %q: %w", a.Name, err))
			continue
		}
		n.Attrs[a.Name] = at
	}
	if err := s.upgrade(n, v); err != nil {
		bad(err)
	}
	if n.Op == "Gemm" || n.Op == "Flatten" {
		s.flat[n.Out(0)] = true
	}
	s.g.Nodes = append(s.g.Nodes, n)
}

// nodeName returns p's name if no earlier node had it, else a new one: "/<Op>", then "/<Op>_1" and so on, as AIMET does.
func (s *scope) nodeName(p protoNode) string {
	if p.Name != "" && !s.seen[p.Name] {
		s.seen[p.Name] = true
		return p.Name
	}
	name := s.nodes.fresh("/" + p.OpType)
	s.seen[name] = true
	return name
}

func trim(s []string) []string {
	for len(s) > 0 && s[len(s)-1] == "" {
		s = s[:len(s)-1]
	}
	return slices.Clone(s)
}

// reportForeign fails once with every operator of a domain that is not supported.
func (im *importer) reportForeign() {
	if len(im.foreign) == 0 {
		return
	}
	var list []string
	for op, nodes := range im.foreign {
		text := fmt.Sprintf("%s (node %q)", op, nodes[0])
		if len(nodes) > 1 {
			text = fmt.Sprintf("%s (%d nodes, the first %q)", op, len(nodes), nodes[0])
		}
		list = append(list, text)
	}
	slices.Sort(list)
	im.fail(onnx.Unsupportedf("operators of other domains: %s", strings.Join(list, ", ")))
}
