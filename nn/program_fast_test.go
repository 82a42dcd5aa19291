package nn

import (
	"context"
	"fmt"
	"testing"

	"roundel/asm"
	"roundel/tensor"
)

// fastCase is a graph all of whose steps have a fast path.
type fastCase struct {
	name  string
	shape tensor.Shape
	build func(s *sketch) string
	bound float64 // of the error relative to the largest element
}

// checkFast compares a program with the reference of every operator, for all
// instruction sets, one and several images and numbers of workers; the programs have
// to agree bit for bit, and none may fall back to the reference.
func checkFast(t *testing.T, cases []fastCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newSketch(5, c.shape)
			s.output(c.build(s))
			for _, images := range []int{1, 3} {
				feeds := s.feeds(images)
				want, err := Eval(context.Background(), s.g, feeds)
				if err != nil {
					t.Fatal(err)
				}
				var first map[string]tensor.Any
				for _, k := range asm.Available() {
					for _, workers := range []int{1, 3} {
						p, err := Compile(s.g, CompileOptions{Pool: tensor.NewPool(workers, k)})
						if err != nil {
							t.Fatal(err)
						}
						got, err := p.Run(context.Background(), feeds)
						if err != nil {
							t.Fatal(err)
						}
						if n := p.variants[0].plan.boxes; n > 0 {
							t.Fatalf("%d values are computed by the reference", n)
						}
						if first == nil {
							first = got
						}
						for name := range want {
							what := fmt.Sprintf("%s %s, %d images, %d workers", name, k.ISA, images, workers)
							compareNear(t, what, got[name], want[name], c.bound)
							compareBits(t, what, got[name], first[name])
						}
					}
				}
			}
		})
	}
}

// one returns the builder of a single node over x0.
func one(op string, attrs map[string]any) func(s *sketch) string {
	return func(s *sketch) string { return s.node(op, attrs, "x0") }
}

func TestFastMath(t *testing.T) {
	image, rows := tensor.Shape{1, 6, 13, 11}, tensor.Shape{1, 7, 37}
	conv := func(s *sketch) string { return s.conv("x0", 9, 3, 1, 1, 1, 1, true) } // so that the layout is NHWC
	layerNorm := func(axis int, bias bool, dims ...int) func(s *sketch) string {
		return func(s *sketch) string {
			in := []string{"x0", s.constant(s.random(dims...))}
			if bias {
				in = append(in, s.constant(s.random(dims...)))
			}
			return s.node("LayerNormalization", map[string]any{"axis": axis, "epsilon": 1e-3}, in...)
		}
	}
	checkFast(t, []fastCase{
		{"sigmoid", image, func(s *sketch) string { return s.node("Sigmoid", nil, conv(s)) }, 3e-7},
		{"tanh", rows, one("Tanh", nil), 3e-7},
		{"erf", rows, one("Erf", nil), 3e-7},
		{"exp", rows, one("Exp", nil), 3e-7},
		{"swish", image, one("Swish", nil), 3e-7},
		{"gelu", rows, one("Gelu", nil), 3e-7},
		{"gelu by tanh", image, one("Gelu", map[string]any{"approximate": "tanh"}), 3e-7},
		{"silu by sigmoid", image, func(s *sketch) string { return s.node("Mul", nil, "x0", s.node("Sigmoid", nil, "x0")) }, 3e-7},
		{"softmax", rows, one("Softmax", nil), 5e-7},
		{"softmax of one", tensor.Shape{1, 7, 1}, one("Softmax", nil), 5e-7},
		{"softmax over channels", image, func(s *sketch) string { return s.node("Softmax", map[string]any{"axis": 1}, conv(s)) }, 5e-7},
		{"softmax over columns", image, func(s *sketch) string { return s.node("Softmax", map[string]any{"axis": 3}, conv(s)) }, 5e-7},
		{"layer norm", rows, layerNorm(-1, true, 37), 1e-6},
		{"layer norm of two axes", image, layerNorm(2, false, 13, 11), 1e-6},
		{"long rows", tensor.Shape{1, 2, 5001}, func(s *sketch) string { return s.node("Softmax", nil, "x0") }, 1e-6},
	})
}
