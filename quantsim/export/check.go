package export

import (
	"fmt"
	"math"
	"slices"

	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// Finding is one thing that Check has to say about a tensor.
type Finding struct {
	Fatal   bool // the files do not describe the same model; otherwise advice
	Rule    string
	Tensor  string
	Message string
}

// String formats a finding as one line.
func (f Finding) String() string {
	level := "warning"
	if f.Fatal {
		level = "error"
	}
	return fmt.Sprintf("%s: %s: %q %s", level, f.Rule, f.Tensor, f.Message)
}

// Check tells whether an encodings file describes a model, errors first: every name is
// a floating-point tensor of the model (rule "name"), scales fit its shape and the axis
// of its operator ("axis"), the grid is valid ("grid"), and weights lie in their range
// ("range"). Then what converters for target devices reject: inputs, outputs and
// operands without encodings ("missing"), offsets of symmetric weights that are not
// those of a signed type ("symmetry"), bitwidths they lack ("bits"), and biases ("bias").
func Check(m *onnx.Model, f *encoding.File) ([]Finding, error) {
	g, err := convert.ToGraph(m)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	// The rules of the default config serve to find out which constants are parameters, and their axes.
	s, err := quantsim.New(g, quantsim.DefaultConfig())
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	c := &checker{s: s, g: s.Graph(), f: f, has: map[string]*encoding.Encoding{}}
	for _, e := range f.Entries {
		c.entry(e)
	}
	c.coverage()
	slices.SortStableFunc(c.out, func(a, b Finding) int {
		switch {
		case a.Fatal == b.Fatal:
			return 0
		case a.Fatal:
			return -1
		}
		return 1
	})
	return c.out, nil
}

type checker struct {
	s   *quantsim.Sim
	g   *nn.Graph
	f   *encoding.File
	has map[string]*encoding.Encoding
	out []Finding
}

func (c *checker) say(fatal bool, rule, tensor, format string, args ...any) {
	c.out = append(c.out, Finding{fatal, rule, tensor, fmt.Sprintf(format, args...)})
}

func (c *checker) entry(e encoding.Entry) {
	t, known := c.g.Types[e.Name]
	switch {
	case !known:
		c.say(true, "name", e.Name, "is not a tensor of the model")
		return
	case !t.DType.IsFloat():
		c.say(true, "name", e.Name, "is of type %v, which is not quantized", t.DType)
		return
	}
	c.has[e.Name] = e.Encoding
	st, _ := c.s.State(e.Name)
	isConst := c.g.Consts[e.Name] != nil
	if e.Kind == encoding.Param && !isConst {
		c.say(true, "name", e.Name, "is a parameter in the file and not a constant of the model")
	}
	if e.Type != encoding.Int {
		return
	}
	if !slices.Contains([]int{4, 8, 16, 32}, e.Bits) {
		c.say(false, "bits", e.Name, "has %d bits; targets have 4, 8, 16 and 32", e.Bits)
	}
	if isConst {
		c.constant(e, st)
	} else if err := c.activation(e); err != nil {
		c.say(true, "grid", e.Name, "%v", err)
	}
	for i, s := range e.Scale {
		if float32(s) < 0x1p-126 {
			c.say(false, "grid", e.Name, "has scale %v (channel %d), which float32 does not hold in full", s, i)
			break
		}
	}
}

func (c *checker) activation(e encoding.Entry) error {
	if len(e.Scale) != 1 {
		return fmt.Errorf("is an activation and has %d scales", len(e.Scale))
	}
	return e.Validate(nil)
}

// constant checks a weight's encoding against its operator and its values.
func (c *checker) constant(e encoding.Entry, st quantsim.State) {
	v, err := tensor.As[float32](c.g.Consts[e.Name])
	if err != nil {
		return // not a float32 model
	}
	channel, block := c.s.Axes(e.Name)
	enc := e.Encoding.Clone()
	if err := enc.Resolve(v.Shape(), channel, block); err != nil {
		c.say(true, "axis", e.Name, "has shape %v: %v", v.Shape(), err)
		return
	}
	if enc.Axis >= 0 && channel >= 0 && enc.Axis != channel {
		c.say(true, "axis", e.Name, "has scales along axis %d; the channel axis of its operator is %d", enc.Axis, channel)
		return
	}
	if err := enc.Validate(v.Shape()); err != nil {
		c.say(true, "grid", e.Name, "%v", err)
		return
	}
	if e.Bits < 32 && st.Kind == encoding.Param {
		c.values(e.Name, enc, v)
		c.symmetry(e.Name, enc)
	}
}

// leastStep is the least scale that calibration gives a grid of 16 bits or fewer.
const leastStep = 0x1p-23

// values compares a weight with its range. Calibration may cut off tails, and AdaRound
// stays within half a step beyond the ends, but a range that leaves more error than signal is of another model.
func (c *checker) values(name string, e *encoding.Encoding, v *tensor.Dense[float32]) {
	q := make([]float32, v.Len())
	if err := e.QuantizeDequantize(q, v.Data(), v.Shape()); err != nil {
		c.say(true, "grid", name, "%v", err)
		return
	}
	signal, noise := 0.0, 0.0
	for i, x := range v.Data() {
		if max(x, -x) < leastStep/2 {
			continue // nothing on every grid
		}
		d := float64(q[i]) - float64(x)
		signal += float64(float64(x) * float64(x))
		noise += float64(d * d)
	}
	if signal == 0 {
		return
	}
	// A grid of b bits has an SQNR of about 6 b dB; one that is meant for other values has none.
	if db := 10 * math.Log10(signal/max(noise, 1e-300)); db < float64(3*(e.Bits-3)) {
		c.say(db < 3, "range", name, "keeps %.1f dB of its values on this grid of %d bits: is it of this model?", db, e.Bits)
	}
}

// symmetry reports offsets of symmetric weights that a signed type with zero point 0 cannot express.
func (c *checker) symmetry(name string, e *encoding.Encoding) {
	if !e.Symmetric {
		return
	}
	want := -math.Ldexp(1, e.Bits-1)
	for i, o := range e.Offset {
		if o != want && o != want+1 {
			c.say(false, "symmetry", name, "is symmetric and has offset %v (channel %d); a signed type of %d bits has %v", o, i, e.Bits, want)
			return
		}
	}
}

// coverage reports what has no encoding and should have one.
func (c *checker) coverage() {
	if len(c.f.Entries) == 0 {
		c.say(false, "missing", c.g.Name, "has no encodings at all")
		return
	}
	for _, in := range c.g.Inputs {
		if c.g.Types[in.Name].DType.IsFloat() && c.source(in.Name) == nil {
			c.say(false, "missing", in.Name, "is a graph input without an encoding")
		}
	}
	for _, out := range c.g.Outputs {
		if c.g.Types[out.Name].DType.IsFloat() && c.source(out.Name) == nil {
			c.say(false, "missing", out.Name, "is a graph output without an encoding")
		}
	}
	for _, n := range c.g.Nodes {
		switch n.Op {
		case "Conv", "ConvTranspose", "Gemm", "MatMul":
			c.product(n)
		}
	}
}

// product checks the operands of a convolution or a matrix product.
func (c *checker) product(n *nn.Node) {
	w := c.has[n.In(1)]
	in := c.source(n.In(0))
	if c.g.Consts[n.In(1)] == nil {
		w = c.source(n.In(1))
	}
	switch {
	case w == nil && in != nil:
		c.say(false, "missing", n.In(1), "has no encoding, but the input of node %q has one", n.Name)
	case w != nil && in == nil && w.Type == encoding.Int && c.hasActivations():
		c.say(false, "missing", n.In(0), "has no encoding, but the weight of node %q has one", n.Name)
	}
	bias := c.has[n.In(2)]
	if bias == nil || bias.Type != encoding.Int || w == nil || in == nil || w.BlockSize > 0 {
		return
	}
	if bias.Bits < 32 {
		c.say(false, "bias", n.In(2), "has %d bits; targets add biases of 32 bits at the scale of the accumulator", bias.Bits)
		return
	}
	for i, s := range bias.Scale {
		want := float64(in.Scale[0] * w.Scale[min(i, len(w.Scale)-1)])
		if math.Abs(s-want) > float64(1e-5*want) {
			c.say(false, "bias", n.In(2), "has scale %v (channel %d); input times weight is %v", s, i, want)
			return
		}
	}
}

// hasActivations reports whether the file is more than a parameter file.
func (c *checker) hasActivations() bool {
	return slices.ContainsFunc(c.f.Entries, func(e encoding.Entry) bool { return c.g.Consts[e.Name] == nil })
}

// source returns the encoding of the grid that a value lies on, or nil.
func (c *checker) source(name string) *encoding.Encoding {
	for {
		if e := c.has[name]; e != nil {
			return e
		}
		p := c.g.Producer(name)
		if p == nil || !quantsim.KeepsGrid(p.Op) {
			return nil
		}
		name = p.In(0)
	}
}
