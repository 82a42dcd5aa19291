package nn

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"roundel/asm"
	"roundel/tensor"
)

// nodewise executes a graph one node at a time, each as a Program of its own, and
// quantizes values in between: what fusion and memory planning must not change.
func nodewise(t *testing.T, g *Graph, quant map[string]tensor.FakeQuant, feeds map[string]tensor.Any) map[string]tensor.Any {
	t.Helper()
	vals := map[string]tensor.Any{}
	set := func(name string, x tensor.Any) {
		if q, ok := quant[name]; ok {
			f := x.(*tensor.Dense[float32]).Clone()
			tensor.QuantDequant(f.Data(), f.Data(), q, asm.Best())
			x = f
		}
		vals[name] = x
	}
	for name, x := range feeds {
		set(name, x)
	}
	consts := map[string]tensor.Any{}
	for name := range g.Consts {
		if q, ok := quant[name]; ok {
			f := g.ConstF32(name).Clone()
			tensor.QuantDequant(f.Data(), f.Data(), q, asm.Best())
			consts[name] = f
		}
	}
	for _, n := range g.Nodes {
		var in []string
		for _, name := range n.Inputs {
			if g.Consts[name] == nil {
				in = append(in, name)
			}
		}
		res := mustRun(t, g, CompileOptions{Feeds: in, Fetches: n.Outputs, Consts: consts}, vals)
		for name, x := range res {
			set(name, x)
		}
	}
	return vals
}

// TestProgramFusion wants the bits of an execution node by node, with and without fake quantization.
func TestProgramFusion(t *testing.T) {
	for seed := range uint64(60) {
		s := randomNet(seed + 3000)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			quant := map[string]tensor.FakeQuant{}
			for _, n := range s.g.Nodes {
				if out := n.Outputs[0]; seed%2 == 1 && s.r.IntN(3) > 0 {
					quant[out] = tensor.FakeQuant{Scale: 0.05, ZeroPoint: float32(s.r.IntN(100)), QMin: 0, QMax: 255}
				}
				if n.Op == "Conv" && seed%4 == 1 {
					quant[n.Inputs[1]] = tensor.FakeQuant{Scale: 0.01, QMin: -128, QMax: 127}
				}
			}
			if seed%4 == 3 {
				quant["x0"] = tensor.FakeQuant{Scale: 0.1, ZeroPoint: 7, QMin: 0, QMax: 15}
			}
			feeds := s.feeds(2)
			want := nodewise(t, s.g, quant, feeds)
			got := mustRun(t, s.g, CompileOptions{FakeQuant: quant}, feeds)
			for name := range got {
				compareBits(t, fmt.Sprint(s.ops(), ": ", name, quant), got[name], want[name])
			}
		})
	}
}

// TestProgramSteps checks what is fused into how many steps.
func TestProgramSteps(t *testing.T) {
	build := func() (*sketch, map[string]string) {
		s := newSketch(3, tensor.Shape{1, 8, 6, 6})
		v := map[string]string{}
		v["a"] = s.node("Relu", nil, s.conv("x0", 8, 3, 1, 1, 1, 1, true))
		v["short"] = s.batchNorm(s.conv(v["a"], 8, 1, 1, 0, 1, 1, false))
		v["main"] = s.batchNorm(s.conv(v["a"], 8, 3, 1, 1, 1, 1, false))
		v["sum"] = s.node("Add", nil, v["short"], v["main"])
		v["act"] = s.node("Clip", nil, v["sum"], s.scalar(0), s.scalar(6))
		v["flat"] = s.node("Flatten", nil, s.node("GlobalAveragePool", nil, v["act"]))
		m := s.node("MatMul", nil, v["flat"], s.weight(8, 8, 4))
		v["out"] = s.node("Add", nil, m, s.constant(s.random(4)))
		s.output(v["out"])
		return s, v
	}
	q := tensor.FakeQuant{Scale: 0.1, QMin: -128, QMax: 127}
	for _, c := range []struct {
		name  string
		o     func(v map[string]string) CompileOptions
		steps int
	}{
		// One transposition of the input, 3 convolutions, the pool, the product and the copy of the result.
		{"folded", func(map[string]string) CompileOptions { return CompileOptions{FoldBatchNorm: true} }, 7},
		{"not folded", func(map[string]string) CompileOptions { return CompileOptions{} }, 7 + 3},
		{"quantized sum", func(v map[string]string) CompileOptions {
			return CompileOptions{FoldBatchNorm: true, FakeQuant: map[string]tensor.FakeQuant{v["sum"]: q}}
		}, 7 + 1},
		{"quantized result of a group", func(v map[string]string) CompileOptions {
			return CompileOptions{FoldBatchNorm: true, FakeQuant: map[string]tensor.FakeQuant{v["act"]: q, v["out"]: q}}
		}, 7},
		{"quantized input", func(map[string]string) CompileOptions {
			return CompileOptions{FoldBatchNorm: true, FakeQuant: map[string]tensor.FakeQuant{"x0": q}}
		}, 7 + 1},
		{"tapped inside", func(v map[string]string) CompileOptions {
			return CompileOptions{FoldBatchNorm: true, Taps: []string{v["main"]}}
		}, 7 + 1}, // the other convolution takes the Add
		{"one layer", func(v map[string]string) CompileOptions {
			return CompileOptions{NHWC: true, Feeds: []string{v["a"]}, Fetches: []string{v["main"]}, FoldBatchNorm: true}
		}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, v := build()
			p, err := Compile(t.Context(), s.g, c.o(v))
			if err != nil {
				t.Fatal(err)
			}
			if got := len(p.variants[0].plan.steps); got != c.steps {
				t.Errorf("%d steps, want %d", got, c.steps)
			}
		})
	}
}

// TestProgramTaps checks that taps see every image once, in order within a worker, and that values are right.
func TestProgramTaps(t *testing.T) {
	for seed := range uint64(10) {
		s := randomNet(seed + 4000)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			taps := []string{"x0"}
			for _, n := range s.g.Nodes {
				taps = append(taps, n.Outputs[0])
			}
			feeds := s.feeds(5)
			want := mustRun(t, s.g, CompileOptions{Fetches: taps}, feeds)
			p, err := Compile(t.Context(), s.g, CompileOptions{Fetches: []string{}, Taps: taps, Pool: tensor.NewPool(3, asm.Kernels{})})
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			seen := map[string]int{}
			last := map[int]int{}
			res, err := p.RunTaps(context.Background(), feeds, func(tap Tap) {
				mu.Lock()
				defer mu.Unlock()
				seen[tap.Name]++
				if tap.Image < last[tap.Worker] {
					t.Errorf("worker %d: image %d after %d", tap.Worker, tap.Image, last[tap.Worker])
				}
				last[tap.Worker] = tap.Image
				w := want[tap.Name].(*tensor.Dense[float32])
				per := w.Len() / 5
				compareBits(t, tap.Name, tensor.From(slices.Clone(tap.RowMajor(nil)), tap.Shape...), tensor.From(w.Data()[tap.Image*per:][:per], tap.Shape...))
			})
			if err != nil || len(res) != 0 {
				t.Fatal(res, err)
			}
			for _, name := range taps {
				if seen[name] != 5 {
					t.Errorf("%s was seen %d times", name, seen[name])
				}
			}
		})
	}
}

// TestProgramNoAllocs wants no allocation in the steady state.
func TestProgramNoAllocs(t *testing.T) {
	s := newSketch(5, tensor.Shape{1, 3, 16, 16})
	x := s.node("Relu", nil, s.conv("x0", 16, 3, 2, 1, 1, 1, true))
	y := s.conv(s.conv(x, 0, 3, 1, 1, 1, -1, true), 16, 1, 1, 0, 1, 1, true)
	z := s.node("Relu", nil, s.node("Add", nil, x, y))
	z = s.batchNorm(s.node("MaxPool", map[string]any{"kernel_shape": []int64{3, 3}, "strides": []int64{2, 2}}, z))
	z = s.node("AveragePool", map[string]any{"kernel_shape": []int64{2, 2}}, s.node("Concat", map[string]any{"axis": 1}, z, z))
	f := s.node("Flatten", nil, s.node("GlobalAveragePool", nil, z))
	s.output(s.node("Gemm", nil, f, s.weight(32, 32, 10), s.constant(s.random(10))))
	for _, workers := range []int{1, 2} {
		p, err := Compile(t.Context(), s.g, CompileOptions{Pool: tensor.NewPool(workers, asm.Kernels{}),
			FakeQuant: map[string]tensor.FakeQuant{x: {Scale: 0.1, QMax: 255}, "x0": {Scale: 0.1, QMin: -128, QMax: 127}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 2, 5} {
			feeds := s.feeds(n)
			out := map[string]*tensor.Dense[float32]{s.g.Outputs[0].Name: tensor.New[float32](n, 10)}
			run := func() {
				if err := p.RunInto(context.Background(), feeds, out); err != nil {
					t.Fatal(err)
				}
			}
			run()
			run()
			// A collection may empty the pools that drivers keep their state in.
			if a := testing.AllocsPerRun(50, run); a >= 1 {
				t.Errorf("%d workers, %d images: %v allocations per run", workers, n, a)
			}
			compareBits(t, "RunInto", out[s.g.Outputs[0].Name], mustRun(t, s.g, p.o, feeds)[s.g.Outputs[0].Name])
		}
	}
}

// TestMemoryPlan checks that buffers alive at the same time do not overlap, that places are aligned, and that dying inputs are taken over.
func TestMemoryPlan(t *testing.T) {
	for seed := range uint64(40) {
		s := randomNet(seed + 5000)
		p, err := Compile(t.Context(), s.g, CompileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		checkPlan(t, p.variants[0].plan)
	}
	a, b, c, d := &buffer{n: 100}, &buffer{n: 100}, &buffer{n: 100}, &buffer{n: 50}
	steps := []*step{
		{writes: []*buffer{a}},
		{reads: []*buffer{a}, writes: []*buffer{b}, inplace: []*buffer{a}},
		{reads: []*buffer{b}, writes: []*buffer{c}, inplace: []*buffer{b}},
		{reads: []*buffer{b, c}, writes: []*buffer{d}},
	}
	if n, _ := planMemory(steps); n != 2*112+64 {
		t.Errorf("arena of %d floats, want %d", n, 2*112+64)
	}
	if a.off != b.off || b.off == c.off {
		t.Errorf("offsets %d %d %d: want b in place of a, and c elsewhere", a.off, b.off, c.off)
	}
}

func checkPlan(t *testing.T, pl *plan) {
	t.Helper()
	steps := make([]*step, len(pl.steps))
	for i := range pl.steps {
		steps[i] = &pl.steps[i]
	}
	bufs := slices.DeleteFunc(liveness(steps), func(b *buffer) bool { return b.kind != bufArena })
	for i, a := range bufs {
		if a.off%alignFloats != 0 || a.off+a.n > pl.arena {
			t.Errorf("buffer of %d at %d in an arena of %d", a.n, a.off, pl.arena)
		}
		for _, b := range bufs[:i] {
			// A buffer may begin in the step where the one it takes over ends.
			together := a.first < b.last && b.first < a.last || a.first == b.first
			if together && a.off < b.off+b.n && b.off < a.off+a.n {
				t.Errorf("buffers of %d at %d (%d-%d) and %d at %d (%d-%d) overlap", a.n, a.off, a.first, a.last, b.n, b.off, b.first, b.last)
			}
		}
	}
}

// TestProgramOperators runs operators with fast paths in their special cases.
func TestProgramOperators(t *testing.T) {
	pair := func(s *sketch, x string, scale float32, zero tensor.Any) string {
		sc, z := s.scalar(scale), s.constant(zero)
		return s.node("DequantizeLinear", nil, s.node("QuantizeLinear", nil, x, sc, z), sc, z)
	}
	slopes := func(s *sketch, shape ...int) string {
		c := s.random(shape...)
		for i, v := range c.Data() {
			c.Data()[i] = min(v*v, 1) + 0.001
		}
		return s.constant(c)
	}
	for _, c := range []struct {
		name  string
		shape tensor.Shape
		build func(s *sketch) string
		steps int // 0: any
		bound float64
	}{
		{"conv and pair", tensor.Shape{1, 3, 5, 7}, func(s *sketch) string {
			return pair(s, s.node("Relu", nil, s.conv("x0", 5, 3, 1, 1, 1, 1, true)), 1, tensor.Scalar(int8(-100)))
		}, 3, 0},
		{"pair alone", tensor.Shape{1, 3, 5, 7}, func(s *sketch) string { return pair(s, "x0", 0.03, tensor.Scalar(uint8(90))) }, 2, 0},
		{"scale and pair", tensor.Shape{1, 24}, func(s *sketch) string {
			return pair(s, s.node("Mul", nil, "x0", s.scalar(3)), 0.5, tensor.Scalar(int16(3)))
		}, 2, 0},
		{"pair with other zero", tensor.Shape{1, 6}, func(s *sketch) string {
			sc := s.scalar(0.1)
			q := s.node("QuantizeLinear", nil, "x0", sc, s.constant(tensor.Scalar(int8(3))))
			return s.node("DequantizeLinear", nil, q, sc, s.constant(tensor.Scalar(int8(4))))
		}, 3, 0},
		{"code read twice", tensor.Shape{1, 6}, func(s *sketch) string {
			sc := s.scalar(0.1)
			q := s.node("QuantizeLinear", nil, "x0", sc)
			return s.node("Add", nil, s.node("DequantizeLinear", nil, q, sc), s.node("DequantizeLinear", nil, q, sc))
		}, 0, 0},
		{"norm of sequences, clamped and quantized", tensor.Shape{1, 4, 9}, func(s *sketch) string {
			return pair(s, s.node("Relu", nil, s.batchNorm("x0")), 0.25, tensor.Scalar(uint8(0)))
		}, 0, 0},
		{"hard sigmoid", tensor.Shape{1, 3, 5, 7}, func(s *sketch) string {
			return s.node("HardSigmoid", map[string]any{"alpha": 0.3, "beta": 0.4}, s.conv("x0", 5, 3, 1, 1, 1, 1, true))
		}, 4, 1e-6},
		{"hard swish", tensor.Shape{1, 3, 65, 71}, func(s *sketch) string { return s.node("HardSwish", nil, "x0") }, 2, 1e-6},
		{"leaky", tensor.Shape{1, 3, 65, 71}, func(s *sketch) string { return s.node("LeakyRelu", map[string]any{"alpha": 0.2}, "x0") }, 2, 1e-6},
		{"leaky upwards", tensor.Shape{1, 37}, func(s *sketch) string { return s.node("LeakyRelu", map[string]any{"alpha": 1.5}, "x0") }, 2, 0},
		{"slope per channel", tensor.Shape{1, 6, 5, 5}, func(s *sketch) string { return s.node("PRelu", nil, "x0", slopes(s, 6, 1, 1)) }, 0, 1e-6},
		{"one slope", tensor.Shape{1, 6, 5, 5}, func(s *sketch) string { return s.node("PRelu", nil, "x0", slopes(s, 1)) }, 0, 1e-6},
		{"exact functions", tensor.Shape{1, 3, 5, 7}, func(s *sketch) string {
			y := s.node("Mish", nil, s.node("Softsign", nil, s.node("Sin", nil, "x0")))
			return s.node("Neg", nil, s.node("Softplus", nil, y))
		}, 0, 0},
		{"flat multiplication", tensor.Shape{1, 3, 5, 7}, func(s *sketch) string {
			y := s.node("Reshape", nil, s.node("Relu", nil, "x0"), s.ints(0, 105))
			return s.node("Mul", nil, y, s.node("Sigmoid", nil, y))
		}, 0, 1e-6},
		{"reshaped image", tensor.Shape{1, 6, 5, 4}, func(s *sketch) string {
			return s.node("Reshape", nil, s.conv("x0", 6, 1, 1, 0, 1, 1, false), s.ints(0, 3, 10, 4))
		}, 0, 1e-5},
		{"result that shares memory", tensor.Shape{1, 3, 5, 7}, func(s *sketch) string {
			y := s.conv("x0", 3, 1, 1, 0, 1, 1, true)
			kept := s.node("Cast", map[string]any{"to": 1}, s.node("Reshape", nil, y, s.ints(0, 105)))
			for range 4 { // each takes the place of the one before
				y = s.node("Abs", nil, s.conv(s.node("Sin", nil, y), 3, 1, 1, 0, 1, 1, true))
			}
			return s.node("Sub", nil, kept, s.node("Reshape", nil, y, s.ints(0, 105)))
		}, 0, 1e-5},
		{"split and shuffle", tensor.Shape{1, 6, 5, 7}, func(s *sketch) string {
			y := s.node("Slice", nil, s.conv("x0", 6, 1, 1, 0, 1, 1, false), s.ints(2), s.ints(6), s.ints(1))
			return s.conv(s.node("Concat", map[string]any{"axis": -3}, y, "x0"), 4, 3, 2, 1, 1, 2, false)
		}, 0, 1e-5},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSketch(21, c.shape)
			s.output(c.build(s))
			feeds := s.feeds(3)
			want, err := Eval(context.Background(), s.g, feeds)
			if err != nil {
				t.Fatal(err)
			}
			p, err := Compile(t.Context(), s.g, CompileOptions{Pool: tensor.NewPool(2, asm.Kernels{})})
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Run(context.Background(), feeds)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(p.variants[0].plan.steps); c.steps > 0 && n != c.steps {
				t.Errorf("%d steps, want %d", n, c.steps)
			}
			for name := range want {
				compareNear(t, name, got[name], want[name], c.bound)
			}
		})
	}
}
