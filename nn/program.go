package nn

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"roundel/asm"
	"roundel/tensor"
)

// CompileOptions says what a Program computes and how. The zero value runs the
// whole graph with the best kernels on one worker.
type CompileOptions struct {
	// Kernels is the kernel table; zero means that of Pool, or asm.Best().
	Kernels asm.Kernels
	// Pool does the work; nil means one worker.
	Pool *tensor.Pool
	// Feeds are the values that Run is given: graph inputs or any inner values. Nil means the graph inputs.
	Feeds []string
	// Fetches are the values that Run returns; nil means the graph outputs. An
	// empty list is allowed when there are Taps. Only what is needed is compiled.
	Fetches []string
	// Taps are values that RunTaps shows in passing.
	Taps []string
	// FakeQuant quantizes and dequantizes the named values right after they are made, also feeds and constants.
	FakeQuant map[string]tensor.FakeQuant
	// Consts overrides constants of the graph by others of the same type and shape.
	Consts map[string]tensor.Any
	// Weights keeps packed weights; share one between programs over the same constants. Nil means an own one.
	Weights *WeightCache
	// FoldBatchNorm folds a BatchNormalization that alone reads a convolution into
	// its weights. Otherwise it is a separate scale and shift.
	FoldBatchNorm bool
	// NHWC makes rank-4 float32 feeds and fetches hold their elements in NHWC
	// order. Their shapes remain the logical [N, C, H, W]; such a tensor is only
	// good for another Program with NHWC set. It saves two transpositions per
	// segment when a graph is executed piece by piece.
	NHWC bool
	// Direct computes every convolution as the sums of its products: whole numbers stay exact below 2^24, which they
	// do not by Winograd's algorithm.
	Direct bool
}

// Program is a graph compiled for inference: convolutions and matrix products
// with packed weights and fused bias, residual and activation, on NHWC buffers
// at planned places in one arena per worker.
//
// A batch is run image by image, one image per worker, when no operator mixes
// images; a single image is run with all workers inside each operator. Results
// are the same bit for bit for any number of workers and any batch composition.
//
// A Program may be used by one goroutine at a time; so may the Pool it was
// compiled for. Programs may share a Graph, a WeightCache and a Pool if they run
// one after the other.
type Program struct {
	g      *Graph
	o      CompileOptions
	k      asm.Kernels
	pool   *tensor.Pool // for work inside one image
	inline *tensor.Pool // for workers that have an image each
	cache  *WeightCache

	nodes    []*Node        // what is needed, in execution order
	feeds    []string       // feeds that are needed
	fetches  []string       // without repetition
	wanted   map[string]int // fetches and taps: these values must exist in memory
	uses     map[string]int // how many inputs of nodes read a value
	variants []*variant     // one for each shape of the feeds seen so far
	machines []*machine
	run      batchRun
}

// Compile prepares g, whose nodes must be in execution order, for inference. The
// graph is not changed and must not change while the Program is used. When the
// shapes of the feeds are known but for the batch, everything is planned at
// once; otherwise at the first Run with each new shape. Weights are packed here,
// which takes long for large ones; when ctx is done the error wraps its error.
func Compile(ctx context.Context, g *Graph, o CompileOptions) (*Program, error) {
	p := &Program{g: g, o: o, k: o.Kernels, pool: o.Pool, cache: o.Weights, wanted: map[string]int{}, uses: map[string]int{}}
	switch {
	case p.k.ISA == "" && o.Pool != nil:
		p.k = o.Pool.Kernels()
	case p.k.ISA == "":
		p.k = asm.Best()
	}
	if p.pool == nil {
		p.pool = tensor.NewPool(1, p.k)
	}
	p.inline = p.pool
	if p.pool.Workers() > 1 {
		p.inline = tensor.NewPool(1, p.k)
	}
	if p.cache == nil {
		p.cache = NewWeightCache()
	}
	p.defaults()
	if err := errors.Join(p.checkNames()...); err != nil {
		return nil, err
	}
	if err := p.selectNodes(); err != nil {
		return nil, err
	}
	p.run.init(p)
	if shapes, ok := p.declaredShapes(); ok {
		if _, err := p.variantFor(ctx, shapes, false); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// defaults replaces nil feeds and fetches by the inputs and outputs of the graph.
func (p *Program) defaults() {
	if p.o.Feeds == nil {
		for _, v := range p.g.Inputs {
			p.o.Feeds = append(p.o.Feeds, v.Name)
		}
	}
	if p.o.Fetches == nil {
		for _, v := range p.g.Outputs {
			p.o.Fetches = append(p.o.Fetches, v.Name)
		}
	}
	for _, f := range p.o.Fetches {
		if !slices.Contains(p.fetches, f) {
			p.fetches = append(p.fetches, f)
		}
	}
	for _, v := range append(slices.Clone(p.fetches), p.o.Taps...) {
		p.wanted[v]++
	}
}

// checkNames reports options that name values the graph does not have, and unfit constants.
func (p *Program) checkNames() (errs []error) {
	known := map[string]bool{}
	for _, v := range p.g.Inputs {
		known[v.Name] = true
	}
	for name := range p.g.Consts {
		known[name] = true
	}
	for _, n := range p.g.Nodes {
		for _, out := range n.Outputs {
			known[out] = out != ""
		}
	}
	check := func(what string, names []string) {
		for _, name := range names {
			if !known[name] {
				errs = append(errs, fmt.Errorf("nn: compile: the graph has no value %q (in %s)", name, what))
			}
		}
	}
	check("Feeds", p.o.Feeds)
	check("Fetches", p.o.Fetches)
	check("Taps", p.o.Taps)
	for name := range p.o.FakeQuant {
		check("FakeQuant", []string{name})
	}
	for name, c := range p.o.Consts {
		old := p.g.Consts[name]
		switch {
		case old == nil:
			errs = append(errs, fmt.Errorf("nn: compile: the graph has no constant %q (in Consts)", name))
		case c == nil || c.DType() != old.DType() || !c.Shape().Equal(old.Shape()):
			errs = append(errs, fmt.Errorf("nn: compile: constant %q is %v, its override is %v", name, describe(old), describe(c)))
		}
	}
	if len(p.o.Fetches)+len(p.o.Taps) == 0 {
		errs = append(errs, errors.New("nn: compile: neither Fetches nor Taps: nothing to compute"))
	}
	return errs
}

// describe formats the type of a tensor as "float32[1 3 8 8]".
func describe(t tensor.Any) string {
	if t == nil {
		return "nothing"
	}
	return fmt.Sprintf("%v%v", t.DType(), t.Shape())
}

// selectNodes walks back from the fetches and taps to the feeds and constants.
func (p *Program) selectNodes() error {
	producer := map[string]int{}
	for i, n := range p.g.Nodes {
		for _, out := range n.Outputs {
			if out != "" {
				producer[out] = i
			}
		}
	}
	feeds := map[string]bool{}
	for _, f := range p.o.Feeds {
		feeds[f] = true
	}
	need := make([]bool, len(p.g.Nodes))
	used := map[string]bool{}
	var errs []error
	var stack []string
	want := func(v, by string) {
		if v == "" || used[v] {
			return
		}
		used[v] = true
		_, made := producer[v]
		switch {
		case feeds[v] || p.constant(v) != nil:
		case !made:
			errs = append(errs, fmt.Errorf("nn: compile: %s needs the value %q, which is not among the feeds %q", by, v, p.o.Feeds))
		default:
			stack = append(stack, v)
		}
	}
	for _, v := range append(slices.Clone(p.fetches), p.o.Taps...) {
		want(v, "the result")
	}
	for len(stack) > 0 {
		i := producer[stack[len(stack)-1]]
		stack = stack[:len(stack)-1]
		if need[i] {
			continue
		}
		need[i] = true
		for _, in := range reads(p.g.Nodes[i]) {
			want(in, fmt.Sprintf("node %q (%s)", p.g.Nodes[i].Name, p.g.Nodes[i].Op))
		}
	}
	for i, n := range p.g.Nodes {
		if !need[i] {
			continue
		}
		p.nodes = append(p.nodes, n)
		for _, in := range reads(n) {
			p.uses[in]++
		}
	}
	for _, f := range p.o.Feeds {
		if used[f] && !slices.Contains(p.feeds, f) {
			p.feeds = append(p.feeds, f)
		}
	}
	return errors.Join(errs...)
}

// isFeed reports whether the value is given by the caller.
func (p *Program) isFeed(name string) bool { return slices.Contains(p.feeds, name) }

// constant returns the constant name with its override, nil when it is not one or is fed.
func (p *Program) constant(name string) tensor.Any {
	if slices.Contains(p.o.Feeds, name) {
		return nil
	}
	if c, ok := p.o.Consts[name]; ok {
		return c
	}
	if c, ok := p.g.Consts[name]; ok {
		return c
	}
	return nil
}

// private reports whether the value is read once and nobody outside sees it, so that it need not exist in memory.
func (p *Program) private(name string) bool {
	_, quantized := p.o.FakeQuant[name]
	return name != "" && !quantized && p.uses[name] == 1 && p.wanted[name] == 0 && !p.isFeed(name)
}

// declaredType returns the type of a feed as far as the graph knows it.
func (p *Program) declaredType(name string) (Type, bool) {
	for _, v := range p.g.Inputs {
		if v.Name == name {
			return v.Type, true
		}
	}
	if c := p.g.Consts[name]; c != nil {
		return typeOf(c), true
	}
	t, ok := p.g.Types[name]
	return t, ok
}

// declaredShapes returns the shapes of one run when only the batch is unknown, which is then 1.
func (p *Program) declaredShapes() ([]tensor.Shape, bool) {
	shapes := make([]tensor.Shape, len(p.feeds))
	for i, f := range p.feeds {
		t, ok := p.declaredType(f)
		if !ok || !t.Ranked {
			return nil, false
		}
		t.Dims = slices.Clone(t.Dims)
		if len(t.Dims) > 0 && !t.Dims[0].IsKnown() {
			t.Dims[0] = Known(1)
		}
		s, ok := t.Shape()
		if !ok {
			return nil, false
		}
		shapes[i] = s
	}
	return shapes, true
}

// PeakBytes returns the memory that the plans made so far need for activations
// and scratch with all workers busy. Weights are in WeightCache.Bytes.
func (p *Program) PeakBytes() int64 {
	var most int64
	for _, v := range p.variants {
		if v.plan == nil {
			continue
		}
		workers := int64(p.pool.Workers())
		n := int64(4*v.plan.arena) + v.plan.boxBytes
		pools := workers // that each hold what one worker borrows
		if v.imagewise {
			n *= workers
			if workers > 1 {
				pools *= 2 // those of images that have a worker each, and of one that has all
			}
		}
		most = max(most, n+4*pools*int64(v.plan.borrows+chunkFloats))
	}
	return most
}
