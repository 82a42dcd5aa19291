package nn

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"roundel/tensor"
)

// Tap is one value of one image, shown by RunTaps while the image is computed.
type Tap struct {
	Name   string
	Image  int // index in the batch; 0 when a graph that mixes images runs the batch as one
	Worker int // 0 <= Worker < workers of the Pool
	// Data are the elements in the order of Layout. They are valid during the call only, and must not be changed.
	Data   []float32
	Shape  tensor.Shape // logical shape, with a batch of 1 when run image by image
	Layout Layout
}

// RowMajor returns the elements in logical order: t.Data itself, or a copy that
// uses dst if that is long enough.
func (t Tap) RowMajor(dst []float32) []float32 {
	if t.Layout == RowMajor {
		return t.Data
	}
	if cap(dst) < len(t.Data) {
		dst = make([]float32, len(t.Data))
	}
	dst = dst[:len(t.Data)]
	ToNCHW(dst, t.Data, t.Shape[0], t.Shape[1], t.Shape[2]*t.Shape[3])
	return dst
}

// Run computes the fetches for the feeds, both in logical order. Feeds that the
// fetches do not need are ignored. The batch is the first dimension of the feeds;
// any size is accepted when the graph keeps images apart. On cancellation the
// error wraps that of ctx.
func (p *Program) Run(ctx context.Context, feeds map[string]tensor.Any) (map[string]tensor.Any, error) {
	return p.runMap(ctx, feeds, nil)
}

// RunTaps is Run that also calls tap with each value in CompileOptions.Taps of
// each image, as its readers see it (after FakeQuant).
//
// Calls for different images may come from different workers at the same time;
// those of one worker come one after the other, its images in ascending order
// and the values of an image in execution order. Which worker gets which image
// is not determined: for results that do not depend on it, merge by Image.
func (p *Program) RunTaps(ctx context.Context, feeds map[string]tensor.Any, tap func(Tap)) (map[string]tensor.Any, error) {
	return p.runMap(ctx, feeds, tap)
}

func (p *Program) runMap(ctx context.Context, feeds map[string]tensor.Any, tap func(Tap)) (map[string]tensor.Any, error) {
	r := &p.run
	defer r.release()
	if err := r.start(ctx, feeds, tap); err != nil {
		return nil, err
	}
	for i, f := range r.v.plan.fetches {
		r.outs[i] = nil
		if f.dtype == tensor.Float32 && f.shape != nil {
			shape := f.shape.Clone()
			if r.images >= 0 {
				shape[0] = r.images
			}
			r.outs[i] = tensor.New[float32](shape...)
		}
	}
	if err := r.do(); err != nil {
		return nil, err
	}
	res := make(map[string]tensor.Any, len(p.fetches))
	for i, name := range p.fetches {
		if r.outs[i] != nil {
			res[name] = r.outs[i]
			continue
		}
		t, err := r.joinParts(i)
		if err != nil {
			return nil, err
		}
		res[name] = t
	}
	return res, nil
}

// RunInto is Run into tensors that the caller provides for all fetches, which
// must be float32. With float32 operators that have a fast path it does not
// allocate after the first call for a shape.
func (p *Program) RunInto(ctx context.Context, feeds map[string]tensor.Any, fetches map[string]*tensor.Dense[float32]) error {
	r := &p.run
	defer r.release()
	if err := r.start(ctx, feeds, nil); err != nil {
		return err
	}
	for i, f := range r.v.plan.fetches {
		t := fetches[f.name]
		if t == nil {
			return fmt.Errorf("nn: run: no tensor for the fetch %q", f.name)
		}
		if !r.fits(f, t.Shape()) {
			return fmt.Errorf("nn: run: fetch %q is given as %v, the program makes %v%v", f.name, describe(t), f.dtype, f.shape)
		}
		r.outs[i] = t
	}
	return r.do()
}

// fits reports whether a result of the given shape can hold fetch f of this batch.
func (r *batchRun) fits(f fetchInfo, s tensor.Shape) bool {
	if f.dtype != tensor.Float32 || f.shape == nil {
		return false
	}
	if r.images < 0 {
		return s.Equal(f.shape)
	}
	return sameImage(s, f.shape) && s[0] == r.images
}

// batchRun is the state of one call of Run.
type batchRun struct {
	p      *Program
	ctx    context.Context
	v      *variant
	images int // how many to run one by one; -1: the plan takes all at once
	in     []tensor.Any
	shapes []tensor.Shape
	outs   []*tensor.Dense[float32]
	parts  [][]tensor.Any // of fetches that are not float32: one tensor per image
	tap    func(Tap)
	body   func(worker, i int)

	failed atomic.Bool
	mu     sync.Mutex
	err    error
	errAt  int
}

func (r *batchRun) init(p *Program) {
	r.p = p
	r.in, r.shapes = make([]tensor.Any, len(p.feeds)), make([]tensor.Shape, len(p.feeds))
	r.outs, r.parts = make([]*tensor.Dense[float32], len(p.fetches)), make([][]tensor.Any, len(p.fetches))
	r.body = func(worker, i int) { r.image(p.machines[worker], i) }
}

// start checks the feeds, and finds or makes the plan for their shapes.
func (r *batchRun) start(ctx context.Context, feeds map[string]tensor.Any, tap func(Tap)) error {
	p := r.p
	r.ctx, r.tap, r.err, r.errAt = ctx, tap, nil, 0
	r.failed.Store(false)
	for i, name := range p.feeds {
		t := feeds[name]
		if err := p.checkFeed(name, t); err != nil {
			return err
		}
		r.in[i], r.shapes[i] = t, t.Shape()
	}
	v, err := p.variantFor(ctx, r.shapes, true)
	if err != nil {
		return err
	}
	r.v, r.images = v, -1
	if v.imagewise {
		r.images = batchOf(r.shapes)
	}
	workers := 1
	if r.images > 1 {
		workers = min(p.pool.Workers(), r.images)
	}
	for len(p.machines) < workers {
		pool := p.inline
		if len(p.machines) > 0 {
			pool = tensor.NewPool(1, p.k)
		}
		p.machines = append(p.machines, newMachine(len(p.machines), pool))
	}
	for _, m := range p.machines[:workers] {
		m.prepare(p, v.plan)
	}
	return nil
}

// do runs the images of the batch: as many as divide evenly one per worker, and
// what is left one after the other with all workers inside each operator.
func (r *batchRun) do() error {
	p := r.p
	for i, f := range r.v.plan.fetches {
		if r.outs[i] == nil {
			r.parts[i] = make([]tensor.Any, max(r.images, 1))
		} else if f.dtype != tensor.Float32 {
			return fmt.Errorf("nn: run: fetch %q is %v, not float32", f.name, f.dtype)
		}
	}
	switch workers := p.pool.Workers(); {
	case r.images < 0:
		r.together(0)
	case workers == 1:
		for i := range r.images {
			r.image(p.machines[0], i)
		}
	default:
		n := r.images
		if n < 8*workers { // a long batch evens itself out
			n -= n % workers
		}
		if n > 0 {
			p.pool.For(n, r.body)
		}
		for i := n; i < r.images; i++ {
			r.together(i)
		}
	}
	return r.err
}

// together runs image i with all workers on each operator.
func (r *batchRun) together(i int) {
	m := r.p.machines[0]
	pool := m.pool
	m.pool = r.p.pool
	r.image(m, i)
	m.pool = pool
}

// image runs image i on m.
func (r *batchRun) image(m *machine, i int) {
	if r.failed.Load() {
		return
	}
	if err := r.runImage(m, i); err != nil {
		r.failed.Store(true)
		r.mu.Lock()
		if r.err == nil || i < r.errAt {
			r.err, r.errAt = err, i
		}
		r.mu.Unlock()
	}
}

func (r *batchRun) runImage(m *machine, i int) error {
	pl := r.v.plan
	m.image, m.tap = i, r.tap
	for j, t := range r.in {
		f, ok := t.(*tensor.Dense[float32])
		switch {
		case !ok:
			part, err := r.feedPart(t, i)
			if err != nil {
				return err
			}
			m.boxes[pl.boxFeeds[j]] = part
		case r.images >= 0:
			n := f.Len() / r.images
			m.feeds[j] = f.Data()[i*n : (i+1)*n]
		default:
			m.feeds[j] = f.Data()
		}
	}
	for j := range pl.fetches {
		t := r.outs[j]
		switch {
		case t == nil:
		case r.images >= 0:
			n := t.Len() / r.images
			m.outs[j] = t.Data()[i*n : (i+1)*n]
		default:
			m.outs[j] = t.Data()
		}
	}
	for s := range pl.steps {
		if err := r.ctx.Err(); err != nil {
			return fmt.Errorf("nn: run: stopped in image %d: %w", i, err)
		}
		if err := pl.steps[s].run(m); err != nil {
			return nodeError(pl.steps[s].node, err)
		}
		for _, box := range pl.steps[s].free {
			m.boxes[box] = nil
		}
	}
	for j := range pl.fetches {
		if r.outs[j] == nil {
			r.parts[j][i] = m.outAny[j]
			m.outAny[j] = nil
		}
	}
	return nil
}

// feedPart returns image i of a feed that is not float32.
func (r *batchRun) feedPart(t tensor.Any, i int) (tensor.Any, error) {
	if r.images <= 1 {
		return t, nil
	}
	at := func(v int) tensor.Any { return tensor.From([]int64{int64(v)}, 1) }
	out, err := evalNode(&Node{Name: "batch", Op: "Slice", Inputs: []string{"x", "from", "to", "axis"}, Outputs: []string{"y"}},
		[]tensor.Any{t, at(i), at(i + 1), at(0)})
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// joinParts puts the images of a fetch that is not float32 together.
func (r *batchRun) joinParts(i int) (tensor.Any, error) {
	parts := r.parts[i]
	if r.images == 0 {
		f := r.v.plan.fetches[i]
		shape := f.shape.Clone()
		shape[0] = 0
		return tensor.Zeros(f.dtype, shape...), nil
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	n := &Node{Name: "batch", Op: "Concat", Outputs: []string{"y"}, Attrs: map[string]Attr{"axis": {Kind: AttrInt}}}
	n.Inputs = make([]string, len(parts))
	for i := range parts {
		n.Inputs[i] = fmt.Sprint("x", i)
	}
	out, err := evalNode(n, parts)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// release drops the references to the caller's tensors.
func (r *batchRun) release() {
	clear(r.in)
	clear(r.outs)
	clear(r.parts)
	r.ctx, r.tap = nil, nil
	for _, m := range r.p.machines {
		m.tap = nil
		clear(m.feeds)
		clear(m.outs)
		clear(m.boxes)
	}
}
