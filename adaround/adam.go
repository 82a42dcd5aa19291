package adaround

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"roundel/tensor"
)

// SolverAdam is the paper's optimiser: gradient descent by Adam on the relaxed
// rounding of eq. (22), annealed until every h(V) is 0 or 1.
//
// The loss separates over outputs and Adam works elementwise, so a block of
// outputs runs through all iterations on its own. Each iteration sees BatchSize
// consecutive positions starting anywhere (the positions of a Problem are in
// random order), the same ones for every output.
type SolverAdam struct {
	Iterations   int        // > 0
	LearningRate float64    // of Adam, 1e-3 in the reference
	BatchSize    int        // positions in each iteration; at most all
	RegParam     float64    // λ of eq. (21)
	BetaRange    [2]float64 // β at the end of the warm start and at the end
	WarmStart    float64    // share of iterations without the regulariser, in [0, 1)
	Seed         uint64     // of the choice of batches
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
	blocks := outputBlocks(p, adamBlockOuts)
	codes := make([]int32, p.O*p.K)
	errs := make([]error, len(blocks))
	pool.For(len(blocks), func(_, i int) {
		b := newAdamBlock(s, p, blocks[i][0], blocks[i][1], pool.Kernels())
		if errs[i] = s.run(ctx, b, p.Solve.P); errs[i] == nil {
			b.harden(codes)
		}
	})
	if err := errors.Join(errs...); err != nil {
		return nil, errs[firstError(errs)]
	}
	return p.judge(candidate{codes, p.Scale, p.Bias}, pool), nil
}

func firstError(errs []error) int {
	for i, err := range errs {
		if err != nil {
			return i
		}
	}
	return 0
}

// run does all iterations of one block.
func (s SolverAdam) run(ctx context.Context, b *adamBlock, total int) error {
	sched := anneal{s.Iterations, s.WarmStart, s.BetaRange[0], s.BetaRange[1]}
	rng := rand.New(rand.NewPCG(s.Seed, 0x61646172))
	size := min(max(s.BatchSize, 1), total)
	for i := range s.Iterations {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("adaround: stopped at iteration %d of %d: %w", i, s.Iterations, err)
		}
		b.iterate(i, rng.IntN(total), size, sched)
	}
	return nil
}
