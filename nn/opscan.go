package nn

import (
	"fmt"

	"roundel/tensor"
)

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

// scanSlices returns the slices of each scan input in the order they are taken.
func (c *EvalCtx) scanSlices(p *scanPlan) ([][]tensor.Any, error) {
	slices := make([][]tensor.Any, p.ins)
	for i := range slices {
		x := c.arg[p.states+i]
		a, err := axis(p.inAxes[i], len(x.Shape()))
		if err != nil {
			return nil, err
		}
		n := x.Shape()[a]
		if i > 0 && n != len(slices[0]) {
			return nil, fmt.Errorf("the scan inputs have different lengths, %d and %d", len(slices[0]), n)
		}
		for t := range n {
			if p.inBack[i] != 0 {
				t = n - 1 - t
			}
			slices[i] = append(slices[i], tensor.ReshapeAny(tensor.SliceAxis(x, a, t, 1, 1), tensor.ReducedShape(x.Shape(), []int{a}, false)))
		}
	}
	return slices, nil
}

func evalScan(c *EvalCtx) error {
	p, err := c.planScan()
	if err != nil {
		return err
	}
	slices, err := c.scanSlices(p)
	if err != nil {
		return err
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
