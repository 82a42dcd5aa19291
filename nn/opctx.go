package nn

import (
	"context"
	"fmt"
	"math"

	"roundel/tensor"
)

// MaxElements is the largest number of elements a value may have; larger
// declarations are errors of the model. It bounds what shape arithmetic can ask for.
const MaxElements = 1 << 31

const (
	maxDim      = math.MaxInt32 // the largest extent
	maxEval     = 1 << 28       // the most elements of one tensor that the reference makes
	maxFold     = 4096          // the most elements of a value that inference keeps
	maxSubgraph = 16            // the deepest nesting of subgraphs
	maxWork     = 1 << 20       // the most nodes that are inferred, counting the rounds of loops
)

// value is what inference knows about the contents of a tensor.
type value struct {
	t   tensor.Any // all of it, or
	sym []expr     // the elements of a scalar or vector of integers (in any type), some of them perhaps unknown
}

// exprs returns the elements of a scalar or short vector that holds integers, of whatever type.
func (v value) exprs() ([]expr, bool) {
	if v.t == nil {
		return v.sym, v.sym != nil
	}
	if len(v.t.Shape()) > 1 || v.t.Len() > maxFold {
		return nil, false
	}
	out := make([]expr, 0, v.t.Len())
	for _, x := range tensor.Float64s(v.t) {
		if x != math.Trunc(x) || math.Abs(x) > 1<<53 {
			break
		}
		out = append(out, number(int64(x)))
	}
	if len(out) < v.t.Len() { // not integers, or too large for float64
		if !isInteger(v.t.DType()) {
			return nil, false
		}
		out = out[:0]
		for _, x := range tensor.Int64s(v.t) {
			out = append(out, number(x))
		}
	}
	return out, true
}

// isInteger reports whether dt is an integer type.
func isInteger(dt tensor.DType) bool { return dt >= tensor.Int8 && dt <= tensor.Uint64 }

// InferCtx is what the inference of one node sees and says.
type InferCtx struct {
	node     *Node
	in       []Type  // absent inputs have the zero Type
	val      []value // contents of the inputs, as far as they are known
	out      []Type
	outVal   []value
	sub      *inferer // infers subgraphs
	concrete bool     // all inputs are known: inference before an evaluation
}

// EvalCtx is what the evaluation of one node sees and says.
type EvalCtx struct {
	*InferCtx
	ctx context.Context
	arg []tensor.Any // nil for absent inputs
	res []tensor.Any
	env *scope // values visible to subgraphs
}

// has reports whether input i is present.
func (c *InferCtx) has(i int) bool { return c.node.In(i) != "" }

// dims returns the dimensions of input i, and false when its rank is unknown.
func (c *InferCtx) dims(i int) ([]Dim, bool) {
	if i >= len(c.in) || !c.in[i].Ranked {
		return nil, false
	}
	return c.in[i].Dims, true
}

// rankAtLeast returns the dimensions of input i. An error means that the rank is known to be too small.
func (c *InferCtx) rankAtLeast(i, rank int) ([]Dim, bool, error) {
	d, ok := c.dims(i)
	if ok && len(d) < rank {
		return nil, false, fmt.Errorf("input %d is %v; it has to have at least %d dimensions", i, c.in[i], rank)
	}
	return d, ok, nil
}

// set gives output i its type. Outputs that the node does not have are ignored.
func (c *InferCtx) set(i int, dt tensor.DType, dims []Dim) {
	if i < len(c.out) {
		c.out[i] = Type{DType: dt, Dims: dims, Ranked: true}
	}
}

// setUnranked gives output i an element type only.
func (c *InferCtx) setUnranked(i int, dt tensor.DType) {
	if i < len(c.out) {
		c.out[i] = Type{DType: dt}
	}
}

// know records the elements of output i, a scalar or vector of integers.
func (c *InferCtx) know(i int, elems []expr) {
	if i >= len(c.outVal) || len(elems) > maxFold {
		return
	}
	t := c.out[i]
	shape, ok := t.Shape()
	if !ok || shape.Len() != len(elems) || len(shape) > 1 {
		return
	}
	data := make([]int64, len(elems))
	for j, e := range elems {
		if !e.isNumber() {
			c.outVal[i] = value{sym: elems}
			return
		}
		data[j] = e.add
	}
	c.outVal[i] = value{t: tensor.Cast(tensor.From(data, shape...), t.DType)}
}

// ints returns the contents of integer input i when they are known.
func (c *InferCtx) ints(i int) ([]int64, bool) {
	if i >= len(c.val) || c.val[i].t == nil {
		return nil, false
	}
	return tensor.Int64s(c.val[i].t), true
}

// floats returns the contents of input i when they are known.
func (c *InferCtx) floats(i int) ([]float64, bool) {
	if i >= len(c.val) || c.val[i].t == nil {
		return nil, false
	}
	return tensor.Float64s(c.val[i].t), true
}

// exprs returns the elements of input i, a scalar or vector of integers, as far as they are known.
func (c *InferCtx) exprs(i int) ([]expr, bool) {
	if i >= len(c.val) {
		return nil, false
	}
	return c.val[i].exprs()
}

// length returns the number of elements of a vector input when it is known.
func (c *InferCtx) length(i int) (int, bool) {
	d, ok := c.dims(i)
	if !ok || len(d) != 1 || !d[0].IsKnown() {
		return 0, false
	}
	return d[0].Size, true
}

// axis resolves an axis of a tensor of the given rank, counting from the end when it is negative.
func axis(a int64, rank int) (int, error) {
	if a < int64(-rank) || a >= int64(rank) {
		return 0, fmt.Errorf("axis %d is outside a tensor of %d dimensions", a, rank)
	}
	if a < 0 {
		a += int64(rank)
	}
	return int(a), nil
}

// axes resolves a list of axes, which must differ.
func axes(as []int64, rank int) ([]int, error) {
	out, seen := make([]int, len(as)), make(map[int]bool, len(as))
	for i, a := range as {
		x, err := axis(a, rank)
		if err != nil {
			return nil, err
		}
		if seen[x] {
			return nil, fmt.Errorf("axis %d is listed twice in %v", a, as)
		}
		seen[x], out[i] = true, x
	}
	return out, nil
}

// unknown returns n dimensions that nothing is known of.
func unknown(n int) []Dim {
	d := make([]Dim, n)
	for i := range d {
		d[i] = Dim{Size: -1}
	}
	return d
}

// knownDims returns a shape as dimensions.
func knownDims(s []int) []Dim {
	d := make([]Dim, len(s))
	for i, n := range s {
		d[i] = Known(n)
	}
	return d
}

// sameDim returns the dimension that a and b, which must be equal at run time, have in common; false if they cannot be.
func sameDim(a, b Dim) (Dim, bool) {
	switch {
	case a.IsKnown() && b.IsKnown():
		return a, a.Size == b.Size
	case a.IsKnown() || !b.IsKnown() && b.Sym == "":
		return a, true
	}
	return b, true
}

// broadcastDims returns the dimensions that a and b broadcast to.
func broadcastDims(a, b []Dim) ([]Dim, error) {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := append([]Dim{}, a...)
	for i, e := range b {
		o := &out[len(a)-len(b)+i]
		switch d := *o; {
		case d == e || e == Known(1):
		case d == Known(1) || e.IsKnown() && !d.IsKnown():
			*o = e
		case d.IsKnown() && !e.IsKnown():
		case d.IsKnown():
			return nil, fmt.Errorf("shapes %v and %v do not broadcast together", a, b)
		default:
			*o = Dim{Size: -1}
		}
	}
	return out, nil
}

// checkSize refuses dimensions that are negative, too large or too many elements together.
func checkSize(t Type) error {
	n := 1
	for _, d := range t.Dims {
		if d.Size > maxDim {
			return fmt.Errorf("a dimension of %v is above the limit of %d", t, maxDim)
		}
		if d.Size > 0 {
			if n > MaxElements/d.Size {
				return fmt.Errorf("%v has more than %d elements", t, MaxElements)
			}
			n *= d.Size
		}
	}
	return nil
}

// typeOf returns the type of a tensor.
func typeOf(t tensor.Any) Type {
	return Type{DType: t.DType(), Dims: knownDims(t.Shape()), Ranked: true}
}

// arg returns input i of a node as tensor of T, or nil when it is absent. Its type was checked before.
func arg[T tensor.Elem](c *EvalCtx, i int) *tensor.Dense[T] {
	if i >= len(c.arg) || c.arg[i] == nil {
		return nil
	}
	return c.arg[i].(*tensor.Dense[T])
}

// put sets output i; outputs that the node does not have are ignored.
func (c *EvalCtx) put(i int, t tensor.Any) {
	if i < len(c.res) {
		c.res[i] = t
	}
}

// outShape returns the inferred shape of output i, which is known unless the operator is marked dynamic.
func (c *EvalCtx) outShape(i int) tensor.Shape {
	s, _ := c.out[i].Shape()
	return s
}

// byFloat returns an evaluation that is for float32 or float64, by the type of input i.
func byFloat(i int, f32, f64 func(*EvalCtx) error) func(*EvalCtx) error {
	return byNumber(i, f32, f64, nil, nil)
}

// byNumber returns an evaluation for the four types that widen leaves, by the type of input i.
func byNumber(i int, f32, f64, i64, u64 func(*EvalCtx) error) func(*EvalCtx) error {
	return func(c *EvalCtx) error {
		f := map[tensor.DType]func(*EvalCtx) error{tensor.Float32: f32, tensor.Float64: f64, tensor.Int64: i64, tensor.Uint64: u64}[c.arg[i].DType()]
		if f == nil {
			return fmt.Errorf("is not defined for %v", c.arg[i].DType())
		}
		return f(c)
	}
}
