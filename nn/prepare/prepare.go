// Package prepare rewrites a graph before it is quantized, without changing what it computes:
// constants are folded, biases and batch normalisation go into the layer before
// (or after) them, and the ranges of neighbouring layers are equalised.
//
// Every rewrite works on a copy; the graph it is given and all tensors stay as they were.
// Arithmetic is float64 in a fixed order and stored as float32, so the result has the same bits on every CPU.
// Sources: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019,
// and the behaviour of AIMET 2.42.
package prepare

import (
	"context"
	"fmt"

	"roundel/nn"
)

// ReLU6 says what cross-layer equalisation does about activations with an upper bound.
type ReLU6 uint8

// What becomes of a Clip with lower bound 0.
const (
	// ReLU6Keep leaves them; they end a group of layers to equalise.
	ReLU6Keep ReLU6 = iota
	// ReLU6ToReLU turns those directly between two convolutions into Relu, whatever
	// their upper bound. This changes the output of the network.
	ReLU6ToReLU
)

// Config switches the rewrites of Apply, which it does in the order of the fields.
type Config struct {
	FoldConstants      bool  // evaluate nodes whose inputs are all constant; drop Identity and inference Dropout
	FuseBias           bool  // Conv, Gemm or MatMul followed by the addition of a constant per channel
	FuseScale          bool  // the same followed by a product with one
	FoldBatchNorm      bool  // into the layer before or after
	NormalizeBatchNorm bool  // what could not be folded becomes a scale and a shift: mean 0, variance 1, epsilon 0
	ReLU6              ReLU6 // only used when Equalize is set
	Equalize           bool  // cross-layer equalisation
	// AbsorbBias moves the part of a bias that its activation never cuts off into the next layer, after Equalize.
	// It assumes that activations are normally distributed, and ignores zero padding: outputs change slightly.
	AbsorbBias bool
}

// DefaultConfig returns the rewrites that keep the output: constants, biases, scales and batch normalisation.
// Equalisation is off, because AdaRound with per-channel weights gains little from it.
func DefaultConfig() Config {
	return Config{FoldConstants: true, FuseBias: true, FuseScale: true, FoldBatchNorm: true, NormalizeBatchNorm: true}
}

// Validate reports settings that have no effect together.
func (c Config) Validate() error {
	if c.AbsorbBias && (!c.Equalize || !c.FoldBatchNorm) {
		return fmt.Errorf("prepare: AbsorbBias needs Equalize and FoldBatchNorm, which find out how activations are distributed")
	}
	if c.ReLU6 > ReLU6ToReLU {
		return fmt.Errorf("prepare: ReLU6 is %d, want ReLU6Keep or ReLU6ToReLU", c.ReLU6)
	}
	return nil
}

// Change is one thing that a rewrite did, or did not do and why.
type Change struct {
	Rewrite string // such as "fold batch norm"
	Node    string // the node that was changed, or would have been
	Note    string // what happened to it
}

// String formats the change as "fold batch norm: conv1: ...".
func (c Change) String() string { return c.Rewrite + ": " + c.Node + ": " + c.Note }

// Moments are the mean and standard deviation of each output channel of a layer, before its
// activation, as the batch normalisation that was folded into it tells.
type Moments struct{ Mean, Std []float64 }

// Equalized is one pair of layers whose channels were rescaled: output channel i of First was divided by
// Scale[i] and input channel i of Second multiplied by it.
type Equalized struct {
	First, Second string
	Scale         []float64
	Activation    bool // there is a Relu or PRelu between them
}

// Report says what Apply did.
type Report struct {
	Done      []Change
	Skipped   []Change
	Moments   map[string]Moments // by layer name
	Equalized []Equalized
}

func (r *Report) done(rewrite, node, format string, args ...any) {
	r.Done = append(r.Done, Change{rewrite, node, fmt.Sprintf(format, args...)})
}

func (r *Report) skip(rewrite, node, format string, args ...any) {
	r.Skipped = append(r.Skipped, Change{rewrite, node, fmt.Sprintf(format, args...)})
}

// Apply returns a rewritten copy of g and what was done to it. The copy has the inputs and outputs of g by name;
// constants that nothing reads any more are gone from it, and its Types are up to date. ctx is checked between rewrites.
func Apply(ctx context.Context, g *nn.Graph, c Config) (*nn.Graph, *Report, error) {
	if err := c.Validate(); err != nil {
		return nil, nil, err
	}
	report := &Report{Moments: map[string]Moments{}}
	out := g.Clone()
	if err := nn.Infer(out); err != nil {
		return nil, nil, fmt.Errorf("prepare: %w", err)
	}
	e := edit(out, report)
	if c.FoldConstants {
		if err := e.foldConstants(ctx); err != nil {
			return nil, nil, fmt.Errorf("prepare: %w", err)
		}
	}
	fuse := func() { e.fuseConstants(c.FuseBias, c.FuseScale) }
	for _, step := range []struct {
		on  bool
		run func()
	}{
		{c.FuseBias || c.FuseScale, fuse},
		{c.FoldBatchNorm, e.foldBatchNorms},
		{c.FuseBias || c.FuseScale, fuse}, // what came after a batch norm that is gone now
		{c.NormalizeBatchNorm, e.normalizeBatchNorms},
		{c.Equalize && c.ReLU6 == ReLU6ToReLU, e.relu6ToReLU},
		{c.Equalize, e.equalizeAll},
		{c.AbsorbBias, e.absorbBiases},
	} {
		if err := ctx.Err(); err != nil {
			return nil, nil, fmt.Errorf("prepare: %w", err)
		}
		if step.on {
			step.run()
		}
	}
	if err := nn.Verify(out); err != nil {
		return nil, nil, fmt.Errorf("prepare: the rewritten graph is not valid: %w", err)
	}
	return out, report, nil
}
