package nn

import (
	"fmt"
	"math"

	"roundel/tensor"
)

// reduceOps are reductions over axes and other operators along lines.
func reduceOps() []OpDef {
	rows := []OpDef{
		{Name: "ArgMax", Sig: "n", Infer: inferArg, Eval: argBest(gt[float64], gt[int64], gt[uint64])},
		{Name: "ArgMin", Sig: "n", Infer: inferArg, Eval: argBest(lt[float64], lt[int64], lt[uint64])},
		{Name: "CumSum", Sig: "n i", Infer: inferSame, Eval: byNumber(0, cumulate[float64, float32], cumulate[float64, float64], cumulate[int64, int64], cumulate[uint64, uint64])},
		{Name: "CumProd", Sig: "n i", Infer: inferSame, Eval: byNumber(0, cumulate[float64, float32], cumulate[float64, float64], cumulate[int64, int64], cumulate[uint64, uint64])},
		{Name: "TopK", Sig: "n I", Infer: inferTopK, Eval: byNumber(0, topK[float32], topK[float64], topK[int64], topK[uint64])},
	}
	inf := math.Inf(1)
	for _, r := range []struct {
		name string
		f    func([]float64) float64
		i    func([]int64) int64
		u    func([]uint64) uint64
	}{
		{"ReduceSum", tensor.Sum[float64], tensor.Sum[int64], tensor.Sum[uint64]},
		{"ReduceProd", tensor.Product[float64], tensor.Product[int64], tensor.Product[uint64]},
		{"ReduceMax", extreme(-inf, most[float64]), extreme(math.MinInt64, most[int64]), extreme(0, most[uint64])},
		{"ReduceMin", extreme(inf, least[float64]), extreme(math.MaxInt64, least[int64]), extreme(math.MaxUint64, least[uint64])},
		{"ReduceSumSquare", tensor.SumSquares[float64], tensor.SumSquares[int64], tensor.SumSquares[uint64]},
		{"ReduceL1", tensor.SumAbs[float64], tensor.SumAbs[int64], tensor.SumAbs[uint64]},
		{"ReduceL2", func(l []float64) float64 { return math.Sqrt(tensor.SumSquares(l)) }, nil, nil},
		{"ReduceMean", tensor.Mean, nil, nil},
		{"ReduceLogSum", func(l []float64) float64 { return tensor.Log(tensor.Sum(l)) }, nil, nil},
		{"ReduceLogSumExp", tensor.LogSumExp, nil, nil},
	} {
		sig := "n I?"
		if r.name == "ReduceMax" || r.name == "ReduceMin" {
			sig = "a I?"
		}
		rows = append(rows, OpDef{Name: r.name, Sig: sig, Infer: inferReduce, Eval: func(c *EvalCtx) error {
			f, i, u := r.f, r.i, r.u
			if c.arg[0].DType() == tensor.Bool {
				c.arg[0] = tensor.Cast(c.arg[0], tensor.Uint64)
			}
			if i == nil && !c.arg[0].DType().IsFloat() {
				c.arg[0] = tensor.Cast(c.arg[0], tensor.Float64)
			}
			return byNumber(0, reduce[float64, float32](f), reduce[float64, float64](f), reduce[int64, int64](i), reduce[uint64, uint64](u))(c)
		}})
	}
	for i := range rows {
		rows[i].flags = fold | widen
	}
	return rows
}

// extreme folds a line with least or most; empty is the result for an empty line.
func extreme[A tensor.Number](empty A, f func(a, b A) A) func([]A) A {
	return func(line []A) A {
		if len(line) == 0 {
			return empty
		}
		m := line[0]
		for _, v := range line[1:] {
			m = f(m, v)
		}
		return m
	}
}

// reduceAxes returns the axes to reduce over for a tensor of the given rank; ok is false while they are unknown.
func (c *InferCtx) reduceAxes(rank int) (list []int, ok bool, err error) {
	as, known := c.ints(1)
	switch {
	case c.has(1) && !known:
		if n, ok := c.length(1); !ok || n != 0 {
			return nil, false, nil
		}
	case known && len(c.val[1].t.Shape()) > 1:
		return nil, false, fmt.Errorf("axes are %v; they have to be a vector", c.in[1])
	}
	if len(as) == 0 {
		if c.node.Int("noop_with_empty_axes", 0) != 0 {
			return nil, true, nil
		}
		for i := range rank {
			list = append(list, i)
		}
		return list, true, nil
	}
	list, err = axes(as, rank)
	return list, err == nil, err
}

func inferReduce(c *InferCtx) error {
	d, ok := c.dims(0)
	if !ok {
		return nil
	}
	keep := c.node.Int("keepdims", 1) != 0
	as, ok, err := c.reduceAxes(len(d))
	if err != nil {
		return err
	}
	if !ok {
		if keep {
			c.set(0, c.in[0].DType, unknown(len(d)))
		}
		return nil
	}
	c.set(0, c.in[0].DType, reducedDims(d, as, keep))
	if v, ok := c.exprs(0); ok && c.node.Op == "ReduceProd" && len(as) == 1 {
		p := number(1)
		for _, e := range v {
			p = p.times(e)
		}
		c.know(0, []expr{p})
	}
	return nil
}

// reducedDims returns d without the axes, or with extent one there.
func reducedDims(d []Dim, as []int, keep bool) []Dim {
	gone := make([]bool, len(d))
	for _, a := range as {
		gone[a] = true
	}
	out := []Dim{}
	for i := range d {
		switch {
		case !gone[i]:
			out = append(out, d[i])
		case keep:
			out = append(out, Known(1))
		}
	}
	return out
}

func reduce[A, T tensor.Number](f func([]A) A) func(*EvalCtx) error {
	return func(c *EvalCtx) error {
		x := arg[T](c, 0)
		as, _, err := c.reduceAxes(len(x.Shape()))
		if err != nil {
			return err
		}
		if len(as) == 0 && (c.node.Op == "ReduceMax" || c.node.Op == "ReduceMin" || c.node.Op == "ReduceSum" || c.node.Op == "ReduceMean" || c.node.Op == "ReduceProd") {
			c.put(0, x) // nothing to reduce
			return nil
		}
		c.put(0, tensor.ReduceLines(x, as, c.node.Int("keepdims", 1) != 0, func(l []A) T { return T(f(l)) }))
		return nil
	}
}

func inferArg(c *InferCtx) error {
	c.setUnranked(0, tensor.Int64)
	d, ok := c.dims(0)
	if !ok {
		return nil
	}
	a, err := axis(c.node.Int("axis", 0), len(d))
	if err != nil {
		return err
	}
	if d[a] == Known(0) {
		return fmt.Errorf("axis %d of %v is empty", a, c.in[0])
	}
	c.set(0, tensor.Int64, reducedDims(d, []int{a}, c.node.Int("keepdims", 1) != 0))
	return nil
}

// argBest evaluates ArgMax and ArgMin.
func argBest(f func(a, b float64) bool, i func(a, b int64) bool, u func(a, b uint64) bool) func(*EvalCtx) error {
	return byNumber(0, argBestOf[float64, float32](f), argBestOf[float64, float64](f), argBestOf[int64, int64](i), argBestOf[uint64, uint64](u))
}

func argBestOf[A, T tensor.Number](better func(a, b A) bool) func(*EvalCtx) error {
	return func(c *EvalCtx) error {
		x := arg[T](c, 0)
		a, err := axis(c.node.Int("axis", 0), len(x.Shape()))
		if err != nil {
			return err
		}
		last := c.node.Int("select_last_index", 0) != 0
		c.put(0, tensor.ReduceLines(x, []int{a}, c.node.Int("keepdims", 1) != 0, func(l []A) int64 { return tensor.ArgBest(l, better, last) }))
		return nil
	}
}

// cumulate evaluates CumSum and CumProd.
func cumulate[A, T tensor.Number](c *EvalCtx) error {
	x := arg[T](c, 0)
	as := tensor.Int64s(c.arg[1])
	if len(as) != 1 {
		return fmt.Errorf("axis is %v; it has to be a scalar", c.in[1])
	}
	a, err := axis(as[0], len(x.Shape()))
	if err != nil {
		return err
	}
	f := tensor.CumSum[A, T]
	if c.node.Op == "CumProd" {
		f = tensor.CumProd[A, T]
	}
	c.put(0, f(x, a, c.node.Int("exclusive", 0) != 0, c.node.Int("reverse", 0) != 0))
	return nil
}

func inferTopK(c *InferCtx) error {
	c.setUnranked(1, tensor.Int64)
	d, ok := c.dims(0)
	if !ok {
		return nil
	}
	a, err := axis(c.node.Int("axis", -1), len(d))
	if err != nil {
		return err
	}
	out := append([]Dim{}, d...)
	out[a] = Dim{Size: -1}
	if k, ok := c.exprs(1); ok && len(k) == 1 {
		if k[0].isNumber() && (k[0].add < 0 || d[a].IsKnown() && k[0].add > int64(d[a].Size)) {
			return fmt.Errorf("k is %d, axis %d of %v cannot give so many", k[0].add, a, c.in[0])
		}
		out[a] = k[0].dim()
	} else if ok {
		return fmt.Errorf("k is %v; it has to be one number", c.in[1])
	}
	c.set(0, c.in[0].DType, out)
	c.set(1, tensor.Int64, out)
	return nil
}

func topK[T tensor.Number](c *EvalCtx) error {
	x := arg[T](c, 0)
	a, _ := axis(c.node.Int("axis", -1), len(x.Shape()))
	vals, idx := tensor.TopK(x, a, c.outShape(0)[a], c.node.Int("largest", 1) != 0)
	c.put(0, vals)
	c.put(1, idx)
	return nil
}
