package main

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"strings"

	"roundel/nn/prepare"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim/encoding"
)

// runAdaround rounds the weights and writes the model and its parameter encodings, in AIMET's form.
func runAdaround(ctx context.Context, env *environment, args []string) error {
	fs := flag.NewFlagSet("adaround", flag.ContinueOnError)
	calib := fs.String("calib", "", "calibration samples")
	dir := fs.String("o", "", "folder for the results")
	prefix := fs.String("prefix", "", "name of the results without extension (default: MODEL_adaround)")
	resume := fs.Bool("resume", false, "continue an interrupted run in the same folder")
	var df dataFlags
	var q quantFlags
	var machine machineFlags
	df.add(fs)
	q.addRounding(fs)
	machine.add(fs)
	q.outputBits, q.batchSize, q.encodingVersion = 8, 32, encoding.DefaultVersion
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
	j.calib = src
	name := *prefix
	if name == "" {
		name = l.prefix() + "_adaround"
	}
	if name != filepath.Base(name) {
		return usagef("--prefix %q: want a file name without folders", name)
	}
	out, err := openOutput(*dir)
	if err != nil {
		return err
	}
	defer out.close()
	if err := out.reserve(resultNames(name), pos[0], *calib); err != nil {
		return err
	}
	return j.resumable(ctx, out, *resume, func() error {
		if err := j.round(ctx); err != nil {
			return err
		}
		return j.writeRounded(env, l, out, name)
	})
}

// writeRounded writes NAME.onnx and NAME.encodings.
func (j *job) writeRounded(env *environment, l *loaded, out *output, name string) error {
	j.doing = "exporting"
	m, err := convert.ToModel(j.rounded.Graph, l.model)
	if err != nil {
		return err
	}
	if err := onnx.Write(filepath.Join(out.stage(), name+".onnx"), m); err != nil {
		return err
	}
	if err := j.rounded.SaveEncodings(out.stage(), name); err != nil {
		return err
	}
	if err := out.commit(resultNames(name)); err != nil {
		return err
	}
	flips, weights := 0, 0
	for _, r := range j.rounded.Layers {
		flips, weights = flips+r.Flips, weights+r.Weights
	}
	fmt.Fprintf(env.stdout, "rounded %d layers, %d of %d weights not to their nearest\n", len(j.rounded.Layers), flips, weights)
	for _, s := range j.rounded.Skipped {
		fmt.Fprintf(env.stdout, "left in float: %s: %s\n", s.Node, s.Reason)
	}
	fmt.Fprintf(env.stdout, "wrote %s\nwrote %s\n", out.path(name+".onnx"), out.path(name+".encodings"))
	return nil
}

// countRewrites sums up a preparation report as "fold batch norm 52, fold constants 3".
func countRewrites(r *prepare.Report) string {
	count := map[string]int{}
	var order []string
	for _, c := range r.Done {
		if count[c.Rewrite] == 0 {
			order = append(order, c.Rewrite)
		}
		count[c.Rewrite]++
	}
	for i, name := range order {
		order[i] = fmt.Sprintf("%s %d", name, count[name])
	}
	return strings.Join(order, ", ")
}
