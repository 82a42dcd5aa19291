package nn

import (
	"slices"

	"roundel/tensor"
)

// lowerView lowers operators that only rename or regroup elements: no step at all.
func lowerView(b *builder, g *group) (bool, error) {
	n := g.head
	x, out := b.floatValue(n.In(0)), b.shapeOf(g.out)
	if x == nil || out == nil || !b.isFloat(g.out) || n.Out(1) != "" || n.Op == "Dropout" && b.trains(n) {
		return false, nil
	}
	if out.Equal(x.shape) && x.rowMajor == nil {
		b.define(g.out, NHWC, x.nhwc)
		return true, nil
	}
	v := b.define(g.out, RowMajor, b.inRowMajor(x))
	if out.Equal(x.shape) {
		v.nhwc = x.nhwc
	}
	return true, nil
}

// trains reports whether a Dropout has a training-mode input that is not known to be false.
func (b *builder) trains(n *Node) bool {
	if n.In(2) == "" {
		return false
	}
	mode, _ := b.r.consts[n.In(2)].(*tensor.Dense[bool])
	return mode == nil || mode.Len() != 1 || mode.Data()[0]
}

// lowerTranspose lowers the two transpositions between NCHW and NHWC tensors, which only change the layout.
func lowerTranspose(b *builder, g *group) (bool, error) {
	x, perm := b.floatValue(g.head.In(0)), g.head.Ints("perm")
	if x == nil || len(x.shape) != 4 {
		return false, nil
	}
	switch {
	case slices.Equal(perm, []int64{0, 2, 3, 1}):
		b.define(g.out, RowMajor, b.inNHWC(x))
	case slices.Equal(perm, []int64{0, 3, 1, 2}):
		b.define(g.out, NHWC, b.inRowMajor(x))
	default:
		return false, nil
	}
	return true, nil
}

// lowerConcat copies runs of each input in turn, in the layout of most inputs.
func lowerConcat(b *builder, g *group) (bool, error) {
	n, out := g.head, b.shapeOf(g.out)
	if out == nil || !b.isFloat(g.out) {
		return false, nil
	}
	axis := int(n.Int("axis", 0))
	if axis < 0 {
		axis += len(out)
	}
	if axis < 0 || axis >= len(out) {
		return false, nil
	}
	nhwc := 0
	var in []*operand
	for _, name := range n.Inputs {
		v := b.floatValue(name)
		if v == nil {
			return false, nil
		}
		in = append(in, v)
		if len(out) == 4 && v.layout() == NHWC {
			nhwc++
		}
	}
	l, dims := RowMajor, out.Clone()
	if 2*nhwc > len(in) {
		l, dims = NHWC, tensor.Shape{out[0], out[2], out[3], out[1]}
		axis = []int{0, 3, 1, 2}[axis]
	}
	c := &concat{outer: dims[:axis].Len(), dst: b.newBuf(out.Len())}
	for _, v := range in {
		c.src = append(c.src, b.in(v, l))
		c.run = append(c.run, v.shape.Len()/max(c.outer, 1))
		c.pitch += c.run[len(c.run)-1]
	}
	c.fn = func(_, i int) { c.piece(c.m, i) }
	b.add(&step{node: n, reads: c.src, writes: []*buffer{c.dst}, run: c.do})
	b.define(g.out, l, c.dst)
	return true, nil
}

// concat copies, for each outer index, a run of each source.
type concat struct {
	outer, pitch int
	src          []*buffer
	run          []int
	dst          *buffer

	m  *machine
	fn func(worker, i int)
}

// concatPieces is how many pieces the copy is cut into for several workers.
const concatPieces = 16

func (c *concat) do(m *machine) error {
	if m.pool.Workers() == 1 || c.dst.n < 2*grainFloats {
		for i := range concatPieces {
			c.piece(m, i)
		}
		return nil
	}
	c.m = m
	m.pool.For(concatPieces, c.fn)
	c.m = nil
	return nil
}

// piece copies outer indices of piece i.
func (c *concat) piece(m *machine, i int) {
	from, to := c.outer*i/concatPieces, c.outer*(i+1)/concatPieces
	dst, at := m.f32(c.dst), 0
	for s, buf := range c.src {
		src, n := m.f32(buf), c.run[s]
		for o := from; o < to; o++ {
			copy(dst[o*c.pitch+at:][:n], src[o*n:])
		}
		at += n
	}
}

// transposeStep changes the layout of images.
type transposeStep struct {
	src, dst *buffer
	n, c, hw int
	to       Layout

	m  *machine
	fn func(worker, i int)
}

// newTransposeStep returns the function of a step that writes the images src to dst in layout to.
func newTransposeStep(src, dst *buffer, n, c, hw int, to Layout) func(*machine) error {
	t := &transposeStep{src: src, dst: dst, n: n, c: c, hw: hw, to: to}
	t.fn = func(_, i int) { t.piece(t.m, i) }
	return t.run
}

const transposePieces = 16

func (t *transposeStep) run(m *machine) error {
	if m.pool.Workers() == 1 || t.c*t.hw < grainFloats {
		for i := range t.n * transposePieces {
			t.piece(m, i)
		}
		return nil
	}
	t.m = m
	m.pool.For(t.n*transposePieces, t.fn)
	t.m = nil
	return nil
}

// piece moves some pixels of one image.
func (t *transposeStep) piece(m *machine, i int) {
	img, part := i/transposePieces, i%transposePieces
	// Multiples of 16 pixels keep each cache line of the row-major side to one worker.
	lines := (t.hw + 15) / 16
	from, to := 16*(lines*part/transposePieces), min(16*(lines*(part+1)/transposePieces), t.hw)
	if from >= to {
		return
	}
	src, dst := m.f32(t.src)[img*t.c*t.hw:][:t.c*t.hw], m.f32(t.dst)[img*t.c*t.hw:][:t.c*t.hw]
	if t.to == NHWC {
		transpose(dst[from*t.c:], t.c, src[from:], t.hw, t.c, to-from)
	} else {
		transpose(dst[from:], t.hw, src[from*t.c:], t.c, to-from, t.c)
	}
}
