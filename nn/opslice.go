package nn

import (
	"fmt"
	"slices"

	"roundel/tensor"
)

// sliceOps cut tensors or extend them at the edges.
func sliceOps() []OpDef {
	return []OpDef{
		{Name: "Slice", Sig: "a i i=1 i=1? i=1?", Infer: inferSlice, Eval: evalSlice},
		{Name: "Split", Sig: "a I?", Infer: inferSplit, Eval: evalSplit},
		{Name: "Pad", Sig: "a I a=? i?", Infer: inferPad, Eval: evalPad},
		{Name: "CenterCropPad", Sig: "a i", Infer: inferCenterCropPad, Eval: evalCenterCropPad},
	}
}

// span is what a Slice takes along one axis.
type span struct{ axis, from, n, step int }

// sliceSpans returns the spans of a Slice. For an axis whose extent or bounds are
// not known, ok[i] is false and the span holds only the axis.
func (c *InferCtx) sliceSpans(d []Dim) (spans []span, out []Dim, known bool, err error) {
	starts, ok0 := c.exprs(1)
	ends, ok1 := c.exprs(2)
	as, ok2 := c.ints(3)
	steps, ok3 := c.ints(4)
	if !ok0 || !ok1 || c.has(3) && !ok2 || c.has(4) && !ok3 {
		return nil, nil, false, nil
	}
	for i := 0; !c.has(3) && i < len(starts); i++ {
		as = append(as, int64(i))
	}
	if !c.has(4) {
		steps = slices.Repeat([]int64{1}, len(starts))
	}
	if len(ends) != len(starts) || len(as) != len(starts) || len(steps) != len(starts) {
		return nil, nil, false, fmt.Errorf("%d starts, %d ends, %d axes and %d steps", len(starts), len(ends), len(as), len(steps))
	}
	list, err := axes(as, len(d))
	if err != nil {
		return nil, nil, false, err
	}
	out, known = slices.Clone(d), true
	for i, a := range list {
		if steps[i] == 0 {
			return nil, nil, false, fmt.Errorf("step 0 along axis %d", a)
		}
		if d[a].IsKnown() && starts[i].isNumber() && ends[i].isNumber() {
			from, n, step := sliceRange(starts[i].add, ends[i].add, steps[i], d[a].Size)
			spans = append(spans, span{a, from, n, step})
			out[a] = Known(n)
			continue
		}
		known = false
		out[a] = symbolicSlice(d[a], starts[i], ends[i], steps[i])
	}
	return spans, out, known, nil
}

// sliceRange resolves bounds of a Slice as ONNX (and NumPy) does: the first element, the number of elements and the step.
func sliceRange(start, end, step int64, dim int) (from, n, by int) {
	step = min(max(step, -maxDim), maxDim)
	d := int64(dim)
	if start < 0 {
		start += d
	}
	if end < 0 {
		end += d
	}
	if step > 0 {
		start, end = min(max(start, 0), d), min(max(end, 0), d)
		return int(start), int(max(0, (end-start+step-1)/step)), int(step)
	}
	start, end = min(max(start, -1), d-1), min(max(end, -1), d-1)
	return int(start), int(max(0, (start-end-step-1)/-step)), int(step)
}

// symbolicSlice returns the extent of a slice of an extent that is not a number, or by bounds that are not.
func symbolicSlice(d Dim, start, end expr, step int64) Dim {
	e := dimExpr(d)
	if start.isNumber() && start.add < 0 {
		start = e.plus(start)
	}
	if end.isNumber() && end.add < 0 {
		end = e.plus(end)
	}
	if end.isNumber() && end.add >= maxDim || end.equals(e) {
		end = e
	}
	n := end.plus(start.times(number(-1)))
	clipped := end.isNumber() && !end.equals(e) // at an extent that is not known
	if step != 1 || clipped || n.isNumber() && n.add < 0 {
		return Dim{Size: -1}
	}
	return n.dim()
}

func inferSlice(c *InferCtx) error {
	d, ok := c.dims(0)
	if !ok {
		return nil
	}
	spans, out, known, err := c.sliceSpans(d)
	if err != nil {
		return err
	}
	if out == nil {
		c.set(0, c.in[0].DType, unknown(len(d)))
		return nil
	}
	c.set(0, c.in[0].DType, out)
	if v, ok := c.exprs(0); ok && known && len(d) == 1 && len(spans) == 1 {
		var part []expr
		for i := range spans[0].n {
			part = append(part, v[spans[0].from+i*spans[0].step])
		}
		c.know(0, part)
	}
	return nil
}

func evalSlice(c *EvalCtx) error {
	x := c.arg[0]
	spans, _, known, err := c.sliceSpans(knownDims(x.Shape()))
	if err != nil || !known {
		return fmt.Errorf("the bounds are not integer vectors (%v)", err)
	}
	shape, st, off := x.Shape().Clone(), x.Shape().Strides(), 0
	for _, s := range spans {
		shape[s.axis] = s.n
		if s.n > 0 {
			off += s.from * st[s.axis]
		}
		st[s.axis] *= s.step
	}
	c.put(0, tensor.Strided(x, shape, off, st))
	return nil
}

// splitSizes returns the extents of the parts along axis a; ok is false while they are unknown.
func (c *InferCtx) splitSizes(d Dim) (sizes []int64, ok bool, err error) {
	n := int64(len(c.node.Outputs))
	if c.has(1) {
		sizes, ok = c.ints(1)
		if !ok {
			return nil, false, nil
		}
		sum := int64(0)
		for _, s := range sizes {
			if s < 0 || s > maxDim {
				return nil, false, fmt.Errorf("sizes %v are not extents", sizes)
			}
			sum += s
		}
		if int64(len(sizes)) != n || d.IsKnown() && sum != int64(d.Size) {
			return nil, false, fmt.Errorf("sizes %v do not make %d parts of %v", sizes, n, c.in[0])
		}
		return sizes, true, nil
	}
	if parts := c.node.Int("num_outputs", n); parts != n {
		return nil, false, fmt.Errorf("num_outputs is %d, the node has %d outputs", parts, n)
	}
	if !d.IsKnown() {
		return nil, false, nil
	}
	each, left := (int64(d.Size)+n-1)/n, int64(d.Size) // the last part may be smaller
	for range n {
		s := min(each, left)
		sizes = append(sizes, s)
		left -= s
	}
	return sizes, true, nil
}

func inferSplit(c *InferCtx) error {
	for i := range c.out {
		c.setUnranked(i, c.in[0].DType)
	}
	d, ok := c.dims(0)
	if !ok {
		return nil
	}
	a, err := axis(c.node.Int("axis", 0), len(d))
	if err != nil {
		return err
	}
	sizes, ok, err := c.splitSizes(d[a])
	if err != nil {
		return err
	}
	from := 0
	v, isVec := c.exprs(0)
	for i := range c.out {
		out := slices.Clone(d)
		out[a] = Dim{Size: -1}
		if !c.has(1) { // equal parts, if the extent is a multiple
			out[a] = dimExpr(d[a]).over(number(int64(len(c.out)))).dim()
		}
		if ok {
			out[a] = Known(int(sizes[i]))
		}
		c.set(i, c.in[0].DType, out)
		if isVec && ok && len(d) == 1 {
			c.know(i, v[from:from+int(sizes[i])])
			from += int(sizes[i])
		}
	}
	return nil
}

func evalSplit(c *EvalCtx) error {
	a, err := axis(c.node.Int("axis", 0), len(c.arg[0].Shape()))
	if err != nil {
		return err
	}
	from := 0
	for i := range c.out {
		n := c.outShape(i)[a]
		c.put(i, tensor.SliceAxis(c.arg[0], a, from, n, 1))
		from += n
	}
	return nil
}

// padWidths returns the widths before and after each axis; ok is false while they are unknown.
func (c *InferCtx) padWidths(rank int) (before, after []expr, ok bool, err error) {
	w, ok := c.exprs(1)
	as, known := c.ints(3)
	if !ok || c.has(3) && !known {
		return nil, nil, false, nil
	}
	before, after = slices.Repeat([]expr{number(0)}, rank), slices.Repeat([]expr{number(0)}, rank)
	if !c.has(3) {
		for i := range rank {
			as = append(as, int64(i))
		}
	}
	if len(w) != 2*len(as) {
		return nil, nil, false, fmt.Errorf("%d pad widths for %d axes", len(w), len(as))
	}
	list, err := axes(as, rank)
	if err != nil {
		return nil, nil, false, err
	}
	for i, a := range list {
		before[a], after[a] = w[i], w[len(list)+i]
	}
	return before, after, true, nil
}

func inferPad(c *InferCtx) error {
	d, ok := c.dims(0)
	if !ok {
		return nil
	}
	before, after, ok, err := c.padWidths(len(d))
	if err != nil {
		return err
	}
	if !slices.Contains([]string{"constant", "reflect", "edge", "wrap"}, c.node.Str("mode", "constant")) {
		return fmt.Errorf("mode %q is not one of constant, reflect, edge, wrap", c.node.Str("mode", ""))
	}
	out := unknown(len(d))
	for i := range d {
		if !ok {
			continue
		}
		e := dimExpr(d[i]).plus(before[i]).plus(after[i])
		if e.isNumber() && e.add < 0 {
			return fmt.Errorf("axis %d of %v cannot be cropped by %v and %v", i, c.in[0], before[i], after[i])
		}
		if d[i] == Known(0) && e.isNumber() && e.add > 0 && c.node.Str("mode", "constant") != "constant" {
			return fmt.Errorf("axis %d of %v is empty, there is nothing to repeat", i, c.in[0])
		}
		out[i] = e.dim()
	}
	c.set(0, c.in[0].DType, out)
	return nil
}

func evalPad(c *EvalCtx) error {
	x := c.arg[0]
	before, _, ok, err := c.padWidths(len(x.Shape()))
	if err != nil || !ok {
		return fmt.Errorf("the pad widths are no integer vector (%v)", err)
	}
	var fill tensor.Any
	if c.has(2) {
		if fill = c.arg[2]; fill.Len() != 1 {
			return fmt.Errorf("the pad value is %v; it has to be a scalar", c.in[2])
		}
	}
	maps := make([][]int, len(x.Shape()))
	for i, n := range c.outShape(0) {
		maps[i] = padIndices(n, int(before[i].add), x.Shape()[i], c.node.Str("mode", "constant"))
	}
	c.put(0, tensor.TakeAxes(x, maps, fill))
	return nil
}

// padIndices returns, for each of n positions after padding, the position before it, or -1 for the fill value.
func padIndices(n, before, size int, mode string) []int {
	out := make([]int, n)
	for i := range out {
		j := i - before
		switch {
		case j >= 0 && j < size:
		case mode == "edge":
			j = min(max(j, 0), size-1)
		case mode == "wrap":
			j = ((j % size) + size) % size
		case mode == "reflect" && size == 1:
			j = 0
		case mode == "reflect":
			period := 2 * (size - 1)
			j = ((j % period) + period) % period
			j = min(j, period-j)
		default:
			j = -1
		}
		out[i] = j
	}
	return out
}

// inferCenterCropPad takes the extents of the listed axes (all by default) from input 1.
func inferCenterCropPad(c *InferCtx) error {
	d, ok := c.dims(0)
	if !ok {
		return nil
	}
	want, ok := c.exprs(1)
	list := make([]int, len(d))
	for i := range list {
		list[i] = i
	}
	if as := c.node.Ints("axes"); as != nil {
		var err error
		if list, err = axes(as, len(d)); err != nil {
			return err
		}
	}
	out := slices.Clone(d)
	if ok && len(want) != len(list) {
		return fmt.Errorf("%d extents for %d axes", len(want), len(list))
	}
	for i, a := range list {
		out[a] = Dim{Size: -1}
		if ok {
			if want[i].isNumber() && want[i].add < 0 {
				return fmt.Errorf("extent %v is negative", want[i])
			}
			out[a] = want[i].dim()
		}
	}
	c.set(0, c.in[0].DType, out)
	return nil
}

func evalCenterCropPad(c *EvalCtx) error {
	x := c.arg[0]
	maps := make([][]int, len(x.Shape()))
	for i, n := range c.outShape(0) {
		size := x.Shape()[i]
		before := (n - size) / 2 // rounded towards zero: a crop starts at the lower half
		if n < size {
			before = -((size - n) / 2)
		}
		maps[i] = padIndices(n, before, size, "constant")
	}
	c.put(0, tensor.TakeAxes(x, maps, nil))
	return nil
}
