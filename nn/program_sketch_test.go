package nn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

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

// ops lists the operators of a graph, for messages.
func (s *sketch) ops() string {
	var ops []string
	for _, n := range s.g.Nodes {
		ops = append(ops, n.Op)
	}
	return strings.Join(ops, " ")
}
