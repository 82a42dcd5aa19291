package encoding

import (
	"math"

	"roundel/tensor"
)

// divergence is the Kullback-Leibler divergence sum P ln(P/Q) between the data as the
// grid's range leaves it and as its codes leave it. P has the mass beyond either end
// added to the last bin within; Q spreads the mass of each code evenly over the bins
// that fall on it, without what lay beyond, so cutting tails costs in proportion to
// their mass. +Inf if no data is within the range.
func divergence(g Grid, p params, bins []mass) float64 {
	lo, hi := p.scale*(p.offset-0.5), p.scale*(p.offset+g.Steps()+0.5)
	first, last := 0, len(bins)-1
	below, above, within := 0.0, 0.0, 0.0
	for ; first < len(bins) && bins[first].mid < lo; first++ {
		below += bins[first].p
	}
	for ; last >= first && bins[last].mid > hi; last-- {
		above += bins[last].p
	}
	if first > last {
		return math.Inf(1)
	}
	for _, b := range bins[first : last+1] {
		within += b.p
	}
	sum := 0.0
	for i := first; i <= last; {
		k, j, m := math.RoundToEven(bins[i].mid/p.scale), i, 0.0
		for ; j <= last && math.RoundToEven(bins[j].mid/p.scale) == k; j++ {
			m += bins[j].p
		}
		q := m / float64(j-i) / within
		for ; i < j; i++ {
			pi := bins[i].p
			if i == first {
				pi += below
			}
			if i == last {
				pi += above
			}
			sum += float64(pi * tensor.Log(pi/q))
		}
	}
	return sum
}
