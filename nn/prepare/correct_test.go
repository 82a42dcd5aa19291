package prepare

import (
	"errors"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"roundel/internal/golden"
	"roundel/nn"
	"roundel/tensor"
)

// coarse rounds weights to multiples of 1/4 downwards, which shifts the mean of every output.
func coarse(g *nn.Graph) map[string]tensor.Any {
	q := map[string]tensor.Any{}
	for name := range g.Consts {
		w := g.ConstF32(name)
		if !strings.HasPrefix(name, "w") || w == nil {
			continue
		}
		v := tensor.New[float32](w.Shape()...)
		for i, x := range w.Data() {
			v.Data()[i] = float32(math.Floor(float64(x)*4) / 4)
		}
		q[name] = v
	}
	return q
}

func batches(n int, shape ...int) iter.Seq2[map[string]tensor.Any, error] {
	return func(yield func(map[string]tensor.Any, error) bool) {
		for i := range n {
			r := random{rand.New(rand.NewPCG(uint64(i), 3))}
			x := tensor.From(r.values(tensor.Shape(shape).Len(), -1, 2), shape...)
			if !yield(map[string]tensor.Any{"x": x}, nil) {
				return
			}
		}
	}
}

// manyLayers has every kind of layer, with and without bias.
func manyLayers() *nn.Graph {
	r := random{rand.New(rand.NewPCG(9, 9))}
	b := newGraph("x", 2, 3, 6, 6)
	r.weight(b, "w1", 4, 3, 3, 3)
	r.weight(b, "w2", 4, 1, 3, 3)
	r.weight(b, "b2", 4)
	r.weight(b, "w3", 4, 3, 2, 2)
	r.weight(b, "w4", 5, 75)
	r.weight(b, "w5", 5, 3)
	b.node("c1", "Conv", attrs{"pads": ints(1, 1, 1, 1)}, "x", "w1").node("r1", "Relu", nil, "c1").node("c2", "Conv", group(4), "r1", "w2", "b2")
	b.node("c3", "ConvTranspose", nil, "c2", "w3").node("r3", "Relu", nil, "c3").node("f", "Flatten", nil, "r3")
	return b.node("g", "Gemm", attrs{"transB": integer(1)}, "f", "w4").node("r4", "Relu", nil, "g").node("y", "MatMul", nil, "r4", "w5").output("y")
}

// TestCorrectBiasMeans checks the definition: with quantized weights and the new biases, every layer has the mean that it
// has in float. The means are taken with the plain reference.
func TestCorrectBiasMeans(t *testing.T) {
	g := manyLayers()
	q := coarse(g)
	samples := batches(4, 2, 3, 6, 6)
	steps := 0
	out, rep, err := CorrectBias(t.Context(), g, q, samples, BiasOptions{Step: func(string, int, int) { steps++ }})
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Done) != 5 || len(rep.Skipped) != 0 || steps != 5 {
		t.Errorf("%d steps, done %v, skipped %v", steps, rep.Done, rep.Skipped)
	}
	for name := range q {
		if out.Consts[name] != g.Consts[name] {
			t.Errorf("%s of the result is not the float weight", name)
		}
	}
	quant := out.Clone()
	maps.Copy(quant.Consts, q)
	for _, name := range []string{"c1", "c2", "c3", "g", "y"} {
		want, have, before := meanOf(t, g, name, samples), meanOf(t, quant, name, samples), 0.0
		plain := g.Clone()
		maps.Copy(plain.Consts, q)
		for i, v := range meanOf(t, plain, name, samples) {
			before = max(before, math.Abs(v-want[i]))
			if d := math.Abs(have[i] - want[i]); d > 1e-4 {
				t.Errorf("%s channel %d: mean %v, in float %v", name, i, have[i], want[i])
			}
		}
		if before < 0.01 {
			t.Errorf("%s: quantization moves the mean by %v only; the test shows nothing", name, before)
		}
	}
}

// meanOf computes the mean of each channel of a value with the reference.
func meanOf(t *testing.T, g *nn.Graph, name string, samples iter.Seq2[map[string]tensor.Any, error]) []float64 {
	t.Helper()
	g = g.Clone()
	g.Outputs = []nn.ValueInfo{{Name: name}}
	sums, counts := map[string][]float64{}, map[string]int{}
	for feeds := range samples {
		res, err := nn.Eval(t.Context(), g, feeds)
		if err == nil {
			err = addMeans(sums, counts, res)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range sums[name] {
		sums[name][i] /= float64(counts[name])
	}
	return sums[name]
}

// TestCorrectBiasAnalytic uses samples that are distributed as the batch norm says, and compares with the correction
// that the samples give.
func TestCorrectBiasAnalytic(t *testing.T) {
	for _, act := range []string{"", "Relu", "Clip"} {
		t.Run(act, func(t *testing.T) {
			b := newGraph("x", 1, 2, 64, 64).constant("w", []float32{1, 0, 0, 1}, 2, 2, 1, 1)
			b.node("c", "Conv", nil, "x", "w").bn("n", "c", [4][]float32{{0.8, 2}, {0.5, -1}, {0, 0}, {1, 1}})
			b.constant("lo", []float32{0}).constant("hi", []float32{1.5})
			in := "a"
			switch act {
			case "":
				in = "n"
			case "Relu":
				b.node("a", act, nil, "n")
			case "Clip":
				b.node("a", act, nil, "n", "lo", "hi")
			}
			r := random{rand.New(rand.NewPCG(2, 9))}
			r.weight(b, "w2", 3, 2, 1, 1)
			g, rep := apply(t, b.node("y", "Conv", nil, in, "w2").output("y"), DefaultConfig())
			normal := func(yield func(map[string]tensor.Any, error) bool) {
				for i := range uint64(30) {
					rng := rand.New(rand.NewPCG(i, 5))
					x := tensor.New[float32](1, 2, 64, 64)
					for j := range x.Data() {
						x.Data()[j] = float32(rng.NormFloat64())
					}
					if !yield(map[string]tensor.Any{"x": x}, nil) {
						return
					}
				}
			}
			q := map[string]tensor.Any{"w2": coarse(g)["w2"]}
			want, _, err := CorrectBias(t.Context(), g, q, normal, BiasOptions{})
			if err != nil {
				t.Fatal(err)
			}
			none := func(func(map[string]tensor.Any, error) bool) {}
			got, _, err := CorrectBias(t.Context(), g, q, none, BiasOptions{Moments: rep.Moments})
			if err != nil {
				t.Fatal(err)
			}
			if err := golden.Close(got.Consts["n_y.bias"], want.Consts["n_y.bias"], 0, 0.01); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestClippedMean compares with a numerical integral.
func TestClippedMean(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range [][4]float64{{0.3, 1, 0, inf}, {-2, 0.5, 0, inf}, {4, 3, 0, 6}, {-1, 2, 0, 1}, {7, 0.1, 0, 6}, {1.5, 0, 0, 6}, {-1.5, 0, 0, 6}, {-3, 2, -inf, inf}} {
		want, n := 0.0, 200000
		for i := range n {
			z := -10 + 20*(float64(i)+0.5)/float64(n)
			want += min(max(c[0]+c[1]*z, c[2]), c[3]) * math.Exp(-z*z/2) / math.Sqrt(2*math.Pi) * 20 / float64(n)
		}
		if got := clippedMean(c[0], c[1], c[2], c[3]); math.Abs(got-want) > 1e-6 {
			t.Errorf("clippedMean%v = %v, want %v", c, got, want)
		}
	}
}

func TestCorrectBiasCases(t *testing.T) {
	g := manyLayers()
	q := coarse(g)
	broken := errors.New("disk on fire")
	failing := func(yield func(map[string]tensor.Any, error) bool) { yield(nil, broken) }
	if _, _, err := CorrectBias(t.Context(), g, q, failing, BiasOptions{}); !errors.Is(err, broken) {
		t.Errorf("failing samples: %v", err)
	}
	if _, _, err := CorrectBias(t.Context(), g, q, batches(0), BiasOptions{}); err == nil || !strings.Contains(err.Error(), "no samples") {
		t.Errorf("no samples: %v", err)
	}
	if _, _, err := CorrectBias(t.Context(), g, map[string]tensor.Any{"w1": tensor.New[float32](2)}, batches(1, 2, 3, 6, 6), BiasOptions{}); err == nil || !strings.Contains(err.Error(), "w1") {
		t.Errorf("wrong shape: %v", err)
	}
	out, rep, err := CorrectBias(t.Context(), g, map[string]tensor.Any{"w1": q["w1"], "w5": q["w5"]}, batches(1, 2, 3, 6, 6), BiasOptions{Skip: []string{"n_y"}})
	if err != nil || len(rep.Done) != 1 || rep.Done[0].Node != "n_c1" || out.Consts["n_c1.bias"] == nil {
		t.Errorf("one layer: %v, %v", rep, err)
	}
}
