package main

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"roundel/adaround"
	"roundel/asm"
	"roundel/data"
	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/tensor"
)

// loaded is a model as read: the file's messages and the verified graph made from them.
type loaded struct {
	path  string
	model *onnx.Model
	graph *nn.Graph
}

// openModel reads, converts and verifies a model. Errors name the file once.
func openModel(ctx context.Context, path string) (*loaded, error) {
	return unlessDone(ctx, func() (*loaded, error) { return readModel(path) })
}

// unlessDone returns what f returns. When ctx is done it returns its error at once and leaves f, which must only read, to itself:
// for work without a context that takes a second for a model of a few hundred megabytes.
func unlessDone[T any](ctx context.Context, f func() (T, error)) (res T, err error) {
	done := make(chan struct{})
	var value T
	var failed error
	go func() {
		defer close(done)
		value, failed = f()
	}()
	select {
	case <-done:
		return value, failed
	case <-ctx.Done():
		return res, ctx.Err()
	}
}

func readModel(path string) (*loaded, error) {
	m, err := onnx.Read(path)
	if err != nil {
		return nil, err
	}
	g, err := convert.ToGraph(m)
	if err == nil {
		err = nn.Verify(g)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &loaded{path, m, g}, nil
}

// prefix is the file name without folder and extension; outputs are named after it.
func (l *loaded) prefix() string {
	base := filepath.Base(l.path)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// machineFlags are the flags about resources, shared by every command that computes.
type machineFlags struct{ threads int }

func (m *machineFlags) add(fs *flag.FlagSet) {
	fs.IntVar(&m.threads, "threads", runtime.GOMAXPROCS(0), "worker threads; results do not depend on it")
}

func (m *machineFlags) pool() (*tensor.Pool, error) {
	if m.threads < 1 || m.threads > 1024 {
		return nil, usagef("--threads %d: want 1 to 1024", m.threads)
	}
	return tensor.NewPool(m.threads, asm.Best()), nil
}

// dataFlags are the flags that say how samples are read.
type dataFlags struct {
	preprocess, labels string
	limit              int
}

func (d *dataFlags) add(fs *flag.FlagSet) {
	fs.StringVar(&d.preprocess, "preprocess", "",
		"image preprocessing: imagenet, unit or none, with changes: imagenet,resize=232,crop=224,mean=A:B:C,std=A:B:C (default: imagenet for images, unit for idx)")
	fs.StringVar(&d.labels, "labels", "", "file of class numbers, when the source has none of its own")
	fs.IntVar(&d.limit, "samples", 0, "use only the first N samples (0: all)")
}

// source is a data.Source cut to its first samples.
type source struct {
	*data.Source
	n     int
	batch map[string]int // axis of the batch dimension of each input, or data.NoBatch
	alone bool           // samples cannot share a batch
}

// Len returns the number of samples that are used.
func (s source) Len() int { return s.n }

// Sample returns the inputs of sample i; it makes a source a DataLoader of package adaround.
func (s source) Sample(ctx context.Context, i int) (adaround.Batch, error) {
	smp, err := s.At(ctx, i)
	return smp.Inputs, err
}

func (d *dataFlags) open(path string, g *nn.Graph) (source, error) {
	inputs, alone := dataInputs(g)
	o := data.Options{Inputs: inputs, Labels: d.labels}
	if d.preprocess != "" {
		p, err := data.ParsePreprocess(d.preprocess)
		if err != nil {
			return source{}, usagef("--preprocess: %w", err)
		}
		o.Preprocess = &p
	}
	if d.limit < 0 {
		return source{}, usagef("--samples %d: want 0 for all, or a positive number", d.limit)
	}
	src, err := data.Open(path, o)
	if err != nil {
		return source{}, err
	}
	n := src.Len()
	if d.limit > 0 {
		n = min(n, d.limit)
	}
	batch := map[string]int{}
	for _, in := range inputs {
		batch[in.Name] = in.Batch
	}
	return source{src, n, batch, alone}, nil
}

// fileName turns a tensor's name into one for a file.
func fileName(name string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.' {
			return r
		}
		return '_'
	}, name)
	return strings.TrimLeft(clean, ".")
}
