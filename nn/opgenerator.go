package nn

import (
	"fmt"
	"math"

	"roundel/tensor"
)

// generatorOps make tensors from shapes and ranges.
func generatorOps() []OpDef {
	rows := []OpDef{
		{Name: "Shape", Sig: "a", Infer: inferShape, Eval: evalShape},
		{Name: "Size", Sig: "a", Infer: inferSize, Eval: evalSize},
		{Name: "ConstantOfShape", Sig: "I", Infer: inferConstantOfShape, Eval: evalConstantOfShape},
		{Name: "Range", Sig: "n n= n=", Infer: inferRange, Eval: byNumber(0, evalRange[float32], evalRange[float64], evalRange[int64], evalRange[uint64]), flags: widen},
		{Name: "EyeLike", Sig: "a", Infer: inferEyeLike, Eval: evalEyeLike},
	}
	for i := range rows {
		rows[i].flags |= fold
	}
	return rows
}

// shapeRange returns the part of the dimensions that Shape gives.
func (c *InferCtx) shapeRange(rank int) (from, to int) {
	clamp := func(v int64) int {
		if v < 0 {
			v += int64(rank)
		}
		return int(min(max(v, 0), int64(rank)))
	}
	from, to = clamp(c.node.Int("start", 0)), clamp(c.node.Int("end", int64(rank)))
	return from, max(from, to)
}

func inferShape(c *InferCtx) error {
	d, ok := c.dims(0)
	if !ok {
		c.set(0, tensor.Int64, unknown(1))
		return nil
	}
	from, to := c.shapeRange(len(d))
	c.set(0, tensor.Int64, []Dim{Known(to - from)})
	out := make([]expr, 0, to-from)
	for _, d := range d[from:to] {
		out = append(out, dimExpr(d))
	}
	c.know(0, out)
	return nil
}

func evalShape(c *EvalCtx) error {
	s := c.arg[0].Shape()
	from, to := c.shapeRange(len(s))
	out := tensor.New[int64](to - from)
	for i := range out.Data() {
		out.Data()[i] = int64(s[from+i])
	}
	c.put(0, out)
	return nil
}

func inferSize(c *InferCtx) error {
	c.set(0, tensor.Int64, []Dim{})
	if d, ok := c.dims(0); ok {
		c.know(0, []expr{product(d)})
	}
	return nil
}

func evalSize(c *EvalCtx) error {
	c.put(0, tensor.Scalar(int64(c.arg[0].Len())))
	return nil
}

// inferConstantOfShape: the attribute value has one element, float32 zero by default.
func inferConstantOfShape(c *InferCtx) error {
	dt := tensor.Float32
	if a, ok := c.node.Attrs["value"]; ok {
		if a.T == nil || a.T.Len() != 1 {
			return fmt.Errorf("attribute value has to be a tensor of one element")
		}
		dt = a.T.DType()
	}
	c.setUnranked(0, dt)
	v, ok := c.exprs(0)
	if !ok {
		if n, ok := c.length(0); ok {
			c.set(0, dt, unknown(n))
		}
		return nil
	}
	dims := make([]Dim, len(v))
	for i, e := range v {
		if e.isNumber() && e.add < 0 {
			return fmt.Errorf("shape %v has a negative dimension", v)
		}
		dims[i] = e.dim()
	}
	c.set(0, dt, dims)
	return nil
}

func evalConstantOfShape(c *EvalCtx) error {
	one := tensor.Zeros(c.out[0].DType, 1)
	if a, ok := c.node.Attrs["value"]; ok {
		one = tensor.ReshapeAny(a.T, tensor.Shape{1})
	}
	c.put(0, tensor.Expand(one, c.outShape(0)))
	return nil
}

func inferRange(c *InferCtx) error {
	n := Dim{Size: -1}
	start, ok0 := c.exprs(0)
	limit, ok1 := c.exprs(1)
	delta, ok2 := c.exprs(2)
	if ok0 && ok1 && ok2 && len(start) == 1 && len(limit) == 1 && len(delta) == 1 && delta[0] == number(1) && !c.concrete {
		n = limit[0].plus(start[0].times(number(-1))).dim()
	}
	a, ok0 := c.floats(0)
	b, ok1 := c.floats(1)
	d, ok2 := c.floats(2)
	if ok0 && ok1 && ok2 {
		if len(a) != 1 || len(b) != 1 || len(d) != 1 {
			return fmt.Errorf("start, limit and delta have to be scalars")
		}
		count := math.Ceil((b[0] - a[0]) / d[0])
		if d[0] == 0 || !(count <= maxDim) {
			return fmt.Errorf("from %v to %v by %v is no range of at most %d elements", a[0], b[0], d[0], maxDim)
		}
		n = Known(int(max(count, 0)))
	}
	c.set(0, c.in[0].DType, []Dim{n})
	return nil
}

func evalRange[T tensor.Number](c *EvalCtx) error {
	start, delta := arg[T](c, 0).Data()[0], arg[T](c, 2).Data()[0]
	out := tensor.New[T](c.outShape(0)...)
	for i := range out.Data() {
		if c.in[0].DType.IsFloat() {
			out.Data()[i] = T(float64(start) + float64(float64(i)*float64(delta)))
		} else {
			out.Data()[i] = start + T(T(i)*delta)
		}
	}
	c.put(0, out)
	return nil
}

func inferEyeLike(c *InferCtx) error {
	d, ok := c.dims(0)
	if ok && len(d) != 2 {
		return fmt.Errorf("input is %v; it has to be a matrix", c.in[0])
	}
	c.out[0] = c.in[0]
	if to := c.node.Int("dtype", 0); to != 0 {
		dt, ok := onnxTypes[to]
		if !ok {
			return fmt.Errorf("ONNX element type %d is not supported", to)
		}
		c.out[0].DType = dt
	}
	return nil
}

func evalEyeLike(c *EvalCtx) error {
	s := c.arg[0].Shape()
	k := c.node.Int("k", 0)
	out := tensor.New[uint8](s...)
	for i := range out.Data() {
		if int64(i%s[1])-int64(i/s[1]) == k {
			out.Data()[i] = 1
		}
	}
	c.put(0, tensor.Cast(out, c.out[0].DType))
	return nil
}
