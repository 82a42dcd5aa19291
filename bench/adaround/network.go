package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"roundel/adaround"
	"roundel/data"
	"roundel/nn"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// wholeNetwork is what network writes.
type wholeNetwork struct {
	Kind       string // "network"
	Model      string
	Bits       int
	Iterations int
	LR         float64
	Calib      int // samples
	Eval       int
	Threads    int
	Variants   []variant
	AIMET      *aimetTimes // of the same layers, when given
}

// variant is one way to round all weights; activations stay float.
type variant struct {
	Name         string
	Accuracy     float64 // NaN is written as -1: no labels
	Agreement    float64 // share of samples with the float network's class
	SQNR         float64 // dB
	Seconds, CPU float64
	Layers       []layerTime `json:",omitempty"`
}

// layerTime is one layer of roundel's run. CPU is that of solving and sampling.
type layerTime struct {
	Weight, Kind                       string
	Sample, Solve, CPU                 float64
	NearestHeld, FinalHeld, FinalSolve float64
}

// aimetTimes is times.json of aimet_adaround.py.
type aimetTimes struct {
	Counts  []int `json:"counts"`
	Threads int   `json:"threads"`
	Layers  []struct {
		Weight       string  `json:"weight"`
		Iteration    float64 `json:"iteration"`
		Fixed        float64 `json:"fixed"`
		IterationCPU float64 `json:"iteration_cpu"`
		FixedCPU     float64 `json:"fixed_cpu"`
	} `json:"layers"`
}

// arrayLoader yields the rows of an array.
type arrayLoader struct {
	name string
	x    *tensor.Dense[float32]
}

func (a arrayLoader) Len() int { return a.x.Shape()[0] }

func (a arrayLoader) Sample(_ context.Context, i int) (adaround.Batch, error) {
	n := a.x.Len() / a.Len()
	shape := append([]int{1}, a.x.Shape()[1:]...)
	return adaround.Batch{a.name: tensor.From(a.x.Data()[i*n:(i+1)*n], shape...)}, nil
}

// network rounds a whole network with every solver and scores the results.
func network(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("network", flag.ExitOnError)
	model := fs.String("model", "", "folded model")
	calib := fs.String("calib", "", "the .npy that AIMET was given")
	eval := fs.String("eval", "", ".npy to score on, labels beside it")
	dir := fs.String("aimet", "", "folder of aimet_adaround.py, with its weights")
	times := fs.String("times", "", "times.json of aimet_adaround.py -time")
	bits := fs.Int("bits", 0, "of the weights; 0 is AIMET's")
	iterations := fs.Int("iterations", 0, "of SolverAdam; 0 is AIMET's number, negative leaves SolverAdam out")
	lr := fs.Float64("lr", 1e-3, "of SolverAdam")
	threads := fs.Int("threads", 1, "workers")
	out := fs.String("o", "", "result, JSON")
	_ = fs.Parse(args)

	n := &networkRun{pool: newPool(*threads), res: wholeNetwork{Kind: "network", Model: filepath.Base(*model), LR: *lr, Threads: *threads, Bits: *bits, Iterations: *iterations}}
	var theirs *aimetRun
	var err error
	if *dir != "" {
		if theirs, err = readAIMET(*dir); err != nil {
			return err
		}
		n.res.Bits = theirs.Bits
		if *iterations == 0 {
			n.res.Iterations = theirs.Iterations
		}
	}
	if *times != "" {
		n.res.AIMET = &aimetTimes{}
		if err := readJSON(*times, n.res.AIMET); err != nil {
			return err
		}
	}
	if _, n.g, err = openGraph(ctx, *model, false); err != nil {
		return err
	}
	if n.calib, err = readArray(*calib); err != nil {
		return err
	}
	if err := n.readEval(ctx, *eval); err != nil {
		return err
	}
	if err := n.score(ctx, "float", nil, 0, 0, nil); err != nil {
		return err
	}
	if theirs != nil {
		if err := n.aimet(ctx, theirs); err != nil {
			return err
		}
	}
	if err := n.roundel(ctx, adaround.Fast, true); err != nil {
		return err
	}
	if n.res.Iterations > 0 {
		if err := n.roundel(ctx, adaround.Adam, false); err != nil {
			return err
		}
	}
	return writeJSON(*out, n.res)
}

type networkRun struct {
	g      *nn.Graph
	pool   *tensor.Pool
	calib  *tensor.Dense[float32]
	eval   *tensor.Dense[float32]
	labels []int64
	float  *tensor.Dense[float32]
	res    wholeNetwork
}

func (n *networkRun) readEval(ctx context.Context, path string) (err error) {
	if n.eval, err = readArray(path); err != nil {
		return err
	}
	n.res.Calib, n.res.Eval = n.calib.Shape()[0], n.eval.Shape()[0]
	if v, err := data.ReadNpy(labelsOf(path)); err == nil {
		n.labels = tensor.Int64s(v)
	}
	n.float, err = values(ctx, n.g, nil, n.eval, n.g.Outputs[0].Name, n.pool)
	return err
}

func (n *networkRun) aimet(ctx context.Context, r *aimetRun) error {
	consts := map[string]tensor.Any{}
	var seconds, cpu float64
	for _, l := range r.Layers {
		w, err := r.rounded(l)
		if err != nil {
			return err
		}
		consts[l.Weight] = w
		seconds, cpu = seconds+l.Seconds, cpu+l.CPU
	}
	return n.score(ctx, "AIMET", consts, seconds, cpu, nil)
}

// roundel runs Apply; with alsoNearest the same encodings are scored with nearest rounding.
func (n *networkRun) roundel(ctx context.Context, solver adaround.SolverKind, alsoNearest bool) error {
	cfg := adaround.DefaultConfig()
	cfg.DataLoader = arrayLoader{n.g.Inputs[0].Name, n.calib}
	cfg.Solver, cfg.NumIterations, cfg.LearningRate, cfg.ParamBits, cfg.Workers = solver, max(n.res.Iterations, 0), n.res.LR, n.res.Bits, n.pool.Workers()
	var cpu []float64
	before, at := cpuSeconds(), -1
	cfg.Progress = func(p adaround.Progress) {
		if p.Layer != "" && p.Index != at { // it is called within a layer too
			before, at = cpuSeconds(), p.Index
		}
		if p.Done {
			cpu = append(cpu, cpuSeconds()-before)
			fmt.Fprintf(os.Stderr, "%s %s: %.4g -> %.4g, %.2f s, %.2f s of CPU\n", solver, p.Layer, p.Report.Nearest.HeldOut, p.Report.Final.HeldOut, p.Report.Seconds, cpu[len(cpu)-1])
		}
	}
	start, used := time.Now(), cpuSeconds()
	res, err := adaround.Apply(ctx, n.g, cfg)
	if err != nil {
		return err
	}
	seconds, spent := time.Since(start).Seconds(), cpuSeconds()-used
	consts, near := map[string]tensor.Any{}, map[string]tensor.Any{}
	for name, t := range res.Graph.Consts { // biases too
		if t != n.g.Consts[name] {
			consts[name] = t
		}
	}
	var layers []layerTime
	for i, l := range res.Layers {
		if near[l.Weight], err = nearestOf(res.ParamEncodings[l.Weight], n.g.ConstF32(l.Weight)); err != nil {
			return err
		}
		kind := l.Op
		if w, err := findLayer(n.g, l.Weight); err == nil {
			kind = w.kind()
		}
		layers = append(layers, layerTime{l.Weight, kind, l.SampleSecs, l.Seconds - l.SampleSecs, cpu[i], l.Nearest.HeldOut, l.Final.HeldOut, l.Final.Solve})
	}
	if alsoNearest {
		if err := n.score(ctx, "nearest", near, 0, 0, nil); err != nil {
			return err
		}
	}
	return n.score(ctx, "roundel "+string(solver), consts, seconds, spent, layers)
}

func nearestOf(e *encoding.Encoding, w *tensor.Dense[float32]) (tensor.Any, error) {
	dst := make([]float32, w.Len())
	err := e.QuantizeDequantize(dst, w.Data(), w.Shape())
	return tensor.From(dst, w.Shape()...), err
}

// score runs the network with other weights over the evaluation samples.
func (n *networkRun) score(ctx context.Context, name string, consts map[string]tensor.Any, seconds, cpu float64, layers []layerTime) error {
	y, err := values(ctx, n.g, consts, n.eval, n.g.Outputs[0].Name, n.pool)
	if err != nil {
		return err
	}
	n.scoreOutput(name, y, seconds, cpu, layers)
	return nil
}

// scoreOutput compares outputs of the evaluation samples with the float network's.
func (n *networkRun) scoreOutput(name string, y *tensor.Dense[float32], seconds, cpu float64, layers []layerTime) {
	v := variant{Name: name, Accuracy: -1, Seconds: seconds, CPU: cpu, Layers: layers}
	rows := y.Shape()[0]
	width := y.Len() / rows
	var signal, noise float64
	var agree, correct int
	for i := range rows {
		a, b := y.Data()[i*width:(i+1)*width], n.float.Data()[i*width:(i+1)*width]
		top := argmax(a)
		if top == argmax(b) {
			agree++
		}
		if n.labels != nil && int64(top) == n.labels[i] {
			correct++
		}
		for j := range a {
			d := float64(a[j]) - float64(b[j])
			noise, signal = noise+d*d, signal+float64(b[j])*float64(b[j])
		}
	}
	v.Agreement = float64(agree) / float64(rows)
	if n.labels != nil {
		v.Accuracy = float64(correct) / float64(rows)
	}
	if v.SQNR = 10 * math.Log10(signal/noise); noise == 0 {
		v.SQNR = 999
	}
	fmt.Fprintf(os.Stderr, "%-14s accuracy %.2f %% agreement %.2f %% SQNR %.2f dB in %.1f s, %.1f s of CPU\n", name, 100*v.Accuracy, 100*v.Agreement, v.SQNR, seconds, cpu)
	n.res.Variants = append(n.res.Variants, v)
}

func argmax(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}
