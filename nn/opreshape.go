package nn

import (
	"fmt"
	"slices"

	"roundel/tensor"
)

// evalReshaped gives the input the inferred shape.
func evalReshaped(c *EvalCtx) error {
	s := c.outShape(0)
	if s.Len() != c.arg[0].Len() {
		return fmt.Errorf("cannot give %d elements the shape %v", c.arg[0].Len(), s)
	}
	c.put(0, tensor.ReshapeAny(c.arg[0], s))
	return nil
}

// inferReshape follows ONNX: 0 keeps a dimension (unless allowzero), one -1 takes the rest.
func inferReshape(c *InferCtx) error {
	want, ok := c.exprs(1)
	if n, known := c.length(1); !ok && known {
		c.set(0, c.in[0].DType, unknown(n))
	}
	if !ok {
		return nil
	}
	if len(c.in[1].Dims) != 1 {
		return fmt.Errorf("the shape is %v; it has to be a vector", c.in[1])
	}
	in, ranked := c.dims(0)
	out := unknown(len(want))
	rest, minus, sure := number(1), -1, ranked
	for i, e := range want {
		switch {
		case e == number(0) && c.node.Int("allowzero", 0) == 0:
			switch {
			case ranked && i >= len(in):
				return fmt.Errorf("shape %v copies dimension %d, which %v does not have", want, i, c.in[0])
			case ranked:
				out[i] = in[i]
			}
		case e == number(-1) && minus >= 0:
			return fmt.Errorf("shape %v has -1 twice", want)
		case e == number(-1):
			minus = i
			continue
		case e.isNumber() && e.add < 0:
			return fmt.Errorf("shape %v has a negative dimension", want)
		default:
			out[i] = e.dim()
		}
		rest = rest.times(dimExpr(out[i]))
	}
	if sure {
		if err := fillMinusOne(out, minus, product(in), rest); err != nil {
			return fmt.Errorf("cannot reshape %v to %v: %w", c.in[0], want, err)
		}
	}
	c.set(0, c.in[0].DType, out)
	if v, ok := c.exprs(0); ok && len(out) <= 1 {
		c.know(0, v)
	}
	return nil
}

// fillMinusOne computes the dimension out[minus], if there is one, from the number of all elements and of those in the others.
func fillMinusOne(out []Dim, minus int, all, rest expr) error {
	numbers := all.isNumber() && rest.isNumber()
	switch {
	case minus < 0 && numbers && all != rest:
		return fmt.Errorf("%v elements, %v wanted", all, rest)
	case minus < 0:
	case numbers && (rest.add == 0 || all.add%rest.add != 0):
		return fmt.Errorf("%v elements are no multiple of %v", all, rest)
	default:
		out[minus] = all.over(rest).dim()
	}
	return nil
}

func inferFlatten(c *InferCtx) error {
	d, ok := c.dims(0)
	if !ok {
		c.set(0, c.in[0].DType, unknown(2))
		return nil
	}
	a := c.node.Int("axis", 1)
	if a < int64(-len(d)) || a > int64(len(d)) {
		return fmt.Errorf("axis %d is outside %v", a, c.in[0])
	}
	if a < 0 {
		a += int64(len(d))
	}
	c.set(0, c.in[0].DType, []Dim{product(d[:a]).dim(), product(d[a:]).dim()})
	return nil
}

func inferSqueeze(c *InferCtx) error {
	d, ok := c.dims(0)
	if !ok {
		return nil
	}
	var as []int
	if list, known := c.ints(1); known {
		var err error
		if as, err = axes(list, len(d)); err != nil {
			return err
		}
	} else if c.has(1) {
		if n, ok := c.length(1); ok && n <= len(d) {
			c.set(0, c.in[0].DType, unknown(len(d)-n))
		}
		return nil
	} else {
		for i := range d {
			if !d[i].IsKnown() {
				return nil // the rank depends on the extent
			}
			if d[i].Size == 1 {
				as = append(as, i)
			}
		}
	}
	for _, a := range as {
		if d[a].IsKnown() && d[a].Size != 1 {
			return fmt.Errorf("cannot remove axis %d of %v: its extent is not 1", a, c.in[0])
		}
	}
	c.set(0, c.in[0].DType, reducedDims(d, as, false))
	if v, ok := c.exprs(0); ok {
		c.know(0, v)
	}
	return nil
}

func inferUnsqueeze(c *InferCtx) error {
	d, ok := c.dims(0)
	list, known := c.ints(1)
	if !ok {
		return nil
	}
	if !known {
		if n, ok := c.length(1); ok {
			c.set(0, c.in[0].DType, unknown(len(d)+n))
		}
		return nil
	}
	as, err := axes(list, len(d)+len(list))
	if err != nil {
		return err
	}
	slices.Sort(as)
	out := slices.Clone(d)
	for _, a := range as {
		out = slices.Insert(out, a, Known(1))
	}
	c.set(0, c.in[0].DType, out)
	if v, ok := c.exprs(0); ok {
		c.know(0, v)
	}
	return nil
}
