// Command models times whole models, and next to them ONNX Runtime in the same minutes.
//
//	go run ./bench/models -batch 1 -threads 1 -rounds 20 -python bench/peers/venv/bin/python a.onnx b.onnx
//
// Each round runs every contender a few times in turn, so that both see the same
// disturbances; the best and the median time per image are printed, and their
// ratios (ours divided by the peer's). Without -python only our times are measured.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"roundel/asm"
	"roundel/data"
	"roundel/internal/settle"
	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/tensor"
)

type options struct {
	batch, threads, rounds, each int
	fold, json, cpu              bool
	python, script, profile      string
	feeds                        string
}

func main() {
	var o options
	flag.IntVar(&o.batch, "batch", 1, "images per run")
	flag.IntVar(&o.threads, "threads", 1, "workers, and threads of the peer")
	flag.IntVar(&o.rounds, "rounds", 20, "rounds of alternating measurements")
	flag.IntVar(&o.each, "each", 3, "runs of each contender in a round")
	flag.BoolVar(&o.fold, "fold", true, "fold BatchNormalization, as the peer does")
	flag.BoolVar(&o.cpu, "cpu", false, "measure processor time: for a busy machine")
	flag.StringVar(&o.python, "python", "", "python with onnxruntime; empty: no peer")
	flag.StringVar(&o.script, "script", "bench/peers/ort_bench.py", "the peer's script")
	flag.StringVar(&o.profile, "profile", "", "write a CPU profile of our runs")
	flag.StringVar(&o.feeds, "feeds", "", "folder with an .npy file for every input, instead of random images; one run counts as one image")
	flag.BoolVar(&o.json, "json", false, "print one JSON object for each model: the best times and the memory")
	flag.Parse()
	for _, path := range flag.Args() {
		if err := o.measure(path); err != nil {
			fmt.Fprintf(os.Stderr, "models: %s: %v\n", path, err)
			os.Exit(1)
		}
	}
}

// measure prints the line of one model.
func (o *options) measure(path string) error {
	ours, weights, peak, err := o.ours(path)
	if err != nil {
		return err
	}
	peer, pid, stop, err := o.peer(path)
	if err != nil {
		return err
	}
	defer stop()
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	var a, b []float64
	for range o.rounds {
		for _, c := range []struct {
			run   func(int) ([]float64, error)
			times *[]float64
		}{{ours, &a}, {peer, &b}} {
			if c.run == nil {
				continue
			}
			t, err := c.run(o.each)
			if err != nil {
				return err
			}
			*c.times = append(*c.times, t...)
			if pid != 0 && o.threads > 1 {
				settle.Wait(pid)
			}
		}
	}
	if o.json {
		best := map[string]float64{"ours": slices.Min(a), "weights": float64(weights), "activations": float64(peak)}
		if b != nil {
			best["peer"] = slices.Min(b)
		}
		return json.NewEncoder(os.Stdout).Encode(best)
	}
	fmt.Printf("%-22s batch %-3d threads %d  ours best %8.3f median %8.3f ms/image  (weights %d MB, peak %d MB, %s)",
		filepath.Base(path), o.batch, o.threads, slices.Min(a), median(a), weights>>20, peak>>20, asm.Best().ISA)
	if b != nil {
		fmt.Printf("  peer best %8.3f median %8.3f  ratio best %.2f median %.2f", slices.Min(b), median(b), slices.Min(a)/slices.Min(b), median(a)/median(b))
	}
	fmt.Println()
	return nil
}

func median(t []float64) float64 {
	s := slices.Sorted(slices.Values(t))
	return s[len(s)/2]
}

// ours compiles the model and returns a function that times it.
func (o *options) ours(path string) (run func(int) ([]float64, error), weights, peak int64, err error) {
	m, err := onnx.Read(path)
	if err != nil {
		return nil, 0, 0, err
	}
	g, err := convert.ToGraph(m)
	if err != nil {
		return nil, 0, 0, err
	}
	if err := nn.Verify(g); err != nil {
		return nil, 0, 0, err
	}
	cache := nn.NewWeightCache()
	p, err := nn.Compile(context.Background(), g, nn.CompileOptions{Pool: tensor.NewPool(o.threads, asm.Best()), Weights: cache, FoldBatchNorm: o.fold})
	if err != nil {
		return nil, 0, 0, err
	}
	feeds, err := o.inputs(g)
	if err != nil {
		return nil, 0, 0, err
	}
	res, err := p.Run(context.Background(), feeds)
	if err != nil {
		return nil, 0, 0, err
	}
	outs, into := map[string]*tensor.Dense[float32]{}, true
	for name, t := range res {
		out, ok := t.(*tensor.Dense[float32])
		outs[name], into = out, into && ok
	}
	once := func() error { return p.RunInto(context.Background(), feeds, outs) }
	if !into {
		once = func() error {
			_, err := p.Run(context.Background(), feeds)
			return err
		}
	}
	run = func(n int) ([]float64, error) {
		var times []float64
		for range n {
			start, used := time.Now(), cpuTime()
			if err := once(); err != nil {
				return nil, err
			}
			d := time.Since(start)
			if o.cpu {
				d = cpuTime() - used
			}
			times = append(times, float64(d.Nanoseconds())/1e6/float64(o.batch))
		}
		return times, nil
	}
	return run, cache.Bytes(), p.PeakBytes(), nil
}

// inputs returns random images, or the arrays of the -feeds folder.
func (o *options) inputs(g *nn.Graph) (map[string]tensor.Any, error) {
	feeds := map[string]tensor.Any{}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, in := range g.Inputs {
		if o.feeds != "" {
			var err error
			if feeds[in.Name], err = data.ReadNpy(filepath.Join(o.feeds, fileName(in.Name)+".npy")); err != nil {
				return nil, err
			}
			continue
		}
		shape := make([]int, len(in.Type.Dims))
		for i, d := range in.Type.Dims {
			shape[i] = d.Size
		}
		shape[0] = o.batch
		x := tensor.New[float32](shape...)
		for i := range x.Data() {
			x.Data()[i] = float32(rng.NormFloat64())
		}
		feeds[in.Name] = x
	}
	return feeds, nil
}

// fileName is an input's name as that of a file, by the rule of roundel's outputs.
func fileName(name string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.", r) {
			return r
		}
		return '_'
	}, name)
	return strings.TrimLeft(clean, ".")
}

// peer starts the peer's script and returns a function that lets it time itself.
func (o *options) peer(path string) (run func(int) ([]float64, error), pid int, stop func(), err error) {
	if o.python == "" {
		return nil, 0, func() {}, nil
	}
	cmd := exec.Command(o.python, o.script, "--serve", "--model", path, "--batch", strconv.Itoa(o.batch), "--threads", strconv.Itoa(o.threads), "--feeds", o.feeds)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, 0, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, 0, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, 0, nil, err
	}
	stop = func() {
		in.Close()
		_ = cmd.Wait() // it ends when its input does
	}
	lines := bufio.NewReader(out)
	if _, err := lines.ReadString('\n'); err != nil {
		stop()
		return nil, 0, nil, fmt.Errorf("the peer did not start: %w", err)
	}
	run = func(n int) ([]float64, error) {
		if _, err := io.WriteString(in, strconv.Itoa(n)+"\n"); err != nil {
			return nil, err
		}
		line, err := lines.ReadString('\n')
		if err != nil {
			return nil, err
		}
		var times []float64
		for _, f := range strings.Fields(line) {
			t, err := strconv.ParseFloat(f, 64)
			if err != nil {
				return nil, err
			}
			times = append(times, t)
		}
		return times, nil
	}
	return run, cmd.Process.Pid, stop, nil
}
