package nn

import (
	"fmt"
	"math"

	"roundel/tensor"
)

// normOps are normalisations. They are evaluated in float64.
func normOps() []OpDef {
	rows := []OpDef{
		{Name: "BatchNormalization", Sig: "f f f f f", Infer: inferBatchNorm, Eval: evalBatchNorm},
		{Name: "InstanceNormalization", Sig: "f f= f=", Infer: inferChannelNorm, Eval: evalInstanceNorm},
		{Name: "GroupNormalization", Sig: "f f= f=", Infer: inferGroupNorm, Eval: evalGroupNorm},
		{Name: "LayerNormalization", Sig: "f f f?", Infer: inferLayerNorm, Eval: evalLayerNorm},
		{Name: "RMSNormalization", Sig: "f f", Infer: inferLayerNorm, Eval: evalRMSNorm},
		{Name: "LRN", Sig: "f", Infer: inferLRN, Eval: evalLRN},
		{Name: "LpNormalization", Sig: "f", Infer: inferSoftmax, Eval: evalLpNormalization},
		{Name: "MeanVarianceNormalization", Sig: "f", Infer: inferMeanVariance, Eval: evalMeanVariance},
	}
	for i := range rows {
		rows[i].Eval = viaFloat64(rows[i].Eval)
	}
	return rows
}

// f64 returns input i of an operator that is evaluated in float64.
func (c *EvalCtx) f64(i int) *tensor.Dense[float64] { return arg[float64](c, i) }

// inferBatchNorm: inference mode only, four vectors over the channels.
func inferBatchNorm(c *InferCtx) error {
	if c.node.Int("training_mode", 0) != 0 || c.node.Out(1) != "" {
		return fmt.Errorf("training_mode is set; only inference is supported")
	}
	return inferChannelNorm(c)
}

// inferChannelNorm checks that all inputs but the first are vectors over axis 1 of the first.
func inferChannelNorm(c *InferCtx) error {
	c.out[0] = c.in[0]
	d, ok, err := c.rankAtLeast(0, 2)
	if !ok || err != nil {
		return err
	}
	for i := 1; i < len(c.in); i++ {
		if err := c.checkBias(i, d[1]); err != nil {
			return err
		}
	}
	return nil
}

func evalBatchNorm(c *EvalCtx) error {
	c.put(0, tensor.BatchNorm(c.f64(0), c.f64(1).Data(), c.f64(2).Data(), c.f64(3).Data(), c.f64(4).Data(), float64(c.node.Float("epsilon", 1e-5))))
	return nil
}

// scaleChannels multiplies x by a vector over axis 1 and adds another.
func scaleChannels(x, scale, bias *tensor.Dense[float64]) *tensor.Dense[float64] {
	s := make([]int, len(x.Shape())-1)
	for i := range s {
		s[i] = 1
	}
	s[0] = scale.Len()
	return scaled(x, scale.Reshape(s...), bias.Reshape(s...))
}

// scaled returns x·scale + bias, broadcast; bias may be nil.
func scaled(x, scale, bias *tensor.Dense[float64]) *tensor.Dense[float64] {
	y := tensor.Map2(x, scale, mul[float64])
	if bias != nil {
		y = tensor.Map2(y, bias, add[float64])
	}
	return y
}

func evalInstanceNorm(c *EvalCtx) error {
	x := c.f64(0)
	y, _, _ := tensor.Standardize(x, axesFrom(2, len(x.Shape())), float64(c.node.Float("epsilon", 1e-5)))
	c.put(0, scaleChannels(y, c.f64(1), c.f64(2)))
	return nil
}

func inferGroupNorm(c *InferCtx) error {
	g := c.node.Int("num_groups", 0)
	if g < 1 || g > maxDim {
		return fmt.Errorf("num_groups is %d", g)
	}
	if d, ok := c.dims(0); ok && len(d) > 1 && d[1].IsKnown() && d[1].Size%int(g) != 0 {
		return fmt.Errorf("%v channels cannot be divided into %d groups", d[1], g)
	}
	return inferChannelNorm(c)
}

func evalGroupNorm(c *EvalCtx) error {
	x := c.f64(0)
	s := x.Shape()
	g := int(c.node.Int("num_groups", 1))
	grouped := x.Reshape(s[0], g, s[1:].Len()/g)
	y, _, _ := tensor.Standardize(grouped, []int{2}, float64(c.node.Float("epsilon", 1e-5)))
	c.put(0, scaleChannels(y.Reshape(s...), c.f64(1), c.f64(2)))
	return nil
}

// inferLayerNorm checks that scale and bias broadcast to the axes from axis on; LayerNormalization can give the statistics too.
func inferLayerNorm(c *InferCtx) error {
	c.out[0] = c.in[0]
	if c.node.Op == "LayerNormalization" {
		c.setUnranked(1, tensor.Float32)
		c.setUnranked(2, tensor.Float32)
	}
	d, ok := c.dims(0)
	if !ok {
		return nil
	}
	a, err := axis(c.node.Int("axis", -1), len(d))
	if err != nil {
		return err
	}
	for i := 1; i < len(c.in); i++ {
		if s, ok := c.dims(i); ok {
			if all, err := broadcastDims(d, s); err != nil || len(all) != len(d) {
				return fmt.Errorf("input %d is %v; it has to broadcast to %v", i, c.in[i], d[a:])
			}
		}
	}
	if c.node.Op == "LayerNormalization" {
		stat := append([]Dim{}, d...)
		for i := a; i < len(d); i++ {
			stat[i] = Known(1)
		}
		c.set(1, tensor.Float32, stat)
		c.set(2, tensor.Float32, stat)
	}
	return nil
}

func evalLayerNorm(c *EvalCtx) error {
	x := c.f64(0)
	a, _ := axis(c.node.Int("axis", -1), len(x.Shape()))
	y, mean, inv := tensor.Standardize(x, axesFrom(a, len(x.Shape())), float64(c.node.Float("epsilon", 1e-5)))
	c.put(0, scaled(y, c.f64(1), c.f64(2)))
	c.put(1, mean)
	c.put(2, inv)
	return nil
}

func evalRMSNorm(c *EvalCtx) error {
	x := c.f64(0)
	a, _ := axis(c.node.Int("axis", -1), len(x.Shape()))
	c.put(0, scaled(tensor.RMSNorm(x, axesFrom(a, len(x.Shape())), float64(c.node.Float("epsilon", 1e-5))), c.f64(1), nil))
	return nil
}

func inferLRN(c *InferCtx) error {
	c.out[0] = c.in[0]
	if n := c.node.Int("size", 0); n < 1 || n > maxDim {
		return fmt.Errorf("size is %d", n)
	}
	_, _, err := c.rankAtLeast(0, 2)
	return err
}

func evalLRN(c *EvalCtx) error {
	n := c.node
	c.put(0, tensor.LRN(c.f64(0), int(n.Int("size", 1)), float64(n.Float("alpha", 1e-4)), float64(n.Float("beta", 0.75)), float64(n.Float("bias", 1))))
	return nil
}

func evalLpNormalization(c *EvalCtx) error {
	x := c.f64(0)
	a, _ := axis(c.node.Int("axis", -1), len(x.Shape()))
	c.put(0, tensor.LpNormalize(x, a, float64(c.node.Int("p", 2))))
	return nil
}

// meanVarianceAxes returns the attribute axes, by default batch, height and width.
func (c *InferCtx) meanVarianceAxes(rank int) ([]int, error) {
	as := c.node.Ints("axes")
	if as == nil {
		as = []int64{0, 2, 3}
	}
	return axes(as, rank)
}

func inferMeanVariance(c *InferCtx) error {
	c.out[0] = c.in[0]
	d, ok := c.dims(0)
	if !ok {
		return nil
	}
	_, err := c.meanVarianceAxes(len(d))
	return err
}

// evalMeanVariance divides by the standard deviation plus 1e-9, as ONNX defines it.
func evalMeanVariance(c *EvalCtx) error {
	x := c.f64(0)
	as, err := c.meanVarianceAxes(len(x.Shape()))
	if err != nil {
		return err
	}
	c.put(0, tensor.MapLines(x, as, func(l []float64) {
		m, v := tensor.Variance(l)
		for i := range l {
			l[i] = (l[i] - m) / (math.Sqrt(v) + 1e-9)
		}
	}))
	return nil
}
