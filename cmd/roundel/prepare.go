package main

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"roundel/nn"
	"roundel/nn/prepare"
	"roundel/tensor"
)

// preparation says which rewrites are made before rounding, and how biases are corrected after it.
type preparation struct {
	prepare.Config
	bias string // "", "empirical" or "analytic"
}

// parsePreparation reads --prepare: rewrites to add to the default ones, or with - before their name to leave away.
func parsePreparation(text string) (preparation, error) {
	p := preparation{Config: prepare.DefaultConfig()}
	switches := map[string]*bool{"fold-constants": &p.FoldConstants, "fuse-bias": &p.FuseBias, "fuse-scale": &p.FuseScale,
		"fold-batch-norm": &p.FoldBatchNorm, "normalize-batch-norm": &p.NormalizeBatchNorm, "equalize": &p.Equalize, "absorb-bias": &p.AbsorbBias}
	for _, name := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		plain, off := strings.CutPrefix(name, "-")
		switch kind, isBias := strings.CutPrefix(name, "correct-bias="); {
		case switches[plain] != nil:
			*switches[plain] = !off
		case plain == "all":
			for _, s := range switches {
				*s = !off
			}
		case name == "relu6-to-relu":
			p.ReLU6 = prepare.ReLU6ToReLU
		case isBias && (kind == "empirical" || kind == "analytic"):
			p.bias = kind
		default:
			return p, usagef("--prepare %q: want fold-constants, fuse-bias, fuse-scale, fold-batch-norm, normalize-batch-norm, equalize, absorb-bias "+
				"or all, with - before it to leave it away, relu6-to-relu, or correct-bias=empirical or =analytic", name)
		}
	}
	if err := p.Validate(); err != nil {
		return p, usagef("--prepare: %w", err)
	}
	return p, nil
}

// apply returns the graph that rounding and simulation work on.
func (p preparation) apply(ctx context.Context, g *nn.Graph) (*nn.Graph, *prepare.Report, error) {
	folded, rep, err := prepare.Apply(ctx, g, p.Config)
	if err != nil {
		return nil, nil, err
	}
	if err := nn.Verify(folded); err != nil {
		return nil, nil, fmt.Errorf("preparing the model broke it; please report this: %w", err)
	}
	return folded, rep, nil
}

// lintNotes sums up what would hurt quantization, one line for each rule.
func lintNotes(g *nn.Graph) []string {
	return summed(prepare.Lint(g), func(f prepare.Finding) (rule, text string) { return f.Rule, "note: " + f.String() })
}

// summed returns the text of the first of each kind of items, and how many more of that kind there are.
func summed[T any](items []T, describe func(T) (kind, text string)) []string {
	var kinds, lines []string
	count := map[string]int{}
	for _, it := range items {
		kind, text := describe(it)
		if count[kind]++; count[kind] == 1 {
			kinds, lines = append(kinds, kind), append(lines, text)
		}
	}
	for i, kind := range kinds {
		if count[kind] > 1 {
			lines[i] += fmt.Sprintf(" (and %d more)", count[kind]-1)
		}
	}
	return lines
}

// correctBiases changes the biases of the rounded network so that its layers keep their means over the calibration samples.
func (j *job) correctBiases(ctx context.Context) error {
	quantized := map[string]tensor.Any{}
	for _, l := range j.rounded.Layers {
		quantized[l.Weight] = j.rounded.Graph.Consts[l.Weight]
	}
	o := prepare.BiasOptions{Pool: j.pool}
	if j.preparation.bias == "analytic" {
		o.Moments = j.moments
	}
	var samples iter.Seq2[map[string]tensor.Any, error] = func(yield func(map[string]tensor.Any, error) bool) {
		for i := range j.calib.Len() {
			if b, err := j.calib.Sample(ctx, i); !yield(b, err) {
				return
			}
		}
	}
	g, rep, err := prepare.CorrectBias(ctx, j.float, quantized, samples, o)
	if err != nil {
		return err
	}
	for name, w := range quantized {
		g.Consts[name] = w
	}
	j.rounded.Graph = g
	j.reporter.Message("corrected the biases of %d layers", len(rep.Done))
	return nil
}
