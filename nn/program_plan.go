package nn

import (
	"context"
	"errors"
	"fmt"

	"roundel/tensor"
)

// step is one piece of work of a plan.
type step struct {
	node    *Node // for errors; nil for conversions and taps
	reads   []*buffer
	writes  []*buffer
	scratch []*buffer
	inplace []*buffer // reads whose place writes[0] may take over when they die here
	borrows int       // most floats that each worker borrows from its pool
	free    []int     // boxes that nobody reads after this step; set by planMemory
	run     func(m *machine) error
}

// fetchInfo describes a fetched value; shape is nil when it is only known after the run.
type fetchInfo struct {
	name  string
	dtype tensor.DType
	shape tensor.Shape
}

// plan is the list of steps for one set of feed shapes.
type plan struct {
	steps    []step
	arena    int   // floats
	borrows  int   // most floats that each worker borrows at a time
	boxes    int   // number of boxed tensors
	boxBytes int64 // most bytes of boxed tensors of known shape alive at once
	boxFeeds []int // box of each feed that is not float32, -1 for the others
	fetches  []fetchInfo
}

// operand is what is known of a named value while a plan is built. At least one of
// the buffers is set; both when it exists in both layouts.
type operand struct {
	name     string
	t        Type
	shape    tensor.Shape // nil when not known
	rowMajor *buffer      // float32, or a box of any type
	nhwc     *buffer
	cnst     tensor.Any
}

// image reports whether v is a float32 image tensor of known shape.
func (v *operand) image() bool {
	return v.shape != nil && len(v.shape) == 4 && v.t.DType == tensor.Float32
}

// float reports whether v is a float32 tensor of known shape.
func (v *operand) float() bool { return v.shape != nil && v.t.DType == tensor.Float32 }

// oneLayout reports whether both layouts are the same sequence of elements.
func oneLayout(s tensor.Shape) bool { return len(s) == 4 && (s[1] == 1 || s[2]*s[3] == 1) }

// builder makes a plan.
type builder struct {
	p     *Program
	r     *resolved
	pl    *plan
	steps []*step
	vals  map[string]*operand
	fused map[*Node]*group // nodes that are part of a group
	fetch map[string]int
}

// buildPlan lowers the needed nodes to steps, packing their weights, and plans their memory.
func (p *Program) buildPlan(ctx context.Context, r *resolved) (*plan, error) {
	b := &builder{p: p, r: r, pl: &plan{}, vals: map[string]*operand{}, fused: map[*Node]*group{}, fetch: map[string]int{}}
	for i, name := range p.fetches {
		b.fetch[name] = i
		s, _ := r.types[name].Shape()
		b.pl.fetches = append(b.pl.fetches, fetchInfo{name, r.types[name].DType, s})
	}
	for i, f := range p.feeds {
		if err := b.feed(i, f); err != nil {
			return nil, err
		}
	}
	for name := range b.r.consts {
		if p.wanted[name] > 0 {
			if err := b.produced(name, true); err != nil {
				return nil, err
			}
		}
	}
	b.findGroups()
	for _, n := range p.nodes {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("nn: compile: %w", err)
		}
		if err := b.node(n); err != nil {
			return nil, nodeError(n, err)
		}
	}
	arena, boxed := planMemory(b.steps)
	b.pl.arena, b.pl.boxBytes = arena, 4*int64(boxed)
	for _, s := range b.steps {
		b.pl.steps = append(b.pl.steps, *s)
		b.pl.borrows = max(b.pl.borrows, s.borrows)
	}
	return b.pl, nil
}

// node lowers one node, unless it is constant or part of a group that comes later.
func (b *builder) node(n *Node) error {
	if b.allConst(n) {
		return nil
	}
	g := b.fused[n]
	if g == nil {
		g = newGroup(n)
	}
	if g.tail != n {
		return nil
	}
	if lower := loweringOf(g.head.Op); lower != nil {
		if done, err := lower(b, g); err != nil || done {
			return errors.Join(nodeError(g.head, err), b.produced(g.out, g.quantized))
		}
	}
	if err := b.generic(g.head); err != nil {
		return nodeError(g.head, err)
	}
	for _, m := range g.rest { // they were to follow in the same step
		delete(b.fused, m)
		if err := b.node(m); err != nil {
			return nodeError(m, err)
		}
	}
	return nil
}

func (b *builder) allConst(n *Node) bool {
	for _, out := range n.Outputs {
		if out != "" && b.r.consts[out] == nil {
			return false
		}
	}
	return true
}

// feed enters feed i.
func (b *builder) feed(i int, name string) error {
	t := b.r.types[name]
	v := &operand{name: name, t: t}
	v.shape, _ = t.Shape()
	b.vals[name] = v
	box := -1
	switch {
	case t.DType != tensor.Float32:
		box = b.pl.boxes
		v.rowMajor = b.newBox(0)
	case b.p.o.NHWC && v.image():
		v.nhwc = &buffer{kind: bufFeed, index: i, n: v.shape.Len()}
	default:
		v.rowMajor = &buffer{kind: bufFeed, index: i, n: v.shape.Len()}
	}
	b.pl.boxFeeds = append(b.pl.boxFeeds, box)
	if t.DType == tensor.Float32 && oneLayout(v.shape) {
		v.bothLayouts()
	}
	return b.produced(name, false)
}

func (v *operand) bothLayouts() {
	if v.nhwc == nil {
		v.nhwc = v.rowMajor
	}
	v.rowMajor = v.nhwc
}

// value returns the value name; a constant gets its buffer here. Nil when name is absent or unknown.
func (b *builder) value(name string) *operand {
	if v, ok := b.vals[name]; ok || name == "" {
		return v
	}
	c := b.r.consts[name]
	if c == nil {
		return nil
	}
	v := &operand{name: name, t: typeOf(c), shape: c.Shape(), cnst: c}
	v.rowMajor = &buffer{kind: bufConst}
	if f, ok := c.(*tensor.Dense[float32]); ok {
		v.rowMajor.n, v.rowMajor.data = f.Len(), f.Data()
		if oneLayout(v.shape) {
			v.bothLayouts()
		}
	}
	b.vals[name] = v
	return v
}

// floatValue returns the value name if it is float32 of known shape, else nil.
func (b *builder) floatValue(name string) *operand {
	if v := b.value(name); v != nil && v.float() {
		return v
	}
	return nil
}

func (b *builder) newBuf(n int) *buffer { return &buffer{n: n} }

func (b *builder) newBox(n int) *buffer {
	b.pl.boxes++
	return &buffer{kind: bufBox, index: b.pl.boxes - 1, n: n}
}

func (b *builder) add(s *step) { b.steps = append(b.steps, s) }

// define enters the result of a node, whose type is inferred, as held by buf.
func (b *builder) define(name string, l Layout, buf *buffer) *operand {
	v := &operand{name: name, t: b.r.types[name]}
	v.shape, _ = v.t.Shape()
	if l == NHWC {
		v.nhwc = buf
	} else {
		v.rowMajor = buf
	}
	if v.float() && oneLayout(v.shape) {
		v.bothLayouts()
	}
	b.vals[name] = v
	return v
}

// inNHWC returns the buffer of image v in NHWC order, converting when needed.
func (b *builder) inNHWC(v *operand) *buffer {
	if v.nhwc == nil {
		v.nhwc = b.convert(v, NHWC)
	}
	return v.nhwc
}

// inRowMajor returns the buffer of v in its logical order, converting when needed.
func (b *builder) inRowMajor(v *operand) *buffer {
	if v.rowMajor == nil {
		v.rowMajor = b.convert(v, RowMajor)
	}
	return v.rowMajor
}

// in returns the buffer of v in layout l.
func (b *builder) in(v *operand, l Layout) *buffer {
	if l == NHWC {
		return b.inNHWC(v)
	}
	return b.inRowMajor(v)
}

// layout returns a layout that v already has, NHWC if it has both.
func (v *operand) layout() Layout {
	if v.nhwc != nil {
		return NHWC
	}
	return RowMajor
}

// convert adds a step that copies v to the other layout; constants are converted at once.
func (b *builder) convert(v *operand, to Layout) *buffer {
	n, c, hw := v.shape[0], v.shape[1], v.shape[2]*v.shape[3]
	if v.cnst != nil {
		buf := &buffer{kind: bufConst, n: v.shape.Len(), data: make([]float32, v.shape.Len())}
		ToNHWC(buf.data, v.rowMajor.data, n, c, hw)
		return buf
	}
	src, dst := v.rowMajor, b.newBuf(v.shape.Len())
	if to == RowMajor {
		src = v.nhwc
	}
	b.add(&step{reads: []*buffer{src}, writes: []*buffer{dst}, run: newTransposeStep(src, dst, n, c, hw, to)})
	return dst
}

// produced is called after a value was made: it quantizes it unless that was
// done, and adds the steps for taps and fetches.
func (b *builder) produced(name string, quantized bool) error {
	v := b.value(name)
	if v == nil {
		return nil
	}
	if q, ok := b.p.o.FakeQuant[name]; ok && !quantized && v.cnst == nil {
		b.quantize(v, q)
	}
	if b.p.wanted[name] == 0 {
		return nil
	}
	for _, tap := range b.p.o.Taps {
		if tap != name {
			continue
		}
		if v.t.DType != tensor.Float32 {
			return fmt.Errorf("nn: tap %q: %v is not a float32 tensor", name, v.t)
		}
		b.tap(v)
		break
	}
	if i, ok := b.fetch[name]; ok {
		b.fetched(i, v)
	}
	return nil
}

// quantize replaces v by its quantized and dequantized copy.
func (b *builder) quantize(v *operand, q tensor.FakeQuant) {
	if v.t.DType != tensor.Float32 {
		return
	}
	l := v.layout()
	src := b.in(v, l)
	if v.shape == nil {
		dst := b.newBox(0)
		b.add(&step{reads: []*buffer{src}, writes: []*buffer{dst}, run: func(m *machine) error {
			t := m.boxes[src.index].(*tensor.Dense[float32]).Clone()
			tensor.QuantDequant(t.Data(), t.Data(), q, b.p.k)
			m.boxes[dst.index] = t
			return nil
		}})
		v.rowMajor = dst
		return
	}
	dst := b.newBuf(v.shape.Len())
	e := &elementwise{n: dst.n, dst: dst, k: b.p.k}
	e.f = func(m *machine, _ int, d []float32, lo, hi int) {
		tensor.QuantDequant(d, m.f32(src)[lo:hi], q, e.k)
	}
	b.add(&step{reads: []*buffer{src}, writes: []*buffer{dst}, inplace: []*buffer{src}, run: e.init()})
	v.rowMajor, v.nhwc = nil, nil
	if l == NHWC {
		v.nhwc = dst
	} else {
		v.rowMajor = dst
	}
	if oneLayout(v.shape) {
		v.bothLayouts()
	}
}

// tap adds the step that shows v to the caller of RunTaps, in the shape that it has in this run.
func (b *builder) tap(v *operand) {
	if v.shape == nil {
		box := v.rowMajor
		b.add(&step{reads: []*buffer{box}, run: func(m *machine) error {
			if t, ok := m.boxes[box.index].(*tensor.Dense[float32]); ok && m.tap != nil {
				m.tap(Tap{Name: v.name, Image: m.image, Worker: m.id, Data: t.Data(), Shape: t.Shape()})
			}
			return nil
		}})
		return
	}
	l := v.layout()
	buf := b.in(v, l)
	if len(v.shape) != 4 || v.rowMajor == buf {
		l = RowMajor
	}
	t := Tap{Name: v.name, Shape: v.shape, Layout: l}
	b.add(&step{reads: []*buffer{buf}, run: func(m *machine) error {
		if m.tap != nil {
			t := t
			t.Data, t.Image, t.Worker = m.f32(buf), m.image, m.id
			m.tap(t)
		}
		return nil
	}})
}

// fetched adds the step that copies v to the caller.
func (b *builder) fetched(i int, v *operand) {
	if !v.float() {
		src := v.rowMajor
		b.add(&step{reads: []*buffer{src}, run: func(m *machine) error {
			m.outAny[i] = m.any(v, src)
			return nil
		}})
		return
	}
	want := RowMajor
	if b.p.o.NHWC && v.image() {
		want = NHWC
	}
	l := v.layout()
	src := b.in(v, l)
	if l == want || len(v.shape) != 4 || v.rowMajor == v.nhwc {
		b.add(&step{reads: []*buffer{src}, run: func(m *machine) error {
			copy(m.outs[i], m.f32(src))
			return nil
		}})
		return
	}
	n, c, hw := v.shape[0], v.shape[1], v.shape[2]*v.shape[3]
	out := &buffer{kind: bufOut, index: i, n: v.shape.Len()}
	b.add(&step{reads: []*buffer{src}, writes: []*buffer{out}, run: newTransposeStep(src, out, n, c, hw, want)})
}
