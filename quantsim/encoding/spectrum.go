package encoding

import (
	"math"

	"roundel/tensor"
)

// spectrumBins is the number of bins of a spectrum; half of them are below zero.
const spectrumBins = 4096

// spectrum is a histogram about zero whose bin width is a power of two: the least one
// for which all data fits. A wider range doubles the width and adds neighbouring
// counts, which is exact, so the result depends on the data alone and not on its
// order. It serves the schemes that AIMET does not have (mse, entropy).
type spectrum struct {
	exp    int // width = 2^exp
	counts []uint64
	lo, hi float32
	total  uint64
}

func (*spectrum) part() part              { return &spectrum{} }
func (*spectrum) waiting() bool           { return false }
func (*spectrum) fix(part)                {}
func (*spectrum) addRange([]float32) bool { return true }
func (s *spectrum) commit(p part)         { s.merge(s, p) }
func (s *spectrum) clear()                { *s = spectrum{} }

func (*spectrum) merge(into, p part) {
	a, b := into.(*spectrum), p.(*spectrum)
	if b.total > 0 {
		a.grow(b.exp)
		b.grow(a.exp)
		for i, n := range b.counts {
			a.counts[i] += n
		}
		a.lo, a.hi, a.total = min(a.lo, b.lo), max(a.hi, b.hi), a.total+b.total
	}
	*b = spectrum{}
}

func (s *spectrum) add(x []float32) bool {
	if len(x) == 0 {
		return true
	}
	lo, hi, finite := tensor.Survey(x)
	if !finite {
		return false
	}
	s.lo, s.hi = min(s.lo, lo), max(s.hi, hi)
	s.total += uint64(len(x))
	// |v| < 2^e, so v/2^(e-11) lies within half the bins.
	_, e := math.Frexp(float64(max(-lo, hi)))
	s.grow(e - 11)
	inv := math.Ldexp(1, -s.exp)
	for _, v := range x {
		s.counts[int(math.Floor(float64(v)*inv))+spectrumBins/2]++
	}
	return true
}

// grow makes the bins at least 2^exp wide: floor(floor(x/w)/2) = floor(x/(2w)), so counts move exactly.
func (s *spectrum) grow(exp int) {
	if s.counts == nil {
		s.counts, s.exp = make([]uint64, spectrumBins), exp
	}
	shift := exp - s.exp
	if shift <= 0 {
		return
	}
	next := make([]uint64, spectrumBins)
	for i, c := range s.counts {
		next[(i-spectrumBins/2)>>shift+spectrumBins/2] += c
	}
	s.counts, s.exp = next, exp
}

// mass is a non-empty bin: its middle, and its share of the data.
type mass struct{ mid, p float64 }

func (s *spectrum) masses() []mass {
	w := math.Ldexp(1, s.exp)
	var out []mass
	for i, c := range s.counts {
		if c > 0 {
			mid := (float64(i-spectrumBins/2) + 0.5) * w
			out = append(out, mass{min(max(mid, float64(s.lo)), float64(s.hi)), float64(c) / float64(s.total)})
		}
	}
	return out
}

func (s *spectrum) params(g Grid, m Method) params {
	lo, hi := float64(s.lo), float64(s.hi)
	if s.total == 0 || lo == 0 && hi == 0 {
		return g.fromRange(lo, hi)
	}
	cost := squaredError
	if m.Scheme == SchemeEntropy {
		cost = divergence
	}
	return search(g, lo, hi, s.masses(), cost)
}

// search shrinks the observed range: first both ends together in steps of 1/128, then
// (asymmetric grids) each end alone in 32 steps around what was found. The least cost
// wins, the wider range among equals.
func search(g Grid, lo, hi float64, bins []mass, cost func(Grid, params, []mass) float64) params {
	best := g.fromRange(lo, hi)
	least := cost(g, best, bins)
	bestLo, bestHi := lo, hi
	try := func(l, h float64) {
		p := g.fromRange(l, h)
		if c := cost(g, p, bins); c < least {
			best, least, bestLo, bestHi = p, c, l, h
		}
	}
	const steps = 128
	for i := steps - 1; i >= steps/16; i-- {
		f := float64(i) / steps
		try(lo*f, hi*f)
	}
	if g.Symmetric {
		return best
	}
	for range 2 {
		h := bestHi
		for i := 32; i >= 4; i-- {
			try(lo*float64(i)/32, h)
		}
		l := bestLo
		for i := 32; i >= 4; i-- {
			try(l, hi*float64(i)/32)
		}
	}
	return best
}

// squaredError is the expected squared error of the grid, saturation included.
func squaredError(g Grid, p params, bins []mass) float64 {
	n, sum := g.Steps(), 0.0
	for _, b := range bins {
		k := min(max(math.RoundToEven(b.mid/p.scale), p.offset), p.offset+n)
		e := b.mid - float64(k*p.scale)
		sum += float64(b.p * float64(e*e))
	}
	return sum
}
