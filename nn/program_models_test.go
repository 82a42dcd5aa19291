package nn_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"roundel/asm"
	"roundel/internal/golden"
	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/tensor"
)

// TestProgramModels runs whole models: a program against the reference, folded
// and not, and the same bits with several workers and in pieces.
//
// Against ONNX Runtime 1.32 without optimisations the relative errors on 20 photos
// or 500 garments were below 2e-6 (bench/peers/ort_run.py).
func TestProgramModels(t *testing.T) {
	for _, name := range []string{"fashion_mobilenet", "fashion_resnet", "mobilenet_v2", "mobilenet_v2_bn", "resnet18_random"} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name[0] != 'f' {
				t.Skip("the reference takes seconds for this one")
			}
			g := readModel(t, golden.Shared(t, "models/"+name+".onnx"))
			in, out := g.Inputs[0], g.Outputs[0].Name
			shape := tensor.Shape{2}
			for _, d := range in.Type.Dims[1:] {
				shape = append(shape, d.Size)
			}
			feeds := map[string]tensor.Any{in.Name: smoothImages(shape)}
			cache := nn.NewWeightCache()
			plain := runModel(t, g, nn.CompileOptions{Weights: cache}, feeds, out)
			want, err := nn.Eval(context.Background(), g, map[string]tensor.Any{in.Name: firstImage(feeds[in.Name])})
			if err != nil {
				t.Fatal(err)
			}
			near(t, "program", firstImage(plain), want[out])
			near(t, "folded", firstImage(runModel(t, g, nn.CompileOptions{FoldBatchNorm: true}, feeds, out)), want[out])

			one := map[string]tensor.Any{in.Name: firstImage(feeds[in.Name])}
			pool := tensor.NewPool(2, asm.Best())
			same(t, "two workers, one image", runModel(t, g, nn.CompileOptions{Weights: cache, Pool: pool}, one, out), firstImage(plain))
			same(t, "two workers, two images", runModel(t, g, nn.CompileOptions{Weights: cache, Pool: pool}, feeds, out), plain)

			// Piece by piece: after every fifth node that is the only way from the input to the output.
			s := shape
			at, x := in.Name, tensor.Any(tensor.New[float32](s...))
			nn.ToNHWC(x.(*tensor.Dense[float32]).Data(), feeds[at].(*tensor.Dense[float32]).Data(), s[0], s[1], s[2]*s[3])
			for i := 4; i < len(g.Nodes); i += 5 {
				cut := g.Nodes[i].Outputs[0]
				o := nn.CompileOptions{Weights: cache, NHWC: true, Feeds: []string{cut}}
				if _, err := nn.Compile(t.Context(), g, o); err == nil {
					o.Feeds = []string{at}
					x = runModel(t, g, o, map[string]tensor.Any{at: x}, cut)
					at = cut
				}
			}
			same(t, "in pieces", runModel(t, g, nn.CompileOptions{Weights: cache, NHWC: true, Feeds: []string{at}}, map[string]tensor.Any{at: x}, out), plain)
		})
	}
}

func readModel(t *testing.T, path string) *nn.Graph {
	t.Helper()
	m, err := onnx.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	g, err := convert.ToGraph(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := nn.Verify(g); err != nil {
		t.Fatal(err)
	}
	return g
}

// smoothImages returns images of slow waves with some noise, about as large as normalised photos.
func smoothImages(shape tensor.Shape) tensor.Any {
	r := rand.New(rand.NewPCG(3, 5))
	x := tensor.New[float32](shape...)
	w := shape[3]
	for i := range x.Data() {
		plane, row, col := i/(w*shape[2]), i/w%shape[2], i%w
		x.Data()[i] = float32(1.5*math.Sin(float64(plane)+float64(row)/17)*math.Cos(float64(col)/11) + 0.3*r.NormFloat64())
	}
	return x
}

func firstImage(x tensor.Any) tensor.Any {
	f := x.(*tensor.Dense[float32])
	s := f.Shape().Clone()
	n := f.Len() / s[0]
	s[0] = 1
	return tensor.From(f.Data()[:n], s...)
}

func runModel(t *testing.T, g *nn.Graph, o nn.CompileOptions, feeds map[string]tensor.Any, fetch string) tensor.Any {
	t.Helper()
	o.Fetches = []string{fetch}
	p, err := nn.Compile(t.Context(), g, o)
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.Run(context.Background(), feeds)
	if err != nil {
		t.Fatal(err)
	}
	return res[fetch]
}

// near wants a largest error of at most 1e-5 of the largest element.
func near(t *testing.T, what string, got, want tensor.Any) {
	t.Helper()
	a, b := tensor.Float64s(got), tensor.Float64s(want)
	var worst, most float64
	for i := range b {
		worst, most = max(worst, math.Abs(a[i]-b[i])), max(most, math.Abs(b[i]))
	}
	if len(a) != len(b) || !(worst <= 1e-5*most) {
		t.Errorf("%s: largest error %v, largest element %v", what, worst, most)
	}
}

func same(t *testing.T, what string, got, want tensor.Any) {
	t.Helper()
	a, b := got.(*tensor.Dense[float32]).Data(), want.(*tensor.Dense[float32]).Data()
	if len(a) != len(b) {
		t.Fatalf("%s: %v elements, want %v", what, len(a), len(b))
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			t.Fatalf("%s: element %d is %v, want %v", what, i, a[i], b[i])
		}
	}
}
