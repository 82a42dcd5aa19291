package adaround

import (
	"context"
	"errors"
	"fmt"

	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// Batch is what a DataLoader yields: tensors by name, whose first dimension counts samples.
type Batch = map[string]tensor.Any

// DataLoader gives calibration data by index. Batches may be asked for more than
// once, in any order and from several goroutines; the same index must give the same data.
type DataLoader interface {
	Len() int
	Sample(ctx context.Context, i int) (Batch, error)
}

// SolverKind names a solver.
type SolverKind string

// The solvers.
const (
	Adam SolverKind = "adam" // SolverAdam, the paper's
	Fast SolverKind = "fast" // SolverFast
)

// Config says what Apply does. Get one from DefaultConfig: zero is a legal value of
// several fields. The names and defaults of the first part are those of the seed's
// AdaroundParameters and apply_adaround.
type Config struct {
	DataLoader    DataLoader
	NumBatches    int        // batches of DataLoader to use; 0 uses all
	NumIterations int        // of SolverAdam; 0 is 15000 when any weight has fewer than 8 bits, else 10000
	RegParam      float64    // λ of the rounding loss, 0.01
	BetaRange     [2]float64 // annealing of β, from 20 to 2
	WarmStart     float64    // share of iterations without rounding loss, 0.2; in [0, 1)
	// ForwardFn turns a batch into the graph's inputs, for loaders that yield more or
	// other than these. Nil takes the graph's inputs from the batch by name, or the only
	// tensor for the only input.
	ForwardFn func(Batch) (map[string]tensor.Any, error)

	ParamBits          int            // of weights, 4; 2 to 31
	ParamBitsOverrides map[string]int // by layer or weight name, or a pattern such as "/features/*"
	IgnoreOps          []string       // layers to leave in float, by layer or weight name or pattern
	Scheme             encoding.Scheme
	ConfigFile         string // quantization rules: a file or a built-in name; "" is per-channel symmetric

	// Activations quantizes these values, by name, in the network rounded so far, so that layers are solved for the inputs
	// that they will have. The targets stay those of the float network.
	Activations map[string]tensor.FakeQuant

	Solver       SolverKind
	FitScale     bool    // SolverFast may change the scales of the encodings; on by default
	CorrectBias  bool    // SolverFast may change the biases of the layers; on by default
	LearningRate float64 // of SolverAdam, 1e-3
	BatchSize    int     // of SolverAdam, in positions; 0 takes the gradient over all, see SolverAdam
	Positions    int     // sampled output positions of a layer, held-out ones included: 16384
	HeldOut      float64 // share of images whose positions only judge, 1/8; in [0, 0.5]
	Seed         uint64  // of the sampling and of the batches
	Workers      int     // 0 is one for each CPU
	Memory       int64   // bytes of heap to stay within, 1.5 GiB: the run adapts, or fails at once with a *MemoryError; 0 takes as little as can be
	Checkpoint   string  // folder for a file after each layer, from which a later run continues; "" for none

	// Progress, when not nil, is called from one goroutine, in order.
	Progress func(Progress)
}

// Progress is one step of a run.
type Progress struct {
	Layer string // name of the layer's node; empty for the plan
	Index int    // of the layer, from 0
	Total int    // number of layers
	// Share of the work of all layers that is done, as predicted from their sizes; in [0, 1]. It also grows within a layer.
	Share  float64
	Done   bool // the layer is finished and Report is set
	Report *LayerReport
	// PeakBytes is the predicted peak of memory; set in the first call, which comes before any work.
	PeakBytes int64
}

// DefaultConfig returns the seed's defaults, with the fast solver. DataLoader must be set.
func DefaultConfig() Config {
	return Config{
		RegParam: 0.01, BetaRange: [2]float64{20, 2}, WarmStart: 0.2,
		ParamBits: 4, Scheme: encoding.SchemeTFEnhanced,
		Solver: Fast, FitScale: true, CorrectBias: true, LearningRate: 1e-3, Positions: 16384, HeldOut: 0.125, Memory: 3 << 29,
	}
}

// Validate reports every field that is out of its range.
func (c Config) Validate() error {
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf("adaround: "+format, args...))
		}
	}
	switch {
	case c.DataLoader == nil:
		bad(true, "no DataLoader")
	case c.DataLoader.Len() < 1:
		bad(true, "the data loader has no batches")
	default:
		bad(c.NumBatches > c.DataLoader.Len(), "cannot fetch %d batches from a data loader of length %d", c.NumBatches, c.DataLoader.Len())
	}
	bad(c.NumBatches < 0, "NumBatches is %d; 0 uses all", c.NumBatches)
	bad(c.NumIterations < 0, "NumIterations is %d; 0 is the default", c.NumIterations)
	bad(!(c.RegParam >= 0), "RegParam is %g, must not be negative", c.RegParam)
	bad(!(c.BetaRange[0] >= c.BetaRange[1] && c.BetaRange[1] >= 1), "BetaRange is %g to %g, must fall and stay at least 1", c.BetaRange[0], c.BetaRange[1])
	bad(!(c.WarmStart >= 0 && c.WarmStart < 1), "WarmStart is %g, outside [0, 1)", c.WarmStart)
	bad(c.ParamBits < 2 || c.ParamBits > 31, "ParamBits is %d, outside 2..31", c.ParamBits)
	for _, name := range sortedKeys(c.ParamBitsOverrides) {
		bits := c.ParamBitsOverrides[name]
		bad(bits < 2 || bits > 31, "ParamBitsOverrides[%q] is %d, outside 2..31", name, bits)
	}
	for _, name := range sortedKeys(c.Activations) {
		q := c.Activations[name]
		bad(!(q.Scale > 0 && q.Scale < posInf && q.QMin < q.QMax), "Activations[%q] has scale %g and codes %g to %g", name, q.Scale, q.QMin, q.QMax)
	}
	bad(c.Solver != Adam && c.Solver != Fast, "Solver is %q; known are %q and %q", c.Solver, Fast, Adam)
	bad(!(c.LearningRate > 0), "LearningRate is %g, must be positive", c.LearningRate)
	bad(c.BatchSize < 0, "BatchSize is %d; 0 is the gradient over all positions", c.BatchSize)
	bad(c.Positions < 1, "Positions is %d", c.Positions)
	bad(!(c.HeldOut >= 0 && c.HeldOut <= 0.5), "HeldOut is %g, outside [0, 0.5]", c.HeldOut)
	bad(c.Workers < 0, "Workers is %d; 0 is one for each CPU", c.Workers)
	bad(c.Memory < 0, "Memory is %d", c.Memory)
	if err := (encoding.Method{Scheme: c.Scheme}).Validate(); err != nil {
		errs = append(errs, fmt.Errorf("adaround: Scheme: %w", err))
	}
	return errors.Join(errs...)
}
