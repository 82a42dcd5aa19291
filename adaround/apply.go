package adaround

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"roundel/asm"
	"roundel/nn"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// Result is a rounded network.
type Result struct {
	Graph          *nn.Graph                     // the input graph with rounded weights; shares everything else with it
	ParamEncodings map[string]*encoding.Encoding // of the rounded weights, by constant name
	Layers         []LayerReport                 // in execution order
	Skipped        []Skip                        // nodes whose weights stay float
	PeakBytes      int64                         // predicted peak of memory
}

// LayerReport says what happened to one layer.
type LayerReport struct {
	Name, Op, Weight    string
	Shared              []string // other nodes with the same weight, which this layer decided for
	Solver              SolverKind
	Activation          string // taken into the loss
	Bits                int
	Outputs, Columns    int // Columns are those of one group
	Groups              int
	Positions, HeldOut  int  // sampled for solving and for judging
	Nearest, Final      Loss // of nearest rounding on the same encoding, and of the result
	Flips, Weights      int  // weights that are not rounded to nearest, and all
	SampleSecs, Seconds float64
	Resumed             bool // taken from a checkpoint
}

// Apply rounds the weights of g layer by layer in execution order: each layer is
// solved with inputs from the network rounded so far and targets from the float one,
// and frozen before the next. g is not changed. On cancellation the error wraps
// ctx's and says how far the run got; with Config.Checkpoint a later run continues there.
func Apply(ctx context.Context, g *nn.Graph, cfg Config) (*Result, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r, err := newRun(ctx, g, cfg)
	if err != nil {
		return nil, err
	}
	for i := range r.layers {
		if err := r.layer(ctx, i); err != nil {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("adaround: stopped after %d of %d layers: %w", i, len(r.layers), err)
			}
			return nil, err
		}
	}
	return r.finish(), nil
}

// run is one call of Apply.
type run struct {
	cfg    Config
	g      *nn.Graph
	pool   *tensor.Pool
	layers []*layer
	stream *stream
	held   []bool // images that only judge
	saved  *checkpoints
	work   []float64 // what the layers up to each one take, as shares of all; see layerWork
	out    *Result
}

func newRun(ctx context.Context, g *nn.Graph, cfg Config) (*run, error) {
	workers := cfg.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	r := &run{cfg: cfg, g: g, pool: tensor.NewPool(workers, asm.Best()), out: &Result{ParamEncodings: map[string]*encoding.Encoding{}}}
	all, skips := findLayers(ctx, g)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("adaround: stopped while the layers were read: %w", err)
	}
	chosen, ignored, err := chooseLayers(cfg, all)
	if err := errors.Join(err, checkActivations(cfg.Activations, g)); err != nil {
		return nil, err
	}
	layers, unquantized, err := encode(ctx, cfg, g, chosen, r.pool)
	if err != nil {
		return nil, err
	}
	r.layers = layers
	r.out.Skipped = append(append(skips, ignored...), unquantized...)
	r.stream = &stream{g: g, rounded: map[string]tensor.Any{}, pool: r.pool, weights: nn.NewWeightCache()}
	r.stream.markNeeded(layers)
	if r.saved, err = openCheckpoints(ctx, cfg, g, layers); err != nil {
		return nil, err
	}
	if err := r.stream.load(ctx, cfg, r.saved.digest()); err != nil {
		return nil, err
	}
	if err := r.saved.ready(); err != nil {
		return nil, err
	}
	r.held = split(r.stream.images, cfg.HeldOut, cfg.Seed)
	if len(layers) > 0 {
		if err := r.stream.probe(ctx, layers); err != nil {
			return nil, err
		}
	}
	return r, r.plan()
}

// iterations returns Adam's number of steps: the default depends on the lowest number of bits.
func (r *run) iterations() int {
	if r.cfg.NumIterations > 0 {
		return r.cfg.NumIterations
	}
	for _, l := range r.layers {
		if l.bits < 8 {
			return 15000
		}
	}
	return 10000
}

// solver is what rounds a layer.
type solver interface {
	Round(context.Context, *Problem, *tensor.Pool) (*Solution, error)
}

func (r *run) solver(l *layer) solver {
	if r.cfg.Solver == Adam {
		return SolverAdam{tell: r.tell(l), Iterations: r.iterations(), LearningRate: r.cfg.LearningRate, BatchSize: r.cfg.BatchSize,
			RegParam: r.cfg.RegParam, BetaRange: r.cfg.BetaRange, WarmStart: r.cfg.WarmStart, Seed: r.cfg.Seed}
	}
	return SolverFast{tell: r.tell(l), FitScale: r.cfg.FitScale, CorrectBias: r.cfg.CorrectBias && l.ownBias}
}

// layer rounds layer i, or takes it from a checkpoint.
func (r *run) layer(ctx context.Context, i int) error {
	l := r.layers[i]
	if err := ctx.Err(); err != nil {
		return err
	}
	r.progress(Progress{Layer: l.node.Name, Index: i})
	sol, report, err := r.saved.load(i, l)
	if err != nil {
		return err
	}
	if sol == nil {
		start := time.Now()
		p, err := r.sample(ctx, l)
		if err != nil {
			return err
		}
		report = r.report(l, p)
		report.SampleSecs = time.Since(start).Seconds()
		r.tell(l)(0)
		if sol, err = r.solver(l).Round(ctx, p, r.pool); err != nil {
			return fmt.Errorf("adaround: layer %q: %w", l.node.Name, err)
		}
		report.Nearest, report.Final, report.Flips = sol.Nearest, sol.Final, sol.Flips
		report.Seconds = time.Since(start).Seconds()
		if err := r.saved.save(i, l, sol, report); err != nil {
			return err
		}
	}
	r.freeze(l, sol)
	r.out.Layers = append(r.out.Layers, report)
	r.progress(Progress{Layer: l.node.Name, Index: i, Done: true, Report: &report})
	return nil
}

func (r *run) report(l *layer, p *Problem) LayerReport {
	return LayerReport{Name: l.node.Name, Op: l.node.Op, Weight: l.weight, Shared: l.shared, Solver: r.cfg.Solver,
		Activation: l.act.Kind.String(), Bits: l.bits, Outputs: p.O, Columns: p.K, Groups: p.Groups,
		Positions: p.Solve.P, HeldOut: p.HeldOut.P, Weights: len(p.Weight)}
}

// sample runs both networks up to the layer's input.
func (r *run) sample(ctx context.Context, l *layer) (*Problem, error) {
	reader, err := l.geo.bind(r.stream.shape[l.input], nn.RowMajor)
	if err != nil {
		return nil, fmt.Errorf("adaround: layer %q: %w", l.node.Name, err)
	}
	each := positionsPerImage(l, r.cfg.Positions, r.stream.images, reader.batch*reader.positions)
	s := newSampler(l, r.held, each, r.cfg.Seed, r.pool)
	scratch := make([]sampleScratch, r.pool.Workers())
	for i := range scratch {
		scratch[i].pool = tensor.NewPool(1, r.pool.Kernels())
	}
	err = r.stream.pass(ctx, l, r.advance(l), func(v view) error { return s.take(v, &scratch[v.worker]) })
	return s.p, err
}

// freeze gives the layer its rounded weight in the rounded network.
func (r *run) freeze(l *layer, sol *Solution) {
	shape := r.g.Consts[l.weight].Shape()
	x := l.problem().dequantize(sol.Codes, sol.Scale)
	r.stream.rounded[l.weight] = tensor.From(l.geo.store(x), shape...)
	enc := l.enc.Clone()
	for i := range enc.Scale {
		if s := sol.Scale[i]; s != float32(enc.Scale[i]) { // a shared scale is that of every output
			enc.Scale[i] = float64(s)
			enc.Min[i], enc.Max[i] = float64(s)*enc.Offset[i], float64(s)*(enc.Offset[i]+enc.Steps())
		}
	}
	r.out.ParamEncodings[l.weight] = enc
	if sol.Bias != nil && !slices.Equal(sol.Bias, l.bias) {
		b := r.g.Consts[l.node.In(2)]
		beta := float32(1)
		if l.node.Op == "Gemm" {
			beta = l.node.Float("beta", 1)
		}
		out := make([]float32, len(sol.Bias))
		for i, v := range sol.Bias {
			out[i] = v / beta
		}
		r.stream.rounded[l.node.In(2)] = tensor.From(out, b.Shape()...)
	}
}

func (r *run) finish() *Result {
	r.out.Graph = r.g.Clone()
	for name, t := range r.stream.rounded {
		r.out.Graph.Consts[name] = t
	}
	return r.out
}

func (r *run) progress(p Progress) {
	if r.cfg.Progress != nil {
		p.Total = len(r.layers)
		if p.Done {
			p.Share = r.work[p.Index]
		} else if p.Index > 0 {
			p.Share = max(p.Share, r.work[p.Index-1])
		}
		r.cfg.Progress(p)
	}
}

// samplingShare is about what running both networks up to a layer takes of the layer's time.
const samplingShare = 0.25

// layerWork predicts what a layer takes, in units without meaning: each weight meets each position, where the loss and its
// derivative are computed, and each column, where the surrogate is lowered, several times; a kernel of its own for each output
// is enumerated; and the networks run on. The factors are fitted to the seconds of MobileNetV2's layers.
func (r *run) layerWork(l *layer) float64 {
	shape, all := r.stream.shape[l.input], 1
	if reader, err := l.geo.bind(shape, nn.RowMajor); err == nil {
		all = reader.batch * reader.positions
	}
	images := float64(r.stream.images)
	positions, columns := min(float64(r.cfg.Positions), images*float64(all)), float64(l.geo.k)
	if l.geo.outs == 1 && l.geo.k <= enumerateUpTo {
		positions *= 10
	}
	return float64(float64(l.outputs())*columns*(positions+float64(6*columns))) + float64(5*images*float64(shape.Len()))
}

// shares sets what the layers up to each one take of all work.
func (r *run) shares() {
	r.work = make([]float64, len(r.layers))
	var sum float64
	for i, l := range r.layers {
		sum += r.layerWork(l)
		r.work[i] = sum
	}
	for i := range r.work {
		r.work[i] /= sum
	}
}

// tell returns what the solver of l calls with the share of its work that is done.
func (r *run) tell(l *layer) func(float64) {
	i := slices.Index(r.layers, l)
	from := 0.0
	if i > 0 {
		from = r.work[i-1]
	}
	return func(share float64) {
		within := samplingShare + float64((1-samplingShare)*share)
		r.progress(Progress{Layer: l.node.Name, Index: i, Share: from + float64((r.work[i]-from)*within)})
	}
}
