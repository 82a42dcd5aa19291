package adaround

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"roundel/tensor"
)

// SolverAdam is the paper's optimiser: gradient descent by Adam on the relaxed
// rounding of eq. (22), annealed until every h(V) is 0 or 1.
//
// The loss separates over outputs and Adam works elementwise, so a block of
// outputs runs through all iterations on its own. With a BatchSize each iteration
// sees that many consecutive positions starting anywhere (the positions of a
// Problem are in random order), the same ones for every output. Without, it sees
// the gradient over all positions; see lagged.
type SolverAdam struct {
	Iterations   int        // > 0
	LearningRate float64    // of Adam, 1e-3 in the reference
	BatchSize    int        // positions in each iteration, at most all; 0 takes the gradient over all, computed in a cheaper way
	RegParam     float64    // λ of eq. (21)
	BetaRange    [2]float64 // β at the end of the warm start and at the end
	WarmStart    float64    // share of iterations without the regulariser, in [0, 1)
	Seed         uint64     // of the choice of batches
	// BySign rounds a weight up where h(V) ≥ 1/2, however undecided it still is after the last iteration, as the
	// reference does. Else the reconstruction loss decides where that ends lower. After enough iterations nothing is undecided.
	BySign bool

	tell func(share float64) // called now and then with the share of the work that is done; nil for nobody
}

// adamBlockOuts is how many outputs run together, a multiple of every tile width.
const adamBlockOuts = 32

// Round solves p. No output has a higher loss than nearest rounding on the
// held-out positions (on the solving ones when there are none held out).
// When ctx is done it returns its error, wrapped with how far it got.
func (s SolverAdam) Round(ctx context.Context, p *Problem, pool *tensor.Pool) (*Solution, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	defer pool.Until(ctx)()
	blocks := outputBlocks(p, adamBlockOuts)
	grams := s.grams(p, pool)
	codes := make([]int32, p.O*p.K)
	var decided []int32
	if grams != nil && !s.BySign {
		decided = make([]int32, len(codes))
	}
	errs := make([]error, len(blocks))
	steps := newMeter(len(blocks)*s.Iterations, s.tell)
	pool.For(len(blocks), func(_, i int) {
		b := newAdamBlock(s, p, blocks[i][0], blocks[i][1], pool.Kernels())
		if grams != nil {
			b.lag = newLagged(b, grams[blocks[i][0]/p.outs()])
		}
		if errs[i] = s.run(ctx, b, p.Solve.P, steps); errs[i] == nil {
			b.harden(codes)
			if decided != nil {
				b.lag.decide(b, codes, decided)
			}
		}
	})
	if err := errors.Join(errs...); err != nil {
		return nil, errs[firstError(errs)]
	}
	p.takeBetter(codes, decided, pool)
	return completed(ctx, p.judge(candidate{codes, p.Scale, p.Bias}, pool))
}

// completed returns s unless ctx is done: the pool may have left out some of what s was made of.
func completed(ctx context.Context, s *Solution) (*Solution, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("adaround: stopped while rounding: %w", err)
	}
	return s, nil
}

// takeBetter copies the outputs of other to codes that have a lower loss on the solving positions.
func (p *Problem) takeBetter(codes, other []int32, pool *tensor.Pool) {
	if other == nil || slices.Equal(codes, other) {
		return
	}
	a := p.losses(candidate{codes, p.Scale, p.Bias}, &p.Solve, pool)
	b := p.losses(candidate{other, p.Scale, p.Bias}, &p.Solve, pool)
	for o := range p.O {
		if b[o] < a[o] {
			copy(codes[o*p.K:(o+1)*p.K], other[o*p.K:])
		}
	}
}

func firstError(errs []error) int {
	for i, err := range errs {
		if err != nil {
			return i
		}
	}
	return 0
}

// stepsTold is how many iterations of a block count together.
const stepsTold = 16

// run does all iterations of one block.
func (s SolverAdam) run(ctx context.Context, b *adamBlock, total int, steps *meter) error {
	sched := anneal{s.Iterations, s.WarmStart, s.BetaRange[0], s.BetaRange[1]}
	rng := rand.New(rand.NewPCG(s.Seed, 0x61646172))
	size := s.BatchSize
	if size == 0 {
		size = largeLayerBatch
	}
	size = min(size, total)
	for i := range s.Iterations {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("adaround: stopped at iteration %d of %d: %w", i, s.Iterations, err)
		}
		if i%stepsTold == stepsTold-1 {
			steps.add(stepsTold)
		}
		if b.lag != nil {
			b.lag.gradient(b, i)
			b.descend(i, sched)
			continue
		}
		b.iterate(i, rng.IntN(total), size, sched)
	}
	return nil
}
