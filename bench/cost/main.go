// Command cost measures what simulation and calibration of a network cost next to the float network on the same samples.
//
//	go run ./bench/cost -shared ../shared
//
// It prints a Markdown table; -write FOLDER writes the batches for cost.py, which measures AIMET.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"roundel/asm"
	"roundel/data"
	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

type settings struct {
	shared, model, threads, samples, write string
	batch, rounds                          int
}

func main() {
	var o settings
	flag.StringVar(&o.shared, "shared", "../shared", "folder with models and data")
	flag.StringVar(&o.model, "model", "mobilenet_v2", "model of that folder that takes photos")
	flag.StringVar(&o.threads, "threads", "1,2", "numbers of threads")
	flag.StringVar(&o.samples, "samples", "64,512", "numbers of calibration photos, multiples of the batch")
	flag.IntVar(&o.batch, "batch", 32, "photos of one batch")
	flag.IntVar(&o.rounds, "rounds", 5, "medians of so many, taken in turns")
	flag.StringVar(&o.write, "write", "", "folder for the batches of the first number of photos")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "cost:", err)
		os.Exit(1)
	}
}

func run(o settings) error {
	m, err := onnx.Read(filepath.Join(o.shared, "models", o.model+".onnx"))
	if err != nil {
		return err
	}
	g, err := convert.ToGraph(m)
	if err != nil {
		return err
	}
	counts, err := numbers(o.samples)
	if err != nil {
		return err
	}
	batches, err := load(o, g.Inputs[0].Name, slices.Max(counts))
	if err != nil {
		return err
	}
	if o.write != "" {
		for i, b := range batches[:counts[0]/o.batch] {
			if err := data.WriteNpy(filepath.Join(o.write, fmt.Sprintf("batch%03d.npy", i)), b[g.Inputs[0].Name]); err != nil {
				return err
			}
		}
		return nil
	}
	threads, err := numbers(o.threads)
	if err != nil {
		return err
	}
	fmt.Println("| threads | photos | float, s | simulation | calibration, min-max | calibration, tf_enhanced |")
	fmt.Println("|---|---|---|---|---|---|")
	for _, t := range threads {
		for _, n := range counts {
			if err := row(g, t, batches[:n/o.batch], o.rounds); err != nil {
				return err
			}
		}
	}
	return nil
}

func numbers(list string) ([]int, error) {
	var out []int
	for _, s := range strings.Split(list, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a list of numbers", list)
		}
		out = append(out, n)
	}
	return out, nil
}

// load reads the first n photos.
func load(o settings, input string, n int) ([]map[string]tensor.Any, error) {
	pre, err := data.ParsePreprocess("imagenet")
	if err != nil {
		return nil, err
	}
	src, err := data.Open(filepath.Join(o.shared, "data/photos-calib"), data.Options{Inputs: []data.Input{{Name: input}}, Preprocess: &pre})
	if err != nil {
		return nil, err
	}
	if n > src.Len() {
		return nil, fmt.Errorf("there are %d photos, not %d", src.Len(), n)
	}
	var out []map[string]tensor.Any
	for at := 0; at+o.batch <= n; at += o.batch {
		var all []float32
		var shape tensor.Shape
		for i := range o.batch {
			s, err := src.At(context.Background(), at+i)
			if err != nil {
				return nil, err
			}
			t, err := tensor.As[float32](s.Inputs[input])
			if err != nil {
				return nil, err
			}
			all, shape = append(all, t.Data()...), t.Shape().Clone()
		}
		shape[0] = o.batch
		out = append(out, map[string]tensor.Any{input: tensor.From(all, shape...)})
	}
	return out, nil
}

// row measures float network, simulation and both calibrations in turns.
func row(g *nn.Graph, threads int, batches []map[string]tensor.Any, rounds int) error {
	ctx := context.Background()
	float, err := nn.Compile(g, nn.CompileOptions{Pool: tensor.NewPool(threads, asm.Best())})
	if err != nil {
		return err
	}
	forward := func(p *nn.Program) func() error {
		return func() error {
			for _, b := range batches {
				if _, err := p.Run(ctx, b); err != nil {
					return err
				}
			}
			return nil
		}
	}
	var works [4]func() error
	var sim *nn.Program
	for i, scheme := range []encoding.Scheme{encoding.SchemeTF, encoding.SchemeTFEnhanced} {
		cfg := quantsim.DefaultConfig()
		cfg.ConfigFile, cfg.Method.Scheme, cfg.Workers = "default", scheme, threads
		s, err := quantsim.New(g, cfg)
		if err != nil {
			return err
		}
		works[2+i] = func() error {
			return s.ComputeEncodings(ctx, func(run func(map[string]tensor.Any) error) error {
				for _, b := range batches {
					if err := run(b); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := works[2+i](); err != nil {
			return err
		}
		if sim, err = s.Compile(nn.CompileOptions{}); err != nil {
			return err
		}
	}
	works[0], works[1] = forward(float), forward(sim)
	if err := errors.Join(works[0](), works[1]()); err != nil {
		return err
	}
	var seconds [4][]float64
	for range rounds {
		for i, work := range works {
			start := time.Now()
			if err := work(); err != nil {
				return err
			}
			seconds[i] = append(seconds[i], time.Since(start).Seconds())
		}
	}
	for i := range seconds {
		slices.Sort(seconds[i])
	}
	base := seconds[0][rounds/2]
	ratio := func(i int) float64 { return seconds[i][rounds/2] / base }
	fmt.Printf("| %d | %d | %.3f | %.2f | %.2f | %.2f |\n", threads, len(batches)*batches[0][g.Inputs[0].Name].Shape()[0], base, ratio(1), ratio(2), ratio(3))
	return nil
}
