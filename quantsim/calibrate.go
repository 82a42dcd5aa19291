package quantsim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"roundel/nn"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// ComputeEncodings computes every enabled encoding that is not frozen: those of
// parameters from their values, those of activations from what calibrate runs. It
// calls calibrate once, with a function to be called with the graph inputs of each
// batch. While that runs, parameters are quantized and activations are not.
//
// Histogram schemes fix their bins by the first batch, which therefore runs twice.
// Nothing of the activations is kept but statistics. Neither the number of workers
// nor how images are spread over them changes the result; how images are grouped into
// batches does for the histogram schemes, in which every batch weighs the same.
//
// All statistics start anew at each call. On an error, also of calibrate or ctx, the
// simulation stays as it was.
func (s *Sim) ComputeEncodings(ctx context.Context, calibrate func(run func(feeds map[string]tensor.Any) error) error) error {
	backup := map[*quantizer]quantizer{}
	for _, q := range s.quant {
		backup[q] = *q
	}
	warnings := s.warnings
	s.warnings = nil
	if err := s.compute(ctx, calibrate); err != nil {
		for q, b := range backup {
			*q = b
		}
		s.warnings = warnings
		return err
	}
	s.calibrated = true
	s.changed()
	return nil
}

func (s *Sim) compute(ctx context.Context, calibrate func(run func(map[string]tensor.Any) error) error) error {
	if err := s.computeConsts(ctx); err != nil {
		return err
	}
	c, err := s.newCalibration(ctx)
	if err != nil {
		return err
	}
	if len(c.taps) > 0 {
		if err := calibrate(c.run); err != nil {
			return fmt.Errorf("quantsim: calibration stopped after %d batches: %w", c.batches, err)
		}
	}
	if err := c.finish(); err != nil {
		return err
	}
	s.adjustWeights()
	return nil
}

// computeConsts computes the encodings of constants: parameters, and activations that are constant.
func (s *Sim) computeConsts(ctx context.Context) error {
	var names []string
	for _, name := range s.order {
		q := s.quant[name]
		if s.g.Consts[name] != nil && q.enabled && !q.frozen && q.grid.Type == encoding.Int && !s.shared(q) {
			names = append(names, name)
		}
	}
	large := slices.Clone(names) // first, so that no worker is left with one at the end
	slices.SortStableFunc(large, func(a, b string) int { return s.g.Consts[b].Len() - s.g.Consts[a].Len() })
	found, failed := make([]*encoding.Encoding, len(names)), make([]error, len(names))
	s.workers().For(len(names), func(_, i int) {
		at := slices.Index(names, large[i])
		found[at], failed[at] = s.constEncoding(ctx, large[i])
	})
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("quantsim: stopped while the ranges of constants were computed: %w", err)
	}
	for i, name := range names {
		// Those that share a quantizer come in order: the last one wins.
		if failed[i] == nil {
			s.quant[name].enc = found[i]
		}
	}
	return errors.Join(failed...)
}

func (s *Sim) constEncoding(ctx context.Context, name string) (*encoding.Encoding, error) {
	q := s.quant[name]
	x, err := tensor.As[float32](s.g.Consts[name])
	if err != nil {
		return nil, fmt.Errorf("quantsim: tensor %q: %w", name, err)
	}
	e, err := encoding.Compute(ctx, name, x.Data(), x.Shape(), q.grid, q.method)
	if err == nil && q.fixed != nil {
		err = e.Constrain(q.fixed.Min, q.fixed.Max)
	}
	if err != nil {
		return nil, fmt.Errorf("quantsim: %w", err)
	}
	return e, nil
}

// shared reports whether a quantizer serves a tensor that is not a constant.
func (s *Sim) shared(q *quantizer) bool {
	for name, o := range s.quant {
		if o == q && s.g.Consts[name] == nil {
			return true
		}
	}
	return false
}

// calibration is one ComputeEncodings.
type calibration struct {
	s         *Sim
	ctx       context.Context
	prog      *nn.Program
	taps      []string                          // observed tensors in execution order
	consts    []string                          // constants that share an encoding with one of them
	analyzers map[*quantizer]*encoding.Analyzer // one for all tensors that share it
	batch     map[string]*encoding.Batch        // by tensor: the running batch
	shares    []map[string]*encoding.Batch      // by worker
	batches   int

	mu     sync.Mutex
	failed map[string]error // by tensor
}

func (s *Sim) newCalibration(ctx context.Context) (*calibration, error) {
	c := &calibration{s: s, ctx: ctx, analyzers: map[*quantizer]*encoding.Analyzer{}, batch: map[string]*encoding.Batch{}, failed: map[string]error{}}
	for _, name := range s.values() {
		q := s.quant[name]
		if q == nil || q.kind != encoding.Activation || !q.enabled || q.frozen || q.grid.Type != encoding.Int {
			continue
		}
		if c.analyzers[q] == nil {
			a, err := encoding.NewAnalyzer(name, q.grid, q.method)
			if err != nil {
				return nil, fmt.Errorf("quantsim: %w", err)
			}
			c.analyzers[q] = a
		}
		c.taps = append(c.taps, name)
		c.batch[name] = c.analyzers[q].Batch()
	}
	for _, name := range s.order {
		if a := c.analyzers[s.quant[name]]; a != nil && s.g.Consts[name] != nil {
			c.consts = append(c.consts, name)
			c.batch[name] = a.Batch()
		}
	}
	if len(c.taps) == 0 {
		return c, nil
	}
	pool := s.workers()
	for range pool.Workers() {
		share := map[string]*encoding.Batch{}
		for _, name := range c.taps {
			share[name] = c.analyzers[s.quant[name]].Batch()
		}
		c.shares = append(c.shares, share)
	}
	consts, err := s.quantizedConsts(nil, true)
	if err != nil {
		return nil, err
	}
	c.prog, err = nn.Compile(ctx, s.g, nn.CompileOptions{Pool: pool, Fetches: []string{}, Taps: c.taps, Consts: consts})
	return c, err
}

// values returns all values of the graph in execution order.
func (s *Sim) values() []string {
	var out []string
	for _, in := range s.g.Inputs {
		out = append(out, in.Name)
	}
	for _, n := range s.g.Nodes {
		out = append(out, n.Outputs...)
	}
	return out
}

// run observes one batch.
//
// Tensors that share an encoding fix its bins by their common range. AIMET fixes them
// by the tensor that ONNX Runtime happens to compute first, and drops what is outside.
func (c *calibration) run(feeds map[string]tensor.Any) error {
	first := map[*quantizer]*encoding.Batch{}
	for q, a := range c.analyzers {
		if a.NeedsRange() {
			first[q] = a.Batch()
		}
	}
	if len(first) > 0 {
		err := c.pass(feeds, (*encoding.Batch).Range, func(name string) *encoding.Batch { return first[c.s.quant[name]] })
		if err != nil {
			return err
		}
		for q, b := range first {
			c.analyzers[q].Fix(b)
		}
	}
	if err := c.pass(feeds, (*encoding.Batch).Add, func(name string) *encoding.Batch { return c.batch[name] }); err != nil {
		return err
	}
	for _, name := range slices.Concat(c.taps, c.consts) {
		c.analyzers[c.s.quant[name]].Commit(c.batch[name])
	}
	c.batches++
	return nil
}

// pass runs the model and shows every tapped value to see, each worker into its own
// share, and joins the shares in the batch that into returns, if any.
func (c *calibration) pass(feeds map[string]tensor.Any, see func(*encoding.Batch, []float32, tensor.Shape) error, into func(string) *encoding.Batch) error {
	_, err := c.prog.RunTaps(c.ctx, feeds, func(t nn.Tap) {
		if into(t.Name) == nil {
			return
		}
		// The order of the elements does not matter, so any layout will do.
		if err := see(c.shares[t.Worker][t.Name], t.Data, tensor.Shape{len(t.Data)}); err != nil {
			c.mu.Lock()
			c.failed[t.Name] = err
			c.mu.Unlock()
		}
	})
	if err != nil {
		return err
	}
	for _, name := range c.taps {
		if err := c.failed[name]; err != nil {
			return err // of the first tensor in execution order
		}
		b := into(name)
		for _, share := range c.shares {
			if b != nil {
				b.Merge(share[name])
			}
		}
	}
	for _, name := range c.consts {
		v, err := tensor.As[float32](c.s.g.Consts[name])
		if b := into(name); err == nil && b != nil {
			err = see(b, v.Data(), tensor.Shape{v.Len()})
		}
		if err != nil {
			return fmt.Errorf("quantsim: tensor %q: %w", name, err)
		}
	}
	return nil
}

// finish turns statistics into encodings.
func (c *calibration) finish() error {
	var errs []error
	var starved, names []string
	done := map[*quantizer]bool{}
	for _, name := range c.taps {
		if q := c.s.quant[name]; !done[q] {
			done[q], names = true, append(names, name)
		}
	}
	// Searching the candidates of a histogram scheme takes as long as some images.
	found, failed := make([]*encoding.Encoding, len(names)), make([]error, len(names))
	c.s.workers().For(len(names), func(_, i int) { found[i], failed[i] = c.analyzers[c.s.quant[names[i]]].Encoding() })
	for i, name := range names {
		q, e, err := c.s.quant[name], found[i], failed[i]
		switch {
		case errors.Is(err, encoding.ErrNoData):
			starved = append(starved, name)
			continue
		case err == nil && q.fixed != nil:
			err = e.Constrain(q.fixed.Min, q.fixed.Max)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("quantsim: tensor %q: %s", name, strings.TrimPrefix(err.Error(), "encoding: ")))
			continue
		}
		q.enc = e
	}
	if len(starved) > 0 {
		errs = append(errs, fmt.Errorf("quantsim: no calibration data reached %s; call run with at least one batch", list(starved)))
	}
	return errors.Join(errs...)
}
