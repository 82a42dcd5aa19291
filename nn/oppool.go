package nn

import (
	"fmt"

	"roundel/tensor"
)

// poolOps reduce the elements under a window, or all spatial axes.
func poolOps() []OpDef {
	rows := []OpDef{
		{Name: "MaxPool", Sig: "n", Infer: inferPool, Eval: byNumber(0, maxPool[float32], maxPool[float64], maxPool[int64], maxPool[uint64])},
		{Name: "AveragePool", Sig: "f", Infer: inferPool, Eval: byFloat(0, averagePool[float32], averagePool[float64])},
		{Name: "LpPool", Sig: "f", Infer: inferPool, Eval: byFloat(0, lpPool[float32], lpPool[float64])},
		{Name: "GlobalMaxPool", Sig: "f", Infer: inferGlobalPool, Eval: globalPool(func(l []float64, _ float64) float64 { return extreme(0, most[float64])(l) })},
		{Name: "GlobalAveragePool", Sig: "f", Infer: inferGlobalPool, Eval: globalPool(func(l []float64, _ float64) float64 { return tensor.Mean(l) })},
		{Name: "GlobalLpPool", Sig: "f", Infer: inferGlobalPool, Eval: globalPool(tensor.LpNorm)},
		{Name: "MaxUnpool", Sig: "f I I?", Infer: inferMaxUnpool, Eval: evalMaxUnpool},
	}
	for i := range rows {
		rows[i].flags = widen
	}
	return rows
}

func inferPool(c *InferCtx) error {
	c.setUnranked(1, tensor.Int64) // of MaxPool
	d, ok, err := c.rankAtLeast(0, 3)
	if !ok || err != nil {
		return err
	}
	s, err := c.spatial(len(d)-2, nil)
	if err != nil {
		return err
	}
	sp, err := s.outDims(d[2:])
	if err != nil {
		return err
	}
	out := append([]Dim{d[0], d[1]}, sp...)
	c.set(0, c.in[0].DType, out)
	c.set(1, tensor.Int64, out)
	return nil
}

// poolWindow returns the window for the input of an evaluation.
func (c *EvalCtx) poolWindow() tensor.Window {
	in := c.arg[0].Shape()[2:]
	s, _ := c.spatial(len(in), nil)
	return s.window(in)
}

func maxPool[T tensor.Number](c *EvalCtx) error {
	want := c.node.Out(1) != ""
	y, idx := tensor.MaxPoolND(arg[T](c, 0), c.poolWindow(), c.outShape(0), want, c.node.Int("storage_order", 0) != 0)
	c.put(0, y)
	if want {
		c.put(1, idx)
	}
	return nil
}

func averagePool[T tensor.Float](c *EvalCtx) error {
	c.put(0, tensor.AveragePoolND(arg[T](c, 0), c.poolWindow(), c.outShape(0), c.node.Int("count_include_pad", 0) != 0))
	return nil
}

func lpPool[T tensor.Float](c *EvalCtx) error {
	c.put(0, tensor.LpPoolND(arg[T](c, 0), c.poolWindow(), c.outShape(0), float64(c.node.Int("p", 2))))
	return nil
}

func inferGlobalPool(c *InferCtx) error {
	d, ok, err := c.rankAtLeast(0, 3)
	if !ok || err != nil {
		return err
	}
	out := append([]Dim{}, d...)
	for i := range d[2:] {
		if d[2+i] == Known(0) {
			return fmt.Errorf("input %v is empty", c.in[0])
		}
		out[2+i] = Known(1)
	}
	c.set(0, c.in[0].DType, out)
	return nil
}

// globalPool reduces all spatial axes by a function of the line and the attribute p.
func globalPool(f func(line []float64, p float64) float64) func(*EvalCtx) error {
	return byFloat(0, globalPoolOf[float32](f), globalPoolOf[float64](f))
}

func globalPoolOf[T tensor.Float](f func(line []float64, p float64) float64) func(*EvalCtx) error {
	return func(c *EvalCtx) error {
		x := arg[T](c, 0)
		p := float64(c.node.Int("p", 2))
		c.put(0, tensor.ReduceLines(x, axesFrom(2, len(x.Shape())), true, func(l []float64) T { return T(f(l, p)) }))
		return nil
	}
}

// axesFrom returns from, from+1, …, rank-1.
func axesFrom(from, rank int) (out []int) {
	for i := from; i < rank; i++ {
		out = append(out, i)
	}
	return out
}

// unpooled returns the dimensions of the tensor that a MaxPool without ceil_mode made the input from.
func (c *InferCtx) unpooled(d []Dim) ([]Dim, error) {
	s, err := c.spatial(len(d)-2, nil)
	if err != nil {
		return nil, err
	}
	out := append([]Dim{}, d...)
	for i := range d[2:] {
		e := dimExpr(d[2+i]).plus(number(-1)).times(number(int64(s.stride[i]))).plus(number(int64(s.kernel[i] - s.before[i] - s.after[i])))
		if e.isNumber() && e.add < 1 {
			return nil, fmt.Errorf("axis %d would have extent %v", i+2, e)
		}
		out[2+i] = e.dim()
	}
	return out, nil
}

// inferMaxUnpool inverts the size of a MaxPool, or takes input 2 as the output shape.
func inferMaxUnpool(c *InferCtx) error {
	d, ok, err := c.rankAtLeast(0, 3)
	if !ok || err != nil {
		return err
	}
	out, err := c.unpooled(d)
	if err != nil {
		return err
	}
	if c.has(2) {
		out = unknown(len(d))
		v, ok := c.exprs(2)
		if ok && len(v) != len(d) {
			return fmt.Errorf("output_shape has %d extents for %v", len(v), c.in[0])
		}
		for i, e := range v {
			out[i] = e.dim()
		}
	}
	c.set(0, c.in[0].DType, out)
	return nil
}

// evalMaxUnpool stores every element at its index, which counts in the tensor that
// MaxPool saw; an output shape of its own then crops or extends it at the end.
func evalMaxUnpool(c *EvalCtx) error {
	dims, err := c.unpooled(c.in[0].Dims)
	if err != nil {
		return err
	}
	shape, _ := Type{Dims: dims, Ranked: true}.Shape()
	if err := checkSize(Type{Dims: dims}); err != nil || shape.Len() > maxEval {
		return fmt.Errorf("the tensor before pooling would be %v", shape)
	}
	idx, err := resolve(tensor.Int64s(c.arg[1]), shape.Len())
	if err != nil {
		return err
	}
	if len(idx) != c.arg[0].Len() {
		return fmt.Errorf("%d indices for %v", len(idx), c.in[0])
	}
	y := tensor.Put(tensor.Zeros(c.arg[0].DType(), shape...), idx, 1, c.arg[0])
	maps := make([][]int, len(shape))
	for i, n := range c.outShape(0) {
		maps[i] = padIndices(n, 0, shape[i], "constant")
	}
	c.put(0, tensor.TakeAxes(y, maps, nil))
	return nil
}
