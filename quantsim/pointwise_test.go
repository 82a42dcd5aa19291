package quantsim

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"roundel/nn"
	"roundel/tensor"
)

// partsGraph makes a graph from lines such as "y = Mul x half"; c_ names are scalar constants, v_ names vectors of 4.
func partsGraph(lines string, consts map[string]float32) *nn.Graph {
	dims := []nn.Dim{nn.Known(2), nn.Known(3), nn.Known(4)}
	g := &nn.Graph{Consts: map[string]tensor.Any{}, Inputs: []nn.ValueInfo{{Name: "x", Type: nn.Type{DType: tensor.Float32, Dims: dims, Ranked: true}}}}
	for name, v := range consts {
		g.Consts[name] = tensor.From([]float32{v}, 1)
		if strings.HasPrefix(name, "v_") {
			g.Consts[name] = tensor.From([]float32{v, v / 2, -v, v}, 4)
		}
		if strings.HasPrefix(name, "w_") {
			g.Consts[name] = tensor.From(slices.Repeat([]float32{v, -v, v / 3, v / 2, 0.1}, 4)[:16], 4, 4)
		}
	}
	for line := range strings.Lines(lines) {
		f := strings.Fields(line)
		n := &nn.Node{Name: f[0], Op: f[2], Inputs: f[3:], Outputs: f[:1], Attrs: map[string]nn.Attr{}}
		if f[2] == "ReduceMean" {
			g.Consts["last"] = tensor.From([]int64{-1}, 1)
			n.Inputs = append(n.Inputs, "last")
		}
		g.Nodes = append(g.Nodes, n)
	}
	g.Outputs = []nn.ValueInfo{{Name: g.Nodes[len(g.Nodes)-1].Outputs[0]}}
	return g
}

const centred = "m = ReduceMean x\nd = Sub x m\ns = Mul d d\nv = ReduceMean s\ne = Add v c_eps\nr = Sqrt e\n"

// TestWrittenOutPatterns: what the exporter wrote out has a grid at its ends only.
func TestWrittenOutPatterns(t *testing.T) {
	c := map[string]float32{"c_eps": 1e-6, "c_3": 3, "c_0": 0, "c_6": 6, "c_root": 1.414, "c_1": 1, "c_2": 2, "c_half": 0.5, "v_scale": 2, "w_": 1}
	for _, tt := range []struct{ name, graph, want string }{
		{"hard swish", "a = Add x c_3\nb = Clip a c_0 c_6\nm = Mul b x\ny = Div m c_6", "x y"},
		{"gelu", "a = MatMul x w_\nb = Div a c_root\ne = Erf b\nf = Add e c_1\nm = Mul a f\ny = Mul m c_half", "x a y"},
		{"silu twice", "s = Sigmoid x\na = Mul x s\nt = Sigmoid a\ny = Mul a t", "x y"},
		{"an inner value with another reader", "s = Sigmoid x\nm = MatMul s w_\na = Mul x s\nb = Tanh a\ny = Add b m", "x s m a b y"},
		{"relu belongs to the addition before", "a = Add x v_scale\nr = Relu a\nm = Mul r c_half\ny = Add m c_1", "x v_scale r y"},
		{"a constant for each channel", "a = Add x c_1\ny = Mul a v_scale", "x a v_scale y c_1"},
		{"magnitude", "a = MatMul x w_\np = Pow a c_2\nq = Pow x c_2\ns = Add p q\ny = Sqrt s", "x a y"},
		{"two variables", "a = MatMul x w_\ns = Sigmoid a\ny = Mul x s", "x a s y"},
		{"layer norm", centred + "n = Div d r\na = Mul n v_scale\ny = Add a v_scale", "x y"},
		{"layer norm without scale", centred + "n = Div d r\ny = MatMul n w_", "x m d n y"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := New(partsGraph(tt.graph, c), DefaultConfig())
			if err != nil {
				t.Fatal(err)
			}
			var have []string
			for _, name := range s.Tensors() {
				if st, _ := s.State(name); st.Enabled && name != "w_" && (s.g.Consts[name] == nil || strings.Contains(tt.want+" ", name+" ")) {
					have = append(have, name)
				}
			}
			want := strings.Fields(tt.want)
			slices.Sort(want)
			slices.Sort(have)
			if !slices.Equal(have, want) {
				t.Errorf("quantized are %v, want %v", have, want)
			}
		})
	}
}

// TestSmallDivisors: a variance that a grid rounds to 0 must not be divided by.
func TestSmallDivisors(t *testing.T) {
	c := map[string]float32{"c_eps": 1e-9, "c_2": 2, "v_scale": 2, "w_": 1}
	for name, graph := range map[string]string{
		"layer norm":               centred + "n = Div d r\na = Mul n v_scale\ny = Add a v_scale",
		"layer norm without scale": centred + "n = Div d r\ny = MatMul n w_",
		"power":                    "a = Add x v_scale\ny = Pow a c_2",
		"reciprocal":               "s = Mul x x\nv = ReduceMean s\ne = Add v c_eps\nr = Sqrt e\ni = Reciprocal r\ny = Mul x i",
	} {
		s, err := New(partsGraph(graph, c), DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		x := tensor.New[float32](2, 3, 4)
		for i := range x.Data() {
			x.Data()[i] = float32(i%5) * float32(math.Pow(10, float64(-i/4))) // rows of very different size
		}
		feeds := map[string]tensor.Any{"x": x}
		if err := s.ComputeEncodings(context.Background(), func(run func(map[string]tensor.Any) error) error { return run(feeds) }); err != nil {
			t.Fatal(err)
		}
		out, err := s.Forward(context.Background(), feeds)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range out["y"].(*tensor.Dense[float32]).Data() {
			if v-v != 0 || v > 100 || v < -100 {
				t.Fatalf("%s: an output is %v", name, v)
			}
		}
	}
}

// TestOutputSigmoids: what the model returns of Sigmoids alone has their range under the default rules, whatever calibration saw; AIMET's do not know this.
func TestOutputSigmoids(t *testing.T) {
	branch := func(nodes ...*nn.Node) nn.Attr {
		g := &nn.Graph{Nodes: nodes, Consts: map[string]tensor.Any{}}
		g.Outputs = []nn.ValueInfo{{Name: nodes[len(nodes)-1].Outputs[0]}}
		return nn.Attr{Kind: nn.AttrGraph, G: g}
	}
	choice := func(g *nn.Graph) {
		n := g.Nodes[len(g.Nodes)-1]
		g.Consts["c_if"] = tensor.From([]bool{true}, 1)
		n.Attrs["then_branch"] = branch(&nn.Node{Name: "i", Op: "Identity", Inputs: []string{"a"}, Outputs: []string{"i"}})
		n.Attrs["else_branch"] = branch(&nn.Node{Name: "p", Op: "Sigmoid", Inputs: []string{"x"}, Outputs: []string{"p"}})
	}
	for _, tt := range []struct {
		name, graph, config, want string // what has the range [0, 1]
		edit                      func(*nn.Graph)
	}{
		{"moved about", "a = Sigmoid x\nb = ReduceMean a\nc = Transpose b\ny = Identity c", "", "a b", nil},
		{"the end of a function", "a = Mul x c_4\ny = Sigmoid a", "", "y", nil},
		{"several", "a = Sigmoid x\nb = Tanh x\nc = Sigmoid b\ny = Concat a c a", "", "a c y", func(g *nn.Graph) {
			g.Nodes[3].Attrs["axis"] = nn.Attr{Kind: nn.AttrInt, I: 1}
		}},
		{"with something else", "a = Sigmoid x\nb = Tanh x\ny = Concat a b", "", "", func(g *nn.Graph) {
			g.Nodes[2].Attrs["axis"] = nn.Attr{Kind: nn.AttrInt, I: 1}
		}},
		{"by an If", "a = Sigmoid x\ny = If c_if", "", "a y", choice},
		{"no output", "a = Sigmoid x\ny = MatMul a w_", "", "", nil},
		{"AIMET", "y = Sigmoid x", "default", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := partsGraph(tt.graph, map[string]float32{"c_4": 4, "w_": 1})
			if tt.edit != nil {
				tt.edit(g)
			}
			cfg := DefaultConfig()
			cfg.ConfigFile = tt.config
			s, err := New(g, cfg)
			if err != nil {
				t.Fatal(err)
			}
			x := tensor.New[float32](2, 3, 4)
			for i := range x.Data() {
				x.Data()[i] = float32(i)/8 - 3 // up to -0.125
			}
			err = s.ComputeEncodings(context.Background(), func(run func(map[string]tensor.Any) error) error {
				return run(map[string]tensor.Any{"x": x})
			})
			if err != nil {
				t.Fatal(err)
			}
			var have []string
			for _, name := range s.Tensors() {
				if st, _ := s.State(name); st.Enabled && st.Encoding != nil && st.Encoding.Scale[0] == 1.0/255 && st.Encoding.Offset[0] == 0 {
					have = append(have, name)
				}
			}
			slices.Sort(have)
			if !slices.Equal(have, strings.Fields(tt.want)) {
				t.Errorf("[0, 1] is the range of %v, want %v", have, tt.want)
			}
		})
	}
}
