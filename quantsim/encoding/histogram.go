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
	first   float32 // index of the lowest edge: edge i = (first + i) * width
	fixed   bool
	limited bool // the range is cut at +-limit
	batches int
	pdf     []float64
}

// counts is one batch of a histogram. They are whole numbers, so the order of the elements does not matter.
type counts struct {
	h      *histogram
	lo, hi float32 // range; +Inf, -Inf before any data
	bins   []uint32
	odd    []uint32 // more counts of the same bins
	total  int      // dropped elements included
}

func (h *histogram) part() part {
	return &counts{h: h, lo: float32(math.Inf(1)), hi: float32(math.Inf(-1))}
}

func (h *histogram) waiting() bool { return !h.fixed }

func (c *counts) addRange(x []float32) {
	if len(x) > 0 {
		lo, hi := tensor.MinMax(x)
		c.lo, c.hi = min(c.lo, lo), max(c.hi, hi)
	}
}

// fix chooses the bins from the range of a batch; an all-zero batch fixes nothing.
func (h *histogram) fix(p part) {
	c := p.(*counts)
	lo, hi := c.lo, c.hi
	if h.fixed || lo > hi || lo == 0 && hi == 0 {
		return
	}
	if hi/2-lo/2 > limit {
		// The outer edges would overflow float32; values beyond the limit count as the limit.
		h.limited, lo, hi = true, max(lo, -limit), min(hi, limit)
	}
	if lo == hi {
		hi += 0.01
	}
	h.width = (hi - lo) / innerBins
	if !(h.width > 0) {
		// The range is below the resolution of float32; one subnormal step is all there is.
		h.width = math.SmallestNonzeroFloat32
	}
	h.first = floor32(lo/h.width) - innerBins
	h.pdf = make([]float64, histBins)
	h.fixed = true
}

func (c *counts) add(x []float32) {
	h := c.h
	if !h.fixed {
		return
	}
	if c.bins == nil {
		c.bins, c.odd = make([]uint32, histBins), make([]uint32, histBins)
	}
	c.total += len(x)
	if h.limited {
		x = append([]float32(nil), x...)
		for i, v := range x {
			x[i] = min(max(v, -limit), limit)
		}
	}
	if h.first < -1<<22 || h.first > 1<<22 {
		c.addFar(x)
		return
	}
	// Equal neighbours, such as the zeros behind a Relu, would wait for each other's
	// count; two tables keep them apart.
	even, odd := c.bins[:histBins], c.odd[:histBins]
	w, first := h.width, h.first
	end, origin := first+histBins, int32(first)
	n := len(x) &^ 1
	for i := 0; i < n; i += 2 {
		if q := x[i] / w; q >= first && q < end {
			even[floorInt(q)-origin]++
		}
		if q := x[i+1] / w; q >= first && q < end {
			odd[floorInt(q)-origin]++
		}
	}
	c.addFar(x[n:])
}

// floorInt is floor for |q| < 2^31.
func floorInt(q float32) int32 {
	i := int32(q)
	if float32(i) > q {
		i--
	}
	return i
}

// addFar counts in float32 all the way: far from zero the reference's bin numbers are not exact.
func (c *counts) addFar(x []float32) {
	w, first := c.h.width, c.h.first
	for _, v := range x {
		if i := floor32(v/w) - first; i >= 0 && i < histBins {
			c.bins[int(i)]++
		}
	}
}

func (h *histogram) merge(into, p part) {
	a, b := into.(*counts), p.(*counts)
	a.lo, a.hi = min(a.lo, b.lo), max(a.hi, b.hi)
	if a.bins == nil {
		a.bins, b.bins, a.odd, b.odd = b.bins, a.bins, b.odd, a.odd
	}
	for i, n := range b.bins {
		a.bins[i] += n
		a.odd[i] += b.odd[i]
	}
	a.total += b.total
	b.reset()
}

func (c *counts) reset() {
	clear(c.bins)
	clear(c.odd)
	c.total, c.lo, c.hi = 0, float32(math.Inf(1)), float32(math.Inf(-1))
}

// commit folds a batch into the density: pdf = (pdf*k + bins/total) / (k+1).
func (h *histogram) commit(p part) {
	c := p.(*counts)
	if h.fixed && c.total > 0 {
		k := float64(h.batches)
		for i, n := range c.bins {
			h.pdf[i] = (float64(h.pdf[i]*k) + float64(n+c.odd[i])/float64(c.total)) / (k + 1)
		}
		h.batches++
	}
	c.reset()
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
