package adaround

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"roundel/asm"
	"roundel/nn"
	"roundel/tensor"
)

// cancelling is a loader that does not look at its context, and cancels that itself in one of the calls.
type cancelling struct {
	stop      context.CancelFunc
	at, calls int
}

func (c *cancelling) Len() int { return 40 }

func (c *cancelling) Sample(context.Context, int) (Batch, error) {
	if c.calls++; c.calls == c.at {
		c.stop()
	}
	x := tensor.New[float32](1, 1, 4, 4)
	for i := range x.Data() {
		x.Data()[i] = float32((i*7+c.calls*3)%11) - 5
	}
	return Batch{"x": x}, nil
}

// twoPointwise is a network of two convolutions of 1x1.
func twoPointwise(t *testing.T) *nn.Graph {
	t.Helper()
	known := []nn.Dim{nn.Known(1), nn.Known(1), nn.Known(4), nn.Known(4)}
	g := &nn.Graph{
		Inputs:  []nn.ValueInfo{{Name: "x", Type: nn.Type{DType: tensor.Float32, Dims: known, Ranked: true}}},
		Outputs: []nn.ValueInfo{{Name: "y", Type: nn.Type{DType: tensor.Float32}}},
		Consts:  map[string]tensor.Any{"w": tensor.From([]float32{0.5, -1, 0.3}, 3, 1, 1, 1), "v": tensor.From([]float32{0.7, -0.2, 0.4}, 1, 3, 1, 1)},
		Nodes: []*nn.Node{
			{Name: "first", Op: "Conv", Inputs: []string{"x", "w"}, Outputs: []string{"h"}},
			{Name: "second", Op: "Conv", Inputs: []string{"h", "v"}, Outputs: []string{"y"}},
		},
	}
	if err := nn.Verify(g); err != nil {
		t.Fatal(err)
	}
	return g
}

// TestCancelStopsReading counts the samples that are read after a cancellation: none, in the first reading, and in
// passes that read again because memory is short.
func TestCancelStopsReading(t *testing.T) {
	g := twoPointwise(t)
	for _, at := range []int{1, 7, 45, 60} {
		ctx, stop := context.WithCancel(t.Context())
		loader := &cancelling{stop: stop, at: at}
		c := DefaultConfig()
		c.DataLoader, c.Positions, c.Memory, c.Workers = loader, 200, 0, 1
		if _, err := Apply(ctx, g, c); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled in call %d: %v", at, err)
		}
		if loader.calls != at {
			t.Errorf("%d samples were read after the cancellation in call %d", loader.calls-at, at)
		}
		stop()
	}
}

// TestCancelledOrWhole stops both solvers at random moments: what comes back is an error, or the solution of an undisturbed
// run. The pool leaves work out once the context is done, so anything else would be made of half a computation.
func TestCancelledOrWhole(t *testing.T) {
	pool := tensor.NewPool(2, asm.Best())
	rng := rand.New(rand.NewPCG(1, 2))
	for _, shape := range [][3]int{{1, 150, 40}, {12, 9, 12}, {2, 30, 16}} {
		for name, s := range map[string]solver{"fast": SolverFast{FitScale: true, CorrectBias: true}, "adam": SolverAdam{Iterations: 60}} {
			t.Run(fmt.Sprint(name, shape), func(t *testing.T) {
				p := randomProblem(7, shape[0], shape[1], shape[2], 600, testActs["relu6"])
				start := time.Now()
				want, err := s.Round(t.Context(), p, pool)
				if err != nil {
					t.Fatal(err)
				}
				took, stopped := time.Since(start), 0
				for range 25 {
					ctx, stop := context.WithCancel(t.Context())
					timer := time.AfterFunc(time.Duration(rng.Float64()*1.2*float64(took)), stop)
					have, err := s.Round(ctx, p, pool)
					timer.Stop()
					stop()
					switch {
					case errors.Is(err, context.Canceled):
						stopped++
					case err != nil:
						t.Fatal(err)
					case !slices.Equal(have.Codes, want.Codes) || !slices.Equal(have.Scale, want.Scale) || have.Final != want.Final:
						t.Fatal("half a computation was returned as a solution")
					}
				}
				t.Logf("%v undisturbed; %d of 25 were stopped", took, stopped)
			})
		}
	}
}

// TestProgressShare: the share of the work that is done never falls, ends at 1, and moves within a layer.
func TestProgressShare(t *testing.T) {
	for name, kind := range map[string]SolverKind{"fast": Fast, "adam": Adam} {
		c := DefaultConfig()
		c.DataLoader, c.Positions, c.Solver, c.NumIterations = &cancelling{at: -1}, 200, kind, 100
		var last float64
		within := map[int]int{}
		c.Progress = func(p Progress) {
			if p.Share < last || p.Share > 1 {
				t.Errorf("%s: %g after %g", name, p.Share, last)
			}
			if p.Share > last && !p.Done {
				within[p.Index]++
			}
			last = p.Share
		}
		if _, err := Apply(t.Context(), twoPointwise(t), c); err != nil {
			t.Fatal(err)
		}
		if last != 1 || within[0] < 3 || within[1] < 3 {
			t.Errorf("%s: ends at %g, with %v steps within layers", name, last, within)
		}
	}
}
