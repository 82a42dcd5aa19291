package nn

import (
	"fmt"

	"roundel/tensor"
)

// activationOps are the activation functions, with parameters from attributes.
func activationOps() []OpDef {
	rows := []OpDef{
		{Name: "Relu", Sig: "n", Eval: unary(tensor.Relu, func(v int64) int64 { return max(v, 0) }, func(v uint64) uint64 { return v })},
		{Name: "PRelu", Sig: "n n=", Infer: inferPRelu, Eval: binary(prelu[float32], prelu[float64], prelu[int64], prelu[uint64])},
		{Name: "Softmax", Sig: "f", Infer: inferSoftmax, Eval: softmaxLike(tensor.Softmax)},
		{Name: "LogSoftmax", Sig: "f", Infer: inferSoftmax, Eval: softmaxLike(tensor.LogSoftmax)},
		{Name: "Hardmax", Sig: "f", Infer: inferSoftmax, Eval: softmaxLike(tensor.Hardmax)},
		{Name: "SwiGLU", Sig: "f f=", Infer: inferBroadcast, Eval: byFloat(0, swiglu[float32], swiglu[float64])},
	}
	for _, f := range []struct {
		name string
		fn   func(float64) float64
	}{
		{"Sigmoid", tensor.Sigmoid}, {"Softplus", tensor.Softplus}, {"Softsign", tensor.Softsign},
		{"HardSwish", tensor.HardSwish}, {"Mish", tensor.Mish},
	} {
		rows = append(rows, OpDef{Name: f.name, Sig: "f", Eval: unary(f.fn, nil, nil),
			scalar: func(*Node) func(float64) float64 { return f.fn }})
	}
	for _, f := range []struct {
		name string
		fn   func(a attrs) func(float64) float64
	}{
		{"LeakyRelu", func(a attrs) func(float64) float64 {
			return func(x float64) float64 { return tensor.LeakyRelu(x, a.f("alpha", 0.01)) }
		}},
		{"Elu", func(a attrs) func(float64) float64 {
			return func(x float64) float64 { return tensor.Elu(x, a.f("alpha", 1)) }
		}},
		{"Celu", func(a attrs) func(float64) float64 {
			return func(x float64) float64 { return tensor.Celu(x, a.f("alpha", 1)) }
		}},
		{"Selu", func(a attrs) func(float64) float64 {
			alpha, gamma := a.f("alpha", 1.67326319217681884765625), a.f("gamma", 1.05070102214813232421875)
			return func(x float64) float64 { return tensor.Selu(x, alpha, gamma) }
		}},
		{"ThresholdedRelu", func(a attrs) func(float64) float64 {
			return func(x float64) float64 { return tensor.ThresholdedRelu(x, a.f("alpha", 1)) }
		}},
		{"HardSigmoid", func(a attrs) func(float64) float64 {
			alpha, beta := a.f("alpha", 0.2), a.f("beta", 0.5)
			return func(x float64) float64 { return tensor.HardSigmoid(x, alpha, beta) }
		}},
		{"Swish", func(a attrs) func(float64) float64 {
			alpha := a.f("alpha", 1)
			return func(x float64) float64 { return tensor.Swish(x, alpha) }
		}},
		{"Shrink", func(a attrs) func(float64) float64 {
			lambd, bias := a.f("lambd", 0.5), a.f("bias", 0)
			return func(x float64) float64 { return tensor.Shrink(x, lambd, bias) }
		}},
		{"Gelu", func(a attrs) func(float64) float64 {
			if a.n.Str("approximate", "none") == "tanh" {
				return tensor.GeluTanh
			}
			return tensor.Gelu
		}},
	} {
		rows = append(rows, OpDef{Name: f.name, Sig: "f", Eval: func(c *EvalCtx) error { return unary(f.fn(attrs{c.node}), nil, nil)(c) },
			scalar: func(n *Node) func(float64) float64 { return f.fn(attrs{n}) }})
	}
	for i := range rows {
		rows[i].flags = fold | widen
		if rows[i].Infer == nil {
			rows[i].Infer = inferSame
		}
	}
	return rows
}

// attrs reads float attributes.
type attrs struct{ n *Node }

func (a attrs) f(name string, def float32) float64 { return float64(a.n.Float(name, def)) }

func prelu[T tensor.Number](x, slope T) T {
	if x < 0 {
		return x * slope
	}
	return x
}

// swiglu computes Swish(gate, alpha)·up.
func swiglu[T tensor.Float](c *EvalCtx) error {
	alpha := float64(c.node.Float("alpha", 1))
	return map2(func(gate, up T) T { return T(tensor.Swish(float64(gate), alpha) * float64(up)) })(c)
}

// inferPRelu checks that the slope broadcasts to the input, not the other way round.
func inferPRelu(c *InferCtx) error {
	c.out[0] = c.in[0]
	x, ok1 := c.dims(0)
	s, ok2 := c.dims(1)
	if !ok1 || !ok2 {
		return nil
	}
	y, err := broadcastDims(x, s)
	if err != nil {
		return err
	}
	for i := range y {
		if len(y) != len(x) || y[i].IsKnown() && x[i].IsKnown() && y[i] != x[i] {
			return fmt.Errorf("a slope of %v does not fit an input of %v", c.in[1], c.in[0])
		}
	}
	return nil
}

// inferSoftmax checks the axis.
func inferSoftmax(c *InferCtx) error {
	c.out[0] = c.in[0]
	d, ok := c.dims(0)
	if !ok || c.node.Int("coerce2d", 0) != 0 && c.node.Int("axis", 1) == int64(len(d)) {
		return nil
	}
	_, err := axis(c.node.Int("axis", -1), len(d))
	return err
}

// softmaxLike evaluates a function of lines along the attribute axis. With the
// attribute coerce2d, the meaning before opset 13, a line is all of the axes from axis on.
func softmaxLike(f func([]float64)) func(*EvalCtx) error {
	return byFloat(0, softmaxEval[float32](f), softmaxEval[float64](f))
}

func softmaxEval[T tensor.Float](f func([]float64)) func(*EvalCtx) error {
	return func(c *EvalCtx) error {
		x := arg[T](c, 0)
		rank := len(x.Shape())
		along := []int{}
		if c.node.Int("coerce2d", 0) != 0 {
			from := int(c.node.Int("axis", 1))
			if from < 0 {
				from += rank
			}
			for i := from; i < rank; i++ {
				along = append(along, i)
			}
		} else {
			a, _ := axis(c.node.Int("axis", -1), rank)
			along = append(along, a)
		}
		c.put(0, tensor.MapLines(x, along, f))
		return nil
	}
}
