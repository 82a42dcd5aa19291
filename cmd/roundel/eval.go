package main

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"

	"roundel/nn"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/quantsim/integer"
)

// runEval compares a model, simulated with an encodings file or not, with labels and with a float reference.
func runEval(ctx context.Context, env *environment, args []string) error {
	fs := flag.NewFlagSet("eval", flag.ContinueOnError)
	dataPath := fs.String("data", "", "evaluation samples")
	encodings := fs.String("encodings", "", "simulate with this encodings file (any version)")
	whole := fs.Bool("integer", false, "also compute the simulation in whole numbers of 8 bits, as integer kernels do (bit for bit ONNX Runtime's on amd64); needs --encodings")
	against := fs.String("against", "", "float model to compare with (default: MODEL without quantization)")
	var df dataFlags
	var machine machineFlags
	q := quantFlags{paramBits: 8, outputBits: 8, scheme: "tf"}
	df.add(fs)
	machine.add(fs)
	fs.IntVar(&q.batchSize, "batch-size", 32, "samples of one batch")
	fs.StringVar(&q.config, "config", "", "quantization rules (default: per-channel weights)")
	q.addProgress(fs)
	q.addPrepare(fs)
	pos, err := parse(env, fs, args, "MODEL")
	if err != nil {
		return err
	}
	if *dataPath == "" {
		return usagef("--data is missing: where the evaluation samples are")
	}
	if *whole && *encodings == "" {
		return usagef("--integer computes a simulation in whole numbers: give its --encodings")
	}
	pool, err := machine.pool()
	if err != nil {
		return err
	}
	j := &job{pool: pool, batch: q.batchSize}
	if j.preparation, err = parsePreparation(q.prepare); err != nil {
		return err
	}
	if j.reporter, err = q.reporter(env); err != nil {
		return err
	}
	if q.batchSize < 1 {
		return usagef("--batch-size %d: want at least 1", q.batchSize)
	}
	l, err := j.load(ctx, pos[0])
	if err != nil {
		return err
	}
	graph := j.float
	if *against != "" {
		if _, err := j.load(ctx, *against); err != nil {
			return err
		}
		if len(graph.Outputs) == 0 || graph.Outputs[0].Name != j.float.Outputs[0].Name {
			return fmt.Errorf("%s and %s have different outputs: %q and %q", l.path, *against, graph.Outputs[0].Name, j.float.Outputs[0].Name)
		}
	}
	src, err := df.open(*dataPath, l.graph)
	if err != nil {
		return err
	}
	if !src.Labelled() && *encodings == "" && *against == "" {
		return fmt.Errorf("%s has no labels and there is nothing to compare with: give --labels, --encodings or --against", *dataPath)
	}
	j.eval = src
	vs := []*variant{{name: "float"}}
	switch {
	case *encodings != "":
		simulated, err := j.simulated(ctx, graph, *encodings, &q, machine.threads, *whole)
		if err != nil {
			return err
		}
		vs = append(vs, simulated...)
	case *against != "":
		p, err := nn.Compile(ctx, graph, nn.CompileOptions{Pool: pool})
		if err != nil {
			return err
		}
		vs = append(vs, &variant{name: l.prefix(), run: p})
	}
	if err := j.evaluate(ctx, vs...); err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "%d samples of %s:\n", j.eval.Len(), *dataPath)
	printVariants(env, vs)
	return nil
}

// simulated compiles the simulation of g under an encodings file, in float and, if asked, in whole numbers too.
func (j *job) simulated(ctx context.Context, g *nn.Graph, path string, q *quantFlags, threads int, whole bool) ([]*variant, error) {
	var err error
	if j.simulate, err = q.simulation(threads); err != nil {
		return nil, err
	}
	sim, err := j.loadedSim(g, path)
	if err != nil {
		return nil, err
	}
	v := &variant{name: "simulated"}
	if v.run, err = sim.Compile(ctx, nn.CompileOptions{Pool: j.pool}); err != nil || !whole {
		return []*variant{v}, err
	}
	m, err := integer.Lower(sim)
	if err == nil {
		err = m.Whole()
	}
	if err != nil {
		return nil, fmt.Errorf("--integer: %s", strings.TrimPrefix(err.Error(), "integer: "))
	}
	if n := len(m.Float); n > 0 {
		j.reporter.Message("%d nodes compute in float between whole numbers, among them %s", n, strings.Join(m.Float[:min(n, 5)], ", "))
	}
	w := &variant{name: "in whole numbers"}
	w.run, err = m.Compile(ctx, nn.CompileOptions{Pool: j.pool})
	return []*variant{v, w}, err
}

// loadedSim returns the simulation of g under an encodings file, and says what that file lacks.
func (j *job) loadedSim(g *nn.Graph, path string) (*quantsim.Sim, error) {
	sim, err := quantsim.New(g, j.simulate)
	if err != nil {
		return nil, err
	}
	f, err := encoding.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := sim.LoadEncodings(f, quantsim.LoadOptions{Reconfigure: true}); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// What is said of a hundred tensors is one line.
	for _, line := range summed(sim.Warnings(), func(w string) (said, text string) {
		of, _ := strconv.QuotedPrefix(strings.TrimPrefix(w, "tensor "))
		return strings.Replace(w, of, "", 1), w
	}) {
		j.reporter.Message("%s", line)
	}
	return sim, nil
}
