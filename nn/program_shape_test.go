package nn

import (
	"context"
	"slices"
	"strings"
	"testing"

	"roundel/asm"
	"roundel/tensor"
)

// TestProgramWholeBatch covers graphs that mix images, and those that seem to.
func TestProgramWholeBatch(t *testing.T) {
	for _, c := range []struct {
		name      string
		build     func(s *sketch) string
		imagewise bool
	}{
		{"softmax over images", func(s *sketch) string {
			return s.node("Softmax", map[string]any{"axis": 0}, s.conv("x0", 4, 3, 1, 1, 1, 1, true))
		}, false},
		{"mean over everything", func(s *sketch) string {
			return s.node("Sub", nil, "x0", s.node("ReduceMean", nil, s.node("Relu", nil, "x0")))
		}, false},
		{"fixed flattening", func(s *sketch) string {
			return s.node("Reshape", nil, s.conv("x0", 2, 1, 1, 0, 1, 1, true), s.ints(-1, 50))
		}, true},
		{"flattening across images", func(s *sketch) string {
			return s.node("Reshape", nil, s.conv("x0", 2, 1, 1, 0, 1, 1, true), s.ints(-1, 10))
		}, false},
		{"shape arithmetic", func(s *sketch) string {
			n := s.node("Gather", map[string]any{"axis": 0}, s.node("Shape", nil, "x0"), s.ints(0))
			to := s.node("Concat", map[string]any{"axis": 0}, n, s.ints(-1))
			return s.node("Reshape", nil, s.conv("x0", 2, 1, 1, 0, 1, 1, true), to)
		}, true},
		{"shape as data", func(s *sketch) string {
			n := s.node("Cast", map[string]any{"to": 1}, s.node("Gather", map[string]any{"axis": 0}, s.node("Shape", nil, "x0"), s.ints(0)))
			return s.node("Mul", nil, "x0", n)
		}, false},
		{"channel shuffle", func(s *sketch) string {
			x := s.node("Reshape", nil, s.conv("x0", 6, 1, 1, 0, 1, 1, true), s.ints(0, 2, 3, 5, 5))
			x = s.node("Transpose", map[string]any{"perm": []int64{0, 2, 1, 3, 4}}, x)
			return s.conv(s.node("Reshape", nil, x, s.ints(0, 6, 5, 5)), 4, 3, 1, 1, 1, 1, false)
		}, true},
		{"images last", func(s *sketch) string {
			return s.node("Transpose", map[string]any{"perm": []int64{1, 0, 2, 3}}, "x0")
		}, false},
		{"to NHWC and back", func(s *sketch) string {
			x := s.node("Transpose", map[string]any{"perm": []int64{0, 2, 3, 1}}, s.conv("x0", 4, 3, 1, 1, 1, 1, true))
			x = s.node("Add", nil, x, s.constant(s.random(4)))
			return s.conv(s.node("Transpose", map[string]any{"perm": []int64{0, 3, 1, 2}}, x), 3, 1, 1, 0, 1, 1, false)
		}, true},
		{"attention", func(s *sketch) string {
			x := s.node("Reshape", nil, "x0", s.ints(0, 3, 25))
			return s.node("MatMul", nil, x, s.node("Transpose", map[string]any{"perm": []int64{0, 2, 1}}, x))
		}, true},
		{"constant per image", func(s *sketch) string { return s.node("Add", nil, "x0", s.constant(s.random(3, 1, 5, 5))) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSketch(11, tensor.Shape{1, 3, 5, 5})
			s.output(c.build(s))
			if p, err := Compile(t.Context(), s.g, CompileOptions{}); err == nil && p.variants[0].imagewise != c.imagewise {
				t.Errorf("image by image: %v, want %v", !c.imagewise, c.imagewise)
			}
			for _, workers := range []int{1, 2} {
				feeds := s.feeds(3)
				want, err := Eval(context.Background(), s.g, feeds)
				if err != nil {
					t.Fatal(err)
				}
				got := mustRun(t, s.g, CompileOptions{Pool: tensor.NewPool(workers, asm.Kernels{})}, feeds)
				for name := range want {
					compareNear(t, name, got[name], want[name], 1e-5)
				}
			}
		})
	}
}

// TestProgramShapes runs one Program with images of several sizes, and one that is declared for a single image with three.
func TestProgramShapes(t *testing.T) {
	s := newSketch(12, tensor.Shape{1, 3, 5, 5})
	y := s.node("Relu", nil, s.conv("x0", 4, 3, 2, 1, 1, 1, true))
	s.g.Inputs[0].Type.Dims[2], s.g.Inputs[0].Type.Dims[3] = Dim{Size: -1, Sym: "H"}, Dim{Size: -1}
	s.output(y)
	p, err := Compile(t.Context(), s.g, CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * maxVariants {
		feeds := map[string]tensor.Any{"x0": s.random(1+i%3, 3, 4+i%(maxVariants+2), 9)}
		want, err := Eval(context.Background(), s.g, feeds)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Run(context.Background(), feeds)
		if err != nil {
			t.Fatal(err)
		}
		compareNear(t, y, got[y], want[y], 1e-5)
	}
	if len(p.variants) > maxVariants {
		t.Errorf("%d variants are kept", len(p.variants))
	}

	s = newSketch(13, tensor.Shape{1, 3, 5, 5})
	s.g.Inputs[0].Type.Dims[0] = Known(1)
	z := s.node("Reshape", nil, "x0", s.ints(1, 75))
	s.output(z)
	got := mustRun(t, s.g, CompileOptions{}, s.feeds(3))
	if !got[z].Shape().Equal(tensor.Shape{3, 75}) {
		t.Errorf("three images through a graph for one give %v", got[z].Shape())
	}
}

// TestProgramOtherTypes has feeds and results that are not float32.
func TestProgramOtherTypes(t *testing.T) {
	s := newSketch(14, tensor.Shape{1, 6})
	s.g.Inputs = append(s.g.Inputs, ValueInfo{"ids", Type{DType: tensor.Int64, Ranked: true, Dims: []Dim{{Size: -1, Sym: "N"}, Known(2)}}})
	table := s.weight(1, 10, 4)
	n := &Node{Name: "embed", Op: "Gather", Inputs: []string{table, "ids"}, Outputs: []string{"e"}}
	s.g.Nodes = append(s.g.Nodes, n)
	s.shape["e"] = tensor.Shape{1, 2, 4}
	flat := s.node("Flatten", nil, "e")
	both := s.node("Concat", map[string]any{"axis": 1}, flat, "x0")
	s.output(s.node("ArgMax", map[string]any{"axis": 1}, both), both)
	for _, images := range []int{0, 1, 3} {
		feeds := map[string]tensor.Any{"x0": s.random(images, 6), "ids": tensor.From([]int64{1, 2, 3, 9, 0, 4}[:2*images], images, 2)}
		want, err := Eval(context.Background(), s.g, feeds)
		if err != nil {
			t.Fatal(err)
		}
		got := mustRun(t, s.g, CompileOptions{Pool: tensor.NewPool(2, asm.Kernels{})}, feeds)
		for name := range want {
			compareNear(t, name, got[name], want[name], 0)
		}
	}
}

// TestProgramDataDependentShape has a value whose shape is only known after it was computed.
func TestProgramDataDependentShape(t *testing.T) {
	s := newSketch(15, tensor.Shape{1, 3, 5, 5})
	y := s.conv("x0", 4, 3, 1, 1, 1, 1, true)
	nz := s.node("NonZero", nil, s.node("Relu", nil, y))
	s.output(nz, s.node("Mul", nil, s.node("Cast", map[string]any{"to": 1}, nz), s.scalar(2)))
	feeds := s.feeds(2)
	want, err := Eval(context.Background(), s.g, feeds)
	if err != nil {
		t.Fatal(err)
	}
	got := mustRun(t, s.g, CompileOptions{}, feeds)
	for name := range want {
		compareNear(t, name, got[name], want[name], 0)
	}
	mul := s.g.Outputs[1].Name
	p, err := Compile(t.Context(), s.g, CompileOptions{Fetches: []string{}, Taps: []string{mul}})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	if _, err = p.RunTaps(context.Background(), feeds, func(tap Tap) {
		seen++
		compareNear(t, tap.Name, tensor.From(slices.Clone(tap.Data), tap.Shape...), want[mul], 0)
	}); err != nil || seen != 1 {
		t.Errorf("tap of unknown shape: seen %d times, error %v", seen, err)
	}
	if _, err := Compile(t.Context(), s.g, CompileOptions{Fetches: []string{}, Taps: []string{nz}}); err == nil || !strings.Contains(err.Error(), "is not a float32 tensor") {
		t.Errorf("tap of integers: %v", err)
	}
}

// TestProgramConsts checks overrides of constants, a cache shared between programs, and Forget.
func TestProgramConsts(t *testing.T) {
	s := newSketch(16, tensor.Shape{1, 3, 5, 5})
	y := s.conv("x0", 4, 3, 1, 1, 1, 1, true)
	s.output(y)
	feeds := s.feeds(1)
	other := map[string]tensor.Any{"c0": s.random(4, 3, 3, 3)}
	cache := NewWeightCache()
	a := mustRun(t, s.g, CompileOptions{Weights: cache}, feeds)
	size := cache.Bytes()
	mustRun(t, s.g, CompileOptions{Weights: cache, Fetches: []string{y}}, feeds)
	if size == 0 || cache.Bytes() != size {
		t.Errorf("cache has %d bytes after one program, %d after two", size, cache.Bytes())
	}
	b := mustRun(t, s.g, CompileOptions{Weights: cache, Consts: other}, feeds)
	changed := s.g.Clone()
	changed.Consts["c0"] = other["c0"]
	compareBits(t, "override", b[y], mustRun(t, changed, CompileOptions{}, feeds)[y])
	compareBits(t, "graph unchanged", mustRun(t, s.g, CompileOptions{Weights: cache}, feeds)[y], a[y])
	cache.Forget(other["c0"])
	if cache.Bytes() != size {
		t.Errorf("cache has %d bytes after Forget, want %d", cache.Bytes(), size)
	}
	if d, ok := s.g.Consts["c0"].(*tensor.Dense[float32]); !ok || !strings.HasPrefix(describe(d), "float32[4 3 3 3]") {
		t.Error("the graph was changed")
	}
}
