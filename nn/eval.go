package nn

import (
	"context"
	"fmt"
	"slices"

	"roundel/tensor"
)

// scope holds the values of a graph that is being evaluated, inside the scope of the graph around it.
type scope struct {
	vals   map[string]tensor.Any
	parent *scope
	depth  int
}

// lookup finds a value by name, in the enclosing graphs too.
func (s *scope) lookup(name string) (tensor.Any, bool) {
	for ; s != nil; s = s.parent {
		if t, ok := s.vals[name]; ok {
			return t, true
		}
	}
	return nil, false
}

// Eval runs g with the plain reference of every operator and returns its outputs
// by name. feeds has a tensor for every graph input. It is the meaning of the
// graph, slow and without any tricks; use Compile to run models.
//
// Shapes are checked as the values appear, so g need not be verified before; a
// tensor of more than 2²⁸ elements is refused. ctx is checked between nodes.
func Eval(ctx context.Context, g *Graph, feeds map[string]tensor.Any) (map[string]tensor.Any, error) {
	s := &scope{vals: map[string]tensor.Any{}}
	for _, in := range g.Inputs {
		t := feeds[in.Name]
		if t == nil {
			return nil, fmt.Errorf("nn: no tensor for graph input %q", in.Name)
		}
		if err := checkFeed(in, t); err != nil {
			return nil, err
		}
		s.vals[in.Name] = t
	}
	outs, err := s.run(ctx, g)
	if err != nil {
		return nil, err
	}
	res := map[string]tensor.Any{}
	for i, o := range g.Outputs {
		res[o.Name] = outs[i]
	}
	return res, nil
}

// checkFeed compares a tensor with the declaration of the input it is for.
func checkFeed(in ValueInfo, t tensor.Any) error {
	got := typeOf(t)
	bad := in.Type.DType != tensor.Invalid && got.DType != in.Type.DType || in.Type.Ranked && len(got.Dims) != len(in.Type.Dims)
	for i := 0; in.Type.Ranked && !bad && i < len(got.Dims); i++ {
		_, ok := sameDim(in.Type.Dims[i], got.Dims[i])
		bad = !ok
	}
	if bad {
		return fmt.Errorf("nn: graph input %q is declared as %v, the tensor given is %v", in.Name, in.Type, got)
	}
	return nil
}

// run evaluates the nodes of g, whose inputs are in s, and returns its outputs in order.
func (s *scope) run(ctx context.Context, g *Graph) ([]tensor.Any, error) {
	for name, t := range g.Consts {
		if t != nil {
			s.vals[name] = t
		}
	}
	last := map[string]int{} // the last node that reads a value
	for i, n := range g.Nodes {
		for _, name := range reads(n) {
			last[name] = i
		}
	}
	for i, n := range g.Nodes {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("nn: stopped before node %d of %d: %w", i, len(g.Nodes), err)
		}
		args := make([]tensor.Any, len(n.Inputs))
		for j, name := range n.Inputs {
			if name == "" {
				continue
			}
			t, ok := s.lookup(name)
			if !ok {
				return nil, &NodeError{n.Name, n.Op, fmt.Errorf("input %q is not there", name)}
			}
			args[j] = t
		}
		res, err := evalIn(ctx, n, args, s)
		if err != nil {
			return nil, err
		}
		for j, name := range n.Outputs {
			if name != "" {
				s.vals[name] = res[j]
			}
		}
		for _, name := range reads(n) {
			if last[name] == i && !g.IsOutput(name) {
				delete(s.vals, name)
			}
		}
	}
	outs := make([]tensor.Any, len(g.Outputs))
	for i, o := range g.Outputs {
		t, ok := s.lookup(o.Name)
		if !ok {
			return nil, fmt.Errorf("nn: output %q is made by no node", o.Name)
		}
		outs[i] = t
	}
	return outs, nil
}

// reads returns the names of the values that n reads: its inputs, absent ones as
// "", and then the outer values that its subgraphs use, sorted.
func reads(n *Node) []string {
	var outer []string
	for _, a := range n.Attrs {
		if a.Kind == AttrGraph && a.G != nil {
			outer = append(outer, outerNames(a.G)...)
		}
	}
	if len(outer) == 0 {
		return n.Inputs
	}
	slices.Sort(outer)
	return append(slices.Clone(n.Inputs), slices.Compact(outer)...)
}

// outerNames returns the names that g uses but does not make.
func outerNames(g *Graph) (out []string) {
	own := map[string]bool{"": true}
	for _, in := range g.Inputs {
		own[in.Name] = true
	}
	for name := range g.Consts {
		own[name] = true
	}
	for _, n := range g.Nodes {
		for _, name := range n.Outputs {
			own[name] = true // wherever it stands: no name means two things in one file
		}
	}
	add := func(name string) {
		if !own[name] {
			out = append(out, name)
		}
	}
	for _, n := range g.Nodes {
		for _, name := range reads(n) {
			add(name)
		}
	}
	for _, o := range g.Outputs {
		add(o.Name)
	}
	return out
}

// evalNode evaluates one node by the plain reference. inputs has one tensor for
// each name that reads(node) gives, nil for absent inputs; for all nodes but
// those with subgraphs these are just the inputs. The result has one tensor for
// each output, nil for those that the node does not make.
//
// Everything is checked: wrong types, shapes and indices are errors.
func evalNode(node *Node, inputs []tensor.Any) ([]tensor.Any, error) {
	s := &scope{vals: map[string]tensor.Any{}}
	for i, name := range reads(node) {
		if i < len(inputs) && inputs[i] != nil {
			s.vals[name] = inputs[i]
		}
	}
	return evalIn(context.Background(), node, inputs[:min(len(inputs), len(node.Inputs))], s)
}

// evalIn is evalNode with the scope that subgraphs see.
func evalIn(ctx context.Context, n *Node, args []tensor.Any, env *scope) (res []tensor.Any, err error) {
	d := lookup(n.Op)
	if d == nil {
		return nil, &UnsupportedError{map[string][]string{n.Op: {n.Name}}}
	}
	c := &EvalCtx{InferCtx: &InferCtx{node: n, in: make([]Type, len(n.Inputs)), val: make([]value, len(n.Inputs)),
		out: make([]Type, len(n.Outputs)), outVal: make([]value, len(n.Outputs)), concrete: true},
		ctx: ctx, arg: make([]tensor.Any, len(n.Inputs)), res: make([]tensor.Any, len(n.Outputs)), env: env}
	for i, t := range args {
		if t != nil && n.Inputs[i] != "" {
			c.in[i], c.val[i], c.arg[i] = typeOf(t), value{t: t}, t
		}
	}
	if err := c.eval(d); err != nil {
		return nil, &NodeError{n.Name, n.Op, err}
	}
	return c.res, nil
}

// eval infers the outputs, evaluates and compares the two.
func (c *EvalCtx) eval(d *OpDef) error {
	if d.flags&control != 0 {
		if err := d.checkInputs(c.node, c.in); err != nil {
			return err
		}
		return d.Eval(c)
	}
	if err := c.infer(d); err != nil {
		return err
	}
	for i, t := range c.out {
		s, ok := t.Shape()
		if !ok && c.node.Outputs[i] != "" && d.flags&dynamic == 0 {
			return fmt.Errorf("the shape of output %d cannot be computed: %v", i, t)
		}
		if ok && s.Len() > maxEval {
			return fmt.Errorf("output %d would be %v, more than %d elements", i, t, maxEval)
		}
	}
	if d.flags&widen != 0 {
		for i, t := range c.arg {
			if t != nil {
				c.arg[i] = tensor.Cast(t, wideType(t.DType()))
			}
		}
	}
	if err := d.Eval(c); err != nil {
		return err
	}
	for i, t := range c.res {
		if t == nil || c.node.Outputs[i] == "" {
			c.res[i] = nil
			continue
		}
		t = tensor.Cast(t, c.out[i].DType)
		if s, ok := c.out[i].Shape(); ok && !s.Equal(t.Shape()) {
			return fmt.Errorf("output %d was inferred as %v but is %v", i, c.out[i], t.Shape())
		}
		c.res[i] = t
	}
	return nil
}

// wideType returns the type that arithmetic on dt is done in.
func wideType(dt tensor.DType) tensor.DType {
	switch dt {
	case tensor.Float16, tensor.BFloat16:
		return tensor.Float32
	case tensor.Int8, tensor.Int16, tensor.Int32, tensor.Uint8, tensor.Uint16, tensor.Uint32:
		return tensor.Int64
	}
	return dt
}
