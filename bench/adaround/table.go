package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
)

// table prints recorded results as Markdown: comparisons layer by layer (or, with
// -brief, one line each), whole networks in one table, and seconds by type of layer.
func table(_ context.Context, args []string) error {
	fs := flag.NewFlagSet("table", flag.ExitOnError)
	brief := fs.Bool("brief", false, "one line for each comparison, and nothing else")
	times := fs.Bool("times", false, "only the seconds by type of layer")
	_ = fs.Parse(args)
	var compared []comparison
	var networks []wholeNetwork
	for _, path := range fs.Args() {
		var kind struct{ Kind string }
		if err := readJSON(path, &kind); err != nil {
			return err
		}
		switch kind.Kind {
		case "compare":
			var c comparison
			if err := readJSON(path, &c); err != nil {
				return err
			}
			compared = append(compared, c)
		case "network":
			var n wholeNetwork
			if err := readJSON(path, &n); err != nil {
				return err
			}
			networks = append(networks, n)
		default:
			return fmt.Errorf("%s: not a result of compare or network", path)
		}
	}
	if len(compared) > 0 && *brief {
		fmt.Println("| network | bits | iterations | layers | SolverAdam no worse | SolverAdam/AIMET, geometric mean (worst) | SolverFast no worse | SolverFast/AIMET |\n|---|---|---|---|---|---|---|---|")
	}
	for _, c := range compared {
		if *brief {
			c.line()
		} else {
			c.table()
		}
	}
	if *brief {
		return nil
	}
	if len(networks) > 0 && !*times {
		scoresTable(networks)
	}
	for _, n := range networks {
		n.timesTable()
	}
	return nil
}

func name(model string) string { return strings.TrimSuffix(model, ".onnx") }

// against returns how many layers are no worse than AIMET's, and the geometric mean and the largest of the ratios.
func (c *comparison) against(loss func(comparedLayer) float64) (good int, mean, worst float64) {
	for _, l := range c.Layers {
		r := loss(l) / l.AIMET
		mean += math.Log(r)
		worst = max(worst, r)
		if r <= 1 {
			good++
		}
	}
	return good, math.Exp(mean / float64(len(c.Layers))), worst
}

func adamLoss(l comparedLayer) float64 { return l.Adam }
func fastLoss(l comparedLayer) float64 { return l.Fast }

func (c *comparison) line() {
	ag, am, aw := c.against(adamLoss)
	fg, fm, fw := c.against(fastLoss)
	fmt.Printf("| %s | W%d | %d | %d | %d | %.3f (%.3f) | %d | %.3f (%.3f) |\n", name(c.Model), c.Bits, c.Iterations, len(c.Layers), ag, am, aw, fg, fm, fw)
}

func (c *comparison) table() {
	positions := "all positions"
	if c.Batch > 0 {
		positions = fmt.Sprint(c.Batch, " positions")
	}
	fmt.Printf("\n**%s, W%d, %d iterations** of AIMET and of SolverAdam (learning rate %g, %s in an iteration); loss on positions of %d samples that none of them saw:\n\n",
		name(c.Model), c.Bits, c.Iterations, c.LR, positions, c.Test)
	fmt.Println("| weight | type | outputs x columns | nearest | AIMET | SolverAdam | SolverFast | Adam/AIMET | Fast/AIMET |\n|---|---|---|---|---|---|---|---|---|")
	for _, l := range c.Layers {
		fmt.Printf("| %s | %s | %d x %d | %.4g | %.4g | %.4g | %.4g | %.3f | %.3f |\n", l.Weight, l.Kind, l.Outputs, l.Columns,
			l.Nearest, l.AIMET, l.Adam, l.Fast, l.Adam/l.AIMET, l.Fast/l.AIMET)
	}
	ag, am, aw := c.against(adamLoss)
	fg, fm, fw := c.against(fastLoss)
	fmt.Printf("\nNo worse than AIMET: SolverAdam on %d of %d layers (geometric mean of the ratios %.3f, worst %.3f), SolverFast on %d (%.3f, worst %.3f).\n",
		ag, len(c.Layers), am, aw, fg, fm, fw)
}

// order of the variants in a table.
var columns = []string{"float", "nearest", "AIMET", "roundel adam", "roundel fast"}

func scoresTable(networks []wholeNetwork) {
	fmt.Printf("\n| network | bits | iterations | %s |\n|---|---|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, n := range networks {
		fmt.Printf("| %s | W%d | %d |", name(n.Model), n.Bits, n.Iterations)
		for _, c := range columns {
			i := slices.IndexFunc(n.Variants, func(v variant) bool { return v.Name == c })
			if i < 0 {
				fmt.Print(" - |")
				continue
			}
			v := n.Variants[i]
			score := fmt.Sprintf("%.2f %% agreement", 100*v.Agreement)
			if v.Accuracy >= 0 {
				score = fmt.Sprintf("%.2f %%", 100*v.Accuracy)
			}
			if c != "float" {
				score += fmt.Sprintf(", %.1f dB", v.SQNR)
			}
			fmt.Printf(" %s |", score)
		}
		fmt.Println()
	}
}

// timesTable compares seconds of a layer at the run's number of iterations, by type of layer.
func (n *wholeNetwork) timesTable() {
	i := slices.IndexFunc(n.Variants, func(v variant) bool { return v.Name == "roundel adam" })
	j := slices.IndexFunc(n.Variants, func(v variant) bool { return v.Name == "roundel fast" })
	if n.AIMET == nil || i < 0 || j < 0 {
		return
	}
	ours, fast := map[string]layerTime{}, map[string]layerTime{}
	for _, l := range n.Variants[i].Layers {
		ours[l.Weight] = l
	}
	for _, l := range n.Variants[j].Layers {
		fast[l.Weight] = l
	}
	type group struct{ iteration, fixed, adam, fast, ratio, ratioCPU, fastRatio []float64 }
	groups := map[string]*group{}
	var all group
	for _, l := range n.AIMET.Layers {
		o, ok := ours[l.Weight]
		if !ok {
			continue
		}
		if groups[o.Kind] == nil {
			groups[o.Kind] = &group{}
		}
		f := fast[l.Weight]
		theirs := l.Fixed + float64(n.Iterations)*l.Iteration
		theirsCPU := l.FixedCPU + float64(n.Iterations)*l.IterationCPU
		for _, g := range []*group{groups[o.Kind], &all} {
			g.iteration, g.fixed = append(g.iteration, 1e3*l.Iteration), append(g.fixed, l.Fixed)
			g.adam, g.fast = append(g.adam, o.Sample+o.Solve), append(g.fast, f.Sample+f.Solve)
			g.ratio, g.ratioCPU = append(g.ratio, theirs/(o.Sample+o.Solve)), append(g.ratioCPU, theirsCPU/o.CPU)
			g.fastRatio = append(g.fastRatio, theirs/(f.Sample+f.Solve))
		}
	}
	fmt.Printf("\n**%s, W%d: seconds of a layer at %d iterations**, %d thread(s), medians over the layers of a type; AIMET's from %d and %d iterations, sampling included on both sides:\n\n",
		name(n.Model), n.Bits, n.Iterations, n.Threads, n.AIMET.Counts[0], n.AIMET.Counts[1])
	fmt.Println("| type | layers | AIMET ms/iteration | AIMET fixed s | SolverAdam s | SolverFast s | AIMET/Adam (least) | by processor time | AIMET/Fast |\n|---|---|---|---|---|---|---|---|---|")
	kinds := make([]string, 0, len(groups))
	for k := range groups {
		kinds = append(kinds, k)
	}
	sort.Strings(kinds)
	row := func(kind string, g *group) {
		fmt.Printf("| %s | %d | %.2f | %.2f | %.2f | %.2f | %.1f (%.1f) | %.1f (%.1f) | %.0f |\n", kind, len(g.ratio), median(g.iteration), median(g.fixed), median(g.adam), median(g.fast),
			median(g.ratio), slices.Min(g.ratio), median(g.ratioCPU), slices.Min(g.ratioCPU), median(g.fastRatio))
	}
	for _, k := range kinds {
		row(k, groups[k])
	}
	row("all", &all)
}
