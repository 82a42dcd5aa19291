package encoding

import "math"

// saturationWeight multiplies the squared error of what a grid cannot reach.
const saturationWeight = 3.0

// enhanced returns the candidate grid of the least expected squared error over the
// density, saturation counting saturationWeight times (AIMET's "tf_enhanced"). The
// first of equal candidates wins. Candidates are computed in float32 and costs in
// float64, like the reference; see candidate for which they are.
func (h *histogram) enhanced(g Grid) params {
	if h.empty() {
		return g.zeroGrid()
	}
	bins := h.filled()
	lo, hi := h.span()
	var best params
	least := math.Inf(1)
	try := func(p params) {
		if c := h.cost(bins, p, g.Bits, least); c < least {
			best, least = p, c
		}
	}
	if g.Symmetric {
		g.symmetricCandidates(lo, hi, try)
	} else {
		g.asymmetricCandidates(lo, hi, try)
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

// bin is a non-empty bin of a histogram.
type bin struct {
	index  int
	mid, p float64
}

func (h *histogram) filled() []bin {
	var out []bin
	for i, p := range h.pdf {
		if p > 0 {
			out = append(out, bin{i, h.mid(i), p})
		}
	}
	return out
}

// cost returns the expected squared error of the grid p, or a value above limit once it is exceeded:
//
//	sum over bins within the grid of pdf * (mid - p(mid))^2,
//	plus saturationWeight * pdf * (mid - mid of the last bin within)^2 outside of it.
//
// The upper end is at code 2^bits - 1 even on a strict grid, as in the reference.
func (h *histogram) cost(bins []bin, p params, bits int, limit float64) float64 {
	d, o := p.scale, p.offset
	first, last := h.binOf(float64(d*o)), h.binOf(float64(d*(o+math.Ldexp(1, bits)-1)))
	firstMid, lastMid := h.mid(first), h.mid(last)
	sum := 0.0
	for _, b := range bins {
		switch {
		case b.index < first:
			e := b.mid - firstMid
			sum += float64(saturationWeight * float64(b.p*float64(e*e)))
		case b.index >= last:
			e := b.mid - lastMid
			sum += float64(saturationWeight * float64(b.p*float64(e*e)))
		default:
			e := b.mid - float64(d*(roundAway(b.mid/d-o)+o))
			sum += float64(b.p * float64(e*e))
		}
		if sum > limit {
			return sum
		}
	}
	return sum
}

// binOf returns the bin of x, clamped to the ends.
func (h *histogram) binOf(x float64) int {
	i := math.Floor((x - float64(h.edge(0))) / float64(h.width))
	return int(min(max(i, 0), histBins-1))
}
