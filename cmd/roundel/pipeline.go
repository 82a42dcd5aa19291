package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"roundel/adaround"
	"roundel/asm"
	"roundel/internal/progress"
	"roundel/nn"
	"roundel/nn/prepare"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/quantsim/export"
	"roundel/tensor"
)

// quantFlags are the settings of rounding and simulation; their names are those of the API.
type quantFlags struct {
	paramBits, outputBits int
	scheme, config        string
	solver                string
	iterations, positions int
	lr                    float64
	seed                  uint64
	mem, progress         string
	bits                  overrideFlag
	ignore, prepare       string
	batchSize             int
	encodingVersion       string
	noQDQ                 bool
}

func (q *quantFlags) addRounding(fs *flag.FlagSet) {
	d := adaround.DefaultConfig()
	fs.IntVar(&q.paramBits, "param-bits", d.ParamBits, "bits of the weights, 2 to 16")
	fs.StringVar(&q.scheme, "scheme", "tf_enhanced", "how ranges are chosen: tf, tf_enhanced, percentile, mse or entropy")
	fs.StringVar(&q.config, "config", "", "quantization rules: a file in AIMET's format, or a built-in name (default: per-channel weights)")
	fs.StringVar(&q.solver, "solver", string(d.Solver), "rounding solver: fast, or adam (the paper's)")
	fs.IntVar(&q.iterations, "iterations", 0, "iterations of the adam solver; 0 is 15000 below 8 bits, else 10000")
	fs.IntVar(&q.positions, "positions", d.Positions, "sampled output positions for each layer")
	fs.Float64Var(&q.lr, "lr", d.LearningRate, "learning rate of the adam solver")
	fs.Uint64Var(&q.seed, "seed", 0, "seed of all sampling; the same seed gives the same bytes")
	fs.StringVar(&q.mem, "mem", "1.5G", "memory to stay below: the run adapts, or fails before it begins")
	fs.Var(&q.bits, "bits", "`LAYER=N`: other bits for one layer or pattern; may be repeated")
	fs.StringVar(&q.ignore, "ignore", "", "comma-separated layers or patterns that stay in float")
	q.addProgress(fs)
	q.addPrepare(fs)
}

func (q *quantFlags) addPrepare(fs *flag.FlagSet) {
	fs.StringVar(&q.prepare, "prepare", "", "comma-separated `REWRITES` to make before rounding besides the default ones, or with - to leave away (RATIONALE.md)")
}

func (q *quantFlags) addSimulation(fs *flag.FlagSet) {
	fs.IntVar(&q.outputBits, "output-bits", 8, "bits of the activations, 4 to 16")
	fs.IntVar(&q.batchSize, "batch-size", 32, "samples of one calibration batch")
	fs.StringVar(&q.encodingVersion, "encoding-version", encoding.DefaultVersion, "of the encodings file: 0.6.1, 1.0.0 or 2.0.0")
	fs.BoolVar(&q.noQDQ, "no-qdq", false, "write no QDQ model")
}

func (q *quantFlags) addProgress(fs *flag.FlagSet) {
	fs.StringVar(&q.progress, "progress", "auto", "progress on standard error: auto, plain, json, or off, which leaves messages")
}

// overrideFlag collects LAYER=BITS.
type overrideFlag map[string]int

func (o *overrideFlag) String() string { return "" }

func (o *overrideFlag) Set(s string) error {
	i := strings.LastIndexByte(s, '=')
	if i < 1 {
		return fmt.Errorf("%q is not LAYER=BITS", s)
	}
	n, err := strconv.Atoi(s[i+1:])
	if err != nil {
		return fmt.Errorf("%q is not LAYER=BITS", s)
	}
	if *o == nil {
		*o = overrideFlag{}
	}
	(*o)[s[:i]] = n
	return nil
}

// reporter returns the progress reporter that the flag asks for.
func (q *quantFlags) reporter(env *environment) (*progress.Reporter, error) {
	format := progress.Plain
	file, isFile := env.stderr.(*os.File)
	switch q.progress {
	case "auto":
		if isFile {
			format = progress.Detect(file)
		}
	case "plain":
	case "json":
		format = progress.JSON
	case "off":
		format = progress.Off
	default:
		return nil, usagef("--progress %q: want auto, plain, json or off", q.progress)
	}
	width := func() int { return 80 }
	if isFile {
		width = func() int { return progress.Width(file) }
	}
	return progress.New(env.stderr, format, width, nil), nil
}

// rounding returns the AdaRound configuration. The loader is set by the caller.
func (q *quantFlags) rounding(threads int) (adaround.Config, error) {
	c := adaround.DefaultConfig()
	scheme, err := encoding.ParseScheme(q.scheme)
	if err != nil {
		return c, usagef("--scheme: %w", err)
	}
	if q.paramBits < 2 || q.paramBits > 16 {
		return c, usagef("--param-bits %d: want 2 to 16", q.paramBits)
	}
	if c.Memory, err = parseBytes(q.mem); err != nil {
		return c, usagef("--mem: %w", err)
	}
	if q.solver != string(adaround.Fast) && q.solver != string(adaround.Adam) {
		return c, usagef("--solver %q: want fast or adam", q.solver)
	}
	for name, n := range q.bits {
		if n < 2 || n > 16 {
			return c, usagef("--bits %s=%d: want 2 to 16", name, n)
		}
	}
	c.ParamBits, c.Scheme, c.ConfigFile = q.paramBits, scheme, q.config
	c.Solver, c.NumIterations, c.Positions = adaround.SolverKind(q.solver), q.iterations, q.positions
	c.LearningRate, c.Seed, c.Workers = q.lr, q.seed, threads
	c.ParamBitsOverrides = q.bits
	if q.ignore != "" {
		c.IgnoreOps = strings.Split(q.ignore, ",")
	}
	switch {
	case q.iterations < 0:
		return c, usagef("--iterations %d: want 0 for the default, or a positive number", q.iterations)
	case q.positions < 1:
		return c, usagef("--positions %d: want at least 1", q.positions)
	case !(q.lr > 0):
		return c, usagef("--lr %g: want a positive number", q.lr)
	}
	return c, nil
}

// simulation returns the configuration of the quantization simulation.
func (q *quantFlags) simulation(threads int) (quantsim.Config, error) {
	c := quantsim.DefaultConfig()
	scheme, err := encoding.ParseScheme(q.scheme)
	if err != nil {
		return c, usagef("--scheme: %w", err)
	}
	if q.outputBits < 4 || q.outputBits > 16 {
		return c, usagef("--output-bits %d: want 4 to 16", q.outputBits)
	}
	if q.batchSize < 1 {
		return c, usagef("--batch-size %d: want at least 1", q.batchSize)
	}
	c.Method = encoding.Method{Scheme: scheme}
	c.ParamBits, c.OutputBits, c.ConfigFile, c.Workers = q.paramBits, q.outputBits, q.config, threads
	return c, nil
}

// exports returns what is written.
func (q *quantFlags) exports() (export.Options, error) {
	if err := encoding.CheckVersion(q.encodingVersion); err != nil {
		return export.Options{}, usagef("--encoding-version: %w", err)
	}
	return export.Options{Version: q.encodingVersion, QDQ: !q.noQDQ}, nil
}

// parseBytes reads a size such as 1.5G, 800M or 1073741824.
func parseBytes(s string) (int64, error) {
	text, unit := strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(s)), "B"), 1.0
	text = strings.TrimSuffix(text, "I")
	for suffix, u := range map[string]float64{"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40} {
		if t, ok := strings.CutSuffix(text, suffix); ok {
			text, unit = t, u
			break
		}
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v > 0) || v*unit > 1<<60 {
		return 0, fmt.Errorf("%q is not a size such as 1.5G or 800M", s)
	}
	return int64(v * unit), nil
}

// job is one quantization: the float graph, the data, and what becomes of them.
type job struct {
	float    *nn.Graph // prepared: batch normalisation folded
	prepared string    // what the preparation did, to be said once the inputs are known to be good
	notes    []string  // what will hurt quantization
	calib    sampler
	eval     sampler
	pool     *tensor.Pool
	reporter *progress.Reporter
	batch    int
	rounding adaround.Config
	simulate quantsim.Config
	files    export.Options

	preparation preparation
	moments     map[string]prepare.Moments // of layers, from batch normalisations that were folded

	rounded *adaround.Result
	params  *encoding.File       // of the rounded weights
	sim     *quantsim.Sim        // rounded weights and quantized activations, calibrated
	layers  []map[string]float64 // SQNR by layer: weights to nearest, weights by AdaRound, everything simulated

	mem   int64 // bytes that --mem allows the process
	later later

	doing       string // after rounding; for the message of a run that is stopped
	done, total int    // layers
}

// sampler is a numbered list of samples: a source, or data in memory.
type sampler interface {
	Len() int
	batches(ctx context.Context, pool *tensor.Pool, size int, f func(batch) error) error
	adaround.DataLoader
}

// workUnits is all work of the rounding stage.
const workUnits = 100_000

// round runs AdaRound with a progress stage; layers count by the work that they are predicted to take.
func (j *job) round(ctx context.Context) error {
	cfg := j.rounding
	cfg.DataLoader = j.calib
	if j.eval != nil {
		if err := j.planLater(ctx); err != nil {
			return err
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var stage *progress.Stage
	var refused error
	cfg.Progress = func(p adaround.Progress) {
		switch {
		case stage == nil:
			if j.prepared != "" {
				j.reporter.Message("%s", j.prepared)
				j.prepared = ""
			}
			for _, n := range j.notes {
				j.reporter.Message("%s", n)
			}
			if refused = j.predict(p.PeakBytes); refused != nil {
				stop()
				return
			}
			if j.rounding.ParamBits < 4 {
				j.reporter.Message("note: %d bits are fewer than the 4 to 31 that AIMET documents", j.rounding.ParamBits)
			}
			stage = j.reporter.Stage("rounding", workUnits, 0)
		case p.Done && p.Report != nil:
			j.done, j.total = p.Index+1, p.Total
			if p.Report.Resumed {
				stage.Skip(int64(p.Share * workUnits))
			}
			stage.Set(int64(p.Share*workUnits), fmt.Sprintf("%s loss %.4g -> %.4g", p.Layer, p.Report.Nearest.Solve, p.Report.Final.Solve))
		default:
			stage.Set(int64(p.Share*workUnits), fmt.Sprintf("%s, layer %d of %d", p.Layer, p.Index+1, p.Total))
		}
	}
	res, err := adaround.Apply(ctx, j.float, cfg)
	if refused != nil {
		return refused
	}
	if err != nil {
		return j.tooLarge(err)
	}
	if stage != nil {
		stage.End(fmt.Sprintf("%d layers", len(res.Layers)))
	}
	j.rounded = res
	j.params = res.File()
	if j.preparation.bias != "" {
		return j.correctBiases(ctx)
	}
	return nil
}

// calibrate builds the simulation of the rounded network: frozen weights, then activations.
func (j *job) calibrate(ctx context.Context) error {
	sim, err := quantsim.New(j.rounded.Graph, j.simulate)
	if err != nil {
		return err
	}
	if err := sim.SetAndFreezeParams(j.params); err != nil {
		return err
	}
	return j.calibrateSim(ctx, sim)
}

// calibrateSim runs the calibration samples through sim and keeps it.
func (j *job) calibrateSim(ctx context.Context, sim *quantsim.Sim) error {
	j.doing = "calibrating"
	stage := j.reporter.Stage("calibrating", int64(j.calib.Len()), 0)
	err := sim.ComputeEncodings(ctx, func(run func(map[string]tensor.Any) error) error {
		return j.calib.batches(ctx, j.pool, j.batch, func(b batch) error {
			if err := run(b.feeds); err != nil {
				return err
			}
			stage.Set(int64(b.start+b.n), "")
			return nil
		})
	})
	if err != nil {
		return err
	}
	stage.End("")
	j.sim = sim
	return nil
}

// weightsOnly returns the simulation of g with float activations: with frozen weights, or nearest rounding when params is nil.
func (j *job) weightsOnly(ctx context.Context, g *nn.Graph, params *encoding.File) (*quantsim.Sim, error) {
	sim, err := quantsim.New(g, j.simulate)
	if err != nil {
		return nil, err
	}
	if params != nil {
		if err := sim.SetAndFreezeParams(params); err != nil {
			return nil, err
		}
	} else if err := j.sameBits(sim); err != nil {
		return nil, err
	}
	var activations []string
	for _, name := range sim.Tensors() {
		if st, ok := sim.State(name); ok && st.Enabled && st.Kind == encoding.Activation {
			activations = append(activations, name)
		}
	}
	if err := sim.SetEnabled(false, activations...); err != nil {
		return nil, err
	}
	return sim, sim.ComputeEncodings(ctx, func(func(map[string]tensor.Any) error) error { return nil })
}

// sameBits gives nearest rounding the bits that AdaRound used for each layer, and leaves in float what AdaRound left.
func (j *job) sameBits(sim *quantsim.Sim) error {
	for _, l := range j.rounded.Layers {
		if l.Bits != j.simulate.ParamBits {
			if err := sim.SetPrecision(encoding.Int, l.Bits, l.Weight); err != nil {
				return err
			}
		}
	}
	return nil
}

// variant is a network to be compared with the float one: a program or a simulation, or neither for the float network itself.
type variant struct {
	name  string
	run   *nn.Program
	sim   simulation
	score score
}

// evaluate runs the float network and every variant over the evaluation samples: all together, or one after the other
// if memory is short.
func (j *job) evaluate(ctx context.Context, vs ...*variant) error {
	float, err := nn.Compile(ctx, j.float, nn.CompileOptions{Pool: j.pool})
	if err != nil {
		return err
	}
	groups := [][]*variant{vs}
	if n := min(2, len(vs)); j.later.alone {
		groups = append([][]*variant{vs[:n]}, slices.Collect(slices.Chunk(vs[n:], 1))...)
	}
	stage := j.reporter.Stage("evaluating", int64(j.eval.Len()*len(groups)), 0)
	for i, g := range groups {
		if err := j.evaluateTogether(ctx, float, g, func(n int) { stage.Set(int64(i*j.eval.Len()+n), "") }); err != nil {
			return err
		}
	}
	stage.End("")
	return nil
}

func (j *job) evaluateTogether(ctx context.Context, float *nn.Program, vs []*variant, progress func(samples int)) error {
	runs := make([]*nn.Program, len(vs))
	for i, v := range vs {
		runs[i] = v.run
		if v.sim != nil {
			var err error
			if runs[i], err = v.sim.Compile(ctx, nn.CompileOptions{Pool: j.pool}); err != nil {
				return err
			}
		}
	}
	out := j.float.Outputs[0].Name
	size := j.batch
	if j.later.batch > 0 {
		size = j.later.batch
	}
	return j.eval.batches(ctx, j.pool, size, func(b batch) error {
		ref, err := firstOutput(ctx, float, b.feeds, out)
		if err != nil {
			return err
		}
		for i, v := range vs {
			y := ref
			if runs[i] != nil {
				if y, err = firstOutput(ctx, runs[i], b.feeds, out); err != nil {
					return err
				}
			}
			v.score.add(y, ref, b.labels)
		}
		progress(b.start + b.n)
		return nil
	})
}

func firstOutput(ctx context.Context, p *nn.Program, feeds map[string]tensor.Any, name string) (*tensor.Dense[float32], error) {
	outs, err := p.Run(ctx, feeds)
	if err != nil {
		return nil, err
	}
	y, err := tensor.As[float32](tensor.Cast(outs[name], tensor.Float32))
	if err != nil {
		return nil, fmt.Errorf("output %q: %w", name, err)
	}
	if len(y.Shape()) == 0 {
		return y.Reshape(1, 1), nil
	}
	return y, nil
}

func formatBytes(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
}

// isaName is the instruction set in use, for reports.
func isaName() string { return asm.Best().ISA }
