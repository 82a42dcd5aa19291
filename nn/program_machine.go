package nn

import (
	"roundel/asm"
	"roundel/tensor"
)

// machine is what one worker runs a plan on.
type machine struct {
	id     int
	image  int
	pool   *tensor.Pool
	arena  []float32
	boxes  []tensor.Any
	feeds  [][]float32
	outs   [][]float32
	outAny []tensor.Any
	tap    func(Tap)
	tiles  []asm.DwTile // one per worker of the pool, so that none is allocated
	taps   [][]int
	chunks [][]float32 // scratch of elementwise steps, one per worker
}

func newMachine(id int, pool *tensor.Pool) *machine { return &machine{id: id, pool: pool} }

// prepare makes room for a plan.
func (m *machine) prepare(p *Program, pl *plan) {
	if len(m.arena) < pl.arena {
		m.arena = newArena(pl.arena)
	}
	if len(m.boxes) < pl.boxes {
		m.boxes = make([]tensor.Any, pl.boxes)
	}
	if m.feeds == nil {
		m.feeds, m.outs, m.outAny = make([][]float32, len(p.feeds)), make([][]float32, len(p.fetches)), make([]tensor.Any, len(p.fetches))
		n := p.pool.Workers()
		m.tiles, m.taps, m.chunks = make([]asm.DwTile, n), make([][]int, n), make([][]float32, n)
	}
}

// f32 returns the elements of a buffer.
func (m *machine) f32(b *buffer) []float32 {
	switch b.kind {
	case bufFeed:
		return m.feeds[b.index]
	case bufConst:
		return b.data
	case bufBox:
		return m.boxes[b.index].(*tensor.Dense[float32]).Data()
	case bufOut:
		return m.outs[b.index]
	}
	return m.arena[b.off : b.off+b.n : b.off+b.n]
}

// chunk returns scratch of n floats, at most chunkFloats, for a worker.
func (m *machine) chunk(worker, n int) []float32 {
	if m.chunks[worker] == nil {
		m.chunks[worker] = make([]float32, chunkFloats)
	}
	return m.chunks[worker][:n]
}

// any returns v, held by b in logical order, as a tensor.
func (m *machine) any(v *operand, b *buffer) tensor.Any {
	switch {
	case v.cnst != nil:
		return v.cnst
	case b.kind == bufBox:
		return reshaped(m.boxes[b.index], v.shape)
	}
	return tensor.From(m.f32(b), v.shape...)
}

// reshaped returns t in shape s: a box that a Reshape, Squeeze or the like gave another name has the shape of the
// value it was made for.
func reshaped(t tensor.Any, s tensor.Shape) tensor.Any {
	f, ok := t.(*tensor.Dense[float32])
	if !ok || s == nil || s.Equal(f.Shape()) || s.Len() != f.Len() {
		return t
	}
	return f.Reshape(s...)
}
