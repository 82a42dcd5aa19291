package main

import (
	"context"
	"fmt"
	"sync"

	"roundel/data"
	"roundel/tensor"
)

// batch is consecutive samples, stacked along the first dimension.
type batch struct {
	start, n int
	feeds    map[string]tensor.Any
	labels   []int
}

// batches reads the samples in order, size at a time, decoding in parallel, and calls f for each batch.
func (src source) batches(ctx context.Context, pool *tensor.Pool, size int, f func(batch) error) error {
	for start := 0; start < src.Len(); start += size {
		if err := ctx.Err(); err != nil {
			return err
		}
		samples, err := readSamples(ctx, src, pool, start, min(size, src.Len()-start))
		if err != nil {
			return err
		}
		b := batch{start: start, n: len(samples), feeds: map[string]tensor.Any{}}
		for name := range samples[0].Inputs {
			if b.feeds[name], err = stack(samples, name); err != nil {
				return err
			}
		}
		for _, s := range samples {
			b.labels = append(b.labels, s.Label)
		}
		if err := f(b); err != nil {
			return err
		}
	}
	return nil
}

// readSamples decodes n samples from start on; of several errors the one of the first sample is returned.
func readSamples(ctx context.Context, src source, pool *tensor.Pool, start, n int) ([]data.Sample, error) {
	samples := make([]data.Sample, n)
	errs := make([]error, n)
	var mu sync.Mutex
	failed := false
	pool.For(n, func(_, i int) {
		mu.Lock()
		stop := failed
		mu.Unlock()
		if stop && i > 0 {
			return
		}
		if samples[i], errs[i] = src.At(ctx, start+i); errs[i] != nil {
			mu.Lock()
			failed = true
			mu.Unlock()
		}
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return samples, nil
}

// stack joins one input of all samples along the batch dimension.
func stack(samples []data.Sample, name string) (tensor.Any, error) {
	switch samples[0].Inputs[name].(type) {
	case *tensor.Dense[float32]:
		return stackOf[float32](samples, name)
	case *tensor.Dense[int64]:
		return stackOf[int64](samples, name)
	case *tensor.Dense[int32]:
		return stackOf[int32](samples, name)
	case *tensor.Dense[uint8]:
		return stackOf[uint8](samples, name)
	case *tensor.Dense[bool]:
		return stackOf[bool](samples, name)
	}
	return nil, fmt.Errorf("%s: input %q has element type %v, which cannot be batched; want float32, int64, int32, uint8 or bool",
		samples[0].Name, name, samples[0].Inputs[name].DType())
}

func stackOf[T tensor.Elem](samples []data.Sample, name string) (tensor.Any, error) {
	first := samples[0].Inputs[name].Shape()
	var all []T
	for _, s := range samples {
		t, err := tensor.As[T](s.Inputs[name])
		if err != nil {
			return nil, fmt.Errorf("%s: input %q: %w", s.Name, name, err)
		}
		if !t.Shape().Equal(first) {
			return nil, fmt.Errorf("%s: input %q is %v, but %s is %v; give samples of one size, or use resize and crop",
				s.Name, name, t.Shape(), samples[0].Name, first)
		}
		all = append(all, t.Data()...)
	}
	shape := first.Clone()
	shape[0] *= len(samples)
	return tensor.From(all, shape...), nil
}
