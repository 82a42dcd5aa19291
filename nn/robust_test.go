package nn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"roundel/tensor"
)

// TestNoPanics changes the cases of ops.json at random — types, shapes, contents,
// attributes, missing inputs — and wants an error or a result that agrees with the
// inference, never a panic.
func TestNoPanics(t *testing.T) {
	cases := loadCases(t)
	rounds := 60
	if testing.Short() {
		rounds = 15
	}
	for i, c := range cases {
		r := rand.New(rand.NewPCG(uint64(i), 9))
		for range rounds {
			n, in := c.node(t)
			var log []string
			for range 1 + r.IntN(2) {
				log = append(log, mutate(r, n, in))
			}
			tryNode(t, n, in, log)
		}
	}
}

func tryNode(t *testing.T, n *Node, in []tensor.Any, log []string) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			var types []string
			for _, x := range in {
				types = append(types, describe(x))
			}
			t.Errorf("%s panics after %v: %v\nattributes %v, inputs %v", n.Op, log, p, n.Attrs, types)
		}
	}()
	in = in[:min(len(in), len(n.Inputs))]
	got, err := evalNode(n, in)
	g := &Graph{Nodes: []*Node{n}, Consts: map[string]tensor.Any{}}
	for i, x := range in {
		if x != nil && n.Inputs[i] != "" {
			g.Inputs = append(g.Inputs, ValueInfo{n.Inputs[i], typeOf(x)})
		}
	}
	static := Infer(g)
	if err == nil && static != nil {
		t.Errorf("%s after %v: runs, but inference says %v", n.Op, log, static)
	}
	if err == nil {
		for i, v := range got {
			if v == nil {
				continue
			}
			if _, err := commonType(g.Types[n.Outputs[i]], typeOf(v)); err != nil {
				t.Errorf("%s after %v: output %d %v", n.Op, log, i, err)
			}
		}
	}
}

// mutate changes one thing and says what.
func mutate(r *rand.Rand, n *Node, in []tensor.Any) string {
	k := r.IntN(max(len(in), 1))
	switch r.IntN(8) {
	case 0: // another type
		if k < len(in) && in[k] != nil {
			in[k] = tensor.Cast(in[k], tensor.DType(1+r.IntN(int(tensor.Bool))))
			return fmt.Sprintf("input %d: type", k)
		}
	case 1, 2: // another shape
		if k < len(in) && in[k] != nil {
			s := in[k].Shape().Clone()
			switch {
			case len(s) > 0 && r.IntN(2) == 0:
				s[r.IntN(len(s))] = r.IntN(4)
			case len(s) > 0 && r.IntN(2) == 0:
				s = s[1:]
			default:
				s = append(s, r.IntN(3))
			}
			in[k] = resized(in[k], s)
			return fmt.Sprintf("input %d: shape %v", k, s)
		}
	case 3: // other contents
		if k < len(in) && in[k] != nil && in[k].Len() > 0 {
			f := append([]float64{}, tensor.Float64s(in[k])...)
			v := []float64{0, -1, 1, 7, -100, 1e6, math.MaxInt32, math.MaxInt64, math.MinInt64, math.NaN(), math.Inf(1), 0.5}[r.IntN(12)]
			f[r.IntN(len(f))] = v
			in[k] = tensor.Cast(tensor.From(f, in[k].Shape()...), in[k].DType())
			return fmt.Sprintf("input %d: element %v", k, v)
		}
	case 4: // an absent input
		if k < len(n.Inputs) {
			in[k], n.Inputs[k] = nil, ""
			return fmt.Sprintf("input %d: absent", k)
		}
	case 5: // fewer inputs
		n.Inputs = n.Inputs[:r.IntN(len(n.Inputs)+1)]
		return "fewer inputs"
	case 6: // fewer or more outputs
		n.Outputs = []string{"o0", "o1", "o2", "o3", "o4"}[:r.IntN(6)]
		return "outputs"
	}
	for name, a := range n.Attrs {
		ints := []int64{0, -1, 1, 2, 5, -3, 1 << 20, math.MaxInt32, math.MaxInt64, math.MinInt64}
		switch v := ints[r.IntN(len(ints))]; a.Kind {
		case AttrInt:
			a.I = v
		case AttrInts:
			a.Ints = append([]int64{}, a.Ints...)
			if len(a.Ints) == 0 || r.IntN(3) == 0 {
				a.Ints = append(a.Ints, v)
			} else {
				a.Ints[r.IntN(len(a.Ints))] = v
			}
		case AttrString:
			a.S = "nonsense"
		case AttrFloat:
			a.F = float32(math.NaN())
		}
		if r.IntN(4) == 0 {
			a.Kind = AttrKind(1 + r.IntN(8))
		}
		n.Attrs[name] = a
		return "attribute " + name
	}
	return "nothing"
}

// resized returns a tensor of another shape with the elements repeated.
func resized(x tensor.Any, s tensor.Shape) tensor.Any {
	f, out := tensor.Float64s(x), make([]float64, s.Len())
	for i := range out {
		if len(f) > 0 {
			out[i] = f[i%len(f)]
		}
	}
	return tensor.Cast(tensor.From(out, s...), x.DType())
}

// TestResizeWithoutExtents: scales and sizes that are both there and empty, found by fuzzing, are an error.
func TestResizeWithoutExtents(t *testing.T) {
	x := tensor.New[float32](1, 1, 2, 2)
	for _, in := range [][]tensor.Any{{x, nil, tensor.New[float32](0)}, {x, nil, tensor.New[float32](0), tensor.New[int64](0)}, {x, nil, nil, tensor.New[int64](0)}, {x}} {
		names := []string{"x", "", "s", "z"}[:len(in)]
		for i := range names {
			if in[i] == nil {
				names[i] = ""
			}
		}
		n := &Node{Name: "r", Op: "Resize", Inputs: names, Outputs: []string{"y"}, Attrs: map[string]Attr{}}
		tryNode(t, n, in, []string{"empty scales"})
		if _, err := evalNode(n, in); err == nil {
			t.Errorf("Resize of %v has no error", names)
		}
	}
}
