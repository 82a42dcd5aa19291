// Package integer turns a simulation into the arithmetic of an integer device: codes of 8 bits, sums of products in whole
// numbers, one multiplication by a float32 scale, rounding half to even. That is what ONNX Runtime's integer kernels
// compute (QLinearConv, QGemm, QLinearAdd, QLinearGlobalAveragePool), and it does not depend on the order of any sum.
//
// The result is an ordinary graph of float32 operators whose values are whole numbers below 2^24, so it runs on the float
// kernels and is exact. What has no integer form stays between a dequantization and a quantization.
package integer

import (
	"context"
	"fmt"
	"math"

	"roundel/nn"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// exact is the limit of whole numbers that float32 sums of any order keep.
const exact = 1 << 24

// Model is a simulation in integer form.
type Model struct {
	Graph    *nn.Graph
	Integer  []string // nodes of the simulation that are computed in whole numbers, in order
	Float    []string // nodes that are not
	Refused  []Refusal
	rounding map[string]tensor.FakeQuant
}

// Refusal is a convolution, or a product by a constant, that has no integer form. It is one of Model.Float.
type Refusal struct{ Node, Op, Reason string }

// Whole returns an error that names the first convolutions and products that are not computed in whole numbers, if any.
func (m *Model) Whole() error {
	if len(m.Refused) == 0 {
		return nil
	}
	r, more := m.Refused[0], ""
	if n := len(m.Refused) - 1; n > 0 {
		more = fmt.Sprintf("; nor do %d more nodes", n)
	}
	return fmt.Errorf("integer: node %q (%s) has no integer form: %s%s", r.Node, r.Op, r.Reason, more)
}

// Compile compiles the model. FakeQuant and Direct of o are set here.
func (m *Model) Compile(ctx context.Context, o nn.CompileOptions) (*nn.Program, error) {
	o.FakeQuant, o.Direct = m.rounding, true
	return nn.Compile(ctx, m.Graph, o)
}

// grid is the grid of a value in codes k = q - zero point, from lo to hi; its value is scale*k.
type grid struct{ scale, lo, hi float32 }

// lowering is the work on one simulation. Names of the new graph: t is the float value of t, t.code its codes.
type lowering struct {
	sim   *quantsim.Sim
	from  *nn.Graph
	to    *nn.Graph
	m     *Model
	codes map[string]grid // values of which there are codes
	float map[string]bool // values of which there is a float
	done  map[*nn.Node]bool
}

// Lower returns the integer form of a calibrated simulation. Activations of more than 8 bits, float16 and the like are
// errors: no integer kernels have them. Whole tells whether everything that matters has an integer form.
func Lower(s *quantsim.Sim) (*Model, error) {
	from := s.Graph()
	if err := narrow(s); err != nil {
		return nil, err
	}
	to := &nn.Graph{Name: from.Name, Inputs: from.Inputs, Outputs: from.Outputs, Consts: map[string]tensor.Any{}, Types: map[string]nn.Type{}}
	l := &lowering{sim: s, from: from, to: to, m: &Model{Graph: to, rounding: map[string]tensor.FakeQuant{}},
		codes: map[string]grid{}, float: map[string]bool{}, done: map[*nn.Node]bool{}}
	if err := l.constants(); err != nil {
		return nil, err
	}
	for _, in := range from.Inputs {
		l.float[in.Name] = true
		if g, ok := l.grid(in.Name); ok {
			l.quantize(in.Name, in.Name, g)
		}
	}
	for _, n := range from.Nodes {
		if l.done[n] {
			continue
		}
		whole, err := l.node(n)
		if err != nil {
			return nil, fmt.Errorf("integer: node %q: %w", n.Name, err)
		}
		if whole {
			l.m.Integer = append(l.m.Integer, n.Name)
		} else {
			l.m.Float = append(l.m.Float, n.Name)
			l.fallback(n)
		}
	}
	for _, o := range from.Outputs {
		l.value(o.Name)
	}
	return l.m, nn.Verify(to)
}

// narrow checks that all activations have encodings of at most 8 bits, if any.
func narrow(s *quantsim.Sim) error {
	for _, name := range s.Tensors() {
		st, _ := s.State(name)
		if !st.Enabled || st.Kind != encoding.Activation || st.Grid.Type == encoding.Int && st.Grid.Bits <= 8 {
			continue
		}
		place := fmt.Sprintf("input %q", name)
		if p := s.Graph().Producer(name); p != nil {
			place = fmt.Sprintf("node %q (%s), output %q,", p.Name, p.Op, name)
		}
		return fmt.Errorf("integer: %s is simulated in %v of %d bits; integer kernels have integers of 8 bits at most", place, st.Grid.Type, st.Grid.Bits)
	}
	return nil
}

// constants copies the simulated constants.
func (l *lowering) constants() error {
	for name, c := range l.from.Consts {
		l.to.Consts[name], l.float[name] = c, true
		st, ok := l.sim.State(name)
		if !ok || !st.Enabled {
			continue
		}
		if st.Grid.Type != encoding.Int || st.Encoding == nil {
			return fmt.Errorf("integer: tensor %q has no integer encoding", name)
		}
		v, err := st.Encoding.QuantizeDequantizeTensor(c)
		if err != nil {
			return fmt.Errorf("integer: tensor %q: %w", name, err)
		}
		l.to.Consts[name] = v
	}
	return nil
}

// grid returns the grid of an activation that is quantized.
func (l *lowering) grid(name string) (grid, bool) {
	st, ok := l.sim.State(name)
	if !ok || !st.Enabled || st.Encoding == nil || st.Kind != encoding.Activation || st.Grid.Type != encoding.Int {
		return grid{}, false
	}
	lo, hi := st.Encoding.Bounds(0)
	return grid{float32(st.Encoding.Scale[0]), float32(lo), float32(hi)}, true
}

// emit adds a node and returns the name of its only output.
func (l *lowering) emit(op, out string, attrs map[string]nn.Attr, inputs ...string) string {
	l.to.Nodes = append(l.to.Nodes, &nn.Node{Name: out + "." + op, Op: op, Inputs: inputs, Outputs: []string{out}, Attrs: attrs})
	return out
}

// constant adds a float32 constant.
func (l *lowering) constant(name string, v []float32, shape ...int) string {
	l.to.Consts[name] = tensor.From(v, shape...)
	return name
}

func code(name string) string { return name + ".code" }

// round makes a value whole: rne, then cut to [lo, hi].
func (l *lowering) round(name string, lo, hi float32) {
	l.m.rounding[name] = tensor.FakeQuant{Scale: 1, QMin: lo, QMax: hi}
}

// quantize adds the codes of t from the float value from.
func (l *lowering) quantize(t, from string, g grid) {
	l.emit("Div", code(t), nil, from, l.constant(t+".step", []float32{g.scale}))
	l.round(code(t), g.lo, g.hi)
	l.codes[t] = g
	l.float[t] = false // its readers see what the codes stand for
}

// value returns the name of the float value of t, dequantized if there are only codes.
func (l *lowering) value(t string) string {
	g, ok := l.codes[t]
	if !ok || l.float[t] {
		return t
	}
	name := t
	for _, in := range l.from.Inputs {
		if in.Name == t {
			name = t + ".value"
		}
	}
	if !l.float[name] {
		l.emit("Mul", name, nil, code(t), l.constant(t+".scale", []float32{g.scale}))
		l.float[name] = true
	}
	return name
}

// fallback computes a node on float values.
func (l *lowering) fallback(n *nn.Node) {
	c := *n
	c.Inputs, c.Outputs = nil, nil
	for _, in := range n.Inputs {
		c.Inputs = append(c.Inputs, l.value(in))
	}
	l.to.Nodes = append(l.to.Nodes, &c)
	for _, out := range n.Outputs {
		g, ok := l.grid(out)
		if !ok {
			c.Outputs = append(c.Outputs, out)
			l.float[out] = true
			continue
		}
		c.Outputs = append(c.Outputs, out+".raw")
		l.quantize(out, out+".raw", g)
	}
}

// keeps are the operators that only move codes, or choose among them in their order.
var keeps = map[string]bool{"Flatten": true, "Identity": true, "MaxPool": true, "Reshape": true, "Slice": true, "Squeeze": true, "Transpose": true, "Unsqueeze": true}

// node computes n in whole numbers, or reports false.
func (l *lowering) node(n *nn.Node) (bool, error) {
	if n.Op == "Conv" || n.Op == "Gemm" || n.Op == "MatMul" && l.from.Consts[n.In(1)] != nil {
		reason, err := l.product(n)
		if reason != "" {
			l.m.Refused = append(l.m.Refused, Refusal{n.Name, n.Op, reason})
		}
		return reason == "" && err == nil, err
	}
	in, ok := l.codes[n.In(0)]
	if !ok {
		return false, nil
	}
	switch {
	case keeps[n.Op] && len(n.Outputs) == 1:
		if out, ok := l.grid(n.Out(0)); ok && out != in {
			return false, nil
		}
		inputs := append([]string{code(n.In(0))}, n.Inputs[1:]...)
		l.emit(n.Op, code(n.Out(0)), n.Attrs, inputs...)
		l.codes[n.Out(0)] = in
		return true, nil
	case n.Op == "Add":
		return l.add(n)
	case n.Op == "GlobalAveragePool":
		return l.globalAverage(n, in)
	}
	return false, nil
}

// target returns the value that holds the result of n and its grid: the output; or that of a Relu behind it that cuts
// where the grid does, which then is done too; or the output on the grid of a Clip behind it, which saturates alike and
// has the same encoding in files.
func (l *lowering) target(n *nn.Node) (string, grid, bool) {
	out := n.Out(0)
	if g, ok := l.grid(out); ok {
		return out, g, true
	}
	users := l.from.Consumers(out)
	if len(users) != 1 || l.from.IsOutput(out) {
		return "", grid{}, false
	}
	g, ok := l.grid(users[0].Out(0))
	switch {
	case ok && users[0].Op == "Clip":
		return out, g, true
	case ok && users[0].Op == "Relu" && g.lo == 0:
		l.done[users[0]] = true
		return users[0].Out(0), g, true
	}
	return "", grid{}, false
}

// add is the sum of two values with codes, in the arithmetic of ONNX Runtime on amd64: the stored codes qa and qb, with
// zero points za and zb, and two fused operations in float32,
//
//	q = rne(fma(qa, sa/s, fma(qb, sb/s, z - (za sa/s + zb sb/s))))
func (l *lowering) add(n *nn.Node) (bool, error) {
	a, okA := l.codes[n.In(0)]
	b, okB := l.codes[n.In(1)]
	if !okA || !okB {
		return false, nil
	}
	out, g, ok := l.target(n)
	if !ok {
		return false, nil
	}
	ra, rb := a.scale/g.scale, b.scale/g.scale
	fixed := -g.lo - float32(math.FMA(float64(ra), float64(-a.lo), float64(rb*-b.lo)))
	term := func(name, value string, lo, ratio float32, to string) string {
		stored := l.emit("Sub", name+".stored", nil, code(value), l.constant(name+".zero", []float32{lo}))
		wide := l.emit("Cast", name+".wide", castTo(onnxDouble), stored)
		l.to.Consts[name+".ratio"] = tensor.From([]float64{float64(ratio)}, 1)
		scaled := l.emit("Mul", name+".scaled", nil, wide, name+".ratio")
		return l.emit("Cast", name, castTo(onnxFloat), l.emit("Add", name+".sum", nil, scaled, to))
	}
	l.to.Consts[out+".fixed"] = tensor.From([]float64{float64(fixed)}, 1)
	first := term(out+".b", n.In(1), b.lo, rb, out+".fixed")
	second := term(out+".a", n.In(0), a.lo, ra, l.emit("Cast", out+".b.again", castTo(onnxDouble), first))
	l.round(second, 0, g.hi-g.lo)
	l.emit("Add", code(out), nil, second, l.constant(out+".zero", []float32{g.lo}))
	l.codes[out] = g
	return true, nil
}

// The element types of Cast, as ONNX numbers them.
const (
	onnxFloat  = 1
	onnxDouble = 11
)

func castTo(t int64) map[string]nn.Attr { return map[string]nn.Attr{"to": {Kind: nn.AttrInt, I: t}} }

// globalAverage sums codes and multiplies by s_in / (s_out * pixels).
func (l *lowering) globalAverage(n *nn.Node, in grid) (bool, error) {
	shape := l.from.Types[n.In(0)]
	out, g, ok := l.target(n)
	if !ok || !shape.Ranked || len(shape.Dims) < 3 {
		return false, nil
	}
	pixels := 1
	var axes []int64
	for i, d := range shape.Dims[2:] {
		if !d.IsKnown() {
			return false, nil
		}
		pixels *= d.Size
		axes = append(axes, int64(i+2))
	}
	l.to.Consts[out+".axes"] = tensor.From(axes, len(axes))
	sum := l.emit("ReduceSum", out+".total", map[string]nn.Attr{"keepdims": {Kind: nn.AttrInt, I: 1}}, code(n.In(0)), out+".axes")
	l.emit("Mul", code(out), nil, sum, l.constant(out+".factor", []float32{in.scale / float32(g.scale*float32(pixels))}))
	l.round(code(out), g.lo, g.hi)
	l.codes[out] = g
	return true, nil
}
