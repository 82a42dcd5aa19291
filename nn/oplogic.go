package nn

import (
	"math"

	"roundel/tensor"
)

// logicOps are comparisons, logic and selection; their results are bool but for Where.
func logicOps() []OpDef {
	rows := []OpDef{
		{Name: "Equal", Sig: "a a=", Eval: evalEqual},
		{Name: "Greater", Sig: "n n=", Eval: compare(gt[float32], gt[float64], gt[int64], gt[uint64])},
		{Name: "GreaterOrEqual", Sig: "n n=", Eval: compare(ge[float32], ge[float64], ge[int64], ge[uint64])},
		{Name: "Less", Sig: "n n=", Eval: compare(lt[float32], lt[float64], lt[int64], lt[uint64])},
		{Name: "LessOrEqual", Sig: "n n=", Eval: compare(le[float32], le[float64], le[int64], le[uint64])},
		{Name: "And", Sig: "b b", Eval: logic(func(a, b bool) bool { return a && b })},
		{Name: "Or", Sig: "b b", Eval: logic(func(a, b bool) bool { return a || b })},
		{Name: "Xor", Sig: "b b", Eval: logic(func(a, b bool) bool { return a != b })},
	}
	for i := range rows {
		rows[i].Infer = inferPredicate(inferBroadcast)
	}
	rows = append(rows,
		OpDef{Name: "Not", Sig: "b", Infer: inferSame, Eval: evalNot},
		OpDef{Name: "IsNaN", Sig: "f", Infer: inferPredicate(inferSame), Eval: byFloat(0, test[float32](isNaN), test[float64](isNaN))},
		OpDef{Name: "IsInf", Sig: "f", Infer: inferPredicate(inferSame), Eval: byFloat(0, test[float32](isInf), test[float64](isInf))},
		OpDef{Name: "Where", Sig: "b a a=1", Infer: inferWhere, Eval: evalWhere})
	for i := range rows {
		rows[i].flags = fold
		if rows[i].Name != "Where" {
			rows[i].flags |= widen
		}
	}
	return rows
}

func gt[T tensor.Number](a, b T) bool { return a > b }
func ge[T tensor.Number](a, b T) bool { return a >= b }
func lt[T tensor.Number](a, b T) bool { return a < b }
func le[T tensor.Number](a, b T) bool { return a <= b }
func eq[T tensor.Elem](a, b T) bool   { return a == b }

func compare(f32 func(a, b float32) bool, f64 func(a, b float64) bool, i64 func(a, b int64) bool, u64 func(a, b uint64) bool) func(*EvalCtx) error {
	return byNumber(0, map2(f32), map2(f64), map2(i64), map2(u64))
}

func logic(f func(a, b bool) bool) func(*EvalCtx) error {
	return func(c *EvalCtx) error {
		c.put(0, tensor.Map2(arg[bool](c, 0), arg[bool](c, 1), f))
		return nil
	}
}

// inferPredicate makes the output of another rule bool.
func inferPredicate(infer func(*InferCtx) error) func(*InferCtx) error {
	return func(c *InferCtx) error {
		err := infer(c)
		c.out[0].DType = tensor.Bool
		if t := c.outVal[0].t; t != nil {
			c.outVal[0].t = tensor.Cast(t, tensor.Bool)
		}
		return err
	}
}

func evalEqual(c *EvalCtx) error {
	if c.arg[0].DType() == tensor.Bool {
		return logic(eq[bool])(c)
	}
	return compare(eq[float32], eq[float64], eq[int64], eq[uint64])(c)
}

func evalNot(c *EvalCtx) error {
	c.put(0, tensor.Map(arg[bool](c, 0), func(b bool) bool { return !b }))
	return nil
}

// test evaluates a predicate of one float.
func test[T tensor.Float](f func(n *Node, v float64) bool) func(*EvalCtx) error {
	return func(c *EvalCtx) error {
		c.put(0, tensor.Map(arg[T](c, 0), func(v T) bool { return f(c.node, float64(v)) }))
		return nil
	}
}

func isNaN(_ *Node, v float64) bool { return v != v }

func isInf(n *Node, v float64) bool {
	return v > math.MaxFloat64 && n.Int("detect_positive", 1) != 0 || v < -math.MaxFloat64 && n.Int("detect_negative", 1) != 0
}

// inferWhere broadcasts all three inputs and follows integers where the condition is known.
func inferWhere(c *InferCtx) error {
	c.setUnranked(0, c.in[1].DType)
	dims := []Dim{}
	for i := range c.in {
		d, ok := c.dims(i)
		if !ok {
			return nil
		}
		var err error
		if dims, err = broadcastDims(dims, d); err != nil {
			return err
		}
	}
	c.set(0, c.in[1].DType, dims)
	cond, ok0 := c.exprs(0)
	a, ok1 := c.exprs(1)
	b, ok2 := c.exprs(2)
	shape, ok := c.out[0].Shape()
	if !ok || !ok0 || !ok1 || !ok2 || shape.Len() > maxFold {
		return nil
	}
	out := make([]expr, shape.Len())
	for i := range out {
		switch p := cond[i%len(cond)]; {
		case p.isNumber() && p.add != 0:
			out[i] = a[i%len(a)]
		case p.isNumber():
			out[i] = b[i%len(b)]
		}
	}
	c.know(0, out)
	return nil
}

func evalWhere(c *EvalCtx) error {
	c.put(0, tensor.Where(arg[bool](c, 0), c.arg[1], c.arg[2]))
	return nil
}
