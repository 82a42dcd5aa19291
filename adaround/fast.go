package adaround

import (
	"context"
	"slices"

	"roundel/tensor"
)

// SolverFast attacks the rounding problem as the piecewise quadratic binary
// program it is: a start by error feedback, exact descent by flips and pairs of
// flips on the Gram matrix, with an activation majorised by a quadratic at each
// round, and a last descent on the true loss over the samples. Small kernels are
// enumerated. It needs no learning rate and no iterations; a layer takes
// milliseconds to seconds. The zero value is ready to use.
type SolverFast struct {
	// FitScale lets the solver choose the scale of each output (one factor for all where they share a scale).
	FitScale bool
	// CorrectBias lets the solver choose the bias, where there is one.
	CorrectBias bool
	// NoPolish leaves out the last descent on the true loss.
	NoPolish bool
	// NoPairs leaves out moves of two weights at once.
	NoPairs bool

	tell func(share float64) // called now and then with the share of the work that is done; nil for nobody
}

// Limits of the outer loops; they end earlier when nothing improves.
const (
	majorizeRounds = 12
	polishSweeps   = 8
	fastBlockOuts  = 32
	enumerateUpTo  = 12 // columns: 2^12 codes
)

// Round solves p. No output has a higher loss than nearest rounding on the
// held-out positions (on the solving ones when there are none held out).
// When ctx is done it returns its error, wrapped.
func (s SolverFast) Round(ctx context.Context, p *Problem, pool *tensor.Pool) (*Solution, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	defer pool.Until(ctx)()
	s.CorrectBias = s.CorrectBias && p.Bias != nil
	r := &fastRun{SolverFast: s, p: p, pool: pool, candidate: candidate{make([]int32, p.O*p.K), slices.Clone(p.Scale), slices.Clone(p.Bias)}}
	if p.depthwise() {
		r.meter = newMeter(p.O, s.tell)
		r.roundDepthwise(ctx)
	} else {
		r.meter = newMeter(usualPasses, s.tell)
		r.roundGroups(ctx)
	}
	return completed(ctx, p.judge(r.candidate, pool))
}

// What a pass over all outputs weighs, and about how many there are: one for the start, one for each scale, and
// usually seven tries of ridges and shares.
const (
	lightPass, heavyPass = 1, 6
	usualPasses          = 30*lightPass + 8*heavyPass
)

// fastRun is one problem under solution.
type fastRun struct {
	SolverFast
	meter     *meter
	p         *Problem
	pool      *tensor.Pool
	candidate // the result so far
	groups    []group
	start     []float32 // [O][K] half the gradient of the first surrogate at the float weights
	mend      float32   // share of the earlier layers' error that the targets ask to mend
	base      []float32 // [O] bias of the float weights without a mean error
}

// group is what the outputs of a group share.
type group struct {
	m    *gram
	f    *factor
	near *neighbourhood // nil without pair moves
}

// roundGroups solves groups of outputs that share columns.
func (r *fastRun) roundGroups(ctx context.Context) {
	p := r.p
	r.groups = make([]group, p.Groups)
	for g := range r.groups {
		m := newGram(p.Solve.cols(g, p.K), p.K, r.CorrectBias, r.pool)
		r.groups[g].m = m
		if !r.NoPairs {
			r.groups[g].near = newNeighbourhood(m, r.pool)
		}
	}
	r.mend = 1
	r.setRidge(firstRidge)
	r.factor()
	r.begin()
	r.base = slices.Clone(r.bias)
	if r.FitScale {
		r.fitScales(ctx)
	}
	r.regularize(ctx)
	if p.Act.Kind != ActIdentity && !r.NoPolish {
		r.polish(ctx)
	}
}

// begin sets start for the present targets, and free biases to where the float weights have no mean error.
func (r *fastRun) begin() {
	r.start = make([]float32, r.p.O*r.p.K)
	r.eachBlock(lightPass, func(b *fastBlock, g group) {
		b.sample()
		b.predict(func(w *row) []float32 { return w.weight })
		b.residuals(true)
		b.gradients(nil)
		copy(r.start[b.from*b.k:], b.res)
		if b.center && r.mend == 1 {
			copy(r.bias[b.from:], b.bias[:b.outs])
		}
	})
}

// ridges are the pulls towards the float weight that are tried, as shares of the
// mean diagonal of the Gram matrix: the more the columns of the held-out images
// differ from those that are solved on, the larger the best one.
var ridges = [...]float32{1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1, 3}

// firstRidge is the index in ridges that is tried first, and the only one without held-out positions.
const firstRidge = 2

// mends are the shares of the earlier layers' error that a layer is asked to mend. What
// it mends on the images that are solved on is partly not there on others.
var mends = [...]float32{1, 0.75, 0.5, 0.25}

// tolerance is by how much the held-out loss may exceed the lowest where more regularisation is preferred: held-out
// positions are a sample too, and what fits them by less than this makes the network worse on other images.
const tolerance = 0.01

// wideColumns is the number of columns from which every other ridge and share is left out: a try takes time by its square.
const wideColumns = 2048

// setRidge is to be followed by factor where rounding starts anew.
func (r *fastRun) setRidge(i int) {
	for g := range r.groups {
		r.groups[g].m.setRidge(ridges[i])
	}
}

func (r *fastRun) factor() {
	for g := range r.groups {
		r.groups[g].f = newFactor(r.groups[g].m, r.pool)
	}
}

// try solves the relaxed problem and returns the held-out loss of what it found.
func (r *fastRun) try(ctx context.Context) (candidate, float64) {
	c := candidate{make([]int32, len(r.codes)), r.scale, slices.Clone(r.bias)}
	r.eachBlock(heavyPass, func(b *fastBlock, g group) {
		b.relax(ctx, g, r.start[b.from*b.k:])
		b.write(c)
	})
	return c, total(r.p.losses(c, &r.p.HeldOut, r.pool), r.p.HeldOut.P)
}

// regularize solves the relaxed problem, with the ridge and the share to be mended that the held-out loss chooses: larger
// ridges while it falls or hardly rises, else smaller ones while it falls, and then smaller shares like larger ridges.
func (r *fastRun) regularize(ctx context.Context) {
	chosen, lowest := r.try(ctx)
	if r.p.HeldOut.P == 0 {
		r.candidate = chosen
		return
	}
	// better takes a further try if its loss is below bound.
	better := func(bound float64) bool {
		c, loss := r.try(ctx)
		if ctx.Err() != nil || !(loss < bound) {
			return false
		}
		chosen, lowest = c, min(lowest, loss)
		return true
	}
	ridge := func(i int) {
		r.setRidge(i)
		r.factor()
	}
	at, step := firstRidge, 1
	if r.p.K >= wideColumns {
		step = 2
	}
	for ; at+step < len(ridges); at += step {
		if ridge(at + step); !better(lowest * (1 + tolerance)) {
			break
		}
	}
	if at == firstRidge {
		for ; at > 0; at-- {
			if ridge(at - 1); !better(lowest) {
				break
			}
		}
	}
	ridge(at)
	share := 0
	for ; share+step < len(mends); share += step {
		r.mend = mends[share+step]
		if r.begin(); !better(lowest * (1 + tolerance)) {
			break
		}
	}
	r.mend = mends[share]
	r.candidate = chosen
}

// polish lowers the true loss of all outputs.
func (r *fastRun) polish(ctx context.Context) {
	columns := make([][]float32, len(r.groups))
	for g := range columns {
		columns[g] = transpose(r.p.Solve.cols(g, r.p.K), r.p.Solve.P, r.p.K, r.pool)
	}
	r.eachBlock(heavyPass, func(b *fastBlock, g group) {
		b.read(r.candidate)
		b.sample()
		b.polish(ctx, g, columns[b.from/r.p.outs()])
		b.write(r.candidate)
	})
}

// eachBlock calls f for all blocks of outputs, with the rows at nearest rounding on the present scales. weight is that of the pass.
func (r *fastRun) eachBlock(weight int, f func(b *fastBlock, g group)) {
	blocks := outputBlocks(r.p, blockWidth(r.p.outs(), r.pool.Workers()))
	r.pool.For(len(blocks), func(_, i int) {
		f(r.newBlock(blocks[i][0], blocks[i][1]), r.groups[blocks[i][0]/r.p.outs()])
		r.meter.add(float64(weight) / float64(len(blocks)))
	})
}

// blockWidth is how many outputs run together. It changes only who computes what, never a result.
func blockWidth(outs, workers int) int {
	width := fastBlockOuts
	for width > 8 && (outs+width-1)/width < 2*workers {
		width /= 2
	}
	return width
}

// transpose returns a, [rows][cols], as [cols][rows] with rows padded by zeros.
func transpose(a []float32, rows, cols int, pool *tensor.Pool) []float32 {
	stride := padded(rows)
	out := make([]float32, cols*stride)
	const tile = 32
	pool.For((cols+tile-1)/tile, func(_, c int) {
		to := min((c+1)*tile, cols)
		for r0 := 0; r0 < rows; r0 += tile {
			for j := c * tile; j < to; j++ {
				for i := r0; i < min(r0+tile, rows); i++ {
					out[j*stride+i] = a[i*cols+j]
				}
			}
		}
	})
	return out
}
