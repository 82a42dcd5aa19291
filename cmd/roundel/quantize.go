package main

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
)

// runQuantize is the whole job: prepare, round, calibrate, evaluate, export.
func runQuantize(ctx context.Context, env *environment, args []string) error {
	fs := flag.NewFlagSet("quantize", flag.ContinueOnError)
	calib := fs.String("calib", "", "calibration samples: a folder of images, .npy, .npz, idx, or a list of these; no labels needed")
	eval := fs.String("eval", "", "samples to compare the results on (default: the calibration samples, which flatters)")
	dir := fs.String("o", "", "folder for the results")
	resume := fs.Bool("resume", false, "continue an interrupted run in the same folder")
	var df dataFlags
	var q quantFlags
	var machine machineFlags
	df.add(fs)
	q.addRounding(fs)
	q.addSimulation(fs)
	machine.add(fs)
	pos, err := parse(env, fs, args, "MODEL")
	if err != nil {
		return err
	}
	j, err := newJob(env, &q, &machine)
	if err != nil {
		return err
	}
	if *calib == "" {
		return usagef("--calib is missing: where the calibration samples are")
	}
	l, err := j.load(ctx, pos[0])
	if err != nil {
		return err
	}
	src, err := df.open(*calib, l.graph)
	if err != nil {
		return err
	}
	j.calib, j.eval = src, src
	evalName := "the calibration samples"
	if *eval != "" {
		ev := df
		ev.limit = 0
		esrc, err := ev.open(*eval, l.graph)
		if err != nil {
			return err
		}
		j.eval, evalName = esrc, *eval
	}
	out, err := openOutput(*dir)
	if err != nil {
		return err
	}
	defer out.close()
	if err := out.reserve(resultNames(j.resultName(l)), pos[0], *calib, *eval); err != nil {
		return err
	}
	return j.resumable(ctx, out, *resume, func() error {
		if err := j.roundAndCalibrate(ctx); err != nil {
			return err
		}
		vs, err := j.compare(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(env.stdout, "%d samples of %s:\n", j.eval.Len(), evalName)
		printVariants(env, vs)
		return j.export(env, l, out, vs)
	})
}

// newJob reads the settings that do not depend on a model.
func newJob(env *environment, q *quantFlags, machine *machineFlags) (*job, error) {
	pool, err := machine.pool()
	if err != nil {
		return nil, err
	}
	j := &job{pool: pool, batch: q.batchSize}
	if j.rounding, err = q.rounding(machine.threads); err != nil {
		return nil, err
	}
	j.mem = j.rounding.Memory
	j.rounding.Memory = heapFor(j.mem)
	if j.simulate, err = q.simulation(machine.threads); err != nil {
		return nil, err
	}
	if j.preparation, err = parsePreparation(q.prepare); err != nil {
		return nil, err
	}
	if j.files, err = q.exports(); err != nil {
		return nil, err
	}
	j.reporter, err = q.reporter(env)
	return j, err
}

// load opens the model and prepares its graph.
func (j *job) load(ctx context.Context, path string) (*loaded, error) {
	l, err := openModel(ctx, path)
	if err != nil {
		return nil, err
	}
	return l, j.prepare(ctx, l)
}

func (j *job) prepare(ctx context.Context, l *loaded) error {
	if len(l.graph.Outputs) == 0 {
		return fmt.Errorf("%s: the model has no outputs", l.path)
	}
	if _, err := unlessDone(ctx, func() (any, error) { return nil, finiteWeights(l.graph) }); err != nil {
		return fmt.Errorf("%s: %w", l.path, err)
	}
	g, rep, err := j.preparation.apply(ctx, l.graph)
	if err != nil {
		return fmt.Errorf("%s: %w", l.path, err)
	}
	if j.notes, err = unlessDone(ctx, func() ([]string, error) { return lintNotes(g), nil }); err != nil {
		return fmt.Errorf("%s: %w", l.path, err)
	}
	j.moments = rep.Moments
	if n := len(rep.Done); n > 0 {
		j.prepared = fmt.Sprintf("prepared %s: %d rewrites (%s)", filepath.Base(l.path), n, countRewrites(rep))
	}
	j.float = g
	return nil
}

// compare evaluates nearest rounding, AdaRound and the full simulation against the float network.
func (j *job) compare(ctx context.Context) ([]*variant, error) {
	j.doing = "evaluating"
	nearest, err := j.weightsOnly(ctx, j.float, nil)
	if err != nil {
		return nil, err
	}
	rounded, err := j.weightsOnly(ctx, j.rounded.Graph, j.params)
	if err != nil {
		return nil, err
	}
	bits := j.simulate.ParamBits
	vs := []*variant{
		{name: "float"},
		{name: fmt.Sprintf("W%d nearest", bits), sim: nearest},
		{name: fmt.Sprintf("W%d AdaRound", bits), sim: rounded},
		{name: fmt.Sprintf("W%dA%d AdaRound, simulated", bits, j.simulate.OutputBits), sim: j.sim},
	}
	if err := j.evaluate(ctx, vs...); err != nil {
		return nil, err
	}
	j.layers, err = j.layerSQNR(ctx, nearest, rounded, j.sim)
	return vs, err
}

func printVariants(env *environment, vs []*variant) {
	width := 0
	for _, v := range vs {
		width = max(width, len(v.name))
	}
	for _, v := range vs {
		if v.run == nil && v.sim == nil && v.score.labelled == 0 {
			continue // float against itself says nothing
		}
		fmt.Fprintf(env.stdout, "  %-*s  %s\n", width, v.name, &v.score)
	}
}
