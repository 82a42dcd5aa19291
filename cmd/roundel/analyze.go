package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"roundel/nn"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
)

// analyzeFlags are those of analyze alone.
type analyzeFlags struct {
	calib, eval, encodings, json, html string
	samples                            int
	data                               dataFlags
	q                                  quantFlags
	machine                            machineFlags
}

// runAnalyze says which layers quantization hurts, rounding weights to nearest or as an encodings file says.
func runAnalyze(ctx context.Context, env *environment, args []string) error {
	var f analyzeFlags
	fs := f.flagSet()
	pos, err := parse(env, fs, args, "MODEL")
	if err != nil {
		return err
	}
	j := &job{batch: f.q.batchSize}
	if j.preparation, err = parsePreparation(f.q.prepare); err != nil {
		return err
	}
	if j.pool, err = f.machine.pool(); err != nil {
		return err
	}
	if j.simulate, err = f.q.simulation(f.machine.threads); err != nil {
		return err
	}
	if j.reporter, err = f.q.reporter(env); err != nil {
		return err
	}
	if err := f.check(pos[0]); err != nil {
		return err
	}
	l, err := j.load(ctx, pos[0])
	if err != nil {
		return err
	}
	if err := f.open(j, l.graph); err != nil {
		return err
	}
	if f.encodings != "" {
		j.sim, err = j.loadedSim(j.float, f.encodings)
	} else {
		err = j.nearest(ctx, &f.q)
	}
	if err != nil {
		return err
	}
	a := &analysis{Model: filepath.Base(l.path), Samples: f.eval, EvalSamples: j.eval.Len(), Encodings: f.encodings}
	if f.encodings == "" {
		a.CalibrationSamples, a.ParamBits, a.OutputBits = j.calib.Len(), f.q.paramBits, f.q.outputBits
	}
	if err := j.analyze(ctx, a); err != nil {
		return err
	}
	a.print(env.stdout)
	return f.write(env, a)
}

func (f *analyzeFlags) flagSet() *flag.FlagSet {
	fs := flag.NewFlagSet("analyze", flag.ContinueOnError)
	fs.StringVar(&f.calib, "calib", "", "calibration samples; not needed with --encodings")
	fs.StringVar(&f.eval, "eval", "", "samples to measure on (default: the calibration samples, which flatters)")
	fs.IntVar(&f.samples, "eval-samples", 32, "measure on the first N samples only (0: all)")
	fs.StringVar(&f.encodings, "encodings", "", "analyze the simulation with this encodings file (any version) instead of calibrating")
	fs.StringVar(&f.json, "json", "", "write everything to this file too")
	fs.StringVar(&f.html, "html", "", "write everything to this page too")
	f.data.add(fs)
	fs.IntVar(&f.q.paramBits, "param-bits", 4, "bits of the weights, 2 to 16")
	fs.IntVar(&f.q.outputBits, "output-bits", 8, "bits of the activations, 4 to 16")
	fs.StringVar(&f.q.scheme, "scheme", "tf_enhanced", "how ranges are chosen: tf, tf_enhanced, percentile, mse or entropy")
	fs.StringVar(&f.q.config, "config", "", "quantization rules: a file in AIMET's format, or a built-in name (default: per-channel weights)")
	fs.Var(&f.q.bits, "bits", "`LAYER=N`: other bits for one layer or pattern; may be repeated")
	fs.StringVar(&f.q.ignore, "ignore", "", "comma-separated layers or patterns that stay in float")
	fs.IntVar(&f.q.batchSize, "batch-size", 32, "samples of one batch")
	f.q.addProgress(fs)
	f.q.addPrepare(fs)
	f.machine.add(fs)
	return fs
}

// check refuses flags that contradict each other, and files that could not be written in the end.
func (f *analyzeFlags) check(model string) error {
	q := &f.q
	switch {
	case f.encodings == "" && f.calib == "":
		return usagef("--calib is missing: where the calibration samples are; or give --encodings")
	case f.encodings != "" && f.calib == "" && f.eval == "":
		return usagef("--eval is missing: samples to measure on")
	case f.encodings != "" && (len(q.bits) > 0 || q.ignore != ""):
		return usagef("--bits and --ignore change a calibration; with --encodings the file decides")
	case f.samples < 0:
		return usagef("--eval-samples %d: want 0 for all, or a positive number", f.samples)
	case q.paramBits < 2 || q.paramBits > 16:
		return usagef("--param-bits %d: want 2 to 16", q.paramBits)
	}
	for name, n := range q.bits {
		if n < 2 || n > 16 {
			return usagef("--bits %s=%d: want 2 to 16", name, n)
		}
	}
	return f.checkOutputs(model)
}

func (f *analyzeFlags) checkOutputs(model string) error {
	for _, out := range []string{f.json, f.html} {
		if out == "" {
			continue
		}
		have, err := os.Stat(out)
		if err == nil && !have.Mode().IsRegular() {
			return fmt.Errorf("cannot write %s: it is there and not a file", out)
		}
		if dir, err := os.Stat(filepath.Dir(out)); err != nil || !dir.IsDir() {
			return fmt.Errorf("cannot write %s: there is no folder %s", out, filepath.Dir(out))
		}
		for _, source := range []string{model, f.calib, f.eval, f.encodings} {
			if st, e := os.Stat(source); err == nil && e == nil && os.SameFile(have, st) {
				return fmt.Errorf("%s would replace the input %s; give another name", out, source)
			}
		}
	}
	return nil
}

// open opens the samples; those to measure on are the calibration samples if no others are given.
func (f *analyzeFlags) open(j *job, g *nn.Graph) error {
	if f.calib != "" && f.encodings == "" {
		src, err := f.data.open(f.calib, g)
		if err != nil {
			return err
		}
		j.calib = src
	}
	if f.eval == "" {
		f.eval = f.calib
	}
	ev := f.data
	ev.limit = f.samples
	src, err := ev.open(f.eval, g)
	j.eval = src
	return err
}

// nearest calibrates the simulation of the float weights rounded to nearest.
func (j *job) nearest(ctx context.Context, q *quantFlags) error {
	sim, err := quantsim.New(j.float, j.simulate)
	if err != nil {
		return err
	}
	var errs []error
	for name, bits := range q.bits {
		weights, _, err := matching(sim, name)
		if err == nil {
			err = sim.SetPrecision(encoding.Int, bits, weights...)
		}
		errs = append(errs, err)
	}
	if q.ignore != "" {
		for _, name := range strings.Split(q.ignore, ",") {
			_, nodes, err := matching(sim, name)
			if err == nil {
				err = sim.Exclude(nodes...)
			}
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return j.calibrateSim(ctx, sim)
}

// matching returns the layers, and their weights, whose node or weight has the given name or fits the pattern.
func matching(sim *quantsim.Sim, pattern string) (weights, nodes []string, err error) {
	re := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$")
	var all []string
	for _, n := range sim.Graph().Nodes {
		for _, in := range n.Inputs {
			if st, ok := sim.State(in); !ok || st.Kind != encoding.Param || !st.Enabled {
				continue
			}
			all = append(all, n.Name)
			if re.MatchString(n.Name) || re.MatchString(in) {
				weights, nodes = append(weights, in), append(nodes, n.Name)
			}
		}
	}
	if len(nodes) == 0 {
		return nil, nil, fmt.Errorf("no layer or weight fits %q; the layers: %s", pattern, strings.Join(all, ", "))
	}
	return weights, nodes, nil
}
