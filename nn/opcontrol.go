package nn

import (
	"errors"
	"fmt"

	"roundel/tensor"
)

// controlOps have subgraphs.
func controlOps() []OpDef {
	return []OpDef{
		{Name: "If", Sig: "b", Infer: inferIf, Eval: evalIf, flags: control},
		{Name: "Loop", Sig: "I? b? a?*", Infer: inferLoop, Eval: evalLoop, flags: control},
		{Name: "Scan", Sig: "a*", Infer: inferScan, Eval: evalScan, flags: control},
	}
}

// body returns the graph attribute name, which must have the given numbers of inputs and outputs.
func (c *InferCtx) body(name string, ins, outs int) (*Graph, error) {
	a := c.node.Attrs[name]
	if a.Kind != AttrGraph || a.G == nil {
		return nil, fmt.Errorf("attribute %s is no graph", name)
	}
	if len(a.G.Inputs) != ins || len(a.G.Outputs) != outs {
		return nil, fmt.Errorf("graph %s has %d inputs and %d outputs; %d and %d are wanted", name, len(a.G.Inputs), len(a.G.Outputs), ins, outs)
	}
	return a.G, nil
}

// inferBody infers a subgraph for inputs of the given types, and returns the types of its outputs.
func (c *InferCtx) inferBody(g *Graph, in []Type) ([]Type, error) {
	s := &inferer{parent: c.sub, depth: c.sub.depth + 1, types: map[string]Type{}, vals: map[string]value{}, missing: map[string][]string{}}
	if s.depth > maxSubgraph {
		return nil, fmt.Errorf("subgraphs are nested more than %d deep", maxSubgraph)
	}
	if c.sub.root().work > maxWork {
		return nil, fmt.Errorf("the loops around this node take more than %d steps to infer", maxWork)
	}
	for i, t := range in {
		if d := g.Inputs[i].Type.DType; d != tensor.Invalid && d != t.DType {
			return nil, fmt.Errorf("input %q of the subgraph is declared as %v, it gets %v", g.Inputs[i].Name, d, t.DType)
		}
		s.define(g.Inputs[i].Name, "input", t, value{})
	}
	s.graph(g)
	if err := errors.Join(s.errs...); err != nil {
		return nil, fmt.Errorf("in its subgraph: %w", err)
	}
	out := make([]Type, len(g.Outputs))
	for i, o := range g.Outputs {
		out[i], _, _ = s.lookup(o.Name)
	}
	return out, nil
}

// commonType returns what is certain of a value that has one type or the other.
func commonType(a, b Type) (Type, error) {
	if a.DType == tensor.Invalid || b.DType == tensor.Invalid { // an error that was reported already
		return Type{}, nil
	}
	if a.DType != b.DType {
		return a, fmt.Errorf("is once %v, once %v", a, b)
	}
	if !a.Ranked || !b.Ranked || len(a.Dims) != len(b.Dims) {
		return Type{DType: a.DType}, nil
	}
	out := unknown(len(a.Dims))
	for i := range out {
		if a.Dims[i] == b.Dims[i] {
			out[i] = a.Dims[i]
		}
	}
	return Type{DType: a.DType, Dims: out, Ranked: true}, nil
}

// inferIf infers the branch that is taken, when the condition is known; else both. With the shapes of one run a branch
// may be impossible that exporters made for other shapes (a Squeeze of an axis if its extent is 1); the types are those of
// the other then, and should it be taken after all, its evaluation fails.
func inferIf(c *InferCtx) error {
	var both [2][]Type
	var errs [2]error
	cond, known := c.ints(0)
	known = known && len(cond) == 1
	for i, name := range []string{"else_branch", "then_branch"} {
		g, err := c.body(name, 0, len(c.node.Outputs))
		if err != nil {
			return err
		}
		if !known || (cond[0] != 0) == (i == 1) {
			both[i], errs[i] = c.inferBody(g, nil)
		}
	}
	switch {
	case known:
		i := min(cond[0], 1)
		copy(c.out, both[i])
		return errs[i]
	case errs[0] != nil && errs[1] != nil, errors.Join(errs[:]...) != nil && !c.sub.root().oneRun:
		return errors.Join(errs[1], errs[0])
	case errs[0] != nil:
		copy(c.out, both[1])
		return nil
	case errs[1] != nil:
		copy(c.out, both[0])
		return nil
	}
	for i := range c.out {
		var err error
		if c.out[i], err = commonType(both[1][i], both[0][i]); err != nil {
			return fmt.Errorf("output %d %w", i, err)
		}
	}
	return nil
}

func evalIf(c *EvalCtx) error {
	cond := arg[bool](c, 0).Data()
	if len(cond) != 1 {
		return fmt.Errorf("the condition is %v; it has to be a scalar", c.in[0])
	}
	name := "else_branch"
	if cond[0] {
		name = "then_branch"
	}
	g, err := c.body(name, 0, len(c.node.Outputs))
	if err != nil {
		return err
	}
	c.res, err = c.runBody(g, nil)
	return err
}

// runBody evaluates a subgraph.
func (c *EvalCtx) runBody(g *Graph, in []tensor.Any) ([]tensor.Any, error) {
	s := &scope{vals: map[string]tensor.Any{}, parent: c.env, depth: c.env.depth + 1}
	if s.depth > maxSubgraph {
		return nil, fmt.Errorf("subgraphs are nested more than %d deep", maxSubgraph)
	}
	for i, t := range in {
		if err := checkFeed(g.Inputs[i], t); err != nil {
			return nil, err
		}
		s.vals[g.Inputs[i].Name] = t
	}
	return s.run(c.ctx, g)
}

// inferCarried infers a body whose first outputs from skip on become its inputs of the next round. It
// forgets what changes from round to round, and returns the types of all outputs.
func (c *InferCtx) inferCarried(g *Graph, in []Type, first, skip, carried int) ([]Type, error) {
	in = append([]Type{}, in...)
	for round := 0; ; round++ {
		out, err := c.inferBody(g, in)
		if err != nil {
			return nil, err
		}
		same := true
		for i := range carried {
			t, err := commonType(in[first+i], out[skip+i])
			if err != nil {
				return nil, fmt.Errorf("state %d %w", i, err)
			}
			same = same && t.String() == in[first+i].String()
			in[first+i] = t
		}
		if same || round > 2*len(in)+8 {
			return out, nil
		}
	}
}

// stacked returns t with a new first axis.
func stacked(t Type, n Dim) Type {
	if !t.Ranked {
		return t
	}
	return Type{DType: t.DType, Dims: append([]Dim{n}, t.Dims...), Ranked: true}
}

// loopBody returns the body of a Loop and the numbers of states it carries and of rows it gives.
func (c *InferCtx) loopBody() (g *Graph, states, scans int, err error) {
	states = max(len(c.node.Inputs)-2, 0)
	scans = len(c.node.Outputs) - states
	if scans < 0 {
		return nil, 0, 0, fmt.Errorf("%d outputs for %d states", len(c.node.Outputs), states)
	}
	for i := range states {
		if !c.has(2 + i) {
			return nil, 0, 0, fmt.Errorf("input %d is absent", 2+i)
		}
	}
	g, err = c.body("body", 2+states, 1+states+scans)
	return g, states, scans, err
}

// loopInputs returns the types of the inputs of the body in the first round.
func (c *InferCtx) loopInputs() []Type {
	in := []Type{{DType: tensor.Int64, Dims: []Dim{}, Ranked: true}, {DType: tensor.Bool, Dims: []Dim{}, Ranked: true}}
	return append(in, c.in[min(2, len(c.in)):]...)
}

func inferLoop(c *InferCtx) error {
	g, states, _, err := c.loopBody()
	if err != nil {
		return err
	}
	out, err := c.inferCarried(g, c.loopInputs(), 2, 1, states)
	if err != nil {
		return err
	}
	for i := range c.out {
		if i < states {
			if c.out[i], err = commonType(c.in[2+i], out[1+i]); err != nil {
				return err
			}
			continue
		}
		c.out[i] = stacked(out[1+i], Dim{Size: -1})
	}
	return nil
}

// maxTrips bounds a Loop without an end of its own.
const maxTrips = 1 << 24

func evalLoop(c *EvalCtx) error {
	g, states, scans, err := c.loopBody()
	if err != nil {
		return err
	}
	trips, err := c.number(0, maxTrips)
	if err != nil {
		return err
	}
	more, err := c.number(1, 1)
	if err != nil {
		return err
	}
	carried := make([]tensor.Any, states)
	copy(carried, c.arg[min(2, len(c.arg)):])
	rows := make([][]tensor.Any, scans)
	for t := 0; float64(t) < trips && more != 0; t++ {
		if t >= maxTrips {
			return fmt.Errorf("more than %d rounds", maxTrips)
		}
		in := append([]tensor.Any{tensor.Scalar(int64(t)), tensor.Scalar(more != 0)}, carried...)
		out, err := c.runBody(g, in)
		if err != nil {
			return err
		}
		if out[0].DType() != tensor.Bool || out[0].Len() != 1 {
			return fmt.Errorf("the body gives a condition that is %v", typeOf(out[0]))
		}
		more = tensor.Float64s(out[0])[0]
		copy(carried, out[1:])
		for i := range rows {
			rows[i] = append(rows[i], out[1+states+i])
		}
	}
	copy(c.res, carried)
	return c.stackRows(rows, states, func() ([]Type, error) {
		c.visibleTypes()
		types, err := c.inferCarried(g, c.loopInputs(), 2, 1, states)
		return types[min(1+states, len(types)):], err
	})
}

// stackRows joins the rows of each scan output along a new axis 0, into outputs from
// first on. Those of a loop without rounds get the types that infer finds, with no elements.
func (c *EvalCtx) stackRows(rows [][]tensor.Any, first int, infer func() ([]Type, error)) error {
	for i, list := range rows {
		if len(list) == 0 {
			types, err := infer()
			if err != nil {
				return err
			}
			t := types[i]
			shape := tensor.Shape{0}
			for _, d := range t.Dims {
				shape = append(shape, max(d.Size, 0))
			}
			if t.DType == tensor.Invalid {
				return fmt.Errorf("no rounds, and the type of output %d is not known", first+i)
			}
			c.put(first+i, tensor.Zeros(t.DType, shape...))
			continue
		}
		parts := make([]tensor.Any, len(list))
		for j, r := range list {
			if !r.Shape().Equal(list[0].Shape()) || r.DType() != list[0].DType() {
				return fmt.Errorf("output %d is %v in round 0 and %v in round %d", first+i, typeOf(list[0]), typeOf(r), j)
			}
			parts[j] = tensor.ReshapeAny(r, append(tensor.Shape{1}, r.Shape()...))
		}
		if n := len(parts) * list[0].Len(); n > maxEval {
			return fmt.Errorf("output %d would have %d elements, more than %d", first+i, n, maxEval)
		}
		c.put(first+i, tensor.Concat(parts, 0))
	}
	return nil
}

// visibleTypes makes the inference of a subgraph see the types of the values around it.
func (c *EvalCtx) visibleTypes() {
	c.sub = &inferer{types: map[string]Type{}, vals: map[string]value{}, missing: map[string][]string{}}
	for s := c.env; s != nil; s = s.parent {
		for name, t := range s.vals {
			if _, ok := c.sub.types[name]; !ok {
				c.sub.types[name] = typeOf(t)
			}
		}
	}
}
