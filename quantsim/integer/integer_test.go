package integer_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"roundel/nn"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/quantsim/integer"
	"roundel/tensor"
)

func ints(v ...int64) nn.Attr { return nn.Attr{Kind: nn.AttrInts, Ints: v} }

// network is Conv, Relu, Conv, Add of both, average over the pixels, Gemm.
func network(r *rand.Rand) *nn.Graph {
	random := func(n float32, shape ...int) tensor.Any {
		t := tensor.New[float32](shape...)
		for i := range t.Data() {
			t.Data()[i] = n * float32(r.NormFloat64())
		}
		return t
	}
	pads := map[string]nn.Attr{"pads": ints(1, 1, 1, 1), "kernel_shape": ints(3, 3)}
	f := tensor.Float32
	return &nn.Graph{
		Inputs:  []nn.ValueInfo{{Name: "x", Type: nn.Type{DType: f, Ranked: true, Dims: []nn.Dim{{Size: -1, Sym: "N"}, nn.Known(3), nn.Known(7), nn.Known(5)}}}},
		Outputs: []nn.ValueInfo{{Name: "y", Type: nn.Type{DType: f}}},
		Consts: map[string]tensor.Any{"w1": random(0.3, 8, 3, 3, 3), "b1": random(0.2, 8), "w2": random(0.2, 8, 8, 3, 3), "b2": random(0.2, 8),
			"w3": random(0.3, 4, 8), "b3": random(0.1, 4)},
		Nodes: []*nn.Node{
			{Name: "c1", Op: "Conv", Inputs: []string{"x", "w1", "b1"}, Outputs: []string{"c1"}, Attrs: pads},
			{Name: "r1", Op: "Relu", Inputs: []string{"c1"}, Outputs: []string{"r1"}},
			{Name: "c2", Op: "Conv", Inputs: []string{"r1", "w2", "b2"}, Outputs: []string{"c2"}, Attrs: pads},
			{Name: "s", Op: "Add", Inputs: []string{"r1", "c2"}, Outputs: []string{"s"}},
			{Name: "t", Op: "Tanh", Inputs: []string{"s"}, Outputs: []string{"t"}},
			{Name: "p", Op: "GlobalAveragePool", Inputs: []string{"t"}, Outputs: []string{"p"}},
			{Name: "f", Op: "Flatten", Inputs: []string{"p"}, Outputs: []string{"f"}},
			{Name: "g", Op: "Gemm", Inputs: []string{"f", "w3", "b3"}, Outputs: []string{"y"}, Attrs: map[string]nn.Attr{"transB": {Kind: nn.AttrInt, I: 1}}},
		},
	}
}

// simulation calibrates the network on random images.
func simulation(t *testing.T) (*quantsim.Sim, map[string]tensor.Any) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	g := network(r)
	if err := nn.Verify(g); err != nil {
		t.Fatal(err)
	}
	cfg := quantsim.DefaultConfig()
	cfg.ConfigFile = "default"
	s, err := quantsim.New(g, cfg)
	if err != nil {
		t.Fatal(err)
	}
	x := tensor.New[float32](6, 3, 7, 5)
	for i := range x.Data() {
		x.Data()[i] = float32(r.NormFloat64())
	}
	feeds := map[string]tensor.Any{"x": x}
	if err := s.ComputeEncodings(context.Background(), func(run func(map[string]tensor.Any) error) error { return run(feeds) }); err != nil {
		t.Fatal(err)
	}
	return s, feeds
}

func values(t *testing.T, out map[string]tensor.Any, name string) []float32 {
	t.Helper()
	v, err := tensor.As[float32](out[name])
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v.Data()
}

func codesOf(t *testing.T, s *quantsim.Sim, name string, x tensor.Any) ([]int32, *encoding.Encoding) {
	t.Helper()
	st, _ := s.State(name)
	v, _ := tensor.As[float32](x)
	k, err := st.Encoding.Quantize(v.Data(), v.Shape())
	if err != nil {
		t.Fatal(err)
	}
	return k, st.Encoding
}

// TestFirstConvInWholeNumbers computes the first layer with int64 sums, element by element.
func TestFirstConvInWholeNumbers(t *testing.T) {
	s, feeds := simulation(t)
	m, err := integer.Lower(s)
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Compile(t.Context(), nn.CompileOptions{Fetches: []string{"r1.code", "y"}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(context.Background(), feeds)
	if err != nil {
		t.Fatal(err)
	}
	x, ex := codesOf(t, s, "x", feeds["x"])
	w, ew := codesOf(t, s, "w1", s.Graph().Consts["w1"])
	b := s.Graph().ConstF32("b1").Data()
	sy, _ := s.State("r1")
	lo, hi := sy.Encoding.Bounds(0)
	at := func(n, c, i, j int) int64 {
		if i < 0 || i >= 7 || j < 0 || j >= 5 {
			return 0
		}
		return int64(x[((n*3+c)*7+i)*5+j])
	}
	have, k := values(t, out, "r1.code"), 0
	for n := range 6 {
		for o := range 8 {
			scale := float32(ex.Scale[0]) * float32(ew.Scale[o])
			bias := int64(math.RoundToEven(float64(b[o] / scale)))
			for i := range 7 {
				for j := range 5 {
					sum := bias
					for c := range 3 {
						for u := range 9 {
							sum += at(n, c, i+u/3-1, j+u%3-1) * int64(w[(o*3+c)*9+u])
						}
					}
					want := min(max(math.RoundToEven(float64(float32(sum)*(scale/float32(sy.Encoding.Scale[0])))), lo), hi)
					if float64(have[k]) != want {
						t.Fatalf("image %d channel %d pixel %d,%d: %v, want %v", n, o, i, j, have[k], want)
					}
					k++
				}
			}
		}
	}
}

// TestIntegerFollowsTheSimulation compares the whole network with the simulation, which rounds its float sums.
func TestIntegerFollowsTheSimulation(t *testing.T) {
	s, feeds := simulation(t)
	m, err := integer.Lower(s)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"c1", "c2", "s", "p", "f", "g"}; !slices.Equal(m.Integer, want) || !slices.Equal(m.Float, []string{"t"}) {
		t.Errorf("in whole numbers: %v, in float: %v", m.Integer, m.Float)
	}
	p, err := m.Compile(t.Context(), nn.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Run(context.Background(), feeds)
	if err != nil {
		t.Fatal(err)
	}
	want, err := s.Forward(context.Background(), feeds)
	if err != nil {
		t.Fatal(err)
	}
	st, _ := s.State("y")
	a, b, differ := values(t, got, "y"), values(t, want, "y"), 0
	for i := range a {
		if d := math.Abs(float64(a[i] - b[i])); d > 1.01*st.Encoding.Scale[0] {
			t.Errorf("output %d: %v and %v, a step is %v", i, a[i], b[i], st.Encoding.Scale[0])
		} else if d > 0 {
			differ++
		}
	}
	if differ > len(a)/4 {
		t.Errorf("%d of %d outputs are one step off", differ, len(a))
	}
}

func TestLowerRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s *quantsim.Sim) error
		want   []string
	}{
		"float16 weight":     {func(s *quantsim.Sim) error { return s.SetPrecision(encoding.Float16, 16, "w1") }, []string{`"w1"`}},
		"float16 activation": {func(s *quantsim.Sim) error { return s.SetPrecision(encoding.Float16, 16, "t") }, []string{`node "t" (Tanh)`, "float16"}},
		"16-bit activation": {func(s *quantsim.Sim) error {
			st, _ := s.State("s")
			e := st.Encoding.Clone()
			e.Bits = 16
			return s.SetEncoding("s", e, false)
		}, []string{`node "s" (Add)`, `"s"`, "16 bits"}},
		"weight in float": {func(s *quantsim.Sim) error { return s.SetEnabled(false, "w2") }, []string{`node "c2" (Conv)`, `"w2"`}},
		"input in float":  {func(s *quantsim.Sim) error { return s.SetEnabled(false, "x") }, []string{`node "c1" (Conv)`, `"x"`}},
		"blocks": {func(s *quantsim.Sim) error {
			if err := s.SetBlocks(4, "w3"); err != nil {
				return err
			}
			st, _ := s.State("w3")
			c := s.Graph().ConstF32("w3")
			e, err := encoding.Compute(t.Context(), "w3", c.Data(), c.Shape(), st.Grid, st.Method)
			return errors.Join(err, s.SetEncoding("w3", e, false))
		}, []string{`node "g" (Gemm)`, `"w3"`, "block"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := simulation(t)
			if err := c.change(s); err != nil {
				t.Fatal(err)
			}
			m, err := integer.Lower(s)
			if err == nil {
				err = m.Whole()
			}
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %s", err, want)
				}
			}
		})
	}
}

// TestLargeConvIsExact: 3x3 convolutions that the float program computes by Winograd's algorithm are exact here; the
// sums are as large as they get.
func TestLargeConvIsExact(t *testing.T) {
	const channels, size = 48, 8
	x, w := tensor.New[float32](1, channels, size, size), tensor.New[float32](channels, channels, 3, 3)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range x.Data() {
		x.Data()[i] = float32(200 + r.IntN(56))
	}
	for i := range w.Data() {
		w.Data()[i] = float32(100 + r.IntN(28))
	}
	x.Data()[0], x.Data()[1], w.Data()[0] = 0, 255, -128
	for o := range channels { // so that the scale of each channel is 1
		w.Data()[o*channels*9+1] = 127
		w.Data()[o*channels*9+2] = -128
	}
	f := nn.Type{DType: tensor.Float32}
	g := &nn.Graph{
		Inputs:  []nn.ValueInfo{{Name: "x", Type: nn.Type{DType: tensor.Float32, Ranked: true, Dims: []nn.Dim{nn.Known(1), nn.Known(channels), nn.Known(size), nn.Known(size)}}}},
		Outputs: []nn.ValueInfo{{Name: "y", Type: f}},
		Consts:  map[string]tensor.Any{"w": w},
		Nodes: []*nn.Node{{Name: "c", Op: "Conv", Inputs: []string{"x", "w"}, Outputs: []string{"y"},
			Attrs: map[string]nn.Attr{"pads": ints(1, 1, 1, 1), "kernel_shape": ints(3, 3)}}},
	}
	if err := nn.Verify(g); err != nil {
		t.Fatal(err)
	}
	s, err := quantsim.New(g, quantsim.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	feeds := map[string]tensor.Any{"x": x}
	if err := s.ComputeEncodings(context.Background(), func(run func(map[string]tensor.Any) error) error { return run(feeds) }); err != nil {
		t.Fatal(err)
	}
	if err := s.SetEnabled(false, "y"); err != nil { // its sums are the result
		t.Fatal(err)
	}
	m, err := integer.Lower(s)
	if err != nil || m.Whole() != nil {
		t.Fatal(err, m.Whole())
	}
	p, err := m.Compile(t.Context(), nn.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(context.Background(), feeds)
	if err != nil {
		t.Fatal(err)
	}
	got, k := values(t, out, "y"), 0
	for o := range channels {
		for at := range size * size {
			sum := int64(0)
			for c := range channels {
				for u := range 9 {
					if i, j := at/size+u/3-1, at%size+u%3-1; i >= 0 && j >= 0 && i < size && j < size {
						sum += int64(x.Data()[(c*size+i)*size+j]) * int64(w.Data()[(o*channels+c)*9+u])
					}
				}
			}
			if float64(got[k]) != float64(float32(sum)) {
				t.Fatalf("channel %d, pixel %d: %v, want %d", o, at, got[k], sum)
			}
			k++
		}
	}
}
