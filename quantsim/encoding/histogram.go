package encoding

import "math"

// The histogram of AIMET 2.42: the first tensor that is not all zero fixes the range
// for good. Its [min, max] is cut into innerBins; as many again lie on either side,
// and what falls outside of those is dropped.
const (
	innerBins = 512
	histBins  = 3 * innerBins
	limit     = math.MaxFloat32 / 16
)

// histogram is the density of the data over fixed bins, every batch weighing the
// same. Counts are whole numbers, so their order does not matter within a batch.
// Bin edges are float32, as the reference computes them: candidates of 16 bits are
// told apart by less than the rounding of an edge.
type histogram struct {
	lo, hi  float32 // range of the batch that will fix the bins
	width   float32
	first   float32 // index of the lowest edge: edge i = (first + i) * width
	fixed   bool
	limited bool // the range is cut at +-limit
	counts  []uint32
	total   int // elements of the running batch, dropped ones included
	batches int
	pdf     []float64
}

// addRange widens the range that the coming batch will fix.
func (h *histogram) addRange(x []float32) {
	for _, v := range x {
		h.lo, h.hi = min(h.lo, v), max(h.hi, v)
	}
}

// needsRange reports whether the bins are not fixed yet.
func (h *histogram) needsRange() bool { return !h.fixed }

// start empties the range. It must be called before addRange because min starts at the first value, not at zero.
func (h *histogram) start() {
	if !h.fixed {
		h.lo, h.hi = float32(math.Inf(1)), float32(math.Inf(-1))
	}
}

// fix chooses the bins from the range that was collected; an all-zero batch fixes nothing.
func (h *histogram) fix() {
	if h.fixed || h.lo > h.hi || h.lo == 0 && h.hi == 0 {
		return
	}
	hi := h.hi
	if hi/2-h.lo/2 > limit {
		// The outer edges would overflow float32; values beyond the limit count as the limit.
		h.limited, h.lo, hi = true, max(h.lo, -limit), min(hi, limit)
	}
	if h.lo == hi {
		hi += 0.01
	}
	h.width = (hi - h.lo) / innerBins
	if !(h.width > 0) {
		// The range is below the resolution of float32; one subnormal step is all there is.
		h.width = math.SmallestNonzeroFloat32
	}
	h.first = floor32(h.lo/h.width) - innerBins
	h.counts, h.pdf = make([]uint32, histBins), make([]float64, histBins)
	h.fixed = true
}

// add counts x into the running batch.
func (h *histogram) add(x []float32) {
	if !h.fixed {
		return
	}
	h.total += len(x)
	for _, v := range x {
		if h.limited {
			v = min(max(v, -limit), limit)
		}
		if i := floor32(v/h.width) - h.first; i >= 0 && i < histBins {
			h.counts[int(i)]++
		}
	}
}

// endBatch folds the running batch into the density: pdf = (pdf*k + counts/total) / (k+1).
func (h *histogram) endBatch() {
	if !h.fixed || h.total == 0 {
		return
	}
	k := float64(h.batches)
	for i, c := range h.counts {
		h.pdf[i] = (float64(h.pdf[i]*k) + float64(c)/float64(h.total)) / (k + 1)
		h.counts[i] = 0
	}
	h.batches++
	h.total = 0
}

// edge returns the left edge of bin i.
func (h *histogram) edge(i int) float32 { return (h.first + float32(i)) * h.width }

// mid returns the middle of bin i.
func (h *histogram) mid(i int) float64 { return float64(h.edge(i)) + float64(h.width)/2 }

// extent returns the first and the last bin that are not empty.
func (h *histogram) extent() (first, last int) {
	first, last = -1, -1
	for i, p := range h.pdf {
		if p > 0 {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	return first, last
}

// span returns the observed range as the histogram schemes see it: the left edges of
// the first and the last non-empty bin, widened to contain 0 and to at least 0.01.
func (h *histogram) span() (lo, hi float32) {
	first, last := h.extent()
	if first < 0 {
		return 0, 0.01
	}
	lo, hi = min(h.edge(first), 0), max(h.edge(last), 0)
	return lo, max(hi, lo+0.01)
}

// empty reports whether only zeros (or nothing) were seen.
func (h *histogram) empty() bool { return !h.fixed || h.batches == 0 }

// zeroGrid is what the histogram schemes give an all-zero tensor: the grid of [-1, 1].
func (g Grid) zeroGrid() params {
	s := 2 / g.Steps()
	return params{s, math.Floor(-1 / s)}
}

func floor32(x float32) float32 { return float32(math.Floor(float64(x))) }

// roundAway rounds halves away from zero.
func roundAway(x float64) float64 {
	if x < 0 {
		return math.Ceil(x - 0.5)
	}
	return math.Floor(x + 0.5)
}
