package nn

import (
	"fmt"
	"math"
	"slices"

	"roundel/tensor"
)

func inferCompress(c *InferCtx) error {
	d, ok := c.dims(0)
	a, has := c.node.Attrs["axis"]
	if !has || !ok {
		if !has {
			c.set(0, c.in[0].DType, unknown(1))
		}
		return nil
	}
	x, err := axis(a.I, len(d))
	if err != nil {
		return err
	}
	out := slices.Clone(d)
	out[x] = Dim{Size: -1}
	c.set(0, c.in[0].DType, out)
	return nil
}

func evalCompress(c *EvalCtx) error {
	x, a := c.arg[0], 0
	if _, has := c.node.Attrs["axis"]; has {
		a, _ = axis(c.node.Int("axis", 0), len(x.Shape()))
	} else {
		x = tensor.ReshapeAny(x, tensor.Shape{x.Len()})
	}
	var idx []int
	for i, keep := range arg[bool](c, 1).Data() {
		if keep && i >= x.Shape()[a] {
			return fmt.Errorf("the condition selects element %d of an axis of extent %d", i, x.Shape()[a])
		}
		if keep {
			idx = append(idx, i)
		}
	}
	c.put(0, tensor.Gather(x, idx, tensor.Shape{len(idx)}, a))
	return nil
}

func inferNonZero(c *InferCtx) error {
	rows := Dim{Size: -1}
	if d, ok := c.dims(0); ok {
		rows = Known(len(d))
	}
	c.set(0, tensor.Int64, []Dim{rows, {Size: -1}})
	return nil
}

func evalNonZero(c *EvalCtx) error {
	s := c.arg[0].Shape()
	var at []int
	for i, v := range tensor.Cast(c.arg[0], tensor.Bool).(*tensor.Dense[bool]).Data() {
		if v {
			at = append(at, i)
		}
	}
	out := tensor.New[int64](len(s), len(at))
	for r, st := range s.Strides() {
		for i, o := range at {
			out.Data()[r*len(at)+i] = int64(o / st % s[r])
		}
	}
	c.put(0, out)
	return nil
}

func inferUnique(c *InferCtx) error {
	n := unknown(1)
	c.set(0, c.in[0].DType, n)
	for i := 1; i < 4; i++ {
		c.set(i, tensor.Int64, n)
	}
	a, has := c.node.Attrs["axis"]
	if d, ok := c.dims(0); has && ok {
		x, err := axis(a.I, len(d))
		if err != nil {
			return err
		}
		out := slices.Clone(d)
		out[x] = Dim{Size: -1}
		c.set(0, c.in[0].DType, out)
	} else if has {
		c.setUnranked(0, c.in[0].DType)
	}
	return nil
}

func unique[T tensor.Number](c *EvalCtx) error {
	x, a := arg[T](c, 0), 0
	if _, has := c.node.Attrs["axis"]; has {
		a, _ = axis(c.node.Int("axis", 0), len(x.Shape()))
	} else {
		x = x.Reshape(x.Len())
	}
	first, inverse, counts := tensor.Unique(x, a, c.node.Int("sorted", 1) != 0)
	c.put(0, tensor.Gather(x, first, tensor.Shape{len(first)}, a))
	for i, list := range [][]int{first, inverse, counts} {
		v := make([]int64, len(list))
		for j, n := range list {
			v[j] = int64(n)
		}
		c.put(i+1, tensor.From(v, len(v)))
	}
	return nil
}

func inferOneHot(c *InferCtx) error {
	c.setUnranked(0, c.in[2].DType)
	if n, ok := c.length(2); ok && n != 2 {
		return fmt.Errorf("values are %v; they have to be [off, on]", c.in[2])
	}
	d, ok := c.dims(0)
	if !ok {
		return nil
	}
	a, err := axis(c.node.Int("axis", -1), len(d)+1)
	if err != nil {
		return err
	}
	depth := Dim{Size: -1}
	if v, ok := c.floats(1); ok {
		if len(v) != 1 || !(v[0] >= 0 && v[0] <= maxDim) {
			return fmt.Errorf("depth %v is not an extent", v)
		}
		depth = Known(int(v[0]))
	}
	c.set(0, c.in[2].DType, slices.Insert(slices.Clone(d), a, depth))
	return nil
}

// evalOneHot puts the "on" value where the position along the new axis is the index; indices outside ±depth are all "off".
func evalOneHot(c *EvalCtx) error {
	out := c.outShape(0)
	a, _ := axis(c.node.Int("axis", -1), len(out))
	depth, inner := out[a], out[a+1:].Len()
	hot := tensor.Int64s(c.arg[0])
	idx := make([]int, out.Len())
	for i := range idx {
		v := hot[i/(depth*inner)*inner+i%inner]
		if v < 0 {
			v += int64(depth)
		}
		if v == int64(i/inner%depth) {
			idx[i] = 1
		}
	}
	if c.arg[2].Len() != 2 {
		return fmt.Errorf("values are %v; they have to be [off, on]", c.in[2])
	}
	c.put(0, tensor.Take(c.arg[2], out, idx, 1, nil))
	return nil
}

func inferReverseSequence(c *InferCtx) error {
	c.out[0] = c.in[0]
	d, ok, err := c.rankAtLeast(0, 2)
	if !ok || err != nil {
		return err
	}
	b, t := c.node.Int("batch_axis", 1), c.node.Int("time_axis", 0)
	if b == t || b < 0 || t < 0 || b > 1 || t > 1 {
		return fmt.Errorf("batch_axis %d and time_axis %d have to be 0 and 1", b, t)
	}
	return c.checkBias(1, d[b])
}

func evalReverseSequence(c *EvalCtx) error {
	s := c.arg[0].Shape()
	b := int(c.node.Int("batch_axis", 1))
	lens := tensor.Int64s(c.arg[1])
	idx := make([]int, 0, s[0]*s[1])
	for i := range s[0] {
		for j := range s[1] {
			p := [2]int{i, j}
			n := lens[p[b]]
			if n < 0 || n > int64(s[1-b]) {
				return fmt.Errorf("length %d for an axis of extent %d", n, s[1-b])
			}
			if t := p[1-b]; t < int(n) {
				p[1-b] = int(n) - 1 - t
			}
			idx = append(idx, p[0]*s[1]+p[1])
		}
	}
	c.put(0, tensor.Take(c.arg[0], s, idx, s[2:].Len(), nil))
	return nil
}

func inferTrilu(c *InferCtx) error {
	c.out[0] = c.in[0]
	_, _, err := c.rankAtLeast(0, 2)
	return err
}

func evalTrilu(c *EvalCtx) error {
	s := c.arg[0].Shape()
	k := int64(0)
	if v, ok := c.ints(1); ok {
		if len(v) != 1 {
			return fmt.Errorf("k is %v; it has to be a scalar", c.in[1])
		}
		k = min(max(v[0], math.MinInt32), math.MaxInt32)
	}
	h, w := s[len(s)-2], s[len(s)-1]
	upper := c.node.Int("upper", 1) != 0
	idx := make([]int, s.Len())
	for i := range idx {
		row, col := int64(i/w%h), int64(i%w)
		idx[i] = i
		if upper && col < row+k || !upper && col > row+k {
			idx[i] = -1
		}
	}
	c.put(0, tensor.Take(c.arg[0], s, idx, 1, nil))
	return nil
}
