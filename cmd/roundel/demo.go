package main

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"

	"roundel/adaround"
	"roundel/data"
	"roundel/internal/demo"
	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// memory is a sampler over images that are in memory.
type memory struct {
	input  string
	images *tensor.Dense[float32] // [N, C, H, W]
	labels []int                  // nil: none
}

// Len returns the number of images.
func (m memory) Len() int { return m.images.Shape()[0] }

func (m memory) rows(start, n int) *tensor.Dense[float32] {
	shape := m.images.Shape().Clone()
	size := m.images.Len() / shape[0]
	shape[0] = n
	return tensor.From(m.images.Data()[start*size:(start+n)*size], shape...)
}

// Sample returns image i as a batch of one.
func (m memory) Sample(_ context.Context, i int) (adaround.Batch, error) {
	return adaround.Batch{m.input: m.rows(i, 1)}, nil
}

func (m memory) batches(ctx context.Context, _ *tensor.Pool, size int, f func(batch) error) error {
	for start := 0; start < m.Len(); start += size {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(size, m.Len()-start)
		b := batch{start: start, n: n, feeds: map[string]tensor.Any{m.input: m.rows(start, n)}}
		for i := range n {
			label := data.NoLabel
			if m.labels != nil {
				label = m.labels[start+i]
			}
			b.labels = append(b.labels, label)
		}
		if err := f(b); err != nil {
			return err
		}
	}
	return nil
}

// parseWidths reads a list of bitwidths such as "4,3,2".
func parseWidths(text string) ([]int, error) {
	var list []int
	for _, part := range strings.Split(text, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 2 || n > 16 {
			return nil, usagef("--param-bits %q: want numbers from 2 to 16, separated by commas", text)
		}
		list = append(list, n)
	}
	return list, nil
}

// runDemo quantizes the embedded network at several widths, where nearest rounding begins to hurt and where it ruins
// the network, and writes the files for the first.
func runDemo(ctx context.Context, env *environment, args []string) error {
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	dir := fs.String("o", "roundel-demo", "folder for the results")
	var machine machineFlags
	machine.add(fs)
	q := quantFlags{paramBits: 4, outputBits: 8, batchSize: 32, scheme: "tf_enhanced", mem: "1G", encodingVersion: encoding.DefaultVersion}
	d := adaround.DefaultConfig()
	q.positions, q.lr = d.Positions, d.LearningRate
	fs.StringVar(&q.solver, "solver", string(d.Solver), "rounding solver: fast or adam")
	fs.IntVar(&q.iterations, "iterations", 0, "iterations of the adam solver")
	widths := fs.String("param-bits", "4,3,2", "bits of the weights to show, widest first; files are written for the first")
	tests := fs.Int("samples", demo.TestImages, "test images to evaluate on, from the first")
	fs.Uint64Var(&q.seed, "seed", 0, "seed of all sampling; the same seed gives the same bytes")
	q.addProgress(fs)
	if _, err := parse(env, fs, args); err != nil {
		return err
	}
	bitsList, err := parseWidths(*widths)
	if err != nil {
		return err
	}
	if *tests < 1 || *tests > demo.TestImages {
		return usagef("--samples %d: want 1 to %d", *tests, demo.TestImages)
	}
	l, err := demoModel()
	if err != nil {
		return err
	}
	out, err := openOutput(*dir)
	if err != nil {
		return err
	}
	defer out.close()
	x, labels := demo.Test()
	input := l.graph.Inputs[0].Name
	fmt.Fprintf(env.stdout, "Fashion-MNIST, MobileNet-like network; %d calibration images, %d test images\n", demo.CalibrationImages, *tests)
	for i, bits := range bitsList {
		q.paramBits = bits
		j, err := newJob(env, &q, &machine)
		if err != nil {
			return err
		}
		defer limitMemory(j.mem)()
		if err := j.prepare(ctx, l); err != nil {
			return err
		}
		j.calib = memory{input: input, images: demo.Calibration()}
		j.eval = memory{input, memory{images: x}.rows(0, *tests), labels[:*tests]}
		if err := j.roundAndCalibrate(ctx); err != nil {
			return err
		}
		vs, err := j.compare(ctx)
		if err != nil {
			return err
		}
		if i > 0 {
			vs = vs[1:] // the float line once
		}
		printVariants(env, vs)
		if i == 0 {
			if err := j.export(env, l, out, vs); err != nil {
				return err
			}
		}
	}
	return nil
}

func (j *job) roundAndCalibrate(ctx context.Context) error {
	if err := j.round(ctx); err != nil {
		return err
	}
	return j.calibrate(ctx)
}

// demoModel decodes the embedded network, through the same path as a file.
func demoModel() (*loaded, error) {
	m, err := onnx.Decode(demo.Model())
	if err != nil {
		return nil, err
	}
	g, err := convert.ToGraph(m)
	if err == nil {
		err = nn.Verify(g)
	}
	if err != nil {
		return nil, fmt.Errorf("the embedded model: %w", err)
	}
	return &loaded{"demo.onnx", m, g}, nil
}
