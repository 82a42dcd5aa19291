package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"roundel/adaround"
	"roundel/tensor"
)

// runs measures whole runs of the roundel binary, one line of a table for each setting:
// seconds by the clock and of the processor, peak size, and scores against the float model.
//
//	adaround runs -roundel BIN -model M -calib SRC -eval SRC 'NAME: flags' 'NAME: flags' ...
func runs(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("runs", flag.ExitOnError)
	bin := fs.String("roundel", "bin/roundel", "the binary")
	model := fs.String("model", "", "model")
	calib := fs.String("calib", "", "calibration samples")
	eval := fs.String("eval", "", "evaluation samples; empty: no scores")
	common := fs.String("flags", "", "flags of every run")
	evalFlags := fs.String("eval-flags", "", "flags of every evaluation")
	repeat := fs.Int("repeat", 1, "runs of each setting; the fastest counts")
	_ = fs.Parse(args)
	fmt.Printf("| run | seconds | CPU seconds | peak MiB |")
	if *eval != "" {
		fmt.Printf(" agreement | SQNR dB |")
	}
	fmt.Printf("\n|---|---|---|---|%s\n", map[bool]string{true: "---|---|"}[*eval != ""])
	for _, spec := range fs.Args() {
		name, flags, ok := strings.Cut(spec, ":")
		if !ok {
			return fmt.Errorf("%q: want NAME: FLAGS", spec)
		}
		m, err := os.MkdirTemp("", "roundel-bench")
		if err != nil {
			return err
		}
		defer os.RemoveAll(m)
		command := append([]string{"adaround", *model, "--calib", *calib, "-o", m, "--progress", "off"}, append(strings.Fields(*common), strings.Fields(flags)...)...)
		var top cost
		for i := range *repeat {
			_, c, err := execute(ctx, *bin, command)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if i == 0 || c.seconds < top.seconds {
				top = c
			}
		}
		fmt.Printf("| %s | %.1f | %.1f | %d |", name, top.seconds, top.cpu, top.peak>>20)
		if *eval != "" {
			base := strings.TrimSuffix(filepath.Base(*model), ".onnx")
			out, _, err := execute(ctx, *bin, append([]string{"eval", filepath.Join(m, base+"_adaround.onnx"), "--against", *model, "--data", *eval, "--progress", "off"}, strings.Fields(*evalFlags)...))
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			agreement, sqnr := scores(out)
			fmt.Printf(" %s | %s |", agreement, sqnr)
		}
		fmt.Println()
	}
	return nil
}

var scorePattern = regexp.MustCompile(`agreement with float +([0-9.]+) %.*SQNR +([-0-9.]+|equal)`)

// scores reads the last line of scores that "roundel eval" prints.
func scores(text string) (agreement, sqnr string) {
	all := scorePattern.FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		return "?", "?"
	}
	last := all[len(all)-1]
	return last[1] + " %", last[2]
}

// cost is what one process took.
type cost struct {
	seconds, cpu float64
	peak         int64
}

func execute(ctx context.Context, bin string, args []string) (string, cost, error) {
	cmd := exec.CommandContext(ctx, bin, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return "", cost{}, fmt.Errorf("%s %s: %w\n%s", bin, strings.Join(args, " "), err, errs.String())
	}
	s := cmd.ProcessState
	return out.String(), cost{time.Since(start).Seconds(), (s.UserTime() + s.SystemTime()).Seconds(), peakBytes(s)}, nil
}

// layerScaling solves made-up layers of growing size with both solvers at one and more threads.
func layerScaling(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("layers", flag.ExitOnError)
	threads := fs.Int("threads", 2, "compared with 1")
	iterations := fs.Int("iterations", 200, "of SolverAdam; its time is shown for 10000, in proportion")
	largest := fs.Int("largest", 4608, "largest number of columns")
	_ = fs.Parse(args)
	fmt.Printf("| outputs x columns | positions | fast, s, 1 thread | %d threads | speed-up | adam 10K, s, 1 thread | %d threads | speed-up |\n|---|---|---|---|---|---|---|---|\n", *threads, *threads)
	one, many := newPool(1), newPool(*threads)
	adam := adaround.SolverAdam{Iterations: *iterations, LearningRate: 1e-3, BatchSize: adaround.DefaultConfig().BatchSize, RegParam: 0.01, BetaRange: [2]float64{20, 2}, WarmStart: 0.2}
	for _, c := range []struct{ outs, k, p int }{{64, 64, 4096}, {64, 64, 16384}, {64, 64, 65536}, {96, 576, 16384}, {192, 576, 16384}, {384, 576, 16384},
		{128, 144, 16384}, {128, 288, 16384}, {128, 1152, 16384}, {128, 2304, 16384}, {128, 4608, 16384}} {
		if c.k > *largest {
			continue
		}
		p := madeUp(c.outs, c.k, c.p)
		var t [4]float64
		for i, pool := range []*tensor.Pool{one, many} {
			for j, r := range []rounder{adaround.SolverFast{}, adam} {
				start := time.Now()
				if _, err := r.Round(ctx, p, pool); err != nil {
					return err
				}
				t[2*j+i] = time.Since(start).Seconds()
			}
		}
		scale := 10000 / float64(*iterations)
		fmt.Printf("| %d x %d | %d | %.2f | %.2f | %.2f | %.1f | %.1f | %.2f |\n", c.outs, c.k, c.p, t[0], t[1], t[0]/t[1], t[2]*scale, t[3]*scale, t[2]/t[3])
	}
	return nil
}

// madeUp is a 4-bit layer with ReLU whose columns are correlated like those of images.
func madeUp(outs, k, positions int) *adaround.Problem {
	rng := rand.New(rand.NewPCG(uint64(outs), uint64(k)))
	p := &adaround.Problem{Groups: 1, K: k, O: outs, Act: adaround.Activation{Kind: adaround.ActClamp, Hi: float32(math.Inf(1))}}
	for range outs {
		p.Scale, p.Lo, p.Hi = append(p.Scale, 0.05), append(p.Lo, -8), append(p.Hi, 7)
	}
	for range outs * k {
		p.Weight = append(p.Weight, float32(0.12*rng.NormFloat64()))
	}
	l := &weighted{groups: 1, outs: outs, k: k}
	p.Solve = adaround.Samples{P: positions, A: make([]float32, positions*k)}
	for i := range positions {
		row := p.Solve.A[i*k : (i+1)*k]
		var v float64
		for j := range row {
			v = 0.8*v + 0.6*rng.NormFloat64()
			row[j] = float32(max(v, 0))
		}
	}
	p.Solve.Y = l.predict(p.Weight, p.Solve.A, positions, newPool(1))
	return p
}
