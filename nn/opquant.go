package nn

import (
	"fmt"
	"math"
	"slices"

	"roundel/tensor"
)

// quantOps quantize, dequantize and compute with integers. Four-bit types are stored
// in int8 and uint8; the attribute output_dtype of QuantizeLinear tells them apart.
func quantOps() []OpDef {
	return []OpDef{
		{Name: "QuantizeLinear", Sig: "n f q?", Infer: inferQuantize, Eval: evalQuantize},
		{Name: "DequantizeLinear", Sig: "u f u=?", Infer: inferDequantize, Eval: evalDequantize},
		{Name: "DynamicQuantizeLinear", Sig: "f", Infer: inferDynamicQuantize, Eval: evalDynamicQuantize},
		{Name: "QLinearConv", Sig: "q f q= q f q=3 f q i?", Infer: inferQLinearConv, Eval: evalQLinearConv},
		{Name: "QLinearMatMul", Sig: "q f q= q f q=3 f q", Infer: inferQLinearMatMul, Eval: evalQLinearMatMul},
		{Name: "ConvInteger", Sig: "q q q=? q=1?", Infer: inferConvInteger, Eval: evalConvInteger},
		{Name: "MatMulInteger", Sig: "q q q=? q=1?", Infer: inferMatMulInteger, Eval: evalMatMulInteger},
	}
}

// quantAxis checks scale (input 1) and zero point (input 2) of a Quantize- or DequantizeLinear against the data.
// The scale is a scalar, a vector along the attribute axis, or, with block_size, one value for each block along it.
func (c *InferCtx) quantAxis() error {
	d, ok0 := c.dims(0)
	s, ok1 := c.dims(1)
	if z, ok := c.dims(2); ok && ok1 {
		if e, f := product(z), product(s); len(z) != len(s) && max(len(z), len(s)) > 1 || e.isNumber() && f.isNumber() && e != f {
			return fmt.Errorf("scale is %v, zero point is %v", c.in[1], c.in[2])
		}
	}
	if !ok0 || !ok1 || len(s) == 0 || len(s) == 1 && s[0] == Known(1) {
		return nil
	}
	a, err := axis(c.node.Int("axis", 1), len(d))
	if err != nil {
		return err
	}
	block := c.node.Int("block_size", 0)
	switch {
	case block < 0 || block > maxDim:
		return fmt.Errorf("block_size is %d", block)
	case block == 0 && len(s) == 1:
		if _, ok := sameDim(s[0], d[a]); !ok {
			return fmt.Errorf("scale is %v for axis %d of %v", c.in[1], a, c.in[0])
		}
		return nil
	case block == 0 || len(s) != len(d):
		return fmt.Errorf("scale is %v for data %v with block_size %d", c.in[1], c.in[0], block)
	}
	for i := range d {
		want := d[i]
		if i == a && d[i].IsKnown() {
			want = Known((d[i].Size + int(block) - 1) / int(block))
		}
		if _, ok := sameDim(s[i], want); !ok && (i != a || d[i].IsKnown()) {
			return fmt.Errorf("scale is %v for data %v in blocks of %d along axis %d", c.in[1], c.in[0], block, a)
		}
	}
	return nil
}

// spread returns a scale or zero point with one value for every element of the data.
func (c *EvalCtx) spread(t tensor.Any) []float64 {
	shape := c.arg[0].Shape()
	if t.Len() == 1 && len(t.Shape()) <= 1 {
		return slices.Repeat(tensor.Float64s(t), shape.Len())
	}
	a, _ := axis(c.node.Int("axis", 1), len(shape))
	block := max(int(c.node.Int("block_size", 0)), 1)
	if len(t.Shape()) == 1 {
		s := make(tensor.Shape, len(shape))
		for i := range s {
			s[i] = 1
		}
		s[a] = t.Len()
		return tensor.Float64s(tensor.Expand(tensor.ReshapeAny(t, s), shape))
	}
	maps := make([][]int, len(shape))
	for i, n := range shape {
		maps[i] = axesFrom(0, n)
		for j := range maps[i] {
			if i == a {
				maps[i][j] = j / block
			}
		}
	}
	return tensor.Float64s(tensor.TakeAxes(t, maps, nil))
}

// quantRange returns the type and the range of codes that a QuantizeLinear makes.
func (c *InferCtx) quantRange() (dt tensor.DType, lo, hi float64, err error) {
	to := c.node.Int("output_dtype", 0)
	switch {
	case to == 21: // uint4
		return tensor.Uint8, 0, 15, nil
	case to == 22: // int4
		return tensor.Int8, -8, 7, nil
	case to != 0:
		dt = onnxTypes[to]
	case c.has(2):
		dt = c.in[2].DType
	default:
		dt = tensor.Uint8
	}
	lo, hi, ok := codeRange(dt)
	if !ok {
		return dt, 0, 0, fmt.Errorf("cannot quantize to %v", dt)
	}
	if c.has(2) && c.in[2].DType != dt {
		return dt, 0, 0, fmt.Errorf("output_dtype is %v, the zero point is %v", dt, c.in[2].DType)
	}
	return dt, lo, hi, nil
}

// codeRange returns the range of an integer type of 8 or 16 bits.
func codeRange(dt tensor.DType) (lo, hi float64, ok bool) {
	switch dt {
	case tensor.Uint8:
		return 0, 255, true
	case tensor.Int8:
		return -128, 127, true
	case tensor.Uint16:
		return 0, 65535, true
	case tensor.Int16:
		return -32768, 32767, true
	}
	return 0, 0, false
}

func inferQuantize(c *InferCtx) error {
	dt, _, _, err := c.quantRange()
	if err != nil {
		return err
	}
	if in := c.in[0].DType; !in.IsFloat() && in != tensor.Int32 {
		return fmt.Errorf("input is %v; it has to be a float or int32 tensor", in)
	}
	c.out[0] = c.in[0]
	c.out[0].DType = dt
	return c.quantAxis()
}

// evalQuantize computes clamp(rne(x/scale) + zero point), the quotient in float32 (float64 for float64 scales).
func evalQuantize(c *EvalCtx) error {
	_, lo, hi, err := c.quantRange()
	if err != nil {
		return err
	}
	x, s := tensor.Float64s(c.arg[0]), c.spread(c.arg[1])
	z := make([]float64, len(x))
	if c.has(2) {
		z = c.spread(c.arg[2])
	}
	wide := c.arg[1].DType() == tensor.Float64
	out := make([]float64, len(x))
	for i, v := range x {
		q := v / s[i]
		if !wide {
			q = float64(float32(q)) // the quotient of two float32, rounded once
		}
		out[i] = quantCode(q, z[i], lo, hi)
	}
	c.put(0, tensor.Cast(tensor.From(out, c.outShape(0)...), c.out[0].DType))
	return nil
}

// quantCode rounds half to even, adds the zero point and clamps; NaN gives the lowest code.
func quantCode(q, z, lo, hi float64) float64 {
	if q = math.RoundToEven(q) + z; !(q > lo) {
		return lo
	}
	return min(q, hi)
}

func inferDequantize(c *InferCtx) error {
	c.out[0] = c.in[0]
	c.out[0].DType = c.in[1].DType
	if to := c.node.Int("output_dtype", 0); to != 0 {
		dt, ok := onnxTypes[to]
		if !ok || !dt.IsFloat() {
			return fmt.Errorf("output_dtype %d is not supported", to)
		}
		c.out[0].DType = dt
	}
	return c.quantAxis()
}

// evalDequantize computes (x - zero point)·scale.
func evalDequantize(c *EvalCtx) error {
	x, s := tensor.Float64s(c.arg[0]), c.spread(c.arg[1])
	z := make([]float64, len(x))
	if c.has(2) {
		z = c.spread(c.arg[2])
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = (v - z[i]) * s[i]
	}
	c.put(0, tensor.Cast(tensor.From(out, c.outShape(0)...), c.out[0].DType))
	return nil
}

func inferDynamicQuantize(c *InferCtx) error {
	c.out[0] = c.in[0]
	c.out[0].DType = tensor.Uint8
	c.set(1, tensor.Float32, []Dim{})
	c.set(2, tensor.Uint8, []Dim{})
	return nil
}

// evalDynamicQuantize takes the range of x, stretched to hold zero, to 0…255.
func evalDynamicQuantize(c *EvalCtx) error {
	x := tensor.Float64s(c.arg[0])
	lo, hi := 0.0, 0.0
	for _, v := range x {
		lo, hi = min(lo, v), max(hi, v)
	}
	scale := float64((float32(hi) - float32(lo)) / 255)
	if scale == 0 {
		scale = 1
	}
	zero := quantCode(float64(float32(-lo/scale)), 0, 0, 255)
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = quantCode(float64(float32(v/scale)), zero, 0, 255)
	}
	c.put(0, tensor.From(out, c.outShape(0)...))
	c.put(1, tensor.Scalar(scale))
	c.put(2, tensor.Scalar(zero))
	return nil
}

// centred returns input i minus its zero point, input z, as exact float64. The zero
// point is a scalar or a vector along axis (from the end: -2 for rows, -1 for columns).
func (c *EvalCtx) centred(i, z, ax int) (*tensor.Dense[float64], error) {
	x := tensor.Cast(c.arg[i], tensor.Float64).(*tensor.Dense[float64])
	if !c.has(z) {
		return x, nil
	}
	zero, err := alongAxis(c.arg[z], x.Shape(), ax)
	if err != nil {
		return nil, fmt.Errorf("zero point %v of %v: %w", c.in[z], c.in[i], err)
	}
	return tensor.Map2(x, zero, sub[float64]), nil
}

// alongAxis shapes a scalar, a vector along axis ax of s, or a tensor that broadcasts to s, for broadcasting.
func alongAxis(t tensor.Any, s tensor.Shape, ax int) (*tensor.Dense[float64], error) {
	v := tensor.Cast(t, tensor.Float64).(*tensor.Dense[float64])
	if ax < 0 {
		ax += len(s)
	}
	if len(v.Shape()) == 1 && v.Len() > 1 {
		shape := slices.Repeat([]int{1}, len(s))
		if ax < 0 {
			return nil, fmt.Errorf("has no axis to lie along")
		}
		shape[ax] = v.Len()
		v = v.Reshape(shape...)
	}
	b, err := tensor.BroadcastShape(v.Shape(), s)
	if err == nil && !b.Equal(s) {
		err = fmt.Errorf("does not fit")
	}
	return v, err
}

func inferMatMulInteger(c *InferCtx) error {
	c.setUnranked(0, tensor.Int32)
	dims, err := c.matMulDims(0, 1)
	if dims != nil {
		c.set(0, tensor.Int32, dims)
	}
	return err
}

func evalMatMulInteger(c *EvalCtx) error {
	a, err := c.centred(0, 2, -2)
	if err != nil {
		return err
	}
	b, err := c.centred(1, 3, -1)
	if err != nil {
		return err
	}
	c.put(0, tensor.MatMul[float64](a, b))
	return nil
}

func inferConvInteger(c *InferCtx) error {
	c.setUnranked(0, tensor.Int32)
	dims, err := c.convDims(0, 1)
	if dims != nil {
		c.set(0, tensor.Int32, dims)
	}
	return err
}

func evalConvInteger(c *EvalCtx) error {
	y, err := c.convCentred(0, 2, 1, 3, nil)
	if err != nil {
		return err
	}
	c.put(0, y)
	return nil
}

// convCentred convolves inputs xi and wi minus their zero points xz and wz, exactly.
func (c *EvalCtx) convCentred(xi, xz, wi, wz int, bias *tensor.Dense[float64]) (*tensor.Dense[float64], error) {
	x, err := c.centred(xi, xz, 1)
	if err != nil {
		return nil, err
	}
	w, err := c.centred(wi, wz, 0)
	if err != nil {
		return nil, err
	}
	s, err := c.spatial(len(x.Shape())-2, w.Shape()[2:])
	if err != nil {
		return nil, err
	}
	return tensor.ConvND(x, w, bias, s.window(x.Shape()[2:]), int(c.node.Int("group", 1)), c.outShape(0)), nil
}

func inferQLinearConv(c *InferCtx) error {
	c.setUnranked(0, c.in[7].DType)
	dims, err := c.convDims(0, 3)
	if err != nil || dims == nil {
		return err
	}
	c.set(0, c.in[7].DType, dims)
	return c.checkBias(8, dims[1])
}

// evalQLinearConv: the sum in integers, then rescaled by x_scale·w_scale/y_scale, w_scale perhaps for each output channel.
func evalQLinearConv(c *EvalCtx) error {
	var bias *tensor.Dense[float64]
	if c.has(8) {
		bias = tensor.Cast(c.arg[8], tensor.Float64).(*tensor.Dense[float64])
	}
	acc, err := c.convCentred(0, 2, 3, 5, bias)
	if err != nil {
		return err
	}
	return c.requantize(acc, 1, 1, 4, 1, 6, 7)
}

func inferQLinearMatMul(c *InferCtx) error {
	c.setUnranked(0, c.in[7].DType)
	dims, err := c.matMulDims(0, 3)
	if dims != nil {
		c.set(0, c.in[7].DType, dims)
	}
	return err
}

func evalQLinearMatMul(c *EvalCtx) error {
	a, err := c.centred(0, 2, -2)
	if err != nil {
		return err
	}
	b, err := c.centred(3, 5, -1)
	if err != nil {
		return err
	}
	return c.requantize(tensor.MatMul[float64](a, b), 1, -2, 4, -1, 6, 7)
}

// requantize puts clamp(rne(acc·s₁·s₂/s₃) + z) with the scales in inputs s1 (along
// axis a1), s2 (along a2) and s3, and the zero point in input z. The factor and the
// product are float32, as in other runtimes.
func (c *EvalCtx) requantize(acc *tensor.Dense[float64], s1, a1, s2, a2, s3, z int) error {
	p, err1 := alongAxis(c.arg[s1], acc.Shape(), a1)
	q, err2 := alongAxis(c.arg[s2], acc.Shape(), a2)
	r, err3 := c.number(s3, 1)
	zero, err4 := c.number(z, 0)
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			return fmt.Errorf("scales and zero points: %w", err)
		}
	}
	lo, hi, _ := codeRange(c.in[z].DType)
	factor := tensor.Map2(p, q, func(a, b float64) float64 { return float64(float32(a) * float32(b) / float32(r)) })
	c.put(0, tensor.Map2(acc, factor, func(v, f float64) float64 {
		return quantCode(float64(float32(v)*float32(f)), zero, lo, hi)
	}))
	return nil
}
