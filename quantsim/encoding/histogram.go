package encoding

import (
	"math"

	"roundel/tensor"
)

// The histogram of AIMET 2.42: the first tensor that is not all zero fixes the range
// for good. Its [min, max] is cut into innerBins; as many again lie on either side,
// and what falls outside of those is dropped.
const (
	innerBins = 512
	histBins  = 3 * innerBins
	limit     = math.MaxFloat32 / 16
)

// histogram is the density of the data over fixed bins, every batch weighing the
// same. Bin edges are float32, as the reference computes them: candidates of 16 bits
// are told apart by less than the rounding of an edge.
type histogram struct {
	width   float32
	perUnit float32 // element x lies in bin floor(x*perUnit), which is not always the one between whose edges it lies
	first   float32 // index of the lowest edge: edge i = (first + i) * width
	fixed   bool
	limited bool // the range is cut at +-limit
	batches int
	pdf     []float64
	lo, hi  int // bins outside of [lo, hi) are empty; lo = hi: all are

	bins  []bin    // scratch of a search: those that are not empty
	index []int    // and their numbers
	rank  []int    // how many of them are before bin lo, lo+1 ...
	grids []params // the candidates
}

// counts is one batch of a histogram. They are whole numbers, so the order of the elements does not matter.
type counts struct {
	h      *histogram
	lo, hi float32 // range; +Inf, -Inf before any data
	bins   []uint32
	total  int // dropped elements included
}

func (h *histogram) part() part {
	return &counts{h: h, lo: float32(math.Inf(1)), hi: float32(math.Inf(-1))}
}

func (h *histogram) waiting() bool { return !h.fixed }

func (c *counts) addRange(x []float32) bool {
	lo, hi, finite := tensor.Survey(x)
	c.lo, c.hi = min(c.lo, lo), max(c.hi, hi)
	return finite
}

// fix chooses the bins from the range of a batch; an all-zero batch fixes nothing.
func (h *histogram) fix(p part) {
	c := p.(*counts)
	lo, hi := c.lo, c.hi
	if h.fixed || lo > hi || lo == 0 && hi == 0 {
		return
	}
	if float32(hi/2)-float32(lo/2) > limit {
		// The outer edges would overflow float32; values beyond the limit count as the limit.
		h.limited, lo, hi = true, max(lo, -limit), min(hi, limit)
	}
	if lo == hi {
		hi += 0.01
	}
	span := max(hi-lo, 0x1p-110) // less has no reciprocal
	h.width = span / innerBins
	// Measured: 691 of 702 maxima lay in the bin that this gives, 546 in that of a division by the width.
	h.perUnit = histBins / float32(3*span)
	h.first = floor32(lo*h.perUnit) - innerBins
	if h.pdf == nil {
		h.pdf = make([]float64, histBins)
	}
	h.fixed = true
}

func (c *counts) add(x []float32) bool {
	h := c.h
	if !h.fixed {
		return tensor.FirstNonFinite(x) < 0
	}
	if c.bins == nil {
		c.bins = make([]uint32, tensor.HistogramSize)
	}
	c.total += len(x)
	finite := true
	if h.limited {
		finite = tensor.FirstNonFinite(x) < 0
		x = append([]float32(nil), x...)
		for i, v := range x {
			x[i] = min(max(v, -limit), limit)
		}
	}
	if h.first < -1<<22 || h.first > 1<<22 {
		c.addFar(x)
		return finite && tensor.FirstNonFinite(x) < 0
	}
	outside := c.bins[histBins] // where NaNs go, too
	c.addNear(x)
	return finite && (c.bins[histBins] == outside || tensor.FirstNonFinite(x) < 0)
}

// addFew is the number of elements for which several tables do not pay.
const addFew = 1 << 14

// addNear counts elements if the numbers of bins are exact.
func (c *counts) addNear(x []float32) {
	perUnit, first := c.h.perUnit, int32(c.h.first)
	if len(x) < addFew {
		tensor.Histogram(c.bins, x, perUnit, first, histBins)
		return
	}
	var tables [tensor.HistogramTables * tensor.HistogramSize]uint32
	tensor.Histogram(tables[:], x, perUnit, first, histBins)
	const n, size = histBins + 1, tensor.HistogramSize
	sum, a, b, d, e := c.bins[:n], tables[:n], tables[size:size+n], tables[2*size:2*size+n], tables[3*size:3*size+n]
	for i := range sum {
		sum[i] += a[i] + b[i] + d[i] + e[i]
	}
}

// addFar counts any elements, in float32 all the way: far from zero the reference's bin
// numbers are not exact.
func (c *counts) addFar(x []float32) {
	perUnit, first := c.h.perUnit, c.h.first
	for _, v := range x {
		if i := floor32(v*perUnit) - first; i >= 0 && i < histBins {
			c.bins[int(i)]++
		}
	}
}

func (h *histogram) merge(into, p part) {
	a, b := into.(*counts), p.(*counts)
	a.lo, a.hi = min(a.lo, b.lo), max(a.hi, b.hi)
	if a.bins == nil {
		a.bins, b.bins = b.bins, a.bins
	}
	for i, n := range b.bins {
		a.bins[i] += n
	}
	a.total += b.total
	b.reset()
}

func (c *counts) reset() {
	clear(c.bins)
	c.total, c.lo, c.hi = 0, float32(math.Inf(1)), float32(math.Inf(-1))
}

// commit folds a batch into the density: pdf = (pdf*k + bins/total) / (k+1).
func (h *histogram) commit(p part) {
	c := p.(*counts)
	if h.fixed && c.total > 0 {
		lo, hi := 0, histBins
		for lo < hi && c.bins[lo] == 0 {
			lo++
		}
		for lo < hi && c.bins[hi-1] == 0 {
			hi--
		}
		switch {
		case h.lo == h.hi:
			h.lo, h.hi = lo, hi
		case lo < hi:
			h.lo, h.hi = min(h.lo, lo), max(h.hi, hi)
		}
		k, total := float64(h.batches), float64(c.total)
		for i := h.lo; i < h.hi; i++ {
			h.pdf[i] = (float64(h.pdf[i]*k) + float64(c.bins[i])/total) / (k + 1)
		}
		h.batches++
	}
	c.reset()
}

// clear forgets all data and keeps the memory.
func (h *histogram) clear() {
	clear(h.pdf)
	h.fixed, h.limited, h.batches, h.lo, h.hi = false, false, 0, 0, 0
}

// edge returns the left edge of bin i.
func (h *histogram) edge(i int) float32 { return float32((h.first + float32(i)) * h.width) }

// mid returns the middle of bin i.
func (h *histogram) mid(i int) float64 { return float64(h.edge(i)) + float64(float64(h.width)/2) }

// span returns the observed range as the histogram schemes see it: the left edges of
// the first and the last non-empty bin, widened to contain 0 and to at least 0.01.
func (h *histogram) span() (lo, hi float32) {
	if h.lo == h.hi {
		return 0, 0.01
	}
	lo, hi = min(h.edge(h.lo), 0), max(h.edge(h.hi-1), 0)
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
