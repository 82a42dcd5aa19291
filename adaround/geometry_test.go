package adaround

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"roundel/nn"
	"roundel/tensor"
)

func ints(v ...int64) nn.Attr { return nn.Attr{Kind: nn.AttrInts, Ints: v} }
func integer(v int64) nn.Attr { return nn.Attr{Kind: nn.AttrInt, I: v} }

func randomTensor(r *rand.Rand, shape ...int) *tensor.Dense[float32] {
	t := tensor.New[float32](shape...)
	for i := range t.Data() {
		t.Data()[i] = float32(r.NormFloat64())
	}
	return t
}

// TestGeometry: for every kind of layer, columns times rows are what the reference interpreter computes, from
// either memory order, and store undoes rows.
func TestGeometry(t *testing.T) {
	for _, c := range []struct {
		name, op string
		x, w     []int
		left     bool
		attrs    map[string]nn.Attr
	}{
		{"1-D", "Conv", []int{2, 4, 9}, []int{6, 2, 3}, false, map[string]nn.Attr{"group": integer(2), "pads": ints(1, 0), "strides": ints(2)}},
		{"2-D", "Conv", []int{2, 3, 7, 6}, []int{5, 3, 3, 2}, false, map[string]nn.Attr{"pads": ints(1, 0, 2, 1), "strides": ints(2, 1)}},
		{"dilated", "Conv", []int{1, 2, 9, 9}, []int{3, 2, 3, 3}, false, map[string]nn.Attr{"dilations": ints(2, 3), "pads": ints(2, 3, 2, 3)}},
		{"3-D", "Conv", []int{1, 2, 4, 5, 3}, []int{3, 2, 2, 3, 2}, false, map[string]nn.Attr{"pads": ints(0, 1, 0, 1, 1, 1)}},
		{"depthwise", "Conv", []int{2, 5, 6, 6}, []int{5, 1, 3, 3}, false, map[string]nn.Attr{"group": integer(5), "pads": ints(1, 1, 1, 1)}},
		{"same upper", "Conv", []int{1, 2, 7, 8}, []int{3, 2, 3, 2}, false,
			map[string]nn.Attr{"auto_pad": {Kind: nn.AttrString, S: "SAME_UPPER"}, "strides": ints(2, 2)}},
		{"same lower", "Conv", []int{1, 2, 7, 8}, []int{3, 2, 4, 2}, false, map[string]nn.Attr{"auto_pad": {Kind: nn.AttrString, S: "SAME_LOWER"}}},
		{"transposed", "ConvTranspose", []int{2, 4, 5, 4}, []int{4, 3, 3, 2}, false,
			map[string]nn.Attr{"strides": ints(2, 3), "pads": ints(1, 0, 0, 1), "output_padding": ints(1, 2)}},
		{"transposed, grouped", "ConvTranspose", []int{1, 4, 5, 5}, []int{4, 3, 3, 3}, false,
			map[string]nn.Attr{"group": integer(2), "strides": ints(2, 2), "dilations": ints(1, 2)}},
		{"product", "MatMul", []int{2, 3, 6}, []int{6, 4}, false, nil},
		{"product, weight left", "MatMul", []int{2, 6, 3}, []int{4, 6}, true, nil},
		{"gemm", "Gemm", []int{3, 6}, []int{4, 6}, false, map[string]nn.Attr{"transB": integer(1), "alpha": {Kind: nn.AttrFloat, F: 0.5}}},
		{"gemm, all transposed", "Gemm", []int{6, 3}, []int{6, 4}, false, map[string]nn.Attr{"transA": integer(1)}},
		{"gemm, weight left", "Gemm", []int{3, 6}, []int{6, 4}, true, map[string]nn.Attr{"transA": integer(1), "transB": integer(1)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			x, w := randomTensor(r, c.x...), randomTensor(r, c.w...)
			n := &nn.Node{Name: "n", Op: c.op, Inputs: []string{"x", "w"}, Outputs: []string{"y"}, Attrs: c.attrs}
			wi := 1
			if c.left {
				n.Inputs, wi = []string{"w", "x"}, 0
			}
			typ := nn.Type{DType: tensor.Float32, Ranked: true}
			for _, d := range c.x {
				typ.Dims = append(typ.Dims, nn.Known(d))
			}
			g := &nn.Graph{Nodes: []*nn.Node{n}, Inputs: []nn.ValueInfo{{Name: "x", Type: typ}}, Outputs: []nn.ValueInfo{{Name: "y"}},
				Consts: map[string]tensor.Any{"w": w}}
			out, err := nn.Eval(context.Background(), g, map[string]tensor.Any{"x": x})
			if err != nil {
				t.Fatal(err)
			}
			want := out["y"].(*tensor.Dense[float32])
			geo, err := newGeometry(n, w.Shape(), wi)
			if err != nil {
				t.Fatal(err)
			}
			rows := geo.rows(w.Data())
			for i, v := range geo.store(rows) {
				if v != w.Data()[i] {
					t.Fatalf("store(rows(w))[%d] = %g, want %g", i, v, w.Data()[i])
				}
			}
			checkColumns(t, geo, x.Data(), x.Shape(), nn.RowMajor, rows, want)
			if len(c.x) == 4 {
				nhwc := make([]float32, x.Len())
				nn.ToNHWC(nhwc, x.Data(), c.x[0], c.x[1], c.x[2]*c.x[3])
				checkColumns(t, geo, nhwc, x.Shape(), nn.NHWC, rows, want)
			}
		})
	}
}

func checkColumns(t *testing.T, geo *geometry, x []float32, shape tensor.Shape, layout nn.Layout, rows []float32, want *tensor.Dense[float32]) {
	t.Helper()
	r, err := geo.bind(shape, layout)
	if err != nil {
		t.Fatal(err)
	}
	outputs := geo.groups * geo.outs
	if r.batch*r.positions*outputs != want.Len() {
		t.Fatalf("%d positions in %d samples for %d outputs, want %v", r.positions, r.batch, outputs, want.Shape())
	}
	cols := make([]float32, geo.groups*geo.k)
	for i := range r.batch * r.positions {
		n, pos := i/r.positions, i%r.positions
		r.read(cols, geo.k, x, n, pos)
		for o := range outputs {
			var sum float64
			for k, v := range cols[o/geo.outs*geo.k:][:geo.k] {
				sum += float64(v) * float64(rows[o*geo.k+k])
			}
			at := (n*outputs+o)*r.positions + pos
			if r.in == nil && !geo.weightLeft {
				at = i*outputs + o
			}
			if got := float64(want.Data()[at]); math.Abs(got-sum) > 1e-4 {
				t.Fatalf("%v: output %d of position %d in sample %d: %g, want %g", layout, o, pos, n, sum, got)
			}
		}
	}
}

// loader gives batches of fixed tensors for one input.
type testLoader struct {
	name    string
	batches []tensor.Any
}

func (l testLoader) Len() int { return len(l.batches) }
func (l testLoader) Sample(_ context.Context, i int) (Batch, error) {
	return Batch{l.name: l.batches[i]}, nil
}

// smallNet is a residual network with a depthwise layer, several activations and a classifier.
func smallNet(r *rand.Rand) (*nn.Graph, testLoader) {
	typ := nn.Type{DType: tensor.Float32, Ranked: true, Dims: []nn.Dim{{Size: -1, Sym: "N"}, nn.Known(3), nn.Known(9), nn.Known(9)}}
	g := &nn.Graph{Inputs: []nn.ValueInfo{{Name: "x", Type: typ}}, Outputs: []nn.ValueInfo{{Name: "y"}}, Consts: map[string]tensor.Any{
		"six": tensor.Scalar[float32](6), "zero": tensor.Scalar[float32](0),
		"w0": randomTensor(r, 8, 3, 3, 3), "b0": randomTensor(r, 8), "w1": randomTensor(r, 8, 1, 3, 3), "b1": randomTensor(r, 8),
		"w2": randomTensor(r, 8, 8, 1, 1), "b2": randomTensor(r, 8), "w3": randomTensor(r, 5, 8), "b3": randomTensor(r, 5)}}
	pads := map[string]nn.Attr{"pads": ints(1, 1, 1, 1)}
	dw := map[string]nn.Attr{"pads": ints(1, 1, 1, 1), "group": integer(8)}
	add := func(op string, attrs map[string]nn.Attr, out string, in ...string) {
		g.Nodes = append(g.Nodes, &nn.Node{Name: "/" + out + "/" + op, Op: op, Inputs: in, Outputs: []string{out}, Attrs: attrs})
	}
	add("Conv", pads, "c0", "x", "w0", "b0")
	add("Relu", nil, "a0", "c0")
	add("Conv", dw, "c1", "a0", "w1", "b1")
	add("Clip", nil, "a1", "c1", "zero", "six")
	add("Conv", nil, "c2", "a1", "w2", "b2")
	add("Add", nil, "s", "c2", "a0")
	add("GlobalAveragePool", nil, "p", "s")
	add("Flatten", map[string]nn.Attr{"axis": integer(1)}, "f", "p")
	add("Gemm", map[string]nn.Attr{"transB": integer(1)}, "y", "f", "w3", "b3")
	l := testLoader{name: "x"}
	for range 40 {
		l.batches = append(l.batches, randomTensor(r, 1, 3, 9, 9))
	}
	return g, l
}

// TestApplyIsReproducible: workers, the memory for cuts and the size of batches change no byte; the input graph stays as it is.
func TestApplyIsReproducible(t *testing.T) {
	for _, solver := range []SolverKind{Fast, Adam} {
		t.Run(string(solver), func(t *testing.T) {
			g, loader := smallNet(rand.New(rand.NewPCG(3, 3)))
			if err := nn.Verify(g); err != nil {
				t.Fatal(err)
			}
			before := g.ConstF32("w0").Clone()
			cfg := DefaultConfig()
			cfg.Solver, cfg.NumIterations, cfg.Positions, cfg.DataLoader = solver, 50, 600, loader
			var first *Result
			for _, run := range []struct {
				workers int
				memory  int64
			}{{1, 1 << 30}, {3, 1 << 30}, {2, 0}} {
				cfg.Workers, cfg.Memory = run.workers, run.memory
				res, err := Apply(context.Background(), g, cfg)
				if err != nil {
					t.Fatal(err)
				}
				if first == nil {
					first = res
					checkResult(t, g, res)
				}
				for name := range g.Consts {
					a, b := first.Graph.ConstF32(name), res.Graph.ConstF32(name)
					for i := range a.Data() {
						if a.Data()[i] != b.Data()[i] {
							t.Fatalf("%d workers and %d bytes change %s at %d", run.workers, run.memory, name, i)
						}
					}
				}
			}
			for i, v := range before.Data() {
				if g.ConstF32("w0").Data()[i] != v {
					t.Fatal("the input graph was changed")
				}
			}
		})
	}
}

// checkResult: four layers are reported, weights lie on their encodings, and no layer is worse than nearest rounding where it is judged.
func checkResult(t *testing.T, g *nn.Graph, res *Result) {
	t.Helper()
	if len(res.Layers) != 4 || len(res.ParamEncodings) != 4 {
		t.Fatalf("%d layers and %d encodings, want 4", len(res.Layers), len(res.ParamEncodings))
	}
	for i, act := range []string{"clamp", "clamp", "identity", "identity"} {
		if l := res.Layers[i]; l.Activation != act || l.Final.HeldOut > l.Nearest.HeldOut || l.HeldOut == 0 {
			t.Errorf("layer %d: %+v, want activation %s", i, l, act)
		}
	}
	for name, enc := range res.ParamEncodings {
		w := res.Graph.ConstF32(name)
		q, err := enc.QuantizeDequantizeTensor(w)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range w.Data() {
			if math.Abs(float64(v-q.Data()[i])) > 1e-5*math.Abs(float64(v)) {
				t.Fatalf("%s[%d] = %g is not on its grid; nearest is %g", name, i, v, q.Data()[i])
			}
		}
	}
}

func TestApplyNames(t *testing.T) {
	g, loader := smallNet(rand.New(rand.NewPCG(3, 3)))
	cfg := DefaultConfig()
	cfg.DataLoader, cfg.Positions = loader, 300
	cfg.IgnoreOps, cfg.ParamBitsOverrides = []string{"/c0/Cunv", "/nothing/*"}, map[string]int{"w7": 8}
	_, err := Apply(context.Background(), g, cfg)
	for _, want := range []string{`"/c0/Cunv"`, `the nearest name is "/c0/Conv"`, `"/nothing/*"`, `"w7"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %s", err, want)
		}
	}
	cfg.IgnoreOps, cfg.ParamBitsOverrides = []string{"/c1/*"}, map[string]int{"w*": 6, "w3": 8}
	if err := nn.Verify(g); err != nil {
		t.Fatal(err)
	}
	res, err := Apply(context.Background(), g, cfg)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, l := range res.Layers {
		got += fmt.Sprintf("%s:%d ", l.Weight, l.Bits)
	}
	if want := "w0:6 w2:6 w3:8 "; got != want {
		t.Errorf("rounded %s, want %s", got, want)
	}
	if len(res.Skipped) != 1 || res.Skipped[0].Node != "/c1/Conv" {
		t.Errorf("skipped %v", res.Skipped)
	}
}

// TestSharedWeight: a weight with two users is rounded once, and both see it.
func TestSharedWeight(t *testing.T) {
	g, loader := smallNet(rand.New(rand.NewPCG(3, 3)))
	second := *g.Nodes[4]
	second.Name, second.Inputs, second.Outputs = "/again/Conv", []string{"c2", "w2", "b2"}, []string{"again"}
	g.Nodes[5].Inputs[0] = "again"
	g.Nodes = append(g.Nodes[:5], append([]*nn.Node{&second}, g.Nodes[5:]...)...)
	if err := nn.Verify(g); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.DataLoader, cfg.Positions = loader, 300
	res, err := Apply(context.Background(), g, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Layers) != 4 || len(res.Layers[2].Shared) != 1 || res.Layers[2].Shared[0] != "/again/Conv" {
		t.Errorf("layers %+v", res.Layers)
	}
	for i, v := range res.Graph.ConstF32("b2").Data() {
		if v != g.ConstF32("b2").Data()[i] {
			t.Fatal("the bias of a shared weight was changed")
		}
	}
}
