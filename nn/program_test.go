package nn

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"roundel/asm"
	"roundel/tensor"
)

// sketch builds small graphs for tests. Every value has a known shape for one image.
type sketch struct {
	g     *Graph
	r     *rand.Rand
	shape map[string]tensor.Shape
	dtype map[string]tensor.DType // where it is not float32
}

func newSketch(seed uint64, inputs ...tensor.Shape) *sketch {
	s := &sketch{g: &Graph{Consts: map[string]tensor.Any{}}, r: rand.New(rand.NewPCG(seed, 1)), shape: map[string]tensor.Shape{},
		dtype: map[string]tensor.DType{}}
	for i, in := range inputs {
		dims := knownDims(in)
		dims[0] = Dim{Size: -1, Sym: "N"}
		name := fmt.Sprint("x", i)
		s.g.Inputs = append(s.g.Inputs, ValueInfo{name, Type{DType: tensor.Float32, Dims: dims, Ranked: true}})
		s.shape[name] = in
	}
	return s
}

func (s *sketch) random(shape ...int) *tensor.Dense[float32] {
	t := tensor.New[float32](shape...)
	for i := range t.Data() {
		t.Data()[i] = float32(s.r.NormFloat64())
	}
	return t
}

// weight enters a random constant scaled so that sums of n products stay near 1.
func (s *sketch) weight(n int, shape ...int) string {
	t := s.random(shape...)
	for i := range t.Data() {
		t.Data()[i] /= float32(math.Sqrt(float64(n)))
	}
	return s.constant(t)
}

func (s *sketch) constant(t tensor.Any) string {
	name := fmt.Sprint("c", len(s.g.Consts))
	s.g.Consts[name] = t
	return name
}

func (s *sketch) scalar(v float32) string { return s.constant(tensor.Scalar(v)) }

func (s *sketch) ints(v ...int64) string { return s.constant(tensor.From(v, len(v))) }

// node adds a node with one output and returns it. Attributes are int, float64, string or []int64.
func (s *sketch) node(op string, attrs map[string]any, inputs ...string) string {
	name := fmt.Sprintf("%s_%d", op, len(s.g.Nodes))
	n := &Node{Name: name, Op: op, Inputs: inputs, Outputs: []string{"v" + name}, Attrs: map[string]Attr{}}
	for k, v := range attrs {
		switch v := v.(type) {
		case int:
			n.Attrs[k] = Attr{Kind: AttrInt, I: int64(v)}
		case float64:
			n.Attrs[k] = Attr{Kind: AttrFloat, F: float32(v)}
		case string:
			n.Attrs[k] = Attr{Kind: AttrString, S: v}
		case []int64:
			n.Attrs[k] = Attr{Kind: AttrInts, Ints: v}
		}
	}
	s.g.Nodes = append(s.g.Nodes, n)
	in, consts := make([]Type, len(inputs)), make([]tensor.Any, len(inputs))
	for i, name := range inputs {
		if c := s.g.Consts[name]; c != nil {
			in[i], consts[i] = typeOf(c), c
		} else if name != "" {
			in[i] = Type{DType: max(tensor.Float32, s.dtype[name]), Dims: knownDims(s.shape[name]), Ranked: true}
		}
	}
	out, _, err := inferNode(n, in, consts)
	if err != nil {
		panic(nodeError(n, err))
	}
	s.shape[n.Outputs[0]], _ = out[0].Shape()
	s.dtype[n.Outputs[0]] = out[0].DType
	return n.Outputs[0]
}

// output declares values as graph outputs and infers the types.
func (s *sketch) output(names ...string) *Graph {
	for _, name := range names {
		s.g.Outputs = append(s.g.Outputs, ValueInfo{Name: name})
	}
	if err := Verify(s.g); err != nil {
		panic(err)
	}
	return s.g
}

// conv adds a convolution of x; groups -1 is depthwise.
func (s *sketch) conv(x string, out, k, stride, pad, dil, groups int, bias bool) string {
	in := s.shape[x][1]
	if groups < 0 {
		groups, out = in, in
	}
	inputs := []string{x, s.weight(in/groups*k*k, out, in/groups, k, k)}
	if bias {
		inputs = append(inputs, s.constant(s.random(out)))
	}
	pair := func(v int) []int64 { return []int64{int64(v), int64(v)} }
	return s.node("Conv", map[string]any{"group": groups, "strides": pair(stride), "dilations": pair(dil),
		"pads": []int64{int64(pad), int64(pad), int64(pad), int64(pad)}}, inputs...)
}

func (s *sketch) batchNorm(x string) string {
	c := s.shape[x][1]
	variance := s.random(c)
	for i, v := range variance.Data() {
		variance.Data()[i] = v*v + 0.5
	}
	return s.node("BatchNormalization", nil, x, s.constant(s.random(c)), s.constant(s.random(c)), s.constant(s.random(c)), s.constant(variance))
}

// grow adds a random operator to a random rank-4 value of vals.
func (s *sketch) grow(vals []string) string {
	x := vals[len(vals)-1-min(s.r.IntN(len(vals)), s.r.IntN(3))]
	shape := s.shape[x]
	c, h, w := shape[1], shape[2], shape[3]
	odd := func(limit int) int { return 1 + 2*s.r.IntN(max((min(h, w, limit)+1)/2, 1)) }
	pool := func(extra map[string]any) map[string]any {
		k := 1 + s.r.IntN(min(3, h, w))
		st, p := 1+s.r.IntN(2), int64(s.r.IntN(k))/2
		a := map[string]any{"kernel_shape": []int64{int64(k), int64(k)}, "strides": []int64{int64(st), int64(st)}, "pads": []int64{p, p, p, p}}
		for k, v := range extra {
			a[k] = v
		}
		return a
	}
	switch s.r.IntN(16) {
	case 0, 1:
		k := odd(5)
		return s.conv(x, 1+s.r.IntN(40), k, 1+s.r.IntN(2), k/2, 1, 1, s.r.IntN(2) == 0)
	case 2:
		return s.conv(x, 1+s.r.IntN(70), 1, 1, 0, 1, 1, s.r.IntN(2) == 0)
	case 3:
		k := odd(5)
		return s.conv(x, 0, k, 1+s.r.IntN(2), s.r.IntN(k/2+1), 1, -1, true)
	case 4:
		if g := 1 + s.r.IntN(3); c%g == 0 && h > 2 && w > 2 {
			return s.conv(x, g*(1+s.r.IntN(9)), 3, 1+s.r.IntN(2), 2, 1+s.r.IntN(2), g, s.r.IntN(2) == 0)
		}
		return s.node("Identity", nil, x)
	case 5:
		return s.node("Relu", nil, x)
	case 6:
		return s.node("Clip", nil, x, s.scalar(-0.5), s.scalar(1.5))
	case 7, 8:
		for _, y := range slices.Backward(vals) {
			if y != x && s.shape[y].Equal(shape) {
				return s.node([]string{"Add", "Mul", "Sub"}[s.r.IntN(3)], nil, x, y)
			}
		}
		return s.node("Add", nil, s.conv(x, c, 3, 1, 1, 1, 1, false), x)
	case 9:
		return s.batchNorm(x)
	case 10:
		return s.node("MaxPool", pool(map[string]any{"ceil_mode": s.r.IntN(2)}), x)
	case 11:
		return s.node("AveragePool", pool(map[string]any{"count_include_pad": s.r.IntN(2)}), x)
	case 12:
		for _, y := range vals {
			if t := s.shape[y]; t[2] == h && t[3] == w {
				return s.node("Concat", map[string]any{"axis": 1}, x, y, x)
			}
		}
		return s.node("Concat", map[string]any{"axis": 2}, x, x)
	case 13:
		ops := []string{"Add", "Sub", "Mul", "Div"}
		v := s.constant(s.random([][]int{{c, 1, 1}, {1, c, 1, 1}, {1}, {}}[s.r.IntN(4)]...))
		in := []string{x, v}
		op := ops[s.r.IntN(4)]
		if s.r.IntN(2) == 0 && op != "Div" {
			slices.Reverse(in)
		}
		return s.node(op, nil, in...)
	case 14:
		return s.node([]string{"Sigmoid", "LeakyRelu", "HardSwish", "Tanh"}[s.r.IntN(4)], nil, x)
	}
	e := s.node("Sigmoid", nil, s.conv(s.node("GlobalAveragePool", nil, x), c, 1, 1, 0, 1, 1, true))
	return s.node("Mul", nil, x, e)
}

// randomNet returns a random image network: a few operators and perhaps a classifier.
func randomNet(seed uint64) *sketch {
	r := rand.New(rand.NewPCG(seed, 7))
	s := newSketch(seed, tensor.Shape{1, 1 + r.IntN(5), 5 + r.IntN(12), 5 + r.IntN(12)})
	vals := []string{"x0"}
	for range 3 + r.IntN(10) {
		vals = append(vals, s.grow(vals))
	}
	last := vals[len(vals)-1]
	outs := []string{last}
	if r.IntN(2) == 0 {
		p := s.node("GlobalAveragePool", nil, last)
		f := s.node("Flatten", nil, p)
		outs[0] = s.node("Gemm", map[string]any{"transB": 1}, f, s.weight(s.shape[last][1], 7, s.shape[last][1]), s.constant(s.random(7)))
	}
	if r.IntN(3) == 0 {
		outs = append(outs, vals[r.IntN(len(vals)-1)+1])
	}
	slices.Sort(outs)
	s.output(slices.Compact(outs)...)
	return s
}

// feeds returns random tensors of n images for all inputs.
func (s *sketch) feeds(n int) map[string]tensor.Any {
	f := map[string]tensor.Any{}
	for _, in := range s.g.Inputs {
		shape := s.shape[in.Name].Clone()
		shape[0] = n
		f[in.Name] = s.random(shape...)
	}
	return f
}

func mustRun(t *testing.T, g *Graph, o CompileOptions, feeds map[string]tensor.Any) map[string]tensor.Any {
	t.Helper()
	p, err := Compile(g, o)
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.Run(context.Background(), feeds)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// compareNear compares with a bound relative to the largest element.
func compareNear(t *testing.T, name string, got, want tensor.Any, bound float64) {
	t.Helper()
	if !got.Shape().Equal(want.Shape()) || got.DType() != want.DType() {
		t.Fatalf("%s: got %s, want %s", name, describe(got), describe(want))
	}
	a, b := tensor.Float64s(got), tensor.Float64s(want)
	most := 1e-3
	for _, v := range b {
		most = max(most, math.Abs(v))
	}
	for i := range a {
		if !(math.Abs(a[i]-b[i]) <= bound*most) {
			t.Fatalf("%s: element %d of %v is %v, want %v (largest %v)", name, i, got.Shape(), a[i], b[i], most)
		}
	}
}

// compareBits wants the same bits.
func compareBits(t *testing.T, name string, got, want tensor.Any) {
	t.Helper()
	if !got.Shape().Equal(want.Shape()) {
		t.Fatalf("%s: got %s, want %s", name, describe(got), describe(want))
	}
	a, b := got.(*tensor.Dense[float32]).Data(), want.(*tensor.Dense[float32]).Data()
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			t.Fatalf("%s: element %d of %v is %x, want %x", name, i, got.Shape(), math.Float32bits(a[i]), math.Float32bits(b[i]))
		}
	}
}

// ops lists the operators of a graph, for messages.
func (s *sketch) ops() string {
	var ops []string
	for _, n := range s.g.Nodes {
		ops = append(ops, n.Op)
	}
	return strings.Join(ops, " ")
}

// TestProgramRandom compares random networks with the reference, on every kernel table.
func TestProgramRandom(t *testing.T) {
	count := uint64(150)
	if testing.Short() {
		count = 25
	}
	for seed := range count {
		s := randomNet(seed)
		feeds := s.feeds(1 + int(seed%3))
		want, err := Eval(context.Background(), s.g, feeds)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range asm.Available() {
			t.Run(fmt.Sprintf("%d/%s", seed, k.ISA), func(t *testing.T) {
				got := mustRun(t, s.g, CompileOptions{Kernels: k, FoldBatchNorm: seed%2 == 0}, feeds)
				for name := range want {
					compareNear(t, s.ops()+": "+name, got[name], want[name], 2e-5)
				}
			})
		}
	}
}

// TestProgramWorkersAndBatches wants the same bits for any number of workers and any batch.
func TestProgramWorkersAndBatches(t *testing.T) {
	for seed := range uint64(30) {
		s := randomNet(seed + 1000)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			all := s.feeds(5)
			want := mustRun(t, s.g, CompileOptions{}, all)
			for _, workers := range []int{2, 3} {
				p, err := Compile(s.g, CompileOptions{Pool: tensor.NewPool(workers, asm.Kernels{})})
				if err != nil {
					t.Fatal(err)
				}
				for _, n := range []int{1, 2, 3, 5} {
					part := map[string]tensor.Any{}
					for name, x := range all {
						part[name] = head(x, n)
					}
					got, err := p.Run(context.Background(), part)
					if err != nil {
						t.Fatal(err)
					}
					for name := range want {
						compareBits(t, fmt.Sprintf("%s: %s with %d workers, %d images", s.ops(), name, workers, n), got[name], head(want[name], n))
					}
				}
			}
		})
	}
}

// head returns the first n images.
func head(x tensor.Any, n int) tensor.Any {
	f := x.(*tensor.Dense[float32])
	shape := f.Shape().Clone()
	per := f.Len() / shape[0]
	shape[0] = n
	return tensor.From(f.Data()[:n*per], shape...)
}

// TestProgramSegments runs a graph in two pieces at every inner value that cuts it, in both layouts.
func TestProgramSegments(t *testing.T) {
	for seed := range uint64(30) {
		s := randomNet(seed + 2000)
		feeds := s.feeds(2)
		cache := NewWeightCache()
		for _, nhwc := range []bool{false, true} {
			for _, n := range s.g.Nodes {
				cut := n.Outputs[0]
				if _, err := Compile(s.g, CompileOptions{Feeds: []string{cut}, Weights: cache}); err != nil {
					continue // another path leads around the cut
				}
				t.Run(fmt.Sprint(seed, cut, nhwc), func(t *testing.T) {
					whole := mustRun(t, s.g, CompileOptions{NHWC: nhwc, Weights: cache, Fetches: append(outputNames(s.g), cut)}, feedsAs(feeds, nhwc))
					first := mustRun(t, s.g, CompileOptions{NHWC: nhwc, Weights: cache, Fetches: []string{cut}}, feedsAs(feeds, nhwc))
					second := mustRun(t, s.g, CompileOptions{NHWC: nhwc, Weights: cache, Feeds: []string{cut}}, first)
					compareBits(t, cut, first[cut], whole[cut])
					for name, v := range second {
						compareBits(t, s.ops()+": "+name, v, whole[name])
					}
				})
			}
		}
	}
}

func outputNames(g *Graph) (names []string) {
	for _, o := range g.Outputs {
		names = append(names, o.Name)
	}
	return names
}

// feedsAs reorders images for CompileOptions.NHWC.
func feedsAs(feeds map[string]tensor.Any, nhwc bool) map[string]tensor.Any {
	out := map[string]tensor.Any{}
	for name, x := range feeds {
		f := x.(*tensor.Dense[float32])
		if s := f.Shape(); nhwc && len(s) == 4 {
			d := make([]float32, f.Len())
			ToNHWC(d, f.Data(), s[0], s[1], s[2]*s[3])
			f = tensor.From(d, s...)
		}
		out[name] = f
	}
	return out
}

// TestProgramErrors checks that bad options and feeds are named.
func TestProgramErrors(t *testing.T) {
	s := newSketch(1, tensor.Shape{1, 3, 8, 8})
	y := s.node("Relu", nil, s.conv("x0", 4, 3, 1, 1, 1, 1, true))
	g := s.output(y)
	for _, c := range []struct {
		name string
		o    CompileOptions
		want string
	}{
		{"no such fetch", CompileOptions{Fetches: []string{"nowhere"}}, `no value "nowhere" (in Fetches)`},
		{"no such feed", CompileOptions{Feeds: []string{"nowhere"}}, `no value "nowhere" (in Feeds)`},
		{"no such constant", CompileOptions{Consts: map[string]tensor.Any{"k": s.random(1)}}, `no constant "k"`},
		{"constant of another shape", CompileOptions{Consts: map[string]tensor.Any{"c0": s.random(4, 3, 3)}}, `"c0" is float32[4 3 3 3], its override is float32[4 3 3]`},
		{"missing feed", CompileOptions{Feeds: []string{"c1"}}, `needs the value "x0", which is not among the feeds`},
		{"nothing", CompileOptions{Fetches: []string{}}, "nothing to compute"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Compile(g, c.o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want it to say %q", err, c.want)
			}
		})
	}
	p, err := Compile(g, CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		feeds      map[string]tensor.Any
	}{
		{"missing", `no tensor for the feed "x0"`, nil},
		{"rank", `feed "x0" is float32[3 8 8], want float32[N 3 8 8]`, map[string]tensor.Any{"x0": s.random(3, 8, 8)}},
		{"size", `feed "x0" is float32[2 3 8 9], want float32[N 3 8 8]`, map[string]tensor.Any{"x0": s.random(2, 3, 8, 9)}},
		{"dtype", `feed "x0" is float64[1 3 8 8], want float32[N 3 8 8]`, map[string]tensor.Any{"x0": tensor.New[float64](1, 3, 8, 8)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := p.Run(context.Background(), c.feeds)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want it to say %q", err, c.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.Run(ctx, s.feeds(2)); !errors.Is(err, context.Canceled) {
		t.Errorf("error after cancellation is %v", err)
	}
	if res, err := p.Run(context.Background(), s.feeds(2)); err != nil || res[y] == nil {
		t.Errorf("run after failed runs: %v", err)
	}
}
