package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"runtime"
	"runtime/debug"

	"roundel/adaround"
	"roundel/nn"
	"roundel/tensor"
)

// The promise of --mem is about the resident memory of the process. The plan is made of live bytes of the heap; the
// collector needs room above these, and the program itself has its pages.
const (
	gcRoom  = 8        // one byte of room for the collector for so many live ones
	reserve = 24 << 20 // for the program, its stacks, and what the collector keeps for itself
	spare   = 8 << 20  // of the reserve: for safety, and seldom used
)

// heapFor is how many live bytes of heap fit into a resident size, residentFor the opposite.
func heapFor(mem int64) int64   { return max(mem-reserve, gcRoom+1) / (gcRoom + 1) * gcRoom }
func residentFor(h int64) int64 { return h + h/gcRoom + reserve }

// limitMemory makes the collector work harder when the process comes near to mem bytes. The function that it returns
// takes that back.
func limitMemory(mem int64) (restore func()) {
	limit := max(mem-reserve, reserve/2)
	before := debug.SetMemoryLimit(-1)
	debug.SetMemoryLimit(min(limit, before)) // GOMEMLIMIT may be lower
	return func() { debug.SetMemoryLimit(before) }
}

// predict says how much memory the run will take, heap being the peak while rounding, and holds it to that. It refuses when
// what follows rounding needs more than there is.
func (j *job) predict(heap int64) error {
	if residentFor(j.later.peak) > j.mem {
		return j.tooLarge(&adaround.MemoryError{Need: heap})
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	need := max(residentFor(max(heap, j.later.peak)), int64(m.Sys)) // reading the data may have taken more already
	limitMemory(min(need, j.mem))
	j.reporter.Message("predicted peak memory %s", formatBytes(need-spare))
	return nil
}

// later is the plan of what follows rounding.
type later struct {
	peak    int64 // of live heap
	batch   int   // samples that are evaluated at a time: fewer than are calibrated with if memory is short
	alone   bool  // the networks that are compared are there one after the other
	tensors int64 // bytes of the tensors that are compared at a time
	smaller bool  // calibrating needs most
}

// planLater adapts what follows rounding to the memory: first it makes the batches of the evaluation smaller, which changes
// no result, then it has fewer networks at a time.
func (j *job) planLater(ctx context.Context) error {
	var weights, in, out int64
	for _, t := range j.float.Consts {
		weights += sizeOf(t)
	}
	cache := nn.NewWeightCache()
	p, err := nn.Compile(ctx, j.float, nn.CompileOptions{Pool: j.pool, Weights: cache})
	if err != nil {
		return err
	}
	if x, err := j.calib.Sample(ctx, 0); err == nil { // otherwise rounding says so
		for _, t := range x {
			in += sizeOf(t)
		}
		if y, err := p.Run(ctx, x); err == nil {
			for _, t := range y {
				out += sizeOf(t)
			}
		}
	}
	arena, packed := p.PeakBytes(), max(cache.Bytes(), weights)
	p, cache = nil, nil
	base := heldNow() + weights                                          // the rounded ones
	one := base + weights + 2*packed + 2*arena                           // float packed; simulated, plain and packed
	io := func(batch int) int64 { return int64(batch) * (3*in + 3*out) } // samples, joined, and those before; outputs likewise
	calibrating := base + weights + packed + arena + 3*int64(min(j.batch, j.calib.Len()))*in
	l := later{batch: min(j.batch, j.eval.Len())}
	room := heapFor(j.mem)
	evaluating := func() int64 {
		if l.alone {
			return one + io(l.batch)
		}
		return one + 2*(weights+packed) + 2*arena + io(l.batch)
	}
	for ; evaluating() > room && l.batch > 2*j.pool.Workers(); l.batch /= 2 {
	}
	l.alone = evaluating() > room
	for ; evaluating() > room && l.batch > 1; l.batch /= 2 {
	}
	l.peak = max(calibrating, evaluating())
	l.smaller, l.tensors = calibrating > evaluating(), (l.peak-one)/2
	j.later = l
	return nil
}

// fitting splits names of tensors into groups that there is memory for, as far as their shapes are known.
func (j *job) fitting(names []string) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		first, total := 0, int64(0)
		for i, name := range names {
			n := int64(4)
			for _, d := range j.float.Types[name].Dims {
				n *= int64(max(d.Size, 1))
			}
			if total += n; total > j.later.tensors && i > first {
				if !yield(names[first:i]) {
					return
				}
				first, total = i, n
			}
		}
		if first < len(names) {
			yield(names[first:])
		}
	}
}

func sizeOf(t tensor.Any) int64 { return int64(t.Len()) * int64(t.DType().Size()) }

// tooLarge turns the error of a run that cannot keep within its memory into one about --mem.
func (j *job) tooLarge(err error) error {
	m, ok := errors.AsType[*adaround.MemoryError](err)
	if !ok {
		return err
	}
	what, less := fmt.Sprintf("layer %q needs", m.Layer), "fewer --positions or --samples"
	if j.later.peak > m.Need {
		what, less = "comparing the networks needs", "fewer --threads"
		if j.later.smaller {
			what, less = "calibrating needs", "a smaller --batch-size"
		}
	}
	need := math.Ceil(float64(residentFor(max(m.Need, j.later.peak))) / (1 << 20))
	return fmt.Errorf("%s --mem %.0fM, and %s were given; give more, or use %s", what, need, formatBytes(j.mem), less)
}

// heldNow is the live heap.
func heldNow() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
