package adaround

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"roundel/nn"
	"roundel/tensor"
)

// stream runs the float network and the network rounded so far side by side over
// the calibration images. It holds a cut: the values that the rest of the networks
// needs at one node boundary, for all images; where the two networks do not
// differ yet, both have the same tensor. A pass starts at the cut, shows one layer's
// input of both networks, and may move the cut there.
type stream struct {
	g       *nn.Graph
	rounded map[string]tensor.Any // constants of the rounded network that differ
	pool    *tensor.Pool
	weights *nn.WeightCache
	images  int
	chunks  []chunk
	at      int                     // node index of the cut
	live    []string                // values of the cut, sorted
	needed  []bool                  // nodes that some layer's input depends on
	inputs  []string                // inputs of layers, by node index; "" for other nodes
	shape   map[string]tensor.Shape // of one image's float32 values, from the probe
	limit   int64                   // bytes a cut may take

	cfg        Config
	inputBytes int64 // of the inputs of all images
	reload     bool  // inputs are not kept but read again for every pass
	arena      int64 // bytes that a program needs while all workers are busy
}

// chunk is some consecutive images.
type chunk struct {
	first, count   int
	from, to       int                   // batches of the data loader
	float, rounded map[string]tensor.Any // rounded has the same tensor where nothing differs; both nil while inputs are not kept
}

// chunkImages is how many images run at a time: enough for all workers.
const chunkImages = 16

// view is a layer's input of some images of one network.
type view struct {
	float, rounded bool // which network it belongs to; both while they do not differ
	worker         int  // numbers concurrent calls
	first, images  int  // images in the data
	shape          tensor.Shape
	layout         nn.Layout
	data           []float32
}

// tapFunc is called with views; those of different images may come at the same time.
type tapFunc func(view) error

// liveAt returns the values that are alive before node i: made before, and read at or after it.
func (s *stream) liveAt(i int) []string {
	made := map[string]bool{}
	for _, v := range s.g.Inputs {
		made[v.Name] = true
	}
	for _, n := range s.g.Nodes[:i] {
		for _, out := range n.Outputs {
			made[out] = true
		}
	}
	alive := map[string]bool{}
	for j := i; j < len(s.g.Nodes); j++ {
		if s.inputs[j] != "" && made[s.inputs[j]] {
			alive[s.inputs[j]] = true
		}
		if s.needed[j] {
			for _, in := range s.g.Nodes[j].Inputs {
				if made[in] {
					alive[in] = true
				}
			}
		}
	}
	delete(alive, "")
	return sortedKeys(alive)
}

// markNeeded finds the nodes that the inputs of the remaining layers depend on.
func (s *stream) markNeeded(layers []*layer) {
	producer := map[string]int{}
	for i, n := range s.g.Nodes {
		for _, out := range n.Outputs {
			if out != "" {
				producer[out] = i
			}
		}
	}
	s.needed, s.inputs = make([]bool, len(s.g.Nodes)), make([]string, len(s.g.Nodes))
	var stack []string
	for _, l := range layers {
		s.inputs[l.at] = l.input
		stack = append(stack, l.input)
	}
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if i, ok := producer[v]; ok && !s.needed[i] {
			s.needed[i] = true
			stack = append(stack, s.g.Nodes[i].Inputs...)
		}
	}
}

// cutBytes is the memory that a cut before node i takes for all images if the
// networks differ everywhere, and whether one can be made there: every value must
// be a float32 tensor of known shape that counts images first.
func (s *stream) cutBytes(i int) (int64, bool) {
	var total int64
	for _, v := range s.liveAt(i) {
		shape, ok := s.shape[v]
		if !ok || len(shape) < 2 || shape[0] != 1 {
			return 0, false
		}
		total += 2 * 4 * int64(shape.Len()) * int64(s.images)
	}
	return total, true
}

// differs returns the values that depend on a constant that has been rounded or on a quantized activation.
func (s *stream) differs() map[string]bool {
	d := map[string]bool{}
	for name := range s.rounded {
		d[name] = true
	}
	for name := range s.cfg.Activations {
		d[name] = true
	}
	for _, n := range s.g.Nodes {
		if slices.ContainsFunc(n.Inputs, func(in string) bool { return d[in] }) {
			for _, out := range n.Outputs {
				d[out] = true
			}
		}
	}
	return d
}

// pass shows the input of layer l for all images, and moves the cut before its node if advance is set.
func (s *stream) pass(ctx context.Context, l *layer, advance bool, tap tapFunc) error {
	var next []string
	if advance {
		next = s.liveAt(l.at)
	}
	run, err := s.newSegments(ctx, l, next, tap)
	if err != nil {
		return fmt.Errorf("adaround: layer %q: %w", l.node.Name, err)
	}
	for i := range s.chunks {
		c := &s.chunks[i]
		if c.float == nil {
			if err := s.fill(ctx, c); err != nil {
				return err
			}
		}
		err := run.chunk(ctx, c)
		if s.reload && s.at == 0 && !advance {
			c.float, c.rounded = nil, nil
		}
		if err != nil {
			return fmt.Errorf("adaround: layer %q, images %d to %d of %d: %w", l.node.Name, s.chunks[i].first,
				s.chunks[i].first+s.chunks[i].count-1, s.images, err)
		}
	}
	if advance {
		s.at, s.live = l.at, next
	}
	return nil
}

// segments are the programs of one pass.
type segments struct {
	*stream
	input   string
	next    []string // values of the new cut, nil if the old one stays
	differ  map[string]bool
	tap     tapFunc
	float   *nn.Program // nil when the networks have nothing to compute
	rounded *nn.Program
	errs    []error // by worker
}

func (s *stream) newSegments(ctx context.Context, l *layer, next []string, tap tapFunc) (*segments, error) {
	r := &segments{stream: s, input: l.input, next: next, differ: s.differs(), tap: tap, errs: make([]error, s.pool.Workers())}
	var fetch, fetchRounded, show, showRounded []string
	for _, v := range next {
		if !slices.Contains(s.live, v) {
			fetch = append(fetch, v)
			if r.differ[v] {
				fetchRounded = append(fetchRounded, v)
			}
		}
	}
	if !slices.Contains(s.live, l.input) {
		show = []string{l.input}
		if r.differ[l.input] {
			showRounded = show
		}
	}
	var err error
	if r.float, err = s.compile(ctx, fetch, show, nil, nil); err == nil {
		r.rounded, err = s.compile(ctx, fetchRounded, showRounded, s.rounded, s.cfg.Activations)
	}
	return r, err
}

// compile returns the program from the cut to the given values, nil when there are none.
func (s *stream) compile(ctx context.Context, fetch, show []string, consts map[string]tensor.Any, quant map[string]tensor.FakeQuant) (*nn.Program, error) {
	if len(fetch)+len(show) == 0 {
		return nil, nil
	}
	return nn.Compile(ctx, s.g, nn.CompileOptions{Pool: s.pool, Kernels: s.pool.Kernels(), Feeds: s.live, Fetches: append([]string{}, fetch...),
		Taps: show, Consts: consts, FakeQuant: quant, Weights: s.weights, NHWC: true})
}

// chunk runs one chunk through both networks.
func (r *segments) chunk(ctx context.Context, c *chunk) error {
	clear(r.errs)
	differ := r.differ[r.input]
	run := func(p *nn.Program, from map[string]tensor.Any, float, rounded bool) (map[string]tensor.Any, error) {
		if p == nil {
			return nil, nil
		}
		return p.RunTaps(ctx, from, func(t nn.Tap) {
			images := 1
			if s := r.shape[r.input]; len(s) > 0 && len(t.Shape) > 0 && t.Shape[0] == s[0]*c.count {
				images = c.count // a graph that mixes images ran them all at once
			}
			if r.errs[t.Worker] == nil {
				r.errs[t.Worker] = r.tap(view{float, rounded, t.Worker, c.first + t.Image, images, t.Shape, t.Layout, t.Data})
			}
		})
	}
	float, err := run(r.float, c.float, true, !differ)
	if err != nil {
		return err
	}
	rounded, err := run(r.rounded, c.rounded, false, true)
	if err != nil {
		return err
	}
	if slices.Contains(r.live, r.input) {
		if err := r.stored(c, c.float, true, !differ); err != nil {
			return err
		}
		if differ {
			if err := r.stored(c, c.rounded, false, true); err != nil {
				return err
			}
		}
	}
	if r.next != nil {
		r.replace(c, float, rounded)
	}
	return errors.Join(r.errs...)
}

// stored shows the layer's input from the cut.
func (r *segments) stored(c *chunk, from map[string]tensor.Any, float, rounded bool) error {
	x, err := tensor.As[float32](from[r.input])
	if err != nil {
		return err
	}
	if q, ok := r.cfg.Activations[r.input]; ok && !float { // programs quantize what they are fed; this value is read as it is
		y := tensor.New[float32](x.Shape()...)
		tensor.QuantDequant(y.Data(), x.Data(), q, r.pool.Kernels())
		x = y
	}
	shape, per := x.Shape().Clone(), x.Len()/c.count
	if len(shape) == 0 || shape[0] != c.count {
		return r.tap(view{float, rounded, 0, c.first, c.count, shape, layoutOf(shape), x.Data()})
	}
	shape[0] = 1
	r.pool.For(c.count, func(w, i int) {
		if r.errs[w] == nil {
			r.errs[w] = r.tap(view{float, rounded, w, c.first + i, 1, shape, layoutOf(shape), x.Data()[i*per : (i+1)*per]})
		}
	})
	return nil
}

// layoutOf is the memory order of stored values: the programs run with NHWC set.
func layoutOf(shape tensor.Shape) nn.Layout {
	if len(shape) == 4 {
		return nn.NHWC
	}
	return nn.RowMajor
}

// replace makes the chunk hold the values of the new cut.
func (r *segments) replace(c *chunk, float, rounded map[string]tensor.Any) {
	next := chunk{first: c.first, count: c.count, float: map[string]tensor.Any{}, rounded: map[string]tensor.Any{}}
	pick := func(fresh, old map[string]tensor.Any, v string) tensor.Any {
		if t, ok := fresh[v]; ok {
			return t
		}
		return old[v]
	}
	for _, v := range r.next {
		next.float[v] = pick(float, c.float, v)
		next.rounded[v] = next.float[v]
		if r.differ[v] {
			next.rounded[v] = pick(rounded, c.rounded, v)
		}
	}
	*c = next
}
