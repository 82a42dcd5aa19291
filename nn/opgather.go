package nn

import (
	"fmt"
	"math"
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

func inferCompress(c *InferCtx) error {
	d, ok := c.dims(0)
	a, has := c.node.Attrs["axis"]
	if !has || !ok {
		if !has {
			c.set(0, c.in[0].DType, unknown(1))
		}
		return nil
	}
	x, err := axis(a.I, len(d))
	if err != nil {
		return err
	}
	out := slices.Clone(d)
	out[x] = Dim{Size: -1}
	c.set(0, c.in[0].DType, out)
	return nil
}

func evalCompress(c *EvalCtx) error {
	x, a := c.arg[0], 0
	if _, has := c.node.Attrs["axis"]; has {
		a, _ = axis(c.node.Int("axis", 0), len(x.Shape()))
	} else {
		x = tensor.ReshapeAny(x, tensor.Shape{x.Len()})
	}
	var idx []int
	for i, keep := range arg[bool](c, 1).Data() {
		if keep && i >= x.Shape()[a] {
			return fmt.Errorf("the condition selects element %d of an axis of extent %d", i, x.Shape()[a])
		}
		if keep {
			idx = append(idx, i)
		}
	}
	c.put(0, tensor.Gather(x, idx, tensor.Shape{len(idx)}, a))
	return nil
}

func inferNonZero(c *InferCtx) error {
	rows := Dim{Size: -1}
	if d, ok := c.dims(0); ok {
		rows = Known(len(d))
	}
	c.set(0, tensor.Int64, []Dim{rows, {Size: -1}})
	return nil
}

func evalNonZero(c *EvalCtx) error {
	s := c.arg[0].Shape()
	var at []int
	for i, v := range tensor.Cast(c.arg[0], tensor.Bool).(*tensor.Dense[bool]).Data() {
		if v {
			at = append(at, i)
		}
	}
	out := tensor.New[int64](len(s), len(at))
	for r, st := range s.Strides() {
		for i, o := range at {
			out.Data()[r*len(at)+i] = int64(o / st % s[r])
		}
	}
	c.put(0, out)
	return nil
}

func inferUnique(c *InferCtx) error {
	n := unknown(1)
	c.set(0, c.in[0].DType, n)
	for i := 1; i < 4; i++ {
		c.set(i, tensor.Int64, n)
	}
	a, has := c.node.Attrs["axis"]
	if d, ok := c.dims(0); has && ok {
		x, err := axis(a.I, len(d))
		if err != nil {
			return err
		}
		out := slices.Clone(d)
		out[x] = Dim{Size: -1}
		c.set(0, c.in[0].DType, out)
	} else if has {
		c.setUnranked(0, c.in[0].DType)
	}
	return nil
}

func unique[T tensor.Number](c *EvalCtx) error {
	x, a := arg[T](c, 0), 0
	if _, has := c.node.Attrs["axis"]; has {
		a, _ = axis(c.node.Int("axis", 0), len(x.Shape()))
	} else {
		x = x.Reshape(x.Len())
	}
	first, inverse, counts := tensor.Unique(x, a, c.node.Int("sorted", 1) != 0)
	c.put(0, tensor.Gather(x, first, tensor.Shape{len(first)}, a))
	for i, list := range [][]int{first, inverse, counts} {
		v := make([]int64, len(list))
		for j, n := range list {
			v[j] = int64(n)
		}
		c.put(i+1, tensor.From(v, len(v)))
	}
	return nil
}

func inferOneHot(c *InferCtx) error {
	c.setUnranked(0, c.in[2].DType)
	if n, ok := c.length(2); ok && n != 2 {
		return fmt.Errorf("values are %v; they have to be [off, on]", c.in[2])
	}
	d, ok := c.dims(0)
	if !ok {
		return nil
	}
	a, err := axis(c.node.Int("axis", -1), len(d)+1)
	if err != nil {
		return err
	}
	depth := Dim{Size: -1}
	if v, ok := c.floats(1); ok {
		if len(v) != 1 || !(v[0] >= 0 && v[0] <= maxDim) {
			return fmt.Errorf("depth %v is not an extent", v)
		}
		depth = Known(int(v[0]))
	}
	c.set(0, c.in[2].DType, slices.Insert(slices.Clone(d), a, depth))
	return nil
}

// evalOneHot puts the "on" value where the position along the new axis is the index; indices outside ±depth are all "off".
func evalOneHot(c *EvalCtx) error {
	out := c.outShape(0)
	a, _ := axis(c.node.Int("axis", -1), len(out))
	depth, inner := out[a], out[a+1:].Len()
	hot := tensor.Int64s(c.arg[0])
	idx := make([]int, out.Len())
	for i := range idx {
		v := hot[i/(depth*inner)*inner+i%inner]
		if v < 0 {
			v += int64(depth)
		}
		if v == int64(i/inner%depth) {
			idx[i] = 1
		}
	}
	if c.arg[2].Len() != 2 {
		return fmt.Errorf("values are %v; they have to be [off, on]", c.in[2])
	}
	c.put(0, tensor.Take(c.arg[2], out, idx, 1, nil))
	return nil
}

func inferReverseSequence(c *InferCtx) error {
	c.out[0] = c.in[0]
	d, ok, err := c.rankAtLeast(0, 2)
	if !ok || err != nil {
		return err
	}
	b, t := c.node.Int("batch_axis", 1), c.node.Int("time_axis", 0)
	if b == t || b < 0 || t < 0 || b > 1 || t > 1 {
		return fmt.Errorf("batch_axis %d and time_axis %d have to be 0 and 1", b, t)
	}
	return c.checkBias(1, d[b])
}

func evalReverseSequence(c *EvalCtx) error {
	s := c.arg[0].Shape()
	b := int(c.node.Int("batch_axis", 1))
	lens := tensor.Int64s(c.arg[1])
	idx := make([]int, 0, s[0]*s[1])
	for i := range s[0] {
		for j := range s[1] {
			p := [2]int{i, j}
			n := lens[p[b]]
			if n < 0 || n > int64(s[1-b]) {
				return fmt.Errorf("length %d for an axis of extent %d", n, s[1-b])
			}
			if t := p[1-b]; t < int(n) {
				p[1-b] = int(n) - 1 - t
			}
			idx = append(idx, p[0]*s[1]+p[1])
		}
	}
	c.put(0, tensor.Take(c.arg[0], s, idx, s[2:].Len(), nil))
	return nil
}

func inferTrilu(c *InferCtx) error {
	c.out[0] = c.in[0]
	_, _, err := c.rankAtLeast(0, 2)
	return err
}

func evalTrilu(c *EvalCtx) error {
	s := c.arg[0].Shape()
	k := int64(0)
	if v, ok := c.ints(1); ok {
		if len(v) != 1 {
			return fmt.Errorf("k is %v; it has to be a scalar", c.in[1])
		}
		k = min(max(v[0], math.MinInt32), math.MaxInt32)
	}
	h, w := s[len(s)-2], s[len(s)-1]
	upper := c.node.Int("upper", 1) != 0
	idx := make([]int, s.Len())
	for i := range idx {
		row, col := int64(i/w%h), int64(i%w)
		idx[i] = i
		if upper && col < row+k || !upper && col > row+k {
			idx[i] = -1
		}
	}
	c.put(0, tensor.Take(c.arg[0], s, idx, 1, nil))
	return nil
}
