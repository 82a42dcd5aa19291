package adaround

import (
	"context"
	"math"
	"slices"
)

// Scale search: an output's scale is the one whose start by error feedback has the
// lowest surrogate loss. The start follows the correlations of the columns, so its
// loss is close to what the descent reaches, unlike the error of nearest rounding.

// scaleSteps are the factors of the given scale that are tried, coarse to fine
// around the best so far.
var scaleSteps = [...]float32{0.04, 0.02, 0.01}

// scaleReach is how many coarse steps the search goes to either side.
const scaleReach = 10

// fitScales chooses the scales of all outputs.
func (r *fastRun) fitScales(ctx context.Context) {
	search := newScaleSearch(r.p)
	rest := make([]float32, len(r.start)) // does not depend on the scales
	r.eachBlock(lightPass, func(b *fastBlock, g group) { b.rest(g.f, rest[b.from*b.k:], r.start[b.from*b.k:]) })
	for level := range scaleSteps {
		for _, factors := range search.factors(level) {
			if ctx.Err() != nil {
				return
			}
			for o, f := range factors {
				r.scale[o] = r.p.Scale[o] * f
			}
			loss := make([]float64, r.p.O)
			r.eachBlock(lightPass, func(b *fastBlock, g group) {
				copy(b.res, rest[b.from*b.k:])
				copy(loss[b.from:], b.feedback(g.f, b.res))
			})
			search.try(factors, loss)
		}
	}
	for o, f := range search.best {
		r.scale[o] = r.p.Scale[o] * f
	}
}

// scaleSearch keeps the best factor of each output, or one for all when they share a scale.
type scaleSearch struct {
	p    *Problem
	best []float32 // [O] factor
	loss []float64 // [O]
}

func newScaleSearch(p *Problem) *scaleSearch {
	s := &scaleSearch{p: p, best: slices.Repeat([]float32{1}, p.O), loss: slices.Repeat([]float64{math.Inf(1)}, p.O)}
	return s
}

// factorsAround returns the factors to try at a level around the best so far.
func factorsAround(best float32, level int) []float32 {
	var list []float32
	reach := 1
	if level == 0 {
		reach = scaleReach
	}
	for i := -reach; i <= reach; i++ {
		if i != 0 || level == 0 {
			list = append(list, best+float32(float32(i)*scaleSteps[level]))
		}
	}
	return list
}

// factors returns the lists of factors, one for each output, to try at a level.
func (s *scaleSearch) factors(level int) [][]float32 {
	lists := make([][]float32, len(factorsAround(1, level)))
	for _, b := range s.best {
		for i, f := range factorsAround(b, level) {
			lists[i] = append(lists[i], f)
		}
	}
	return lists
}

// try takes the factors that lower the loss.
func (s *scaleSearch) try(factors []float32, loss []float64) {
	if s.p.SharedScale {
		var now, before float64
		for o, l := range loss {
			now += l
			before += s.loss[o]
		}
		if now < before {
			copy(s.best, factors)
			copy(s.loss, loss)
		}
		return
	}
	for o, l := range loss {
		if l < s.loss[o] {
			s.best[o], s.loss[o] = factors[o], l
		}
	}
}
