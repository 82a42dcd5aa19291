package nn

import (
	"cmp"
	"slices"
)

// alignFloats is the alignment of every buffer in the arena: 64 bytes.
const alignFloats = 16

type bufKind uint8

const (
	bufArena bufKind = iota // at an offset of the worker's arena
	bufFeed                 // the caller's tensor
	bufConst                // data of a constant
	bufBox                  // a tensor that a generic step or a caller made
	bufOut                  // the caller's result
)

// buffer is where a value lives while a plan runs.
type buffer struct {
	kind  bufKind
	n     int       // float32 elements
	index int       // which feed, box or result
	data  []float32 // of a constant

	first, last int     // steps between which it holds something; set by planMemory
	same        *buffer // the buffer it took over in place
	off         int     // arena offset in floats
}

func (b *buffer) root() *buffer {
	for b.same != nil {
		b = b.same
	}
	return b
}

// planMemory finds when each buffer lives, lets elementwise steps overwrite an
// input that dies there, and gives every arena buffer an offset, largest first at
// the lowest place that is free for as long as it lives. It notes where boxes can
// be dropped, and returns the length
// of the arena in floats, and the most floats in boxes at once.
func planMemory(steps []*step) (arena, boxes int) {
	bufs := liveness(steps)
	for i, s := range steps {
		for _, in := range s.inplace {
			out, in := s.writes[0], in.root()
			if out.kind == bufArena && in.kind == bufArena && out.same == nil && out != in &&
				out.first == i && in.last == i && in.n == out.n {
				out.same, in.last = in, out.last
			}
		}
	}
	var roots []*buffer
	for _, b := range bufs {
		if b.kind == bufArena && b.same == nil && b.n > 0 {
			roots = append(roots, b)
		}
	}
	slices.SortStableFunc(roots, func(a, b *buffer) int { return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.first, b.first)) })
	for i, b := range roots {
		b.off = place(b, roots[:i])
		arena = max(arena, b.off+alignUp(b.n))
	}
	change := make([]int, len(steps)+1)
	for _, b := range bufs {
		b.off = b.root().off
		if b.kind == bufBox {
			change[b.first] += b.n
			change[b.last+1] -= b.n
			steps[b.last].free = append(steps[b.last].free, b.index)
		}
	}
	now := 0
	for _, d := range change {
		now += d
		boxes = max(boxes, now)
	}
	return arena, boxes
}

// liveness fills first and last and returns every buffer in order of first use.
func liveness(steps []*step) []*buffer {
	var bufs []*buffer
	seen := map[*buffer]bool{}
	touch := func(b *buffer, i int) {
		if !seen[b] {
			seen[b] = true
			b.first = i
			bufs = append(bufs, b)
		}
		b.last = i
	}
	for i, s := range steps {
		for _, b := range s.reads {
			touch(b, i)
		}
		for _, b := range s.writes {
			touch(b, i)
		}
		for _, b := range s.scratch {
			touch(b, i)
		}
	}
	return bufs
}

// place returns the lowest offset at which b overlaps none of the placed buffers that live at the same time.
func place(b *buffer, placed []*buffer) int {
	var busy []*buffer
	for _, o := range placed {
		if o.first <= b.last && b.first <= o.last {
			busy = append(busy, o)
		}
	}
	slices.SortFunc(busy, func(x, y *buffer) int { return cmp.Compare(x.off, y.off) })
	off := 0
	for _, o := range busy {
		if off+alignUp(b.n) <= o.off {
			break
		}
		off = max(off, o.off+alignUp(o.n))
	}
	return off
}

func alignUp(n int) int { return (n + alignFloats - 1) / alignFloats * alignFloats }

// newArena returns n floats that start on a 64-byte boundary: the runtime places
// objects above 32 KiB on page boundaries, so small arenas are made that large.
func newArena(n int) []float32 { return make([]float32, max(n, 8<<10+1))[:n] }
