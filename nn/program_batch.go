package nn

import (
	"context"
	"slices"

	"roundel/tensor"
)

// splittable reports whether a batch may be run image by image, given the types for one image.
//
// It is so when the graph says that it takes one image at a time, or when with
// two images every value has twice the first dimension and no operator mixes
// images. The second is found by inferring the types for two images.
func (p *Program) splittable(ctx context.Context, one *resolved, shapes []tensor.Shape) bool {
	for v := range p.wanted {
		t := one.types[v]
		if s, ok := t.Shape(); !ok || len(s) == 0 || one.consts[v] != nil || s[0] != 1 {
			return false
		}
	}
	single := len(p.feeds) > 0
	for _, f := range p.feeds {
		t, _ := p.declaredType(f)
		single = single && t.Ranked && len(t.Dims) > 0 && t.Dims[0].Size == 1
	}
	if single {
		return true
	}
	two := make([]tensor.Shape, len(shapes))
	for i, s := range shapes {
		two[i] = s.Clone()
		two[i][0] = 2
	}
	pair, err := p.resolve(ctx, two)
	if err != nil {
		return false
	}
	for _, n := range p.nodes {
		if !separateNode(n, one, pair) {
			return false
		}
	}
	return true
}

// splitNode is what the rules see of a node: types for one image, constants, and which inputs carry images.
type splitNode struct {
	*Node
	in      []Type
	consts  []tensor.Any
	batched []bool
	out     Type
}

// separateNode compares the types for one and for two images and asks the rule of the operator.
func separateNode(n *Node, one, two *resolved) bool {
	c := splitNode{Node: n}
	if out := n.Out(0); one.consts[out] != nil {
		return two.consts[out] != nil // constant, or shape arithmetic whose readers are checked below
	}
	for i, name := range n.Inputs {
		k := one.consts[name]
		c.in, c.consts = append(c.in, one.types[name]), append(c.consts, k)
		c.batched = append(c.batched, name != "" && k == nil)
		switch {
		case name == "":
		case k == nil:
			if !doubled(one.types[name], two.types[name]) {
				return false
			}
		case !sameConst(k, two.consts[name]):
			// A shape computed from the batch: only where the output's dimensions tell what it does.
			if !(i == 1 && (n.Op == "Reshape" || n.Op == "Expand")) {
				return false
			}
		}
	}
	for _, name := range n.Outputs {
		if name != "" && !doubled(one.types[name], two.types[name]) {
			return false
		}
	}
	c.out = one.types[n.Out(0)]
	rule, ok := splitRules[n.Op]
	return ok && slices.Contains(c.batched, true) && (rule == nil || rule(&c))
}

// doubled reports whether the types are those of one and two images with the batch first.
func doubled(one, two Type) bool {
	a, okA := one.Shape()
	b, okB := two.Shape()
	return okA && okB && len(a) > 0 && len(a) == len(b) && a[0] == 1 && b[0] == 2 && slices.Equal(a[1:], b[1:])
}

// sameConst reports whether two constants are the same tensor or equal short integer lists.
func sameConst(a, b tensor.Any) bool {
	if a == b {
		return true
	}
	x, okX := a.(*tensor.Dense[int64])
	y, okY := b.(*tensor.Dense[int64])
	return okX && okY && x.Shape().Equal(y.Shape()) && slices.Equal(x.Data(), y.Data())
}

// splitRules says for each operator whether it leaves images apart, given that
// inputs and outputs have the batch first (nil: always). Operators that are not
// here are taken to mix images.
var splitRules = map[string]func(*splitNode) bool{
	"Abs": nil, "Acos": nil, "Acosh": nil, "Asin": nil, "Asinh": nil, "Atan": nil, "Atanh": nil, "Cast": nil, "Ceil": nil,
	"Celu": nil, "Clip": nil, "Cos": nil, "Cosh": nil, "Dropout": nil, "Elu": nil, "Erf": nil, "Exp": nil, "Floor": nil,
	"Gelu": nil, "HardSigmoid": nil, "HardSwish": nil, "Identity": nil, "IsInf": nil, "IsNaN": nil, "LeakyRelu": nil, "Log": nil,
	"Mish": nil, "Neg": nil, "Not": nil, "Reciprocal": nil, "Relu": nil, "Round": nil, "Selu": nil, "Shrink": nil, "Sigmoid": nil,
	"Sign": nil, "Sin": nil, "Sinh": nil, "Softplus": nil, "Softsign": nil, "Sqrt": nil, "Swish": nil, "Tan": nil, "Tanh": nil,
	"ThresholdedRelu": nil,

	"Add": broadcastsApart, "Sub": broadcastsApart, "Mul": broadcastsApart, "Div": broadcastsApart, "Pow": broadcastsApart,
	"Min": broadcastsApart, "Max": broadcastsApart, "Mean": broadcastsApart, "Sum": broadcastsApart, "Mod": broadcastsApart,
	"PRelu": broadcastsApart, "Where": broadcastsApart, "Equal": broadcastsApart, "Less": broadcastsApart,
	"LessOrEqual": broadcastsApart, "Greater": broadcastsApart, "GreaterOrEqual": broadcastsApart, "And": broadcastsApart,
	"Or": broadcastsApart, "Xor": broadcastsApart, "Expand": broadcastsApart,

	"Conv": firstOnly, "ConvTranspose": firstOnly, "BatchNormalization": func(c *splitNode) bool { return firstOnly(c) && c.Int("training_mode", 0) == 0 }, "InstanceNormalization": firstOnly,
	"GroupNormalization": firstOnly, "MaxPool": nil, "AveragePool": nil, "LpPool": nil, "GlobalAveragePool": nil,
	"GlobalMaxPool": nil, "GlobalLpPool": nil, "LRN": nil, "Resize": firstOnly, "Upsample": firstOnly, "DepthToSpace": nil,
	"SpaceToDepth": nil, "Reshape": firstOnly, "Flatten": nil, "Squeeze": firstOnly, "Unsqueeze": firstOnly, "Tile": firstOnly,
	"QuantizeLinear": quantizeApart, "DequantizeLinear": quantizeApart,

	"Concat": allOnOtherAxis(1), "Split": otherAxis(0), "Softmax": otherAxis(-1), "LogSoftmax": otherAxis(-1),
	"Hardmax": otherAxis(-1), "ArgMax": otherAxis(0), "ArgMin": otherAxis(0), "LayerNormalization": otherAxis(-1),
	"TopK": otherAxis(-1), "GatherElements": otherAxis(0), "LpNormalization": otherAxis(-1),
	"CumSum": constAxes, "ReduceSum": constAxes, "ReduceMean": constAxes, "ReduceMax": constAxes, "ReduceMin": constAxes,
	"ReduceProd": constAxes, "ReduceL1": constAxes, "ReduceL2": constAxes, "ReduceLogSum": constAxes,
	"ReduceLogSumExp": constAxes, "ReduceSumSquare": constAxes,

	"Transpose": func(c *splitNode) bool { p := c.Ints("perm"); return len(p) > 0 && p[0] == 0 },
	"Gemm": func(c *splitNode) bool {
		return c.Int("transA", 0) == 0 && c.batched[0] && !c.batched[1] && biasApart(c)
	},
	"MatMul": matmulApart,
	"Gather": gatherApart,
	"Slice":  sliceApart,
	"Pad":    padApart,
}

// firstOnly: images come in through the first input; the others are constants.
func firstOnly(c *splitNode) bool { return c.batched[0] && !slices.Contains(c.batched[1:], true) }

// broadcastsApart: batched inputs align with the output's first dimension, and constants have 1 there.
func broadcastsApart(c *splitNode) bool {
	for i, t := range c.in {
		if c.Inputs[i] == "" || c.Op == "Expand" && i == 1 {
			continue
		}
		rank, out := len(t.Dims), len(c.out.Dims)
		if rank > out || c.batched[i] && rank != out || !c.batched[i] && rank == out && t.Dims[0].Size != 1 {
			return false
		}
	}
	return true
}

// quantizeApart: scale and zero point are constants, per tensor or along another axis.
func quantizeApart(c *splitNode) bool {
	axis := c.Int("axis", 1)
	return firstOnly(c) && (len(c.in) < 2 || c.consts[1].Len() == 1 || axis > 0 || axis < 0 && int(axis)+len(c.in[0].Dims) > 0)
}

// otherAxis: the attribute axis, with the given default, is not the batch.
func otherAxis(def int64) func(*splitNode) bool {
	return func(c *splitNode) bool {
		axis := c.Int("axis", def)
		return axis > 0 || axis < 0 && int(axis)+len(c.in[0].Dims) > 0
	}
}

// allOnOtherAxis is otherAxis for operators all of whose inputs carry images.
func allOnOtherAxis(def int64) func(*splitNode) bool {
	other := otherAxis(def)
	return func(c *splitNode) bool { return !slices.Contains(c.batched, false) && other(c) }
}

// constAxes: the axes are a constant input, not empty and without the batch.
func constAxes(c *splitNode) bool {
	if len(c.consts) < 2 || c.consts[1] == nil || !c.batched[0] {
		return false
	}
	axes := intList(c.consts[1])
	for _, a := range axes {
		if a == 0 || int(a)+len(c.in[0].Dims) == 0 {
			return false
		}
	}
	return len(axes) > 0
}

// biasApart: the optional third input does not carry images, and is the same for all of them.
func biasApart(c *splitNode) bool {
	return len(c.in) < 3 || c.Inputs[2] == "" || !c.batched[2] && (len(c.in[2].Dims) < 2 || c.in[2].Dims[0].Size == 1)
}

func matmulApart(c *splitNode) bool {
	a, b := len(c.in[0].Dims), len(c.in[1].Dims)
	switch {
	case c.batched[0] && c.batched[1]:
		return a == b && a >= 3
	case c.batched[0]:
		return a >= 2 && (b <= 2 || b < a || b == a && a >= 3 && c.in[1].Dims[0].Size == 1)
	}
	return b >= 3 && (a <= 2 || a < b || a == b && c.in[0].Dims[0].Size == 1)
}

func gatherApart(c *splitNode) bool {
	if c.batched[0] {
		return !c.batched[1] && otherAxis(0)(c)
	}
	return c.Int("axis", 0) == 0
}

func sliceApart(c *splitNode) bool {
	if !firstOnly(c) || len(c.in) < 3 {
		return false
	}
	if len(c.in) < 4 || c.Inputs[3] == "" {
		return false // all axes from the first one
	}
	axes := intList(c.consts[3])
	return !slices.ContainsFunc(axes, func(a int64) bool { return a == 0 || int(a)+len(c.in[0].Dims) == 0 })
}

func padApart(c *splitNode) bool {
	if !firstOnly(c) || len(c.in) < 2 || len(c.in) > 3 && c.Inputs[3] != "" {
		return false
	}
	pads := intList(c.consts[1])
	return len(pads) == 2*len(c.in[0].Dims) && pads[0] == 0 && pads[len(pads)/2] == 0
}

// intList returns the elements of an int64 or int32 tensor.
func intList(t tensor.Any) []int64 {
	switch t := t.(type) {
	case *tensor.Dense[int64]:
		return t.Data()
	case *tensor.Dense[int32]:
		out := make([]int64, t.Len())
		for i, v := range t.Data() {
			out[i] = int64(v)
		}
		return out
	}
	return nil
}
