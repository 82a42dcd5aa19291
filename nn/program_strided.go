package nn

import (
	"slices"

	"roundel/tensor"
)

// mover is a step that copies elements from one regular pattern of places to another.
type mover struct {
	dims     []int // of the pattern; the last two may be walked in blocks
	to, from []int // strides
	toOff    int
	fromOff  int
	fill     bool // the other elements of dst become value
	value    float32
	src, dst *buffer

	m  *machine
	fn func(worker, i int)
}

// bufStrides returns the strides of the logical axes of an array of shape s in layout l.
func bufStrides(s tensor.Shape, l Layout) []int {
	if l == NHWC {
		return []int{s[1] * s[2] * s[3], 1, s[1] * s[3], s[1]}
	}
	return s.Strides()
}

// addMover adds the step that fills out, of layout l, from src: element i of the
// pattern dims goes from fromOff + i·from to toOff + i·to.
func (b *builder) addMover(n *Node, out string, l Layout, v *mover, dims, to, from []int) {
	v.dst = b.newBuf(b.shapeOf(out).Len())
	// The axes in the order of dst, so that neighbours merge and dst is written in order.
	order := make([]int, len(dims))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return to[b] - to[a] })
	shape, steps := make(tensor.Shape, len(dims)), [][]int{make([]int, len(dims)), make([]int, len(dims))}
	for i, a := range order {
		shape[i], steps[0][i], steps[1][i] = dims[a], to[a], from[a]
	}
	merged, s := tensor.MergeAxes(shape, steps)
	v.dims, v.to, v.from = merged, s[0], s[1]
	v.blockAxis()
	v.fn = func(_, i int) { v.pieces(v.m, i, i+1) }
	b.add(&step{node: n, reads: []*buffer{v.src}, writes: []*buffer{v.dst}, run: v.run})
	b.define(out, l, v.dst)
}

// blockAxis brings the axis along which src is contiguous next to the last one, along which dst is.
func (v *mover) blockAxis() {
	last := len(v.dims) - 1
	i := slices.Index(v.from, 1)
	if i < 0 || i == last {
		return
	}
	for _, s := range []*[]int{&v.dims, &v.to, &v.from} {
		x := (*s)[i]
		*s = slices.Insert(slices.Delete(*s, i, i+1), last-1, x)
	}
}

// outer returns the number of pieces: the places of all axes but the last two.
func (v *mover) outer() int { return tensor.Shape(v.dims[:max(len(v.dims)-2, 0)]).Len() }

func (v *mover) run(m *machine) error {
	if v.fill {
		d := m.f32(v.dst)
		for i := range d {
			d[i] = v.value
		}
	}
	n := v.outer()
	if m.pool.Workers() == 1 || v.dst.n < 2*grainFloats || n == 1 {
		v.pieces(m, 0, n)
		return nil
	}
	v.m = m
	m.pool.For(n, v.fn)
	v.m = nil
	return nil
}

// pieces copies pieces [lo, hi).
func (v *mover) pieces(m *machine, lo, hi int) {
	dst, src := m.f32(v.dst), m.f32(v.src)
	last := len(v.dims) - 1
	for i := lo; i < hi; i++ {
		to, from, rest := v.toOff, v.fromOff, i
		for a := last - 2; a >= 0; a-- {
			to, from = to+rest%v.dims[a]*v.to[a], from+rest%v.dims[a]*v.from[a]
			rest /= v.dims[a]
		}
		rows, rowTo, rowFrom := 1, 0, 0
		if last > 0 {
			rows, rowTo, rowFrom = v.dims[last-1], v.to[last-1], v.from[last-1]
		}
		cols, colTo, colFrom := v.dims[last], v.to[last], v.from[last]
		if rowFrom == 1 && colTo == 1 && colFrom != 1 {
			transpose(dst[to:], rowTo, src[from:], colFrom, cols, rows)
			continue
		}
		for r := range rows {
			d, s := to+r*rowTo, from+r*rowFrom
			if colTo == 1 && colFrom == 1 {
				copy(dst[d:d+cols], src[s:s+cols])
				continue
			}
			for range cols {
				dst[d] = src[s]
				d, s = d+colTo, s+colFrom
			}
		}
	}
}

// lowerPermute is a Transpose of any axes.
func lowerPermute(b *builder, g *group) (bool, error) {
	if done, err := lowerTranspose(b, g); done || err != nil {
		return done, err
	}
	x, out := b.floatValue(g.head.In(0)), b.shapeOf(g.out)
	if x == nil || out == nil || out.Len() == 0 || len(out) == 0 {
		return false, nil
	}
	perm, err := (&InferCtx{node: g.head}).permutation(len(x.shape))
	if err != nil {
		return false, err
	}
	l := x.layout()
	st, from := bufStrides(x.shape, l), make([]int, len(perm))
	for i, p := range perm {
		from[i] = st[p]
	}
	b.addMover(g.head, g.out, RowMajor, &mover{src: b.in(x, l)}, out, out.Strides(), from)
	return true, nil
}

// lowerSlice copies the part of x that a Slice with constant bounds takes.
func lowerSlice(b *builder, g *group) (bool, error) {
	n, out := g.head, b.shapeOf(g.out)
	x := b.floatValue(n.In(0))
	if x == nil || out == nil || out.Len() == 0 {
		return false, nil
	}
	spans, _, known, err := b.inferCtx(n).sliceSpans(knownDims(x.shape))
	if err != nil || !known {
		return false, err
	}
	l := x.layout()
	v, from := &mover{src: b.in(x, l)}, bufStrides(x.shape, l)
	for _, s := range spans {
		v.fromOff += s.from * from[s.axis]
		from[s.axis] *= s.step
	}
	b.addMover(n, g.out, l, v, out, bufStrides(out, l), from)
	return true, nil
}

// inferCtx returns the context that the functions of inference read attributes and constants from.
func (b *builder) inferCtx(n *Node) *InferCtx {
	c := &InferCtx{node: n, in: make([]Type, len(n.Inputs)), val: make([]value, len(n.Inputs)), out: make([]Type, len(n.Outputs))}
	for i, name := range n.Inputs {
		c.in[i], c.val[i].t = b.r.types[name], b.r.consts[name]
	}
	return c
}

// lowerSplit copies each part.
func lowerSplit(b *builder, g *group) (bool, error) {
	n := g.head
	x := b.floatValue(n.In(0))
	if x == nil || len(x.shape) == 0 || x.shape.Len() == 0 {
		return false, nil
	}
	a, err := axis(n.Int("axis", 0), len(x.shape))
	if err != nil {
		return false, err
	}
	at, l := 0, x.layout()
	for _, name := range n.Outputs {
		if s := b.shapeOf(name); name == "" || s == nil || s.Len() == 0 || b.p.isFeed(name) {
			return false, nil
		}
	}
	for i, name := range n.Outputs {
		out := b.shapeOf(name)
		from := bufStrides(x.shape, l)
		b.addMover(n, name, l, &mover{src: b.in(x, l), fromOff: at * from[a]}, out, bufStrides(out, l), from)
		at += out[a]
		if i > 0 { // the first one is the group's
			if err := b.produced(name, false); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// lowerPad surrounds x with a constant, or crops it.
func lowerPad(b *builder, g *group) (bool, error) {
	n, out := g.head, b.shapeOf(g.out)
	x, value := b.floatValue(n.In(0)), b.p.floatConst(b.r, n.In(2))
	if x == nil || out == nil || out.Len() == 0 || x.shape.Len() == 0 || n.Str("mode", "constant") != "constant" ||
		n.In(2) != "" && (value == nil || value.Len() != 1) {
		return false, nil
	}
	before, after, ok, err := b.inferCtx(n).padWidths(len(x.shape))
	if err != nil || !ok {
		return false, err
	}
	l := x.layout()
	v := &mover{src: b.in(x, l), fill: true}
	if value != nil {
		v.value = value.Data()[0]
	}
	dims, to, from := x.shape.Clone(), bufStrides(out, l), bufStrides(x.shape, l)
	for i := range dims {
		lo, hi := int(before[i].add), int(after[i].add)
		dims[i] += min(lo, 0) + min(hi, 0)
		if dims[i] <= 0 {
			return false, nil
		}
		v.toOff += max(lo, 0) * to[i]
		v.fromOff += max(-lo, 0) * from[i]
	}
	v.fill = dims.Len() < out.Len()
	b.addMover(n, g.out, l, v, dims, to, from)
	return true, nil
}

// lowerExpand repeats x along the axes where it has extent one.
func lowerExpand(b *builder, g *group) (bool, error) {
	x, out := b.floatValue(g.head.In(0)), b.shapeOf(g.out)
	if x == nil || out == nil || out.Len() == 0 || len(x.shape) > len(out) {
		return false, nil
	}
	src := b.inRowMajor(x)
	b.addMover(g.head, g.out, RowMajor, &mover{src: src}, out, out.Strides(), repeated(x.shape, out))
	return true, nil
}

// repeated returns the strides of an array of shape s seen as shape out: 0 where it is repeated.
func repeated(s, out tensor.Shape) []int {
	st, from := s.Strides(), make([]int, len(out))
	for i, d := range s {
		if d != 1 {
			from[len(out)-len(s)+i] = st[i]
		}
	}
	return from
}
