package nn

import (
	"fmt"
	"slices"

	"roundel/tensor"
)

// gatherOps pick and store elements by index.
func gatherOps() []OpDef {
	rows := []OpDef{
		{Name: "Gather", Sig: "a i", Infer: inferGather, Eval: evalGather},
		{Name: "GatherElements", Sig: "a i", Infer: inferGatherElements, Eval: evalGatherElements},
		{Name: "GatherND", Sig: "a I", Infer: inferGatherND, Eval: evalGatherND},
		{Name: "Scatter", Sig: "a i a=", Infer: inferScatterElements, Eval: evalScatterElements, flags: widen},
		{Name: "ScatterElements", Sig: "a i a=", Infer: inferScatterElements, Eval: evalScatterElements, flags: widen},
		{Name: "ScatterND", Sig: "a I a=", Infer: inferScatterND, Eval: evalScatterND, flags: widen},
		{Name: "Compress", Sig: "a b", Infer: inferCompress, Eval: evalCompress, flags: dynamic},
		{Name: "NonZero", Sig: "a", Infer: inferNonZero, Eval: evalNonZero, flags: dynamic},
		{Name: "Unique", Sig: "n", Infer: inferUnique, Eval: byNumber(0, unique[float32], unique[float64], unique[int64], unique[uint64]), flags: dynamic | widen},
		{Name: "OneHot", Sig: "n n a", Infer: inferOneHot, Eval: evalOneHot},
		{Name: "ReverseSequence", Sig: "a I", Infer: inferReverseSequence, Eval: evalReverseSequence},
		{Name: "Trilu", Sig: "a I?", Infer: inferTrilu, Eval: evalTrilu},
	}
	for i := range rows {
		rows[i].flags |= fold
	}
	return rows
}

// resolve turns ONNX indices, which may count from the end, into positions in an axis of extent n.
func resolve(idx []int64, n int) ([]int, error) {
	out := make([]int, len(idx))
	for i, v := range idx {
		if v < int64(-n) || v >= int64(n) {
			return nil, fmt.Errorf("index %d is outside an axis of extent %d", v, n)
		}
		if v < 0 {
			v += int64(n)
		}
		out[i] = int(v)
	}
	return out, nil
}

func inferGather(c *InferCtx) error {
	d, ok0 := c.dims(0)
	idx, ok1 := c.dims(1)
	if !ok0 || !ok1 {
		return nil
	}
	a, err := axis(c.node.Int("axis", 0), len(d))
	if err != nil {
		return err
	}
	c.set(0, c.in[0].DType, slices.Concat(d[:a], idx, d[a+1:]))
	v, ok0 := c.exprs(0)
	list, ok1 := c.ints(1)
	if !ok0 || !ok1 || len(d) != 1 {
		return nil
	}
	at, err := resolve(list, len(v))
	if err != nil {
		return err
	}
	out := make([]expr, len(at))
	for i, j := range at {
		out[i] = v[j]
	}
	c.know(0, out)
	return nil
}

func evalGather(c *EvalCtx) error {
	x := c.arg[0]
	a, _ := axis(c.node.Int("axis", 0), len(x.Shape()))
	idx, err := resolve(tensor.Int64s(c.arg[1]), x.Shape()[a])
	if err != nil {
		return err
	}
	c.put(0, tensor.Gather(x, idx, c.arg[1].Shape(), a))
	return nil
}

// sameRankIndices checks that the index tensor fits the data outside of the axis, which it returns.
func (c *InferCtx) sameRankIndices() (a int, ok bool, err error) {
	d, ok0 := c.dims(0)
	idx, ok1 := c.dims(1)
	if !ok0 || !ok1 {
		return 0, false, nil
	}
	if len(d) != len(idx) {
		return 0, false, fmt.Errorf("indices %v and data %v have different ranks", c.in[1], c.in[0])
	}
	if a, err = axis(c.node.Int("axis", 0), len(d)); err != nil {
		return 0, false, err
	}
	for i := range d {
		if i != a && d[i].IsKnown() && idx[i].IsKnown() && idx[i].Size > d[i].Size {
			return 0, false, fmt.Errorf("indices %v are larger than data %v in axis %d", c.in[1], c.in[0], i)
		}
	}
	return a, true, nil
}

func inferGatherElements(c *InferCtx) error {
	if _, _, err := c.sameRankIndices(); err != nil {
		return err
	}
	c.out[0] = c.in[1]
	c.out[0].DType = c.in[0].DType
	return nil
}

// elementOffsets resolves the indices of GatherElements and ScatterElements.
func (c *EvalCtx) elementOffsets() ([]int, error) {
	s := c.arg[0].Shape()
	a, _, err := c.sameRankIndices()
	if err != nil {
		return nil, err
	}
	idx, err := resolve(tensor.Int64s(c.arg[1]), s[a])
	if err != nil {
		return nil, err
	}
	return tensor.ElementOffsets(s, idx, c.arg[1].Shape(), a), nil
}

func evalGatherElements(c *EvalCtx) error {
	at, err := c.elementOffsets()
	if err != nil {
		return err
	}
	c.put(0, tensor.Take(c.arg[0], c.arg[1].Shape(), at, 1, nil))
	return nil
}

// inferTuples checks the index tuples of GatherND and ScatterND and returns the
// dimensions of the indices without the tuple and those of the block behind it.
func (c *InferCtx) inferTuples(batch int) (outer, block []Dim, ok bool, err error) {
	d, ok0 := c.dims(0)
	idx, ok1 := c.dims(1)
	if !ok0 || !ok1 {
		return nil, nil, false, nil
	}
	if len(idx) == 0 || batch < 0 || batch >= len(idx) || batch > len(d) {
		return nil, nil, false, fmt.Errorf("indices %v do not fit data %v with %d batch dimensions", c.in[1], c.in[0], batch)
	}
	n := idx[len(idx)-1]
	if !n.IsKnown() {
		return nil, nil, false, nil
	}
	if n.Size+batch > len(d) {
		return nil, nil, false, fmt.Errorf("index tuples of %d for data %v with %d batch dimensions", n.Size, c.in[0], batch)
	}
	for i := range batch {
		if _, ok := sameDim(d[i], idx[i]); !ok {
			return nil, nil, false, fmt.Errorf("batch dimension %d of %v and %v differ", i, c.in[0], c.in[1])
		}
	}
	return idx[:len(idx)-1], d[batch+n.Size:], true, nil
}

func inferGatherND(c *InferCtx) error {
	outer, block, ok, err := c.inferTuples(int(c.node.Int("batch_dims", 0)))
	if err != nil || !ok {
		return err
	}
	c.set(0, c.in[0].DType, slices.Concat(outer, block))
	return nil
}

// tupleOffsets resolves the index tuples of GatherND and ScatterND.
func (c *EvalCtx) tupleOffsets(batch int) (at []int, block int, err error) {
	s, is := c.arg[0].Shape(), c.arg[1].Shape()
	n := is[len(is)-1]
	raw := tensor.Int64s(c.arg[1])
	idx := make([]int, len(raw))
	for j := range n {
		col := make([]int64, 0, len(raw)/n)
		for i := j; i < len(raw); i += n {
			col = append(col, raw[i])
		}
		list, err := resolve(col, s[batch+j])
		if err != nil {
			return nil, 0, err
		}
		for i, v := range list {
			idx[i*n+j] = v
		}
	}
	block = s[batch+n:].Len()
	if n == 0 { // every tuple names the whole (batch) block
		for i := range is[:len(is)-1].Len() {
			at = append(at, i/max(1, is[batch:len(is)-1].Len()))
		}
		return at, block, nil
	}
	return tensor.TupleOffsets(s, idx, n, batch), block, nil
}

func evalGatherND(c *EvalCtx) error {
	at, block, err := c.tupleOffsets(int(c.node.Int("batch_dims", 0)))
	if err != nil {
		return err
	}
	c.put(0, tensor.Take(c.arg[0], c.outShape(0), at, block, nil))
	return nil
}

func inferScatterElements(c *InferCtx) error {
	c.out[0] = c.in[0]
	if _, _, err := c.sameRankIndices(); err != nil {
		return err
	}
	return c.checkUpdates(c.in[1])
}

// checkUpdates checks that the updates have the shape that the indices ask for, and the reduction.
func (c *InferCtx) checkUpdates(want Type) error {
	if r := c.node.Str("reduction", "none"); r != "none" && (reductions[int64](r) == nil || c.in[0].DType == tensor.Bool) {
		return fmt.Errorf("reduction %q is not known for %v", r, c.in[0].DType)
	}
	got, ok := c.dims(2)
	if !ok || !want.Ranked {
		return nil
	}
	if len(got) != len(want.Dims) {
		return fmt.Errorf("updates are %v, the indices ask for %v", c.in[2], want.Dims)
	}
	for i := range got {
		if _, ok := sameDim(got[i], want.Dims[i]); !ok {
			return fmt.Errorf("updates are %v, the indices ask for %v", c.in[2], want.Dims)
		}
	}
	return nil
}

// reductions returns what a scatter does with an old and a new element.
func reductions[T tensor.Number](name string) func(a, b T) T {
	return map[string]func(a, b T) T{"add": add[T], "mul": mul[T], "min": least[T], "max": most[T]}[name]
}

func evalScatterElements(c *EvalCtx) error {
	at, err := c.elementOffsets()
	if err != nil {
		return err
	}
	return c.scatter(at, 1)
}

func inferScatterND(c *InferCtx) error {
	c.out[0] = c.in[0]
	outer, block, ok, err := c.inferTuples(0)
	if err != nil || !ok {
		return err
	}
	return c.checkUpdates(Type{Dims: slices.Concat(outer, block), Ranked: true})
}

func evalScatterND(c *EvalCtx) error {
	at, block, err := c.tupleOffsets(0)
	if err != nil {
		return err
	}
	return c.scatter(at, block)
}

// scatter stores the updates, input 2, at the blocks at of input 0.
func (c *EvalCtx) scatter(at []int, block int) error {
	r := c.node.Str("reduction", "none")
	if r == "none" {
		c.put(0, tensor.Put(c.arg[0], at, block, c.arg[2]))
		return nil
	}
	return byNumber(0, scatterWith[float32](at, block, r), scatterWith[float64](at, block, r), scatterWith[int64](at, block, r), scatterWith[uint64](at, block, r))(c)
}

func scatterWith[T tensor.Number](at []int, block int, reduction string) func(*EvalCtx) error {
	return func(c *EvalCtx) error {
		c.put(0, tensor.PutWith(arg[T](c, 0), at, block, arg[T](c, 2), reductions[T](reduction)))
		return nil
	}
}
