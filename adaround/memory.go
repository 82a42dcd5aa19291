package adaround

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
)

// MemoryError says that a run cannot stay within Config.Memory.
type MemoryError struct {
	Layer      string // that needs most
	Need, Have int64  // bytes of heap
}

func (e *MemoryError) Error() string {
	return fmt.Sprintf("adaround: layer %q needs %d MiB of memory, more than the %d MiB given; sample fewer positions, use fewer images, or give more",
		e.Layer, e.Need>>20, e.Have>>20)
}

// plan predicts the peak of memory, reports it, and settles how large a cut may be and
// whether the inputs are kept. The peak is the sum of
//
//   - what the process holds already, the inputs of all images among it,
//   - the rounded weights, and those of both networks packed,
//   - the cut that takes the place of the inputs, at most what the rest leaves free,
//   - the samples of the layer that needs most, and more for making or for solving them.
func (r *run) plan() error {
	s := r.stream
	base := heapInUse() + r.weightBytes()
	if !s.reload {
		base -= s.inputBytes
	}
	var work int64
	var worst string
	for _, l := range r.layers {
		if n := max(r.samplingBytes(l), r.solverBytes(l)); n > work {
			work, worst = n, l.node.Name
		}
	}
	chunks := int64(max(len(s.chunks), 1))
	chunk := 3 * s.inputBytes / chunks // as read, in the order of the networks, and joined
	free := r.cfg.Memory - base - work - chunk
	if !s.reload && s.inputBytes > free {
		s.dropInputs()
	}
	s.limit = max(free, 0) / (chunks + 1) * chunks // one chunk is there twice while the cut moves
	r.out.PeakBytes = base + r.peakAbove(chunk)
	if r.cfg.Memory > 0 && r.out.PeakBytes > r.cfg.Memory {
		return &MemoryError{worst, r.out.PeakBytes, r.cfg.Memory}
	}
	r.shares()
	r.progress(Progress{PeakBytes: r.out.PeakBytes})
	return nil
}

// peakAbove walks the layers as the run will, and returns the peak of cut and work. chunk is the size of some images' inputs.
func (r *run) peakAbove(chunk int64) int64 {
	s := r.stream
	cut := s.inputBytes
	if s.reload {
		cut = chunk
	}
	peak, at := cut, s.at
	for _, l := range r.layers {
		next := cut
		if n, ok := s.cutBytes(l.at); ok && l.at > at && n <= s.limit {
			next, at = n, l.at
		}
		moving := max(cut, next)
		if next != cut {
			moving += next / int64(len(s.chunks))
		}
		peak = max(peak, moving+chunk+r.samplingBytes(l), next+r.solverBytes(l))
		cut = next
	}
	return peak
}

// heapInUse is the memory that the process holds now.
func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// weightBytes is the memory for rounded weights, and for the packed ones of both networks.
func (r *run) weightBytes() int64 {
	var total int64
	for _, l := range r.layers {
		n := 4 * int64(r.g.Consts[l.weight].Len())
		total += n
		if l.geo.op == "Conv" && l.geo.groups == 1 && l.geo.taps() == 9 {
			n = n * 16 / 9 // what Winograd's algorithm needs
		}
		total += 2 * n
	}
	return total
}

// problemBytes is the memory of a layer's samples and weights, with the numbers of positions per image and in all.
func (r *run) problemBytes(l *layer) (total, each, positions int64) {
	reader, err := l.geo.bind(r.stream.shape[l.input], 0)
	if err != nil {
		return 0, 0, 0 // sampling will say so
	}
	each = int64(positionsPerImage(l, r.cfg.Positions, r.stream.images, reader.batch*reader.positions))
	positions = int64(r.stream.images) * each
	k, o, g := int64(l.geo.k), int64(l.outputs()), int64(l.geo.groups)
	return 4*positions*(k*g+o) + 8*positions + 4*o*k, each, positions
}

// samplingBytes is the memory for running both networks and for the samples of a layer.
func (r *run) samplingBytes(l *layer) int64 {
	total, each, _ := r.problemBytes(l)
	k, o, g, workers := int64(l.geo.k), int64(l.outputs()), int64(l.geo.groups), int64(r.pool.Workers())
	if _, ok := r.cfg.Activations[l.input]; ok { // a chunk of it in the cut is copied before it is quantized
		largest := slices.MaxFunc(r.stream.chunks, func(a, b chunk) int { return cmp.Compare(a.count, b.count) })
		total += 4 * int64(r.stream.shape[l.input].Len()) * int64(largest.count)
	}
	return total + 4*o*k + workers*4*each*(k*g+o/g) + 2*r.stream.arena
}

// solverBytes is the memory of a layer's samples and of its solver.
func (r *run) solverBytes(l *layer) int64 {
	total, _, positions := r.problemBytes(l)
	k, o, g, workers := int64(l.geo.k), int64(l.outputs()), int64(l.geo.groups), int64(r.pool.Workers())
	depthwise := g > 1 && g == o
	block := 4 * positions * fastBlockOuts // of one array over the positions of a block of outputs
	total += 28 * o * k
	switch {
	case r.cfg.Solver == Adam && depthwise:
		return total + workers*(block*(k+2)+4*(k+8)*k*adamBlockOuts)
	case r.cfg.Solver == Adam:
		return total + g*4*min(k, lagColumns)*min(k, lagColumns) + workers*(2*block+12*4*k*adamBlockOuts)
	case depthwise:
		return total + workers*4*positions*(k+7)
	}
	total += g*(8*k*k+8*pairPartners*k) + max(4*positions*k, workers*(3*block+12*k*fastBlockOuts)) // columns packed for a product, or blocks
	if l.act.Kind != ActIdentity {
		total += 4*positions*k*g + workers*4*block // transposed columns, and the rows of the polish
	}
	return total
}

// advance decides whether the pass for layer l moves the cut before it: if that is
// further than the present one and fits.
func (r *run) advance(l *layer) bool {
	if l.at <= r.stream.at {
		return false
	}
	n, ok := r.stream.cutBytes(l.at)
	return ok && n <= r.stream.limit
}
