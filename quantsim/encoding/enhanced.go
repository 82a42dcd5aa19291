package encoding

import (
	"math"
	"slices"
)

// saturationWeight multiplies the squared error of what a grid cannot reach.
const saturationWeight = 3.0

// enhanced returns the candidate grid of the least expected squared error over the
// density, saturation counting saturationWeight times (AIMET's "tf_enhanced"). The
// first of equal candidates wins. Candidates are computed in float32 and costs in
// float64, like the reference.
//
// It goes through them from the last one, whose range is the observed one, as that is seldom far from the best.
func (h *histogram) enhanced(g Grid) params {
	if h.empty() {
		return g.zeroGrid()
	}
	h.fill()
	lo, hi := h.span()
	h.grids = h.grids[:0]
	add := func(p params) { h.grids = append(h.grids, p) }
	if g.Symmetric {
		g.symmetricCandidates(lo, hi, add)
	} else {
		g.asymmetricCandidates(lo, hi, add)
	}
	var best params
	least := math.Inf(1)
	for i := len(h.grids) - 1; i >= 0; i-- {
		c, saturated := h.cost(h.grids[i], g.Bits, least)
		if c <= least {
			best, least = h.grids[i], c
		} else if saturated && g.Symmetric {
			break // the ranges that are left lie within this one
		}
	}
	return best
}

// symmetricCandidates yields f * dMax for f = 1/100, 2/100 ... 101/100, f a float32 sum.
func (g Grid) symmetricCandidates(lo, hi float32, try func(params)) {
	n := g.Steps()
	dMax, offset := max(-lo, hi)/float32(n/2), math.Floor(-n/2)
	if g.Unsigned && lo == 0 {
		dMax, offset = hi/float32(n), 0
	}
	f := float32(0)
	for range 101 {
		f += float32(1) / 100
		try(params{float64(float32(f * dMax)), offset})
	}
}

// asymmetricCandidates yields 17 scales times 21 offsets, each range cut to the observed one, and the observed grid last.
func (g Grid) asymmetricCandidates(lo, hi float32, try func(params)) {
	n := float32(g.Steps())
	d := (hi - lo) / n
	o := float32(0 - roundAway(float64(-lo/d)))
	gridLo, gridHi := d*o, d*float32(o+n)
	for f := 1; f <= 17; f++ {
		td := float32(float32(f)/16) * d
		for i := range 21 {
			to := float32(math.Trunc(-g.Steps() + float64(g.Steps()/20*float64(i))))
			tlo, thi := td*to, td*float32(to+n)
			if tlo < gridLo && thi > gridHi {
				continue
			}
			tlo, thi = max(gridLo, tlo), min(gridHi, thi)
			if tlo == thi {
				continue
			}
			cd := (thi - tlo) / n
			try(params{float64(cd), 0 - roundAway(float64(-tlo/cd))})
		}
	}
	try(params{float64(d), float64(o)})
}

// bin is a non-empty bin of a histogram, with the sums of p, p·mid and p·mid² over all bins before it.
type bin struct {
	mid, p  float64
	moments [3]float64
}

// fill lists the bins that are not empty, and one more behind them for the sums. It first numbers them without branches,
// which a processor could not foresee: there are many tensors of few elements.
func (h *histogram) fill() {
	n := h.hi - h.lo
	h.rank, h.index = slices.Grow(h.rank[:0], n)[:n], slices.Grow(h.index[:0], n)[:n]
	count := 0
	for i, p := range h.pdf[h.lo:h.hi] {
		h.rank[i], h.index[count] = count, h.lo+i
		if p != 0 {
			count++
		}
	}
	h.bins = slices.Grow(h.bins[:0], count+1)[:count+1]
	var m [3]float64
	for k, i := range h.index[:count] {
		b := &h.bins[k]
		b.mid, b.p, b.moments = h.mid(i), h.pdf[i], m
		first := float64(b.p * b.mid)
		m[0], m[1], m[2] = m[0]+b.p, m[1]+first, m[2]+float64(first*b.mid)
	}
	h.bins[count] = bin{moments: m}
}

// filledBefore returns how many bins before bin i are not empty, after fill.
func (h *histogram) filledBefore(i int) int {
	switch {
	case i <= h.lo:
		return 0
	case i >= h.hi:
		return len(h.bins) - 1
	}
	return h.rank[i-h.lo]
}

// cost returns the expected squared error of the grid p, or a value above limit if it is more than that, and whether it is
// by saturation alone:
//
//	sum over bins within the grid of pdf * (mid - p(mid))^2,
//	plus saturationWeight * pdf * (mid - mid of the last bin within)^2 outside of it.
//
// The upper end is at code 2^bits - 1 even on a strict grid, as in the reference.
func (h *histogram) cost(p params, bits int, limit float64) (sum float64, saturated bool) {
	d, o := p.scale, p.offset
	first, last := h.binOf(float32(d*o)), h.binOf(float32(d*(o+math.Ldexp(1, bits)-1)))
	firstMid, lastMid := h.mid(first), h.mid(last)
	bins := h.bins[:len(h.bins)-1]
	lower, upper := h.filledBefore(first), h.filledBefore(last)
	above := h.saturation(upper, len(bins), lastMid)
	if sure := h.saturation(0, lower, firstMid) + above; sure > limit {
		return sure, true
	}
	for _, b := range bins[:lower] {
		e := b.mid - firstMid
		sum += float64(saturationWeight * float64(b.p*float64(e*e)))
	}
	for _, b := range bins[lower:upper] {
		e := b.mid - float64(d*(roundAway(b.mid/d-o)+o))
		sum += float64(b.p * float64(e*e))
		if sum+above > limit {
			return sum + above, false
		}
	}
	for _, b := range bins[upper:] {
		e := b.mid - lastMid
		sum += float64(saturationWeight * float64(b.p*float64(e*e)))
	}
	return sum, false
}

// saturation returns at most what cost adds for bins from up to to, all of which are taken for mid, from the sums: the
// rounding of these, less than a 10^12th of the second moment, is taken off.
func (h *histogram) saturation(from, to int, mid float64) float64 {
	a, b := h.bins[from].moments, h.bins[to].moments
	p, first, second := b[0]-a[0], b[1]-a[1], b[2]-a[2]
	sum := second - float64(2*mid*first) + float64(float64(mid*mid)*p)
	slack := float64(1e-11 * (h.bins[len(h.bins)-1].moments[2] + float64(mid*mid)))
	return max(0, saturationWeight*(sum-slack))
}

// binOf returns the bin of the end of a range, clamped to the ends.
func (h *histogram) binOf(x float32) int {
	i := math.Floor((float64(x) - float64(h.edge(0))) * float64(h.perUnit))
	return int(min(max(i, 0), histBins-1))
}
