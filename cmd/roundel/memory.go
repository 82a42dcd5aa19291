package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"

	"roundel/adaround"
	"roundel/nn"
)

// The promise of --mem is about the resident memory of the process. The plan is made of live bytes of the heap; the
// collector needs room above these, and the program itself has its pages.
const (
	gcRoom  = 8        // one byte of room for the collector for so many live ones
	reserve = 24 << 20 // for the program, its stacks, and what the collector keeps for itself
)

// heapFor is how many live bytes of heap fit into a resident size, residentFor the opposite.
func heapFor(mem int64) int64   { return max(mem-reserve, gcRoom+1) / (gcRoom + 1) * gcRoom }
func residentFor(h int64) int64 { return h + h/gcRoom + reserve }

// limitMemory makes the collector work harder when the process comes near to mem bytes. The function that it returns
// takes that back.
func limitMemory(mem int64) (restore func()) {
	limit := max(mem-reserve/2, reserve/2)
	before := debug.SetMemoryLimit(-1)
	debug.SetMemoryLimit(min(limit, before)) // GOMEMLIMIT may be lower
	return func() { debug.SetMemoryLimit(before) }
}

// predict says how much memory the run will take, heap being the peak while rounding, and holds it to that.
func (j *job) predict(heap int64) {
	need := residentFor(max(heap, j.laterBytes()))
	limitMemory(min(need, j.mem))
	j.reporter.Message("predicted peak memory %s", formatBytes(need))
}

// laterBytes is the peak of live heap while simulating and comparing, after rounding.
func (j *job) laterBytes() int64 {
	var weights, arena int64
	for _, t := range j.float.Consts {
		weights += int64(t.Len()) * int64(t.DType().Size())
	}
	if p, err := nn.Compile(j.float, nn.CompileOptions{Pool: j.pool}); err == nil {
		arena = p.PeakBytes()
	}
	var sample int64
	if b, err := j.calib.Sample(context.Background(), 0); err == nil {
		for _, t := range b {
			sample += int64(t.Len()) * int64(t.DType().Size())
		}
	}
	// The rounded weights; four programs with weights of their own, plain and packed; a batch as samples and as one tensor.
	return j.held + 9*weights + 4*arena + 3*int64(min(j.batch, j.calib.Len()))*sample
}

// tooLarge turns the error of a run that cannot keep within its memory into one about --mem.
func (j *job) tooLarge(err error) error {
	m, ok := errors.AsType[*adaround.MemoryError](err)
	if !ok {
		return err
	}
	need := math.Ceil(float64(residentFor(max(m.Need, j.laterBytes()))) / (1 << 20))
	return fmt.Errorf("layer %q needs --mem %.0fM, and %s were given; give more, or use fewer --positions or --samples", m.Layer, need, formatBytes(j.mem))
}

// heldNow is the live heap.
func heldNow() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
