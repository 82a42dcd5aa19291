package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"

	"roundel/internal/atomicfile"
	"roundel/nn"
	"roundel/quantsim"
	"roundel/report"
	"roundel/tensor"
)

// analysis is what analyze finds out, as its JSON file has it. Scores are the output SQNR in dB; null is not finite.
type analysis struct {
	Model, Samples                  string
	CalibrationSamples, EvalSamples int
	ParamBits, OutputBits           int             `json:",omitempty"` // without Encodings
	Encodings                       string          `json:",omitempty"`
	OutputSQNR                      quantsim.Number // everything quantized
	Agreement                       quantsim.Number // share of samples with the top-1 class of the float model
	Layers                          []analyzedLayer
	Activations                     []quantsim.TensorSQNR
	Ranges                          []quantsim.RangeStat
}

// analyzedLayer is the sensitivity of a layer, and the activation that holds its result: its own output, or that of
// the activation function behind it; empty if neither is quantized.
type analyzedLayer struct {
	quantsim.LayerScore
	Result string
}

// resultTensor returns the quantized activation that holds the result of a node: its own output, or that of the
// activation function after it; "" if there is none.
func resultTensor(sim *quantsim.Sim, node string) string {
	g := sim.Graph()
	for _, n := range g.Nodes {
		if n.Name != node {
			continue
		}
		names := []string{n.Out(0)}
		if users := g.Consumers(n.Out(0)); len(users) == 1 {
			names = append(names, users[0].Out(0))
		}
		for _, name := range names {
			if st, ok := sim.State(name); ok && st.Enabled && st.Encoding != nil {
				return name
			}
		}
	}
	return ""
}

// analyze measures the simulation.
func (j *job) analyze(ctx context.Context, a *analysis) error {
	var err error
	if a.Ranges, err = j.sim.Ranges(); err != nil {
		return err
	}
	j.doing = "comparing tensors"
	stage := j.reporter.Stage(j.doing, int64(j.eval.Len()), 0)
	a.Activations, err = j.sim.SQNR(ctx, quantsim.SQNROptions{}, func(run func(map[string]tensor.Any) error) error {
		// One at a time: the activations of a sample are all in memory together.
		return j.eval.batches(ctx, j.pool, 1, func(b batch) error {
			stage.Set(int64(b.start), "")
			return run(b.feeds)
		})
	})
	if err != nil {
		return err
	}
	stage.End("")
	var scores []score
	stage = nil
	s, err := j.sim.Sensitivity(ctx, j.scorer(&scores), func(node string, i, n int) {
		if stage == nil {
			stage = j.reporter.Stage("quantizing layers one by one", int64(n), 0)
		}
		stage.Set(int64(i), node)
	})
	if err != nil {
		return err
	}
	if stage != nil {
		stage.End("")
	}
	a.OutputSQNR, a.Agreement = s.Quantized, quantsim.Number(scores[1].agreement())
	for _, l := range s.Layers {
		a.Layers = append(a.Layers, analyzedLayer{l, resultTensor(j.sim, l.Node)})
	}
	return nil
}

// scorer returns the output SQNR against the float model, which is the first program that it is given.
func (j *job) scorer(all *[]score) quantsim.Evaluate {
	var reference []*tensor.Dense[float32]
	out := j.float.Outputs[0].Name
	return func(ctx context.Context, p *nn.Program) (float64, error) {
		var s score
		i := 0
		err := j.eval.batches(ctx, j.pool, j.batch, func(b batch) error {
			y, err := firstOutput(ctx, p, b.feeds, out)
			if err != nil {
				return err
			}
			if len(*all) == 0 {
				reference = append(reference, y)
			}
			s.add(y, reference[i], b.labels)
			i++
			return nil
		})
		*all = append(*all, s)
		return quantsim.Decibel(s.signal, s.noise), err
	}
}

// tensor returns the measurements of a tensor, nil if there are none.
func (a *analysis) tensor(name string) *quantsim.TensorSQNR {
	for i := range a.Activations {
		if a.Activations[i].Tensor == name {
			return &a.Activations[i]
		}
	}
	return nil
}

func (a *analysis) print(w io.Writer) {
	fmt.Fprintf(w, "%d samples of %s: output SQNR %s dB, agreement with float %.1f %%\n\n", a.EvalSamples, a.Samples, decibels(a.OutputSQNR), 100*float64(a.Agreement))
	fmt.Fprint(w, "Layers. Output SQNR in dB with only this layer quantized, and with all others;\nthe SQNR here, with everything quantized; the float range of its result.\n\n")
	width := len("layer")
	for _, l := range a.Layers {
		width = max(width, len(l.Node))
	}
	row := "%-*s  %-17s %7s %7s %7s  %s\n"
	fmt.Fprintf(w, row, width, "layer", "op", "alone", "without", "here", "range")
	for _, l := range a.Layers {
		here, interval := "", ""
		if t := a.tensor(l.Result); t != nil {
			here, interval = decibels(t.SQNR), rangeText(t.Min, t.Max)
		}
		fmt.Fprintf(w, row, width, l.Node, l.Op, decibels(l.Alone), decibels(l.Without), here, interval)
	}
	width = len("activation")
	for _, r := range a.Ranges {
		width = max(width, len(r.Tensor))
	}
	a.printWeights(w, width)
	a.printActivations(w, width)
}

func (a *analysis) printWeights(w io.Writer, width int) {
	fmt.Fprint(w, "\nWeights. SQNR in dB; the share that lies beyond the grid; how wide the narrowest and the widest channel is.\n\n")
	row := "%-*s  %4v %8v %6s %8s  %-22s %s\n"
	fmt.Fprintf(w, row, width, "weight", "bits", "channels", "SQNR", "clipped", "range", "channels' widths")
	for _, r := range a.Ranges {
		if r.Kind == "param" {
			fmt.Fprintf(w, row, width, r.Tensor, r.Bits, r.Channels, decibels(r.SQNR), share(r.Clipped), rangeText(r.Min, r.Max), rangeText(r.ChannelMin, r.ChannelMax))
		}
	}
}

func (a *analysis) printActivations(w io.Writer, width int) {
	fmt.Fprint(w, "\nActivations. SQNR in dB; the share of float values beyond the grid; their range, and that of the grid.\n\n")
	row := "%-*s  %4v %6s %8s  %-22s %s\n"
	fmt.Fprintf(w, row, width, "activation", "bits", "SQNR", "clipped", "range", "grid")
	for _, r := range a.Ranges {
		if r.Kind == "param" || r.Min == r.Max { // the latter are bounds of Clip and the like
			continue
		}
		here, clipped, interval := "", "", "" // of graph inputs nothing is measured
		if t := a.tensor(r.Tensor); t != nil {
			here, clipped, interval = decibels(t.SQNR), share(t.Clipped), rangeText(t.Min, t.Max)
		}
		fmt.Fprintf(w, row, width, r.Tensor, r.Bits, here, clipped, interval, rangeText(r.Min, r.Max))
	}
}

func decibels(v quantsim.Number) string {
	switch f := float64(v); {
	case math.IsInf(f, 1):
		return "equal"
	case math.IsNaN(f):
		return "-"
	default:
		return fmt.Sprintf("%.1f", f)
	}
}

func share(v quantsim.Number) string { return fmt.Sprintf("%.2f %%", 100*float64(v)) }

func rangeText(lo, hi quantsim.Number) string {
	return fmt.Sprintf("%.4g to %.4g", float64(lo), float64(hi))
}

// write writes the files that the flags ask for.
func (f *analyzeFlags) write(env *environment, a *analysis) error {
	if f.json != "" {
		err := atomicfile.Write(f.json, func(w io.Writer) error {
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			return e.Encode(a)
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(env.stdout, "\nwrote %s\n", f.json)
	}
	if f.html == "" {
		return nil
	}
	if err := report.Write(f.html, a.page()); err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "wrote %s\n", f.html)
	return nil
}

// page is the analysis as a report.
func (a *analysis) page() report.Report {
	r := report.Report{Title: "Quantization of " + a.Model + ", layer by layer", Facts: []report.Fact{
		{Name: "model", Value: a.Model}, {Name: "measured on", Value: fmt.Sprintf("%d samples of %s", a.EvalSamples, filepath.Base(a.Samples))},
		{Name: "output SQNR", Value: decibels(a.OutputSQNR) + " dB"},
		{Name: "agreement with float", Value: fmt.Sprintf("%.1f %%", 100*float64(a.Agreement))}}}
	if a.Encodings != "" {
		r.Facts = append(r.Facts, report.Fact{Name: "encodings", Value: filepath.Base(a.Encodings)})
	} else {
		r.Facts = append(r.Facts, report.Fact{Name: "bits", Value: fmt.Sprintf("%d for weights, %d for activations", a.ParamBits, a.OutputBits)})
	}
	for _, l := range a.Layers {
		s := report.Sensitivity{Name: l.Node, Op: l.Op, Alone: float64(l.Alone), Without: float64(l.Without), Here: math.NaN(), Min: math.NaN(), Max: math.NaN()}
		if t := a.tensor(l.Result); t != nil {
			s.Here, s.Min, s.Max = float64(t.SQNR), float64(t.Min), float64(t.Max)
		}
		r.Sensitivities = append(r.Sensitivities, s)
	}
	for _, x := range a.Ranges {
		if x.Kind == "param" && float64(x.Clipped) > 0.01 {
			r.Findings = append(r.Findings, report.Finding{Node: x.Tensor, Text: share(x.Clipped) + " of the weights lie beyond the grid"})
		}
	}
	for _, t := range a.Activations {
		if float64(t.Clipped) > 0.01 {
			r.Findings = append(r.Findings, report.Finding{Node: t.Tensor, Text: share(t.Clipped) + " of the values lie beyond the grid"})
		}
	}
	return r
}

// layerSQNR measures on a few samples how far the result of every layer is from the float network, in simulations of it.
// It returns the SQNR in dB by simulation and layer, NaN where it is unknown.
func (j *job) layerSQNR(ctx context.Context, sims ...*quantsim.Sim) ([]map[string]float64, error) {
	const samples = 8
	n := min(samples, j.eval.Len())
	stage := j.reporter.Stage("comparing layers", int64(n*len(sims)), 0)
	var tensors []string
	of := map[string]string{}
	for _, l := range j.rounded.Layers {
		if name := resultTensor(j.sim, l.Name); name != "" && !slices.Contains(tensors, name) {
			tensors = append(tensors, name)
			of[l.Name] = name
		}
	}
	var out []map[string]float64
	for k, sim := range sims {
		var rows []quantsim.TensorSQNR
		for group := range j.fitting(tensors) {
			more, err := sim.SQNR(ctx, quantsim.SQNROptions{Float: j.float, Tensors: group}, func(run func(map[string]tensor.Any) error) error {
				for i := range n {
					x, err := j.eval.Sample(ctx, i)
					if err != nil {
						return err
					}
					if err := run(x); err != nil {
						return err
					}
					stage.Set(int64(k*n+i+1), "")
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
			rows = append(rows, more...)
		}
		by := map[string]float64{}
		for _, l := range j.rounded.Layers {
			by[l.Name] = math.NaN()
			for _, r := range rows {
				if r.Tensor == of[l.Name] {
					by[l.Name] = float64(r.SQNR)
				}
			}
		}
		out = append(out, by)
	}
	stage.End("")
	return out, nil
}
