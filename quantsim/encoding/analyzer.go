package encoding

import (
	"errors"
	"fmt"
	"math"

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

// collector gathers what one scheme needs to know about one group of elements.
type collector interface {
	start()               // a batch begins
	needsRange() bool     // wants the whole batch through addRange before add
	addRange(x []float32) // first pass
	fix()                 // the first pass is over
	add(x []float32)
	endBatch()
	params(g Grid, m Method) (params, error)
}

// Analyzer chooses the encoding of one tensor from batches of its data, in memory
// that does not depend on how much data there is.
//
// A batch is given to Observe whole, or in parts: Start, then Range for every part if
// NeedsRange, then Add for every part, then End. Within a batch neither the order nor
// the cut into parts changes the result.
type Analyzer struct {
	name   string
	grid   Grid
	method Method
	groups []collector
	batch  bool
	fixed  bool
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

// Start begins a batch.
func (a *Analyzer) Start() {
	a.batch, a.fixed = true, false
	for _, c := range a.groups {
		c.start()
	}
}

// NeedsRange reports whether the next batch must go through Range before Add: only
// histogram schemes, and only until a batch that is not all zero was seen.
func (a *Analyzer) NeedsRange() bool {
	if len(a.groups) == 0 {
		return a.grid.Type == Int && newCollector(a.method).needsRange()
	}
	for _, c := range a.groups {
		if c.needsRange() {
			return true
		}
	}
	return false
}

// Range shows a part of the batch for the first time.
func (a *Analyzer) Range(x []float32, shape tensor.Shape) error {
	return a.each(x, shape, collector.addRange)
}

// Add counts a part of the batch. An element that is not a finite number is an error that names the tensor and the index.
func (a *Analyzer) Add(x []float32, shape tensor.Shape) error {
	if !a.fixed {
		for _, c := range a.groups {
			c.fix()
		}
		a.fixed = true
	}
	return a.each(x, shape, collector.add)
}

// End finishes the batch.
func (a *Analyzer) End() {
	for _, c := range a.groups {
		c.endBatch()
	}
	a.batch = false
}

// Observe shows a whole batch.
func (a *Analyzer) Observe(x []float32, shape tensor.Shape) error {
	a.Start()
	if a.NeedsRange() {
		if err := a.Range(x, shape); err != nil {
			return err
		}
	}
	if err := a.Add(x, shape); err != nil {
		return err
	}
	a.End()
	return nil
}

func (a *Analyzer) each(x []float32, shape tensor.Shape, f func(collector, []float32)) error {
	if !a.batch {
		return &TensorError{a.name, errors.New("data outside of a batch; call Start first")}
	}
	if len(x) != shape.Len() {
		return &TensorError{a.name, fmt.Errorf("%d elements for shape %v", len(x), shape)}
	}
	if err := a.grid.Validate(shape); err != nil {
		return &TensorError{a.name, err}
	}
	if i := firstNonFinite(x); i >= 0 {
		return &TensorError{a.name, fmt.Errorf("element %d of shape %v is %v; a range cannot be chosen from it. "+
			"Exclude the tensor from quantization, or look for the operator that overflows", i, shape, x[i])}
	}
	if a.grid.Type != Int {
		return nil
	}
	switch n := a.grid.Groups(shape); {
	case a.groups == nil:
		for range n {
			c := newCollector(a.method)
			c.start()
			a.groups = append(a.groups, c)
		}
	case len(a.groups) != n:
		return &TensorError{a.name, fmt.Errorf("shape %v has %d channels, the data before had %d", shape, n, len(a.groups))}
	}
	a.grid.Runs(shape, func(group, lo, hi int) { f(a.groups[group], x[lo:hi]) })
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
		p, err := c.params(a.grid, a.method)
		if err != nil {
			return nil, &TensorError{a.name, err}
		}
		e.Scale, e.Offset = append(e.Scale, p.scale), append(e.Offset, p.offset)
	}
	e.setRange()
	return e, nil
}

// Compute returns the encoding of a tensor that is known as a whole, such as a
// weight. Groups are handled one after the other, so memory does not grow with their number.
func Compute(name string, x []float32, shape tensor.Shape, g Grid, m Method) (*Encoding, error) {
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
	e := &Encoding{Grid: g}
	for i := range n {
		part := sorted[i*each : (i+1)*each]
		p, err := compute(fmt.Sprintf("%s, channel %d", name, i), part, tensor.Shape{each}, flat, m)
		if err != nil {
			return nil, err
		}
		e.Scale, e.Offset = append(e.Scale, p.Scale[0]), append(e.Offset, p.Offset[0])
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

// firstNonFinite returns the index of the first NaN or infinity, or -1.
func firstNonFinite(x []float32) int {
	for i, v := range x {
		if math.Float32bits(v)&0x7f800000 == 0x7f800000 {
			return i
		}
	}
	return -1
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

// extremes is the running minimum and maximum.
type extremes struct {
	lo, hi float32
}

func (*extremes) start()             {}
func (*extremes) needsRange() bool   { return false }
func (*extremes) addRange([]float32) {}
func (*extremes) fix()               {}
func (*extremes) endBatch()          {}

func (e *extremes) add(x []float32) {

	for _, v := range x {
		e.lo, e.hi = min(e.lo, v), max(e.hi, v)
	}
}

func (e *extremes) params(g Grid, _ Method) (params, error) {
	return g.fromRange(float64(e.lo), float64(e.hi)), nil
}

func (h *histogram) params(g Grid, m Method) (params, error) {
	if m.base() == SchemePercentile {
		return h.percentile(g, m.Percentile), nil
	}
	return h.enhanced(g), nil
}
