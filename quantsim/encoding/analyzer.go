package encoding

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"roundel/tensor"
)

// ErrNoData is returned by Analyzer.Encoding when nothing was observed.
var ErrNoData = errors.New("no data was observed")

// TensorError is an error about one tensor.
type TensorError struct {
	Tensor string
	Err    error
}

// Error names the tensor.
func (e *TensorError) Error() string { return fmt.Sprintf("encoding: tensor %q: %v", e.Tensor, e.Err) }

// Unwrap returns the cause.
func (e *TensorError) Unwrap() error { return e.Err }

// collector gathers what one scheme needs to know about one group of elements, over all batches.
type collector interface {
	part() part         // of one batch; a collector makes any number of them
	fix(p part)         // p is the first batch, complete through addRange; nothing happens unless the collector waits for it
	waiting() bool      // needs fix before parts can count
	commit(p part)      // adds a batch and empties p
	merge(into, p part) // adds p to another part of the same batch and empties p
	params(g Grid, m Method) params
	clear() // forgets everything and keeps its memory
}

// part is what one group knows of one batch. Both report whether all elements are finite.
type part interface {
	addRange(x []float32) bool
	add(x []float32) bool
}

// Analyzer chooses the encoding of one tensor from batches of its data, in memory
// that does not depend on how much data there is. Observe takes a whole batch; a
// batch that comes in pieces, or several tensors that share an encoding, go through Batch.
type Analyzer struct {
	name   string
	grid   Grid
	method Method
	groups []collector
	once   sync.Once // makes groups
	whole  *Batch    // of Observe
}

// Batch is a batch of one tensor while it is observed, or a share of one. Pieces may
// be added in any order and cut in any way without changing the result. A Batch
// belongs to one goroutine; several for one batch are joined by Merge.
//
// A scheme that fixes its histogram by the first batch (NeedsRange) wants all pieces
// through Range, then Analyzer.Fix, then all again through Add; others only Add.
// Analyzer.Commit ends the batch, after which the Batch is empty and can be used again.
type Batch struct {
	a     *Analyzer
	parts []part
}

// NewAnalyzer returns an analyzer for the tensor name (used in errors) on the given
// grid; its axes are checked against the first data.
func NewAnalyzer(name string, g Grid, m Method) (*Analyzer, error) {
	if err := errors.Join(g.Validate(nil), m.Validate()); err != nil {
		return nil, &TensorError{name, err}
	}
	if m.Percentile == 0 {
		m.Percentile = 100
	}
	return &Analyzer{name: name, grid: g, method: m}, nil
}

// NeedsRange reports whether the next batch must go through Range and Fix before Add:
// only histogram schemes, and only until a batch that is not all zero was fixed.
func (a *Analyzer) NeedsRange() bool {
	if len(a.groups) == 0 {
		return a.grid.Type == Int && newCollector(a.method).waiting()
	}
	for _, c := range a.groups {
		if c.waiting() {
			return true
		}
	}
	return false
}

// grow makes the collectors; batches of several goroutines may come here together.
func (a *Analyzer) grow(groups int) {
	a.once.Do(func() {
		for range groups {
			a.groups = append(a.groups, newCollector(a.method))
		}
	})
}

// Batch returns an empty batch.
func (a *Analyzer) Batch() *Batch { return &Batch{a: a} }

// Range shows a piece of the batch for the first time.
func (b *Batch) Range(x []float32, shape tensor.Shape) error {
	return b.each(x, shape, part.addRange)
}

// Add counts a piece of the batch. An element that is not a finite number is an error that names the tensor and the index.
func (b *Batch) Add(x []float32, shape tensor.Shape) error {
	return b.each(x, shape, part.add)
}

// Merge adds what other has seen of the same batch to b and empties other.
func (b *Batch) Merge(other *Batch) {
	if b.parts == nil {
		b.parts, other.parts = other.parts, nil
		return
	}
	for i, p := range other.parts {
		b.a.groups[i].merge(b.parts[i], p)
	}
}

// Fix lets b, which has seen the whole batch through Range, fix what is not fixed yet.
func (a *Analyzer) Fix(b *Batch) {
	for i, p := range b.parts {
		a.groups[i].fix(p)
	}
}

// Commit ends the batch b.
func (a *Analyzer) Commit(b *Batch) {
	for i, p := range b.parts {
		a.groups[i].commit(p)
	}
}

// Observe shows a whole batch.
func (a *Analyzer) Observe(x []float32, shape tensor.Shape) error {
	if a.whole == nil {
		a.whole = a.Batch()
	}
	b := a.whole
	if a.NeedsRange() {
		if err := b.Range(x, shape); err != nil {
			return err
		}
		a.Fix(b)
	}
	if err := b.Add(x, shape); err != nil {
		return err
	}
	a.Commit(b)
	return nil
}

// each checks a piece and gives every run of it to f.
func (b *Batch) each(x []float32, shape tensor.Shape, f func(part, []float32) bool) error {
	a := b.a
	if len(x) != shape.Len() {
		return &TensorError{a.name, fmt.Errorf("%d elements for shape %v", len(x), shape)}
	}
	if err := a.grid.Validate(shape); err != nil {
		return &TensorError{a.name, err}
	}
	if a.grid.Type != Int {
		return nil
	}
	if err := b.prepare(a.grid.Groups(shape), shape); err != nil {
		return err
	}
	finite := true
	a.grid.Runs(shape, func(group, lo, hi int) {
		if !f(b.parts[group], x[lo:hi]) {
			finite = false
		}
	})
	if i := -1; !finite {
		if i = tensor.FirstNonFinite(x); i >= 0 {
			return &TensorError{a.name, fmt.Errorf("element %d of shape %v is %v; a range cannot be chosen from it. "+
				"Exclude the tensor from quantization, or look for the operator that overflows", i, shape, x[i])}
		}
	}
	return nil
}

// prepare makes the parts on first use, and the collectors with them.
func (b *Batch) prepare(groups int, shape tensor.Shape) error {
	a := b.a
	if b.parts == nil {
		a.grow(groups)
		for _, c := range a.groups {
			b.parts = append(b.parts, c.part())
		}
	}
	if len(b.parts) != groups {
		return &TensorError{a.name, fmt.Errorf("shape %v has %d channels, the data before had %d", shape, groups, len(b.parts))}
	}
	return nil
}

// Encoding returns the encoding for all that was observed. It is ErrNoData (wrapped) if that is nothing.
func (a *Analyzer) Encoding() (*Encoding, error) {
	e := &Encoding{Grid: a.grid}
	if a.grid.Type != Int {
		return e, nil
	}
	if len(a.groups) == 0 {
		return nil, &TensorError{a.name, ErrNoData}
	}
	for _, c := range a.groups {
		p := c.params(a.grid, a.method)
		e.Scale, e.Offset = append(e.Scale, p.scale), append(e.Offset, p.offset)
	}
	e.setRange()
	return e, nil
}

// Compute returns the encoding of a tensor that is known as a whole, such as a
// weight. Groups are handled one after the other, so memory does not grow with their number; between
// them ctx is looked at, and when it is done the error wraps its error.
func Compute(ctx context.Context, name string, x []float32, shape tensor.Shape, g Grid, m Method) (*Encoding, error) {
	if err := g.Validate(shape); err != nil {
		return nil, &TensorError{name, err}
	}
	if g.Type != Int || g.Groups(shape) == 1 || len(x) != shape.Len() {
		return compute(name, x, shape, g, m)
	}
	n := g.Groups(shape)
	each := len(x) / n
	sorted, at := make([]float32, len(x)), make([]int, n)
	g.Runs(shape, func(group, lo, hi int) {
		at[group] += copy(sorted[group*each+at[group]:(group+1)*each], x[lo:hi])
	})
	flat := g
	flat.Axis, flat.BlockSize = PerTensor, 0
	a, err := NewAnalyzer(name, flat, m)
	if err != nil {
		return nil, err
	}
	e := &Encoding{Grid: g}
	for i := range n {
		if err := ctx.Err(); err != nil {
			return nil, &TensorError{name, err}
		}
		part := sorted[i*each : (i+1)*each]
		if err := a.Observe(part, tensor.Shape{each}); err != nil {
			var te *TensorError
			if errors.As(err, &te) {
				te.Tensor = fmt.Sprintf("%s, channel %d", name, i)
			}
			return nil, err
		}
		p := a.groups[0].params(flat, a.method)
		e.Scale, e.Offset = append(e.Scale, p.scale), append(e.Offset, p.offset)
		a.groups[0].clear()
	}
	e.setRange()
	return e, nil
}

func compute(name string, x []float32, shape tensor.Shape, g Grid, m Method) (*Encoding, error) {
	a, err := NewAnalyzer(name, g, m)
	if err != nil {
		return nil, err
	}
	if err := a.Observe(x, shape); err != nil {
		return nil, err
	}
	return a.Encoding()
}

func newCollector(m Method) collector {
	switch m.base() {
	case SchemeTFEnhanced, SchemePercentile:
		return &histogram{}
	case SchemeMSE, SchemeEntropy:
		return &spectrum{}
	}
	return &extremes{}
}

// extremes is the running minimum and maximum, of a batch and of all of them.
type extremes struct{ lo, hi float32 }

func (*extremes) part() part              { return &extremes{} }
func (*extremes) waiting() bool           { return false }
func (*extremes) fix(part)                {}
func (e *extremes) commit(p part)         { e.merge(e, p) }
func (*extremes) addRange([]float32) bool { return true }
func (e *extremes) clear()                { *e = extremes{} }

func (*extremes) merge(into, p part) {
	a, b := into.(*extremes), p.(*extremes)
	a.lo, a.hi = min(a.lo, b.lo), max(a.hi, b.hi)
	b.lo, b.hi = 0, 0
}

// add includes zero in the range, which every grid has to reach.
func (e *extremes) add(x []float32) bool {
	lo, hi, finite := tensor.Survey(x)
	e.lo, e.hi = min(e.lo, lo), max(e.hi, hi)
	return finite
}

func (e *extremes) params(g Grid, _ Method) params {
	return g.fromRange(float64(e.lo), float64(e.hi))
}

func (h *histogram) params(g Grid, m Method) params {
	if m.base() == SchemePercentile {
		return h.percentile(g, m.Percentile)
	}
	return h.enhanced(g)
}
