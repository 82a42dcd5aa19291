package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"roundel/adaround"
	"roundel/data"
	"roundel/nn"
	"roundel/tensor"
)

// aimetRun is layers.json of aimet_adaround.py.
type aimetRun struct {
	Bits       int               `json:"bits"`
	Iterations int               `json:"iterations"`
	Versions   map[string]string `json:"versions"`
	Layers     []aimetLayer      `json:"layers"`
	dir        string
}

type aimetLayer struct {
	Weight  string    `json:"weight"`
	File    string    `json:"file"`
	Scale   []float64 `json:"scale"`
	Offset  []float64 `json:"offset"`
	Seconds float64   `json:"seconds"`
	CPU     float64   `json:"cpu"`
}

func readAIMET(dir string) (*aimetRun, error) {
	r := &aimetRun{dir: dir}
	return r, readJSON(filepath.Join(dir, "layers.json"), r)
}

func (r *aimetRun) rounded(l aimetLayer) (*tensor.Dense[float32], error) {
	v, err := data.ReadNpy(filepath.Join(r.dir, l.File))
	if err != nil {
		return nil, err
	}
	return tensor.As[float32](v)
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o666)
}

// comparison is what compare writes.
type comparison struct {
	Kind       string // "compare"
	Model      string
	Bits       int
	Iterations int // of AIMET and of SolverAdam
	LR         float64
	Batch      int // positions of an iteration of SolverAdam
	Positions  int // of solving
	Test       int // images that neither tool saw
	Versions   map[string]string
	Layers     []comparedLayer
}

type comparedLayer struct {
	Weight, Kind               string
	Outputs, Columns, Groups   int
	Nearest, AIMET, Adam, Fast float64 // losses on the test positions
	AIMETSeconds, AIMETCPU     float64 // of the whole layer
	AdamSeconds, AdamCPU       float64 // of the solver
	FastSeconds, FastCPU       float64
}

// compare gives both tools the same inputs for every layer: those of the network with AIMET's weights up to there.
func compare(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("compare", flag.ExitOnError)
	model := fs.String("model", "", "folded model")
	calib := fs.String("calib", "", "the .npy that AIMET was given")
	test := fs.String("test", "", ".npy of samples that neither tool saw")
	dir := fs.String("aimet", "", "folder of aimet_adaround.py")
	iterations := fs.Int("iterations", 0, "of SolverAdam; 0 is AIMET's number")
	lr := fs.Float64("lr", 1e-3, "of SolverAdam")
	batch := fs.Int("batch", adaround.DefaultConfig().BatchSize, "positions of one iteration of SolverAdam")
	positions := fs.Int("positions", 16384, "for solving, and for testing")
	threads := fs.Int("threads", 1, "workers")
	out := fs.String("o", "", "result, JSON")
	_ = fs.Parse(args)

	run, err := readAIMET(*dir)
	if err != nil {
		return err
	}
	_, g, err := openGraph(ctx, *model, false)
	if err != nil {
		return err
	}
	c := &comparer{g: g, pool: newPool(*threads), positions: *positions, consts: map[string]tensor.Any{}, bits: run.Bits, lr: *lr, batch: *batch}
	if c.calib, err = readArray(*calib); err != nil {
		return err
	}
	if c.test, err = readArray(*test); err != nil {
		return err
	}
	if c.iterations = *iterations; c.iterations == 0 {
		c.iterations = run.Iterations
	}
	res := comparison{Kind: "compare", Model: filepath.Base(*model), Bits: run.Bits, Iterations: c.iterations, LR: *lr,
		Batch: *batch, Positions: *positions, Test: c.test.Shape()[0], Versions: run.Versions}
	for _, l := range run.Layers {
		theirs, err := run.rounded(l)
		if err != nil {
			return err
		}
		row, err := c.layer(ctx, l, theirs)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%-40s nearest %.4g aimet %.4g adam %.4g fast %.4g (%.1f s, %.1f s, %.2f s)\n",
			l.Weight, row.Nearest, row.AIMET, row.Adam, row.Fast, row.AIMETSeconds, row.AdamSeconds, row.FastSeconds)
		res.Layers = append(res.Layers, *row)
		c.consts[l.Weight] = theirs
	}
	return writeJSON(*out, res)
}

type comparer struct {
	g           *nn.Graph
	pool        *tensor.Pool
	calib, test *tensor.Dense[float32]
	consts      map[string]tensor.Any // AIMET's weights so far
	positions   int
	bits        int
	iterations  int
	batch       int
	lr          float64
}

func (c *comparer) layer(ctx context.Context, al aimetLayer, theirs *tensor.Dense[float32]) (*comparedLayer, error) {
	l, err := findLayer(c.g, al.Weight)
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(1, uint64(len(c.consts))))
	p := &adaround.Problem{Groups: l.groups, K: l.k, O: l.outs * l.groups, Weight: l.weight.Data(), Bias: l.bias, Act: l.act}
	for o := range p.O {
		i := o % len(al.Scale)
		p.Scale = append(p.Scale, float32(al.Scale[i]))
		p.Lo = append(p.Lo, int32(al.Offset[i]))
		p.Hi = append(p.Hi, int32(al.Offset[i])+1<<c.bits-1)
	}
	// One image in eight only judges, as in adaround.Apply: both solvers see fewer images than AIMET, and none of the test.
	images := rng.Perm(c.calib.Shape()[0])
	held := len(images) / 8
	float, rounded, err := c.inputs(ctx, l, c.calib)
	if err != nil {
		return nil, err
	}
	p.Solve = l.sample(rounded, float, images[held:], c.positions*7/8, rng, c.pool)
	p.HeldOut = l.sample(rounded, float, images[:held], c.positions/8, rng, c.pool)
	if float, rounded, err = c.inputs(ctx, l, c.test); err != nil {
		return nil, err
	}
	var all []int
	for i := range c.test.Shape()[0] {
		all = append(all, i)
	}
	test := l.sample(rounded, float, all, c.positions, rng, c.pool)

	row := &comparedLayer{Weight: al.Weight, Kind: l.kind(), Outputs: p.O, Columns: p.K, Groups: p.Groups, AIMETSeconds: al.Seconds, AIMETCPU: al.CPU}
	row.Nearest = l.loss(nearest(p), &test, c.pool)
	row.AIMET = l.loss(theirs.Data(), &test, c.pool)
	adam := adaround.SolverAdam{Iterations: c.iterations, LearningRate: c.lr, BatchSize: c.batch, RegParam: 0.01, BetaRange: [2]float64{20, 2}, WarmStart: 0.2}
	if row.Adam, row.AdamSeconds, row.AdamCPU, err = c.solve(ctx, l, p, &test, adam); err != nil {
		return nil, err
	}
	row.Fast, row.FastSeconds, row.FastCPU, err = c.solve(ctx, l, p, &test, adaround.SolverFast{})
	return row, err
}

// inputs returns the layer's input in the float network and in the one rounded so far.
func (c *comparer) inputs(ctx context.Context, l *weighted, x *tensor.Dense[float32]) (float, rounded *tensor.Dense[float32], err error) {
	if float, err = values(ctx, c.g, nil, x, l.node.In(0), c.pool); err != nil {
		return nil, nil, err
	}
	rounded, err = values(ctx, c.g, c.consts, x, l.node.In(0), c.pool)
	return float, rounded, err
}

type rounder interface {
	Round(context.Context, *adaround.Problem, *tensor.Pool) (*adaround.Solution, error)
}

// solve returns the loss on the test positions and the solver's seconds, by the clock and of the processor.
func (c *comparer) solve(ctx context.Context, l *weighted, p *adaround.Problem, test *adaround.Samples, s rounder) (loss, seconds, cpu float64, err error) {
	start, used := time.Now(), cpuSeconds()
	sol, err := s.Round(ctx, p, c.pool)
	if err != nil {
		return 0, 0, 0, err
	}
	seconds, cpu = time.Since(start).Seconds(), cpuSeconds()-used
	x := make([]float32, len(sol.Codes))
	for i, v := range sol.Codes {
		x[i] = sol.Scale[i/p.K] * float32(v)
	}
	m := *l
	m.bias = sol.Bias // the solver may correct it
	if own := m.loss(x, &p.Solve, c.pool); math.Abs(own-sol.Final.Solve) > 1e-3*own+1e-9 {
		return 0, 0, 0, fmt.Errorf("%s: the solver reports a loss of %g, it is %g", l.node.Name, sol.Final.Solve, own)
	}
	return m.loss(x, test, c.pool), seconds, cpu, nil
}

func nearest(p *adaround.Problem) []float32 {
	x := make([]float32, len(p.Weight))
	for i, w := range p.Weight {
		o := i / p.K
		v := math.RoundToEven(float64(w / p.Scale[o]))
		x[i] = p.Scale[o] * float32(min(max(v, float64(p.Lo[o])), float64(p.Hi[o])))
	}
	return x
}

// kind is the type of layer that timings are grouped by.
func (l *weighted) kind() string {
	switch s := l.weight.Shape(); {
	case l.node.Op != "Conv":
		return l.node.Op
	case l.groups > 1 && l.outs == 1:
		return fmt.Sprintf("depthwise %dx%d", s[2], s[3])
	default:
		return fmt.Sprintf("conv %dx%d", s[2], s[3])
	}
}

func median(x []float64) float64 {
	s := slices.Sorted(slices.Values(x))
	if len(s) == 0 {
		return math.NaN()
	}
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}
