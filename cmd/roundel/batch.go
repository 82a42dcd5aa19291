package main

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"roundel/data"
	"roundel/tensor"
)

// batch is consecutive samples, stacked along the batch dimension.
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
		step := len(samples)
		if src.alone || !src.sameWhole(samples) {
			step = 1
		}
		for i := 0; i < len(samples); i += step {
			b, err := src.join(samples[i : i+step])
			if err != nil {
				return err
			}
			b.start = start + i
			if err := f(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// join makes a batch of samples.
func (src source) join(samples []data.Sample) (batch, error) {
	b := batch{n: len(samples), feeds: map[string]tensor.Any{}}
	var err error
	for name := range samples[0].Inputs {
		if b.feeds[name], err = stack(samples, name, src.batch[name]); err != nil {
			return b, err
		}
	}
	for _, s := range samples {
		b.labels = append(b.labels, s.Label)
	}
	return b, nil
}

// sameWhole reports whether the inputs that have no batch dimension are the same in all samples.
func (src source) sameWhole(samples []data.Sample) bool {
	for name, t := range samples[0].Inputs {
		first := tensor.Float64s(t)
		if src.batch[name] == data.NoBatch && slices.ContainsFunc(samples[1:], func(s data.Sample) bool {
			return !slices.Equal(tensor.Float64s(s.Inputs[name]), first)
		}) {
			return false
		}
	}
	return true
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

// stack joins one input of all samples along the batch dimension; one without is that of the first sample.
func stack(samples []data.Sample, name string, axis int) (tensor.Any, error) {
	if axis == data.NoBatch {
		return samples[0].Inputs[name], nil
	}
	switch samples[0].Inputs[name].(type) {
	case *tensor.Dense[float32]:
		return stackOf[float32](samples, name, axis)
	case *tensor.Dense[int64]:
		return stackOf[int64](samples, name, axis)
	case *tensor.Dense[int32]:
		return stackOf[int32](samples, name, axis)
	case *tensor.Dense[uint8]:
		return stackOf[uint8](samples, name, axis)
	case *tensor.Dense[bool]:
		return stackOf[bool](samples, name, axis)
	}
	return nil, fmt.Errorf("%s: input %q has element type %v, which cannot be batched; want float32, int64, int32, uint8 or bool",
		samples[0].Name, name, samples[0].Inputs[name].DType())
}

func stackOf[T tensor.Elem](samples []data.Sample, name string, axis int) (tensor.Any, error) {
	first := samples[0].Inputs[name].Shape()
	parts := make([]*tensor.Dense[T], len(samples))
	for i, s := range samples {
		t, err := tensor.As[T](s.Inputs[name])
		if err != nil {
			return nil, fmt.Errorf("%s: input %q: %w", s.Name, name, err)
		}
		if !t.Shape().Equal(first) {
			return nil, fmt.Errorf("%s: input %q is %v, but %s is %v; give samples of one size, or use resize and crop",
				s.Name, name, t.Shape(), samples[0].Name, first)
		}
		parts[i] = t
	}
	all := make([]T, 0, first.Len()*len(samples))
	run := first[axis:].Len()
	for at := 0; at < first.Len(); at += run {
		for _, t := range parts {
			all = append(all, t.Data()[at:at+run]...)
		}
	}
	shape := first.Clone()
	shape[axis] *= len(samples)
	return tensor.From(all, shape...), nil
}
