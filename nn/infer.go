package nn

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"roundel/tensor"
)

// UnsupportedError lists the operators of a model that the operator table lacks.
type UnsupportedError struct {
	Ops map[string][]string // operator -> names of the nodes that use it
}

// Error lists every operator with the number of its uses and one of the nodes.
func (e *UnsupportedError) Error() string {
	var parts []string
	for _, op := range slices.Sorted(maps.Keys(e.Ops)) {
		parts = append(parts, fmt.Sprintf("%s (%d, first at node %q)", op, len(e.Ops[op]), e.Ops[op][0]))
	}
	return "nn: operators without an implementation: " + strings.Join(parts, ", ") +
		"; each needs a row in the operator table (Infer and Eval, nn/op*.go), or the model an export without it"
}

// Infer fills g.Types with the type of every value. Unknown extents, such as a
// symbolic batch, are carried through, and shape arithmetic on them is followed.
//
// It reports everything that is wrong with g at once, joined: nodes out of
// order, names made twice or never, operators that are not supported
// (*UnsupportedError), wrong types and shapes (*NodeError), sizes above
// MaxElements. The nodes are not changed.
func Infer(g *Graph) error {
	s := &inferer{types: map[string]Type{}, vals: map[string]value{}, missing: map[string][]string{}}
	s.graph(g)
	if len(s.missing) > 0 {
		s.errs = append(s.errs, &UnsupportedError{s.missing})
	}
	g.Types = s.types
	return errors.Join(s.errs...)
}

// Verify is Infer and checks what else every Graph has to satisfy: distinct node
// names, and outputs with their declared element types. It is called
// after an import and after every rewrite.
func Verify(g *Graph) error {
	errs := []error{Infer(g)}
	names := map[string]bool{}
	for i, n := range g.Nodes {
		switch {
		case n.Name == "":
			errs = append(errs, &NodeError{fmt.Sprintf("#%d", i), n.Op, errors.New("has no name")})
		case names[n.Name]:
			errs = append(errs, &NodeError{n.Name, n.Op, errors.New("another node has the same name")})
		}
		names[n.Name] = true
	}
	for _, o := range g.Outputs {
		t := g.Types[o.Name]
		if o.Type.DType != tensor.Invalid && t.DType != tensor.Invalid && o.Type.DType != t.DType {
			errs = append(errs, fmt.Errorf("nn: output %q is declared as %v but is %v", o.Name, o.Type.DType, t.DType))
		}
	}
	return errors.Join(errs...)
}

// inferer is the state of the inference of one graph, or of a subgraph inside parent.
type inferer struct {
	parent  *inferer
	depth   int
	types   map[string]Type
	vals    map[string]value
	errs    []error
	missing map[string][]string // of the outermost graph
	oneRun  bool                // the shapes are those of one run of a model that was verified; of the outermost graph
	work    int                 // nodes inferred so far, with repetitions, of the outermost graph
}

// lookup finds a value by name, in the enclosing graphs too.
func (s *inferer) lookup(name string) (Type, value, bool) {
	for ; s != nil; s = s.parent {
		if t, ok := s.types[name]; ok {
			return t, s.vals[name], true
		}
	}
	return Type{}, value{}, false
}

func (s *inferer) errorf(format string, args ...any) {
	s.errs = append(s.errs, fmt.Errorf("nn: "+format, args...))
}

// define introduces a value; a name can be introduced only once.
func (s *inferer) define(name, what string, t Type, v value) {
	if _, ok := s.types[name]; ok {
		s.errorf("%s %q: the name is taken", what, name)
		return
	}
	s.types[name] = t
	if v.t != nil || v.sym != nil {
		s.vals[name] = v
	}
}

// graph infers all of g.
func (s *inferer) graph(g *Graph) {
	s.header(g)
	made := map[string]int{}
	for i, n := range g.Nodes {
		for _, o := range n.Outputs {
			made[o] = i
		}
	}
	for i, n := range g.Nodes {
		s.node(n, func(name string) string {
			if j, ok := made[name]; ok && j >= i {
				return fmt.Sprintf("is made only later, by node %q; the nodes are not in execution order", g.Nodes[j].Name)
			}
			return "is neither an input nor a constant, and no node makes it"
		})
	}
	for _, o := range g.Outputs {
		if _, _, ok := s.lookup(o.Name); !ok {
			s.errorf("output %q is made by no node", o.Name)
		}
	}
}

// header introduces the inputs and constants of g.
func (s *inferer) header(g *Graph) {
	for _, in := range g.Inputs {
		if _, ok := s.types[in.Name]; ok && s.parent != nil {
			continue // the types of subgraph inputs are given by the node
		}
		if in.Type.DType == tensor.Invalid {
			s.errorf("input %q has no element type", in.Name)
		}
		for _, d := range in.Type.Dims {
			if d.Size < -1 {
				s.errorf("input %q has a negative dimension: %v", in.Name, in.Type)
			}
		}
		if err := checkSize(in.Type); err != nil {
			s.errorf("input %q: %v", in.Name, err)
		}
		s.define(in.Name, "input", in.Type, value{})
	}
	for _, name := range slices.Sorted(maps.Keys(g.Consts)) {
		if g.Consts[name] == nil {
			s.errorf("constant %q has no tensor", name)
			continue
		}
		s.define(name, "constant", typeOf(g.Consts[name]), value{t: g.Consts[name]})
	}
}

func (s *inferer) root() *inferer {
	for s.parent != nil {
		s = s.parent
	}
	return s
}

// node infers one node; why explains a name that is not there.
func (s *inferer) node(n *Node, why func(string) string) {
	s.root().work++
	c := &InferCtx{node: n, in: make([]Type, len(n.Inputs)), val: make([]value, len(n.Inputs)),
		out: make([]Type, len(n.Outputs)), outVal: make([]value, len(n.Outputs)), sub: s}
	bad := false
	fail := func(err error) {
		s.errs = append(s.errs, &NodeError{n.Name, n.Op, err})
		bad = true
	}
	for i, name := range n.Inputs {
		if name == "" {
			continue
		}
		t, v, ok := s.lookup(name)
		if !ok {
			fail(fmt.Errorf("input %d: %q %s", i, name, why(name)))
		}
		bad = bad || t.DType == tensor.Invalid // reported where the value should have been made
		c.in[i], c.val[i] = t, v
	}
	d := lookup(n.Op)
	if d == nil {
		root := s.root()
		root.missing[n.Op] = append(root.missing[n.Op], n.Name)
		bad = true
	}
	if !bad {
		if err := c.infer(d); err != nil {
			fail(err)
		}
	}
	for i, name := range n.Outputs {
		if name == "" {
			continue
		}
		if bad {
			c.out[i], c.outVal[i] = Type{}, value{}
		}
		s.define(name, fmt.Sprintf("node %q (%s): output", n.Name, n.Op), c.out[i], c.outVal[i])
	}
}

// infer checks the inputs, runs the rule of the operator, checks the outputs and folds small constants.
func (c *InferCtx) infer(d *OpDef) error {
	if err := d.checkInputs(c.node, c.in); err != nil {
		return err
	}
	c.out[0] = Type{DType: firstType(c.in)} // what most operators give
	if err := d.Infer(c); err != nil {
		return err
	}
	for i, t := range c.out {
		if t.DType == tensor.Invalid && c.node.Outputs[i] != "" {
			return fmt.Errorf("has %d outputs; the operator makes fewer", len(c.out))
		}
		if err := checkSize(t); err != nil {
			return fmt.Errorf("output %d: %w", i, err)
		}
	}
	if d.flags&fold != 0 && !c.concrete {
		return c.fold(d)
	}
	return nil
}

// firstType returns the element type of the first input that is there.
func firstType(in []Type) tensor.DType {
	for _, t := range in {
		if t.DType != tensor.Invalid {
			return t.DType
		}
	}
	return tensor.Invalid
}

// fold evaluates a node whose inputs are all known and small, for shape arithmetic.
func (c *InferCtx) fold(d *OpDef) error {
	args := make([]tensor.Any, len(c.in))
	for i := range c.in {
		if c.node.Inputs[i] == "" {
			continue
		}
		if args[i] = c.val[i].t; args[i] == nil || args[i].Len() > maxFold {
			return nil
		}
	}
	for _, t := range c.out {
		if s, ok := t.Shape(); ok && s.Len() > maxFold {
			return nil
		}
	}
	res, err := evalNode(c.node, args)
	if err != nil {
		return errors.Unwrap(err)
	}
	for i, t := range res {
		if t != nil && i < len(c.outVal) {
			c.out[i], c.outVal[i] = typeOf(t), value{t: t}
		}
	}
	return nil
}
