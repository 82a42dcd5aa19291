package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"roundel/adaround"
	"roundel/data"
	"roundel/internal/demo"
	"roundel/nn"
	"roundel/nn/prepare"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/quantsim/export"
	"roundel/tensor"
)

// worker does jobs over the demo's network.
type worker struct {
	dir     string
	threads int
	rand    *rand.Rand
	model   *onnx.Model
	graph   *nn.Graph
	images  *tensor.Dense[float32]
	late    []time.Duration // from a cancellation to the return
}

func newWorker(dir string, threads int, seed uint64) (*worker, error) {
	m, err := onnx.Decode(demo.Model())
	if err != nil {
		return nil, err
	}
	g, err := convert.ToGraph(m)
	if err == nil {
		g, _, err = prepare.Apply(context.Background(), g, prepare.DefaultConfig())
	}
	return &worker{dir: dir, threads: threads, rand: rand.New(rand.NewPCG(seed, 0)), model: m, graph: g, images: demo.Calibration()}, err
}

func (w *worker) kinds() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"quantize": w.quantize,
		"fast":     func(ctx context.Context) error { _, err := w.round(ctx, adaround.Fast, 0); return err },
		"adam": func(ctx context.Context) error {
			_, err := w.round(ctx, adaround.Adam, random(w.rand, 20, 100))
			return err
		},
		"broken": w.broken,
		"cancel": w.cancel,
		"resume": w.resume,
	}
}

// batch is n images from a random one on.
func (w *worker) batch(n int) map[string]tensor.Any {
	at := w.rand.IntN(demo.CalibrationImages - n)
	size := w.images.Len() / demo.CalibrationImages
	return map[string]tensor.Any{w.graph.Inputs[0].Name: tensor.From(w.images.Data()[at*size:(at+n)*size], n, 1, 28, 28)}
}

// loader is some batches in memory.
type loader []adaround.Batch

func (l loader) Len() int { return len(l) }

func (l loader) Sample(_ context.Context, i int) (adaround.Batch, error) { return l[i], nil }

func (w *worker) config(solver adaround.SolverKind, iterations int) adaround.Config {
	c := adaround.DefaultConfig()
	c.DataLoader = loader{w.batch(16), w.batch(16), w.batch(16)}
	c.Solver, c.NumIterations, c.Workers = solver, iterations, w.threads
	c.Positions, c.ParamBits, c.Seed = random(w.rand, 100, 1000), random(w.rand, 2, 8), w.rand.Uint64()
	return c
}

func (w *worker) round(ctx context.Context, solver adaround.SolverKind, iterations int) (*adaround.Result, error) {
	return adaround.Apply(ctx, w.graph, w.config(solver, iterations))
}

// quantize rounds, simulates, exports and reads what it has written.
func (w *worker) quantize(ctx context.Context) error {
	res, err := w.round(ctx, adaround.Fast, 0)
	if err != nil {
		return err
	}
	sc := quantsim.DefaultConfig()
	sc.ParamBits, sc.OutputBits, sc.Workers = res.Layers[0].Bits, random(w.rand, 4, 16), w.threads
	sim, err := quantsim.New(res.Graph, sc)
	if err == nil {
		err = sim.SetAndFreezeParams(res.File())
	}
	if err == nil {
		err = sim.ComputeEncodings(ctx, func(run func(map[string]tensor.Any) error) error {
			return errors.Join(run(w.batch(8)), run(w.batch(8)))
		})
	}
	if err == nil {
		_, err = sim.Forward(ctx, w.batch(4))
	}
	if err == nil {
		err = export.Write(sim, w.model, w.dir, "soak", export.Options{Version: "1.0.0", QDQ: sc.ParamBits == 4 || sc.ParamBits == 8})
	}
	if err != nil {
		return err
	}
	m, err := onnx.Read(filepath.Join(w.dir, "soak.onnx"))
	if err != nil {
		return err
	}
	f, err := encoding.ReadFile(filepath.Join(w.dir, "soak.encodings"))
	if err != nil {
		return err
	}
	findings, err := export.Check(m, f)
	for _, x := range findings {
		if x.Fatal {
			err = errors.Join(err, fmt.Errorf("%v", x))
		}
	}
	return err
}

// broken reads spoiled files; what comes out does not matter.
func (w *worker) broken(context.Context) error {
	npy := &bytes.Buffer{}
	if err := data.EncodeNpy(npy, w.images); err != nil {
		return err
	}
	for range 20 {
		b := w.spoil(demo.Model())
		if m, err := onnx.Decode(b); err == nil {
			if g, err := convert.ToGraph(m); err == nil {
				_ = nn.Verify(g)
			}
		}
		b = w.spoil(npy.Bytes())
		_, _ = data.DecodeNpy(bytes.NewReader(b), int64(len(b)))
		_, _ = encoding.Parse("broken", w.spoil([]byte(`{"version": "1.0.0", "param_encodings": [{"bw": 4, "dtype": "INT", "name": "w", "offset": [-8], "scale": [0.5]}]}`)))
	}
	return nil
}

// spoil changes some bytes, mostly in the beginning, or cuts the end off.
func (w *worker) spoil(b []byte) []byte {
	b = bytes.Clone(b)
	for range random(w.rand, 1, 5) {
		b[w.rand.IntN(min(len(b), 1<<random(w.rand, 3, 20)))] = byte(w.rand.Uint32())
	}
	if w.rand.IntN(4) == 0 {
		b = b[:w.rand.IntN(len(b))]
	}
	return b
}

// cancel stops a run with either solver at a random moment and notes when it returned.
func (w *worker) cancel(parent context.Context) error {
	ctx, stop := context.WithCancel(parent)
	defer stop()
	c := w.config(adaround.Fast, 0)
	if w.rand.IntN(2) == 0 {
		c.Solver = adaround.Adam
	}
	c.Positions = random(w.rand, 500, 16384)
	var when time.Time
	timer := time.AfterFunc(time.Duration(random(w.rand, 1, 1000))*time.Millisecond, func() {
		when = time.Now()
		stop()
	})
	_, err := adaround.Apply(ctx, w.graph, c)
	end := time.Now()
	if timer.Stop() {
		return err // it was faster
	}
	<-ctx.Done()
	if !errors.Is(err, context.Canceled) && err != nil {
		return fmt.Errorf("after the cancellation: %w", err)
	}
	w.late = append(w.late, end.Sub(when))
	return nil
}

// resume stops a run with a checkpoint after some layers and continues it.
func (w *worker) resume(parent context.Context) error {
	ctx, stop := context.WithCancel(parent)
	defer stop()
	c := w.config(adaround.Fast, 0)
	c.Checkpoint = filepath.Join(w.dir, fmt.Sprint("checkpoint-", w.rand.Uint32()))
	layers := random(w.rand, 1, 10)
	c.Progress = func(p adaround.Progress) {
		if p.Done && p.Index+1 == layers {
			stop()
		}
	}
	if _, err := adaround.Apply(ctx, w.graph, c); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("not cancelled: %v", err)
	}
	c.Progress = nil
	res, err := adaround.Apply(parent, w.graph, c)
	if err == nil && !res.Layers[layers-1].Resumed {
		err = fmt.Errorf("layer %d was rounded again", layers-1)
	}
	return err
}
