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

func (c *counts) addRange(x []float32) bool {
	if len(x) > 0 {
		lo, hi := tensor.MinMax(x)
		c.lo, c.hi = min(c.lo, lo), max(c.hi, hi)
	}
	return tensor.FirstNonFinite(x) < 0
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
	h.width = (hi - lo) / innerBins
	if !(h.width > 0) {
		// The range is below the resolution of float32; one subnormal step is all there is.
		h.width = math.SmallestNonzeroFloat32
	}
	h.first = floor32(lo/h.width) - innerBins
	h.pdf = make([]float64, histBins)
	h.fixed = true
}

func (c *counts) add(x []float32) bool {
	h := c.h
	if !h.fixed {
		return tensor.FirstNonFinite(x) < 0
	}
	if c.bins == nil {
		c.bins, c.odd = make([]uint32, tableSize), make([]uint32, tableSize)
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
	for at := 0; at < len(x); at += addBlock {
		block := x[at:min(at+addBlock, len(x))]
		lo, hi := tensor.MinMax(block)
		if !(lo/h.width >= h.first && hi/h.width < h.first+histBins) || h.first < -1<<22 || h.first > 1<<22 {
			finite = finite && tensor.FirstNonFinite(block) < 0
			c.addFar(block)
			continue
		}
		// MinMax does not see NaNs, but their conversion to an integer leaves traces.
		before := c.suspects()
		c.addNear(block)
		finite = finite && (c.suspects() == before || tensor.FirstNonFinite(block) < 0)
	}
	return finite
}

// suspects sums the counts that a NaN falls on: converted to int32 it is 0 or an end
// of the range by the machine, that is 0 or the last index here; or no bin at all.
func (c *counts) suspects() uint32 {
	last := tableSize - 1
	return c.bins[0] + c.odd[0] + c.bins[last] + c.odd[last]
}

// addBlock is how many elements are looked at together to see whether all lie in the bins.
const addBlock = 1 << 12

// tableSize is histBins rounded up to a power of two, for indices that need no check.
const tableSize = 2048

// addNear counts elements that all lie in the bins. It computes floor(x/w) with the
// division rounded to float32, like the reference, by a multiplication in float64: that
// is off by less than 2^-51, and no quotient of two float32 numbers comes closer than
// 2^-49 to where its rounding changes.
func (c *counts) addNear(x []float32) {
	// Equal neighbours, such as the zeros behind a Relu, would wait for each other's
	// count; two tables keep them apart.
	even, odd := (*[tableSize]uint32)(c.bins), (*[tableSize]uint32)(c.odd)
	inv, first := 1/float64(c.h.width), float64(c.h.first)
	for len(x) >= 4 {
		a := int32(math.Floor(float64(float32(float64(x[0])*inv))) - first)
		b := int32(math.Floor(float64(float32(float64(x[1])*inv))) - first)
		d := int32(math.Floor(float64(float32(float64(x[2])*inv))) - first)
		e := int32(math.Floor(float64(float32(float64(x[3])*inv))) - first)
		even[a&(tableSize-1)]++
		odd[b&(tableSize-1)]++
		even[d&(tableSize-1)]++
		odd[e&(tableSize-1)]++
		x = x[4:]
	}
	for _, v := range x {
		even[int32(math.Floor(float64(float32(float64(v)*inv)))-first)&(tableSize-1)]++
	}
}

// addFar counts any elements, in float32 all the way: far from zero the reference's bin
// numbers are not exact.
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
		for i := range h.pdf {
			n := c.bins[i]
			h.pdf[i] = (float64(h.pdf[i]*k) + float64(n+c.odd[i])/float64(c.total)) / (k + 1)
		}
		h.batches++
	}
	c.reset()
}

// edge returns the left edge of bin i.
func (h *histogram) edge(i int) float32 { return float32((h.first + float32(i)) * h.width) }

// mid returns the middle of bin i.
func (h *histogram) mid(i int) float64 { return float64(h.edge(i)) + float64(float64(h.width)/2) }

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
