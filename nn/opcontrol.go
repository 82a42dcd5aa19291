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

func inferIf(c *InferCtx) error {
	var both [2][]Type
	for i, name := range []string{"then_branch", "else_branch"} {
		g, err := c.body(name, 0, len(c.node.Outputs))
		if err != nil {
			return err
		}
		if both[i], err = c.inferBody(g, nil); err != nil {
			return err
		}
	}
	cond, known := c.ints(0)
	for i := range c.out {
		var err error
		if c.out[i], err = commonType(both[0][i], both[1][i]); err != nil {
			return fmt.Errorf("output %d %w", i, err)
		}
		if known && len(cond) == 1 {
			c.out[i] = both[1-min(cond[0], 1)][i]
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

// loopStates returns the number of states that a Loop carries.
func (c *InferCtx) loopStates() int { return max(len(c.node.Inputs)-2, 0) }

// loopInputs returns the types of the inputs of the body in the first round.
func (c *InferCtx) loopInputs() []Type {
	in := []Type{{DType: tensor.Int64, Dims: []Dim{}, Ranked: true}, {DType: tensor.Bool, Dims: []Dim{}, Ranked: true}}
	return append(in, c.in[min(2, len(c.in)):]...)
}

func inferLoop(c *InferCtx) error {
	states := c.loopStates()
	scans := len(c.node.Outputs) - states
	g := c.node.Attrs["body"].G
	if scans < 0 || g == nil {
		return fmt.Errorf("%d outputs for %d states, or no body", len(c.node.Outputs), states)
	}
	g, err := c.body("body", 2+states, 1+states+scans)
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
	states := c.loopStates()
	scans := len(c.node.Outputs) - states
	if scans < 0 {
		return fmt.Errorf("%d outputs for %d states", len(c.node.Outputs), states)
	}
	g, err := c.body("body", 2+states, 1+states+scans)
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

// scanPlan is how a Scan takes its inputs apart and puts its outputs together.
type scanPlan struct {
	g               *Graph
	states, ins     int
	inAxes, outAxes []int64
	inBack, outBack []int64
	outs            int
}

func (c *InferCtx) planScan() (*scanPlan, error) {
	ins := int(min(max(c.node.Int("num_scan_inputs", 0), 0), maxDim))
	p := &scanPlan{ins: ins, states: len(c.node.Inputs) - ins}
	p.outs = len(c.node.Outputs) - p.states
	if ins < 1 || p.states < 0 || p.outs < 0 {
		return nil, fmt.Errorf("num_scan_inputs %d does not fit %d inputs and %d outputs", ins, len(c.node.Inputs), len(c.node.Outputs))
	}
	for i, name := range c.node.Inputs {
		if name == "" {
			return nil, fmt.Errorf("input %d is absent", i)
		}
	}
	for _, l := range []struct {
		name string
		n    int
		to   *[]int64
	}{{"scan_input_axes", ins, &p.inAxes}, {"scan_output_axes", p.outs, &p.outAxes},
		{"scan_input_directions", ins, &p.inBack}, {"scan_output_directions", p.outs, &p.outBack}} {
		v := c.node.Ints(l.name)
		if v == nil {
			v = make([]int64, l.n)
		}
		if len(v) != l.n {
			return nil, fmt.Errorf("attribute %s = %v has to have %d elements", l.name, v, l.n)
		}
		*l.to = v
	}
	var err error
	p.g, err = c.body("body", p.states+ins, p.states+p.outs)
	return p, err
}

// scanTypes infers the body and returns the types of its outputs and the number of rounds.
func (c *InferCtx) scanTypes(p *scanPlan) ([]Type, Dim, error) {
	in := append([]Type{}, c.in...)
	steps := Dim{Size: -1}
	for i := p.states; i < len(in); i++ {
		d, ok := c.dims(i)
		if !ok {
			continue
		}
		a, err := axis(p.inAxes[i-p.states], len(d))
		if err != nil {
			return nil, steps, err
		}
		if steps, ok = sameDim(steps, d[a]); !ok {
			return nil, steps, fmt.Errorf("the scan inputs have different lengths, %v and %v", steps, d[a])
		}
		in[i] = Type{DType: in[i].DType, Dims: reducedDims(d, []int{a}, false), Ranked: true}
	}
	out, err := c.inferCarried(p.g, in, 0, 0, p.states)
	return out, steps, err
}

func inferScan(c *InferCtx) error {
	p, err := c.planScan()
	if err != nil {
		return err
	}
	out, steps, err := c.scanTypes(p)
	if err != nil {
		return err
	}
	for i := range c.out {
		if i < p.states {
			if c.out[i], err = commonType(c.in[i], out[i]); err != nil {
				return err
			}
			continue
		}
		t := stacked(out[i], steps)
		if t.Ranked {
			a, err := axis(p.outAxes[i-p.states], len(t.Dims))
			if err != nil {
				return err
			}
			copy(t.Dims, t.Dims[1:a+1])
			t.Dims[a] = steps
		}
		c.out[i] = t
	}
	return nil
}

func evalScan(c *EvalCtx) error {
	p, err := c.planScan()
	if err != nil {
		return err
	}
	slices := make([][]tensor.Any, p.ins) // slices of each scan input, in the order they are taken
	for i := range slices {
		x := c.arg[p.states+i]
		a, err := axis(p.inAxes[i], len(x.Shape()))
		if err != nil {
			return err
		}
		n := x.Shape()[a]
		if i > 0 && n != len(slices[0]) {
			return fmt.Errorf("the scan inputs have different lengths, %d and %d", len(slices[0]), n)
		}
		for t := range n {
			if p.inBack[i] != 0 {
				t = n - 1 - t
			}
			slices[i] = append(slices[i], tensor.ReshapeAny(tensor.SliceAxis(x, a, t, 1, 1), tensor.ReducedShape(x.Shape(), []int{a}, false)))
		}
	}
	state := append([]tensor.Any{}, c.arg[:p.states]...)
	rows := make([][]tensor.Any, p.outs)
	for t := range slices[0] {
		in := append([]tensor.Any{}, state...)
		for i := range slices {
			in = append(in, slices[i][t])
		}
		out, err := c.runBody(p.g, in)
		if err != nil {
			return err
		}
		copy(state, out)
		for i := range rows {
			rows[i] = append(rows[i], out[p.states+i])
			if p.outBack[i] != 0 {
				copy(rows[i][1:], rows[i])
				rows[i][0] = out[p.states+i]
			}
		}
	}
	copy(c.res, state)
	err = c.stackRows(rows, p.states, func() ([]Type, error) {
		c.visibleTypes()
		types, _, err := c.scanTypes(p)
		return types[min(p.states, len(types)):], err
	})
	if err != nil {
		return err
	}
	for i := range rows {
		y := c.res[p.states+i]
		rank := len(y.Shape())
		a, err := axis(p.outAxes[i], rank)
		if err != nil {
			return err
		}
		perm := axesFrom(1, rank) // the new axis moves from 0 to a
		perm = append(perm[:a:a], append([]int{0}, perm[a:]...)...)
		c.put(p.states+i, tensor.Transpose(y, perm))
	}
	return nil
}
