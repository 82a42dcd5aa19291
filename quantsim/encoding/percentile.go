package encoding

// percentile returns the grid of the range that is left when (100-p) % of the density
// is cut off each side, in whole bins; p = 100 keeps the observed range of at least 0.01.
func (h *histogram) percentile(g Grid, p float64) params {
	if h.empty() {
		return g.zeroGrid()
	}
	lo, hi := h.span()
	if p != 100 {
		lo, hi = h.cut(float32(p) / 100)
	}
	return g.fromRange(float64(lo), float64(hi))
}

// cut returns the left edge of the first bin where the cumulative density reaches
// 1-share, and the right edge of the last bin below the observed maximum where it is
// less than share.
func (h *histogram) cut(share float32) (lo, hi float32) {
	_, top := h.span()
	cdf, sum := make([]float64, len(h.pdf)), 0.0
	for i, p := range h.pdf {
		sum += p
		cdf[i] = sum
	}
	for i := range cdf {
		if cdf[i] >= 1-float64(share) {
			lo = h.edge(i)
			break
		}
	}
	hi = lo
	for i := len(cdf) - 1; i >= 0; i-- {
		if cdf[i] < float64(share) && h.edge(i) < top {
			hi = h.edge(i) + h.width
			break
		}
	}
	if hi == lo {
		hi += h.width
	}
	return min(lo, 0), max(hi, 0)
}
