package nn

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"roundel/asm"
	"roundel/tensor"
)

func mustRun(t *testing.T, g *Graph, o CompileOptions, feeds map[string]tensor.Any) map[string]tensor.Any {
	t.Helper()
	p, err := Compile(t.Context(), g, o)
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.Run(context.Background(), feeds)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// compareNear compares with a bound relative to the largest element.
func compareNear(t *testing.T, name string, got, want tensor.Any, bound float64) {
	t.Helper()
	if !got.Shape().Equal(want.Shape()) || got.DType() != want.DType() {
		t.Fatalf("%s: got %s, want %s", name, describe(got), describe(want))
	}
	a, b := tensor.Float64s(got), tensor.Float64s(want)
	most := 1e-3
	for _, v := range b {
		most = max(most, math.Abs(v))
	}
	for i := range a {
		if !(math.Abs(a[i]-b[i]) <= bound*most) {
			t.Fatalf("%s: element %d of %v is %v, want %v (largest %v)", name, i, got.Shape(), a[i], b[i], most)
		}
	}
}

// compareBits wants the same bits.
func compareBits(t *testing.T, name string, got, want tensor.Any) {
	t.Helper()
	if !got.Shape().Equal(want.Shape()) {
		t.Fatalf("%s: got %s, want %s", name, describe(got), describe(want))
	}
	a, b := got.(*tensor.Dense[float32]).Data(), want.(*tensor.Dense[float32]).Data()
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			t.Fatalf("%s: element %d of %v is %x, want %x", name, i, got.Shape(), math.Float32bits(a[i]), math.Float32bits(b[i]))
		}
	}
}

// TestProgramRandom compares random networks with the reference, on every kernel table.
func TestProgramRandom(t *testing.T) {
	count := uint64(150)
	if testing.Short() {
		count = 25
	}
	for seed := range count {
		s := randomNet(seed)
		feeds := s.feeds(1 + int(seed%3))
		want, err := Eval(context.Background(), s.g, feeds)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range asm.Available() {
			t.Run(fmt.Sprintf("%d/%s", seed, k.ISA), func(t *testing.T) {
				got := mustRun(t, s.g, CompileOptions{Kernels: k, FoldBatchNorm: seed%2 == 0}, feeds)
				for name := range want {
					compareNear(t, s.ops()+": "+name, got[name], want[name], 2e-5)
				}
			})
		}
	}
}

// TestProgramWorkersAndBatches wants the same bits for any number of workers and any batch.
func TestProgramWorkersAndBatches(t *testing.T) {
	for seed := range uint64(30) {
		s := randomNet(seed + 1000)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			all := s.feeds(5)
			want := mustRun(t, s.g, CompileOptions{}, all)
			for _, workers := range []int{2, 3} {
				p, err := Compile(t.Context(), s.g, CompileOptions{Pool: tensor.NewPool(workers, asm.Kernels{})})
				if err != nil {
					t.Fatal(err)
				}
				for _, n := range []int{1, 2, 3, 5} {
					part := map[string]tensor.Any{}
					for name, x := range all {
						part[name] = head(x, n)
					}
					got, err := p.Run(context.Background(), part)
					if err != nil {
						t.Fatal(err)
					}
					for name := range want {
						compareBits(t, fmt.Sprintf("%s: %s with %d workers, %d images", s.ops(), name, workers, n), got[name], head(want[name], n))
					}
				}
			}
		})
	}
}

// head returns the first n images.
func head(x tensor.Any, n int) tensor.Any {
	f := x.(*tensor.Dense[float32])
	shape := f.Shape().Clone()
	per := f.Len() / shape[0]
	shape[0] = n
	return tensor.From(f.Data()[:n*per], shape...)
}

// TestProgramSegments runs a graph in two pieces at every inner value that cuts it, in both layouts.
func TestProgramSegments(t *testing.T) {
	for seed := range uint64(30) {
		s := randomNet(seed + 2000)
		feeds := s.feeds(2)
		cache := NewWeightCache()
		for _, nhwc := range []bool{false, true} {
			for _, n := range s.g.Nodes {
				cut := n.Outputs[0]
				if _, err := Compile(t.Context(), s.g, CompileOptions{Feeds: []string{cut}, Weights: cache}); err != nil {
					continue // another path leads around the cut
				}
				t.Run(fmt.Sprint(seed, cut, nhwc), func(t *testing.T) {
					whole := mustRun(t, s.g, CompileOptions{NHWC: nhwc, Weights: cache, Fetches: append(outputNames(s.g), cut)}, feedsAs(feeds, nhwc))
					first := mustRun(t, s.g, CompileOptions{NHWC: nhwc, Weights: cache, Fetches: []string{cut}}, feedsAs(feeds, nhwc))
					second := mustRun(t, s.g, CompileOptions{NHWC: nhwc, Weights: cache, Feeds: []string{cut}}, first)
					compareBits(t, cut, first[cut], whole[cut])
					for name, v := range second {
						compareBits(t, s.ops()+": "+name, v, whole[name])
					}
				})
			}
		}
	}
}

func outputNames(g *Graph) (names []string) {
	for _, o := range g.Outputs {
		names = append(names, o.Name)
	}
	return names
}

// feedsAs reorders images for CompileOptions.NHWC.
func feedsAs(feeds map[string]tensor.Any, nhwc bool) map[string]tensor.Any {
	out := map[string]tensor.Any{}
	for name, x := range feeds {
		f := x.(*tensor.Dense[float32])
		if s := f.Shape(); nhwc && len(s) == 4 {
			d := make([]float32, f.Len())
			ToNHWC(d, f.Data(), s[0], s[1], s[2]*s[3])
			f = tensor.From(d, s...)
		}
		out[name] = f
	}
	return out
}

// TestProgramErrors checks that bad options and feeds are named.
func TestProgramErrors(t *testing.T) {
	s := newSketch(1, tensor.Shape{1, 3, 8, 8})
	y := s.node("Relu", nil, s.conv("x0", 4, 3, 1, 1, 1, 1, true))
	g := s.output(y)
	for _, c := range []struct {
		name string
		o    CompileOptions
		want string
	}{
		{"no such fetch", CompileOptions{Fetches: []string{"nowhere"}}, `no value "nowhere" (in Fetches)`},
		{"no such feed", CompileOptions{Feeds: []string{"nowhere"}}, `no value "nowhere" (in Feeds)`},
		{"no such constant", CompileOptions{Consts: map[string]tensor.Any{"k": s.random(1)}}, `no constant "k"`},
		{"constant of another shape", CompileOptions{Consts: map[string]tensor.Any{"c0": s.random(4, 3, 3)}}, `"c0" is float32[4 3 3 3], its override is float32[4 3 3]`},
		{"missing feed", CompileOptions{Feeds: []string{"c1"}}, `needs the value "x0", which is not among the feeds`},
		{"nothing", CompileOptions{Fetches: []string{}}, "nothing to compute"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Compile(t.Context(), g, c.o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want it to say %q", err, c.want)
			}
		})
	}
	p, err := Compile(t.Context(), g, CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		feeds      map[string]tensor.Any
	}{
		{"missing", `no tensor for the feed "x0"`, nil},
		{"rank", `feed "x0" is float32[3 8 8], want float32[N 3 8 8]`, map[string]tensor.Any{"x0": s.random(3, 8, 8)}},
		{"size", `feed "x0" is float32[2 3 8 9], want float32[N 3 8 8]`, map[string]tensor.Any{"x0": s.random(2, 3, 8, 9)}},
		{"dtype", `feed "x0" is float64[1 3 8 8], want float32[N 3 8 8]`, map[string]tensor.Any{"x0": tensor.New[float64](1, 3, 8, 8)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := p.Run(context.Background(), c.feeds)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want it to say %q", err, c.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.Run(ctx, s.feeds(2)); !errors.Is(err, context.Canceled) {
		t.Errorf("error after cancellation is %v", err)
	}
	if res, err := p.Run(context.Background(), s.feeds(2)); err != nil || res[y] == nil {
		t.Errorf("run after failed runs: %v", err)
	}
}

// stopsAfter is a context that is done when it has been asked left times.
type stopsAfter struct {
	context.Context
	left int
}

func (c *stopsAfter) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestCompileCancelled stops a compilation before each node, in both of its passes over them: it ends there, and a program
// that was stopped while it planned for a new shape plans again.
func TestCompileCancelled(t *testing.T) {
	s := newSketch(5, tensor.Shape{1, 3, 8, 8})
	y := s.node("Relu", nil, s.conv(s.node("Relu", nil, s.conv("x0", 4, 3, 1, 1, 1, 1, true)), 4, 3, 1, 1, 1, 1, true))
	g := s.output(y)
	whole := &stopsAfter{t.Context(), math.MaxInt}
	p, err := Compile(whole, g, CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	asked := math.MaxInt - whole.left
	if asked < 2*len(g.Nodes) {
		t.Fatalf("the context was asked %d times for %d nodes", asked, len(g.Nodes))
	}
	for n := range asked {
		if _, err := Compile(&stopsAfter{t.Context(), n}, g, CompileOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("stopped at question %d of %d: error %v", n, asked, err)
		}
	}
	x := s.feeds(2)
	want, err := p.Run(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	for n := range asked {
		q, err := Compile(t.Context(), g, CompileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		q.variants = nil
		if _, err := q.Run(&stopsAfter{t.Context(), n}, x); !errors.Is(err, context.Canceled) {
			t.Errorf("a plan stopped at question %d of %d: error %v", n, asked, err)
		}
		got, err := q.Run(t.Context(), x)
		if err != nil {
			t.Fatal(err)
		}
		compareNear(t, "after a plan that was stopped", got[y], want[y], 0)
	}
}
