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
						p, err := Compile(t.Context(), s.g, CompileOptions{Pool: tensor.NewPool(workers, k)})
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

func TestFastMove(t *testing.T) {
	image := tensor.Shape{1, 6, 13, 11}
	conv := func(s *sketch) string { return s.conv("x0", 9, 3, 1, 1, 1, 1, true) }
	perm := func(p ...int64) map[string]any { return map[string]any{"perm": p} }
	ints := func(op string, inputs ...[]int64) func(s *sketch) string {
		return func(s *sketch) string {
			in := []string{conv(s)}
			for _, v := range inputs {
				in = append(in, s.ints(v...))
			}
			return s.node(op, nil, in...)
		}
	}
	checkFast(t, []fastCase{
		{"transpose", tensor.Shape{1, 5, 17, 19}, one("Transpose", perm(0, 2, 1, 3)), 0},
		{"transpose of three", tensor.Shape{1, 23, 18}, one("Transpose", perm(0, 2, 1)), 0},
		{"transpose of five", tensor.Shape{1, 3, 4, 5, 6}, one("Transpose", perm(0, 3, 1, 4, 2)), 0},
		{"transpose of NHWC", image, func(s *sketch) string { return s.node("Transpose", perm(0, 3, 2, 1), conv(s)) }, 1e-5},
		{"slice", image, ints("Slice", []int64{1, 2}, []int64{8, 12}, []int64{1, 3}, []int64{3, 2}), 1e-5},
		{"slice backwards", tensor.Shape{1, 40}, func(s *sketch) string {
			return s.node("Slice", nil, "x0", s.ints(-2), s.ints(-41), s.ints(1), s.ints(-3))
		}, 0},
		{"pad", image, ints("Pad", []int64{0, 1, 2, 0, 0, 3, 0, 1}), 1e-5},
		{"crop", image, ints("Pad", []int64{0, -1, 2, 0, 0, 3, -2, -1}), 1e-5},
		{"pad with a value", tensor.Shape{1, 4, 5}, func(s *sketch) string {
			return s.node("Pad", nil, "x0", s.ints(0, 1, 0, 0, 0, 2), s.scalar(-7))
		}, 0},
		{"expand", tensor.Shape{1, 1, 5, 1}, func(s *sketch) string { return s.node("Expand", nil, "x0", s.ints(1, 4, 1, 3)) }, 0},
		{"split", image, func(s *sketch) string {
			y := conv(s)
			n := &Node{Name: "split", Op: "Split", Inputs: []string{y, s.ints(2, 3, 4)}, Outputs: []string{"a", "b", "c"},
				Attrs: map[string]Attr{"axis": {Kind: AttrInt, I: 1}}}
			s.g.Nodes = append(s.g.Nodes, n)
			for i, name := range n.Outputs {
				s.shape[name] = tensor.Shape{1, 2 + i, 13, 11}
			}
			return s.node("Concat", map[string]any{"axis": 1}, "c", "a", "b")
		}, 1e-5},
	})
}

func TestFastResize(t *testing.T) {
	var cases []fastCase
	for _, mode := range []string{"nearest", "linear", "cubic"} {
		for _, where := range []string{"half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"} {
			for _, scale := range []float32{2, 2.6, 0.45} {
				cases = append(cases, fastCase{fmt.Sprint(mode, " ", where, " ", scale), tensor.Shape{1, 11, 7, 9}, func(s *sketch) string {
					y := s.conv("x0", 5+int(scale), 3, 1, 1, 1, 1, true)
					return s.node("Resize", map[string]any{"mode": mode, "coordinate_transformation_mode": where}, y, "",
						s.constant(tensor.From([]float32{1, 1, scale, scale * 1.1}, 4)))
				}, 1e-5})
			}
		}
	}
	cases = append(cases, fastCase{"one channel", tensor.Shape{1, 1, 7, 9}, func(s *sketch) string {
		return s.node("Resize", map[string]any{"mode": "linear", "antialias": 1}, "x0", "", "", s.ints(1, 1, 3, 20))
	}, 1e-5}, fastCase{"many channels", tensor.Shape{1, 40, 3, 4}, func(s *sketch) string {
		return s.node("Resize", map[string]any{"mode": "linear"}, "x0", "", "", s.ints(1, 40, 70, 31))
	}, 1e-5})
	checkFast(t, cases)
}

func TestFastConvTranspose(t *testing.T) {
	deconv := func(out, k int, bias bool, attrs map[string]any) func(s *sketch) string {
		return func(s *sketch) string {
			in := []string{s.node("Relu", nil, "x0"), s.weight(6*k, 6, out, k, k)}
			if bias {
				in = append(in, s.constant(s.random(out)))
			}
			return s.node("ConvTranspose", attrs, in...)
		}
	}
	pair := func(a ...int64) []int64 { return a }
	image := tensor.Shape{1, 6, 7, 9}
	checkFast(t, []fastCase{
		{"without overlap", image, deconv(5, 2, true, map[string]any{"strides": pair(2, 2)}), 1e-5},
		{"overlap", image, deconv(17, 3, true, map[string]any{"strides": pair(2, 2), "pads": pair(1, 1, 1, 1), "output_padding": pair(1, 1)}), 1e-5},
		{"gaps", image, deconv(3, 2, false, map[string]any{"strides": pair(3, 4)}), 1e-5},
		{"dilated", image, deconv(3, 4, true, map[string]any{"dilations": pair(2, 3), "pads": pair(0, 2, 1, 0)}), 1e-5},
		{"same", image, deconv(4, 4, true, map[string]any{"strides": pair(2, 2), "auto_pad": "SAME_UPPER"}), 1e-5},
		{"shape given", image, deconv(4, 3, true, map[string]any{"strides": pair(2, 2), "output_shape": pair(15, 18)}), 1e-5},
	})
}

func TestFastDilatedConv(t *testing.T) {
	var cases []fastCase
	for _, c := range []struct{ k, stride, pad, dil int }{{3, 1, 6, 6}, {3, 1, 12, 12}, {3, 2, 5, 5}, {3, 1, 2, 2}, {5, 1, 9, 4}, {2, 1, 7, 9}} {
		cases = append(cases, fastCase{fmt.Sprint(c), tensor.Shape{1, 21, 10, 11}, func(s *sketch) string {
			y := s.conv("x0", 21, c.k, c.stride, c.pad, c.dil, 1, c.k == 3)
			if s.shape[y].Equal(s.shape["x0"]) {
				y = s.node("Add", nil, y, "x0")
			}
			return s.node("Relu", nil, y)
		}, 1e-5})
	}
	checkFast(t, cases)
}

func TestFastSequence(t *testing.T) {
	conv := func(attrs map[string]any, dims ...int) func(s *sketch) string {
		return func(s *sketch) string {
			return s.node("Conv", attrs, "x0", s.weight(dims[1]*dims[2], dims...), s.constant(s.random(dims[0])))
		}
	}
	signal := tensor.Shape{1, 6, 50}
	rnn := func(op, direction string, gates int, states bool) func(s *sketch) string {
		return func(s *sketch) string {
			const in, hid = 7, 11
			nd := 1
			if direction == "bidirectional" {
				nd = 2
			}
			args := []string{"x0", s.weight(in, nd, gates*hid, in), s.weight(hid, nd, gates*hid, hid), s.constant(s.random(nd, 2*gates*hid))}
			if states {
				args = append(args, "", s.constant(s.random(nd, 9, hid)))
			}
			y := s.node(op, map[string]any{"hidden_size": hid, "direction": direction, "linear_before_reset": 1}, args...)
			return y
		}
	}
	steps := tensor.Shape{5, 9, 7}
	checkFast(t, []fastCase{
		{"conv", signal, conv(map[string]any{"strides": []int64{2}, "pads": []int64{1, 2}}, 9, 6, 5), 1e-5},
		{"grouped", signal, conv(map[string]any{"group": 2, "dilations": []int64{3}}, 8, 3, 4), 1e-5},
		{"depthwise", signal, conv(map[string]any{"group": 6}, 6, 1, 3), 1e-5},
	})
	for _, c := range []fastCase{
		{"lstm", steps, rnn("LSTM", "forward", 4, false), 1e-5},
		{"lstm both ways", steps, rnn("LSTM", "bidirectional", 4, true), 1e-5},
		{"gru", steps, rnn("GRU", "reverse", 3, true), 1e-5},
		{"gru both ways", steps, rnn("GRU", "bidirectional", 3, false), 1e-5},
	} {
		t.Run(c.name, func(t *testing.T) { checkRecurrent(t, c) })
	}
}

// checkRecurrent is checkFast for a layer whose first axis is time.
func checkRecurrent(t *testing.T, c fastCase) {
	s := newSketch(5, c.shape)
	s.g.Inputs[0].Type.Dims = knownDims(c.shape)
	s.output(c.build(s))
	feeds := map[string]tensor.Any{"x0": s.random(c.shape...)}
	want, err := Eval(context.Background(), s.g, feeds)
	if err != nil {
		t.Fatal(err)
	}
	var first map[string]tensor.Any
	for _, k := range asm.Available() {
		for _, workers := range []int{1, 3} {
			p, err := Compile(t.Context(), s.g, CompileOptions{Pool: tensor.NewPool(workers, k)})
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
				compareNear(t, name+" "+k.ISA, got[name], want[name], c.bound)
				compareBits(t, name+" "+k.ISA, got[name], first[name])
			}
		}
	}
}
