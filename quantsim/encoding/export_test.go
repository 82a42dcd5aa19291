package encoding

// Density returns the density of one batch over the bins of its own histogram.
func Density(x []float32) []float64 {
	h := &histogram{}
	p := h.part()
	p.addRange(x)
	h.fix(p)
	p.add(x)
	h.commit(p)
	return h.pdf
}
