package nn

import (
	"errors"
	"fmt"
	"math"

	"roundel/tensor"
)

// elementwiseOps are arithmetic with broadcasting and functions of one element.
func elementwiseOps() []OpDef {
	rows := []OpDef{
		{Name: "Add", Sig: "n n=", Eval: binary(add[float32], add[float64], add[int64], add[uint64])},
		{Name: "Sub", Sig: "n n=", Eval: binary(sub[float32], sub[float64], sub[int64], sub[uint64])},
		{Name: "Mul", Sig: "n n=", Eval: binary(mul[float32], mul[float64], mul[int64], mul[uint64])},
		{Name: "Div", Sig: "n n=", Eval: noZeroDivisor(binary(div[float32], div[float64], div[int64], div[uint64]))},
		{Name: "Mod", Sig: "n n=", Eval: noZeroDivisor(evalMod)},
		{Name: "Pow", Sig: "n n", Eval: byNumber(0, evalPow[float32], evalPow[float64], evalPow[int64], evalPow[uint64])},
		{Name: "Min", Sig: "n=*", Eval: byNumber(0, fold2(least[float32]), fold2(least[float64]), fold2(least[int64]), fold2(least[uint64]))},
		{Name: "Max", Sig: "n=*", Eval: byNumber(0, fold2(most[float32]), fold2(most[float64]), fold2(most[int64]), fold2(most[uint64]))},
		{Name: "Sum", Sig: "f=*", Eval: byFloat(0, evalSum[float32], evalSum[float64])},
		{Name: "Mean", Sig: "f=*", Eval: byFloat(0, evalSum[float32], evalSum[float64])},
		{Name: "BitwiseAnd", Sig: "u u=", Eval: binary(nil, nil, and[int64], and[uint64])},
		{Name: "BitwiseOr", Sig: "u u=", Eval: binary(nil, nil, or[int64], or[uint64])},
		{Name: "BitwiseXor", Sig: "u u=", Eval: binary(nil, nil, xor[int64], xor[uint64])},
		{Name: "BitShift", Sig: "u u=", Eval: evalBitShift},
		{Name: "Abs", Sig: "n", Infer: inferUnary, Eval: unary(math.Abs, func(v int64) int64 { return max(v, -v) }, func(v uint64) uint64 { return v })},
		{Name: "Neg", Sig: "n", Infer: inferUnary, Eval: unary(func(v float64) float64 { return -v }, func(v int64) int64 { return -v }, nil)},
		{Name: "Sign", Sig: "n", Infer: inferUnary, Eval: unary(sign[float64], sign[int64], sign[uint64])},
		{Name: "BitwiseNot", Sig: "u", Infer: inferUnary, Eval: unary(nil, func(v int64) int64 { return ^v }, func(v uint64) uint64 { return ^v })},
		{Name: "Clip", Sig: "n n=? n=?", Infer: inferSame, Eval: byNumber(0, evalClip[float32], evalClip[float64], evalClip[int64], evalClip[uint64])},
	}
	for _, f := range []struct {
		name string
		fn   func(float64) float64
	}{
		{"Ceil", math.Ceil}, {"Floor", math.Floor}, {"Round", math.RoundToEven}, {"Sqrt", math.Sqrt},
		{"Exp", tensor.Exp}, {"Log", tensor.Log}, {"Erf", tensor.Erf}, {"Sin", tensor.Sin}, {"Cos", tensor.Cos}, {"Tan", tensor.Tan},
		{"Asin", tensor.Asin}, {"Acos", tensor.Acos}, {"Atan", tensor.Atan}, {"Sinh", tensor.Sinh}, {"Cosh", tensor.Cosh},
		{"Tanh", tensor.Tanh}, {"Asinh", tensor.Asinh}, {"Acosh", tensor.Acosh}, {"Atanh", tensor.Atanh},
		{"Reciprocal", func(v float64) float64 { return 1 / v }},
	} {
		rows = append(rows, OpDef{Name: f.name, Sig: "f", Infer: inferUnary, Eval: unary(f.fn, nil, nil),
			scalar: func(*Node) func(float64) float64 { return f.fn }})
	}
	for i := range rows {
		rows[i].flags = fold | widen
		if rows[i].Infer == nil {
			rows[i].Infer = inferBroadcast
		}
	}
	return rows
}

func add[T tensor.Number](a, b T) T   { return a + b }
func sub[T tensor.Number](a, b T) T   { return a - b }
func mul[T tensor.Number](a, b T) T   { return a * b }
func div[T tensor.Number](a, b T) T   { return a / b }
func least[T tensor.Number](a, b T) T { return min(a, b) }
func most[T tensor.Number](a, b T) T  { return max(a, b) }
func and[T int64 | uint64](a, b T) T  { return a & b }
func or[T int64 | uint64](a, b T) T   { return a | b }
func xor[T int64 | uint64](a, b T) T  { return a ^ b }
func sign[T float64 | int64 | uint64](v T) T {
	var zero T
	switch {
	case v > 0:
		return 1
	case v < 0:
		return zero - 1
	}
	return v // zeros and NaN
}

// binary evaluates an operator of two inputs with one function per type.
func binary(f32 func(a, b float32) float32, f64 func(a, b float64) float64, i64 func(a, b int64) int64, u64 func(a, b uint64) uint64) func(*EvalCtx) error {
	return byNumber(0, map2(f32), map2(f64), map2(i64), map2(u64))
}

func map2[T tensor.Number, D tensor.Elem](f func(a, b T) D) func(*EvalCtx) error {
	if f == nil {
		return nil
	}
	return func(c *EvalCtx) error {
		c.put(0, tensor.Map2(arg[T](c, 0), arg[T](c, 1), f))
		return nil
	}
}

// fold2 applies a function of two elements along all inputs.
func fold2[T tensor.Number](f func(a, b T) T) func(*EvalCtx) error {
	return func(c *EvalCtx) error {
		y := arg[T](c, 0)
		for i := 1; i < len(c.arg); i++ {
			y = tensor.Map2(y, arg[T](c, i), f)
		}
		c.put(0, y)
		return nil
	}
}

// unary evaluates a function of one element; nil functions are types it is not defined for.
func unary(f func(float64) float64, i64 func(int64) int64, u64 func(uint64) uint64) func(*EvalCtx) error {
	var e [4]func(*EvalCtx) error
	if f != nil {
		e[0] = func(c *EvalCtx) error { c.put(0, tensor.MapFloat(arg[float32](c, 0), f)); return nil }
		e[1] = func(c *EvalCtx) error { c.put(0, tensor.MapFloat(arg[float64](c, 0), f)); return nil }
	}
	if i64 != nil {
		e[2] = func(c *EvalCtx) error { c.put(0, tensor.Map(arg[int64](c, 0), i64)); return nil }
	}
	if u64 != nil {
		e[3] = func(c *EvalCtx) error { c.put(0, tensor.Map(arg[uint64](c, 0), u64)); return nil }
	}
	return byNumber(0, e[0], e[1], e[2], e[3])
}

// inferSame gives the first output the type of the first input.
func inferSame(c *InferCtx) error {
	c.out[0] = c.in[0]
	return nil
}

// inferUnary is inferSame that also follows integer values through Neg and the rounding functions.
func inferUnary(c *InferCtx) error {
	c.out[0] = c.in[0]
	v, ok := c.exprs(0)
	if !ok {
		return nil
	}
	switch c.node.Op {
	case "Floor", "Ceil", "Round":
		c.know(0, v)
	case "Neg":
		out := make([]expr, len(v))
		for i, e := range v {
			out[i] = e.times(number(-1))
		}
		c.know(0, out)
	}
	return nil
}

// inferBroadcast gives the first output the type of the first input and the shape that all inputs broadcast to.
func inferBroadcast(c *InferCtx) error {
	dims := []Dim{}
	for i := range c.in {
		d, ok := c.dims(i)
		if !ok {
			c.setUnranked(0, c.in[0].DType)
			return nil
		}
		var err error
		if dims, err = broadcastDims(dims, d); err != nil {
			return err
		}
	}
	c.set(0, c.in[0].DType, dims)
	if len(c.in) == 2 {
		c.knowBinary()
	}
	return nil
}

// knowBinary follows integer values through arithmetic and comparison.
func (c *InferCtx) knowBinary() {
	a, okA := c.exprs(0)
	b, okB := c.exprs(1)
	f := exprOps[c.node.Op]
	if !okA || !okB || f == nil || len(a) != len(b) && len(a) != 1 && len(b) != 1 {
		return
	}
	out := make([]expr, max(len(a), len(b)))
	if len(a) == 0 || len(b) == 0 {
		out = nil
	}
	for i := range out {
		p, q := a[i%len(a)], b[i%len(b)]
		out[i] = f(p, q)
		if c.node.Op == "Div" && c.in[0].DType.IsFloat() && !out[i].times(q).equals(p) {
			out[i] = expr{} // a fraction
		}
	}
	c.know(0, out)
}

// exprOps are the operators that inference follows on symbolic integers.
var exprOps = map[string]func(a, b expr) expr{
	"Add": expr.plus,
	"Sub": func(a, b expr) expr { return a.plus(b.times(number(-1))) },
	"Mul": expr.times,
	"Div": expr.over,
	"Equal": func(a, b expr) expr {
		switch d := a.plus(b.times(number(-1))); {
		case d.isNumber():
			return truth(d.add == 0)
		case a.isNumber() && a.add <= 0 && b.positive(), b.isNumber() && b.add <= 0 && a.positive():
			return truth(false)
		}
		return expr{}
	},
}

func truth(b bool) expr {
	if b {
		return number(1)
	}
	return number(0)
}

// equals reports whether e and f are certainly the same.
func (e expr) equals(f expr) bool { return e.ok && e == f }

// noZeroDivisor refuses integer division by zero, which is undefined in ONNX and a crash elsewhere.
func noZeroDivisor(eval func(*EvalCtx) error) func(*EvalCtx) error {
	return func(c *EvalCtx) error {
		if isInteger(c.in[1].DType) {
			for _, v := range tensor.Int64s(c.arg[1]) {
				if v == 0 {
					return errors.New("integer division by zero")
				}
			}
		}
		return eval(c)
	}
}

// evalMod computes the remainder: with fmod=1 it has the sign of the dividend (C), otherwise that of the divisor (Python).
func evalMod(c *EvalCtx) error {
	if c.node.Int("fmod", 0) != 0 {
		return binary(func(a, b float32) float32 { return float32(math.Mod(float64(a), float64(b))) }, math.Mod,
			func(a, b int64) int64 { return a % b }, func(a, b uint64) uint64 { return a % b })(c)
	}
	floorMod := func(a, b float64) float64 {
		r := math.Mod(a, b)
		if r != 0 && (r < 0) != (b < 0) {
			r += b
		}
		return r
	}
	return binary(func(a, b float32) float32 { return float32(floorMod(float64(a), float64(b))) }, floorMod,
		func(a, b int64) int64 {
			r := a % b
			if r != 0 && (r < 0) != (b < 0) {
				r += b
			}
			return r
		}, func(a, b uint64) uint64 { return a % b })(c)
}

// evalPow raises to a power of any type; the result has the type of the base.
func evalPow[T tensor.Number](c *EvalCtx) error {
	base := arg[T](c, 0)
	if isInteger(c.in[0].DType) && isInteger(c.in[1].DType) {
		exps := tensor.Cast(c.arg[1], tensor.Int64).(*tensor.Dense[int64])
		c.put(0, tensor.Map2(base, exps, intPow[T]))
		return nil
	}
	exps := tensor.Cast(c.arg[1], tensor.Float64).(*tensor.Dense[float64])
	y := tensor.Map2(base, exps, func(b T, e float64) float64 { return tensor.Pow(float64(b), e) })
	c.put(0, tensor.Cast(y, base.DType()))
	return nil
}

// intPow computes bᵉ modulo the width of the type, and for negative e the truncated quotient 1/b⁻ᵉ (0 for b = 0).
func intPow[T tensor.Number](b T, e int64) T {
	if e < 0 {
		switch {
		case b == 1 || b+1 == 0 && e%2 == 0:
			return 1
		case b+1 == 0:
			return b
		}
		return 0
	}
	r := T(1)
	for ; e > 0; e >>= 1 {
		if e&1 == 1 {
			r *= b
		}
		b *= b
	}
	return r
}

// evalSum adds all inputs, for Mean divided by their number, in float64.
func evalSum[T tensor.Float](c *EvalCtx) error {
	acc := tensor.Map(arg[T](c, 0), func(v T) float64 { return float64(v) })
	for i := 1; i < len(c.arg); i++ {
		acc = tensor.Map2(acc, arg[T](c, i), func(a float64, b T) float64 { return a + float64(b) })
	}
	n := 1.0
	if c.node.Op == "Mean" {
		n = float64(len(c.arg))
	}
	c.put(0, tensor.Map(acc, func(v float64) T { return T(v / n) }))
	return nil
}

// evalBitShift shifts left or right; a shift by the width or more gives 0, or the sign for right shifts of signed integers.
func evalBitShift(c *EvalCtx) error {
	left := c.node.Str("direction", "") == "LEFT"
	if !left && c.node.Str("direction", "") != "RIGHT" {
		return fmt.Errorf("attribute direction is %q; it has to be LEFT or RIGHT", c.node.Str("direction", ""))
	}
	if left {
		return binary(nil, nil, func(a, b int64) int64 { return a << shift(uint64(b)) }, func(a, b uint64) uint64 { return a << shift(b) })(c)
	}
	return binary(nil, nil, func(a, b int64) int64 { return a >> shift(uint64(b)) }, func(a, b uint64) uint64 { return a >> shift(b) })(c)
}

func shift(n uint64) uint64 { return min(n, 64) }

// evalClip limits to [min, max], each optional; when min > max the result is max.
func evalClip[T tensor.Number](c *EvalCtx) error {
	y := arg[T](c, 0)
	for i, f := range []func(a, b T) T{1: most[T], 2: least[T]} {
		b := arg[T](c, i)
		if i == 0 || b == nil {
			continue
		}
		if b.Len() != 1 {
			return fmt.Errorf("input %d is %v; a bound has to be a scalar", i, c.in[i])
		}
		y = tensor.Map(y, func(v T) T { return f(v, b.Data()[0]) })
	}
	c.put(0, y)
	return nil
}
