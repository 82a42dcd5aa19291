package export

import (
	"fmt"
	"math"

	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// QDQOptions say how a QDQ model is written.
type QDQOptions struct {
	// FloatWeights stores weights as floats on their grid, with QuantizeLinear behind
	// them, as AIMET does; otherwise they are stored as integers and only dequantized.
	FloatWeights bool
	// Bias stores biases as int32 at the scale of the accumulator.
	Bias bool
	// KeepOpset never raises the opset: 4-bit grids then lie in an int8 container (with
	// a Clip before activations), and what does not fit it is an error.
	KeepOpset bool
	// NoCopies leaves away the pairs behind operators that only move data.
	NoCopies bool
}

// ToQDQ returns the simulated model as ONNX: each quantizer becomes a QuantizeLinear and
// a DequantizeLinear, float16 and bfloat16 ones a pair of Cast nodes. A value t is
// quantized to t_q and comes back as t_updated (a constant as t_qdq); graph outputs keep
// their names. Activations are unsigned, symmetric weights signed with zero point 0.
//
// The opset is raised if need be: to 13 for scales per channel, to 21 for 4 and 16 bits and blocks.
func ToQDQ(s *quantsim.Sim, base *onnx.Model, o QDQOptions) (*onnx.Model, error) {
	f, err := s.Encodings(quantsim.EncodingsOptions{Bias: o.Bias, Copies: !o.NoCopies})
	if err != nil {
		return nil, err
	}
	m, err := convert.ToModel(s.Graph(), base)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	if need := neededOpset(f, o); m.Opset("") < need {
		if o.KeepOpset {
			return nil, fmt.Errorf("export: the encodings need opset %d and the model is of opset %d", need, m.Opset(""))
		}
		if m, err = atOpset(m, need); err != nil {
			return nil, err
		}
	}
	w := &qdqWriter{newEditor(m), s, o, m.Opset("")}
	for _, e := range f.Entries {
		if err := w.entry(e); err != nil {
			return nil, fmt.Errorf("export: tensor %q: %w", e.Name, err)
		}
	}
	return w.finish(), nil
}

// neededOpset returns the least opset for all encodings; 4 bits ask for 21 unless the opset must stay.
func neededOpset(f *encoding.File, o QDQOptions) int64 {
	need := int64(opsetQDQ)
	for _, e := range f.Entries {
		need = max(need, opsetFor(e.Encoding))
		if e.Type == encoding.Int && e.Bits <= 4 && !o.KeepOpset {
			need = opsetSmall
		}
	}
	return need
}

type qdqWriter struct {
	*editor
	s     *quantsim.Sim
	o     QDQOptions
	opset int64
}

func (w *qdqWriter) entry(e encoding.Entry) error {
	c, isConst := w.s.Graph().Consts[e.Name]
	if e.Type == encoding.Float32 {
		return nil
	}
	if isConst {
		return w.weight(e, c)
	}
	return w.activation(e)
}

// weight replaces a constant by its codes and a DequantizeLinear.
func (w *qdqWriter) weight(e encoding.Entry, c tensor.Any) error {
	x, err := tensor.As[float32](c)
	if err != nil {
		return err
	}
	if e.Type != encoding.Int {
		v, err := e.QuantizeDequantizeTensor(c)
		if err != nil {
			return err
		}
		w.drop(e.Name)
		w.constant(convert.FromTensor(e.Name, v))
		return nil
	}
	dt, zeros, err := store(e.Encoding, e.Kind, w.opset)
	if err != nil {
		return err
	}
	scale, zero := w.params(e, x.Shape(), dt, zeros)
	out, float := w.fresh(e.Name+"_qdq"), e.Name
	if w.isOutput(e.Name) { // a constant that is an output too keeps its name
		out, float = e.Name, w.fresh(e.Name+"_float")
	}
	codes := e.Name + "_q"
	w.rewire(e.Name, out)
	dq := w.node("DequantizeLinear", e, "_dq", []string{codes, scale, zero}, out)
	if w.o.FloatWeights && e.Bits < 32 {
		q := w.node("QuantizeLinear", e, "_q", []string{float, scale, zero}, w.fresh(codes))
		dq.Inputs[0] = q.Outputs[0]
		// On the grid already, they also fit a container that is wider than the grid.
		v, err := e.QuantizeDequantizeTensor(c)
		if err != nil {
			return err
		}
		w.drop(e.Name)
		w.constant(convert.FromTensor(float, v))
		w.insert(-1, q, dq)
		return nil
	}
	codes = w.fresh(codes)
	dq.Inputs[0] = codes
	k, err := e.Quantize(x.Data(), x.Shape())
	if err != nil {
		return err
	}
	t, err := w.codes(codes, e, k, x.Shape(), dt, zeros)
	if err != nil {
		return err
	}
	w.drop(e.Name)
	w.constant(t)
	w.insert(-1, dq)
	return nil
}

// codes packs grid indices: the stored value is index + zero point.
func (w *qdqWriter) codes(name string, e encoding.Entry, k []int32, shape tensor.Shape, dt onnx.DataType, zeros []float64) (*onnx.Tensor, error) {
	wide := make([]int64, len(k))
	e.Runs(shape, func(group, lo, hi int) {
		for i := lo; i < hi; i++ {
			wide[i] = int64(k[i]) + int64(zeros[group])
		}
	})
	return pack(name, wide, shape, dt)
}

// pack stores integers as an ONNX tensor of the given type.
func pack(name string, v []int64, shape tensor.Shape, dt onnx.DataType) (*onnx.Tensor, error) {
	held, err := convert.DTypeOf(dt)
	if err != nil {
		return nil, err
	}
	t := tensor.Zeros(held, shape...)
	switch t := t.(type) {
	case *tensor.Dense[int8]:
		fill(t, v)
	case *tensor.Dense[uint8]:
		fill(t, v)
	case *tensor.Dense[int16]:
		fill(t, v)
	case *tensor.Dense[uint16]:
		fill(t, v)
	case *tensor.Dense[int32]:
		fill(t, v)
	}
	return convert.PackTensor(name, t, dt)
}

func fill[T tensor.Number](t *tensor.Dense[T], v []int64) {
	for i, x := range v {
		t.Data()[i] = T(x)
	}
}

// params adds the scale and zero point of an entry as initializers.
func (w *qdqWriter) params(e encoding.Entry, shape tensor.Shape, dt onnx.DataType, zeros []float64) (scale, zero string) {
	scale, zero = w.fresh(e.Name+"_scale"), w.fresh(e.Name+"_zero_point")
	at := tensor.Shape{}
	scales := e.Scale
	switch {
	case e.BlockSize > 0:
		// ONNX wants a scale for every index of the other axes, not only the channel's.
		at = shape.Clone()
		at[e.BlockAxis] /= e.BlockSize
		scales, zeros = spread(scales, e, shape, at), spread(zeros, e, shape, at)
	case e.Axis >= 0:
		at = tensor.Shape{len(scales)}
	}
	f, z := make([]float32, len(scales)), make([]int64, len(scales))
	for i := range scales {
		f[i], z[i] = float32(scales[i]), int64(zeros[i])
	}
	w.constant(convert.FromTensor(scale, tensor.From(f, at...)))
	t, err := pack(zero, z, at, dt)
	if err != nil {
		panic(err) // store has chosen a type that holds the zero points
	}
	w.constant(t)
	return scale, zero
}

// spread repeats values of groups over the shape at, which has one element per block.
func spread(v []float64, e encoding.Entry, shape, at tensor.Shape) []float64 {
	out := make([]float64, at.Len())
	st := e.ScaleShape(shape)
	strides := st.Strides()
	for i := range out {
		rest, from := i, 0
		for d := len(at) - 1; d >= 0; d-- {
			if st[d] > 1 {
				from += rest % at[d] * strides[d]
			}
			rest /= at[d]
		}
		out[i] = v[from]
	}
	return out
}

// node makes one of the pair for an entry.
func (w *qdqWriter) node(op string, e encoding.Entry, suffix string, inputs []string, out string) *onnx.Node {
	n := &onnx.Node{Name: w.fresh(e.Name + suffix + "_node"), OpType: op, Inputs: inputs, Outputs: []string{out}}
	switch {
	case e.BlockSize > 0:
		n.Attributes = []*onnx.Attribute{onnx.IntAttr("axis", int64(e.BlockAxis)), onnx.IntAttr("block_size", int64(e.BlockSize))}
	case e.Axis >= 0:
		n.Attributes = []*onnx.Attribute{onnx.IntAttr("axis", int64(e.Axis))}
	}
	return n
}

// activation puts a pair behind a value. The value of a graph output is renamed before
// the pair, so that the output is what comes out of it.
func (w *qdqWriter) activation(e encoding.Entry) error {
	at := w.producer(e.Name)
	raw, out := e.Name, w.fresh(e.Name+"_updated")
	w.rewire(e.Name, out)
	if w.isOutput(e.Name) && at >= 0 {
		n := w.m.Graph.Nodes[at]
		for i, v := range n.Outputs {
			if v == e.Name {
				n.Outputs[i] = out
			}
		}
		w.rewire(out, e.Name)
		raw, out = out, e.Name
	}
	if e.Type != encoding.Int {
		w.insert(at, w.casts(e, raw, out)...)
		return nil
	}
	dt, zeros, err := store(e.Encoding, encoding.Activation, w.opset)
	if err != nil {
		return err
	}
	scale, zero := w.params(e, nil, dt, zeros)
	if dt.Bits() > e.Bits {
		clipped := w.fresh(e.Name + "_clip")
		w.insert(at, w.clip(e, raw, clipped))
		raw = clipped
	}
	q := w.node("QuantizeLinear", e, "_q", []string{raw, scale, zero}, w.fresh(e.Name+"_q"))
	w.insert(at, q, w.node("DequantizeLinear", e, "_dq", []string{q.Outputs[0], scale, zero}, out))
	return nil
}

// clip holds a value in the range of a grid that is narrower than its container; then rounding cannot leave it.
func (w *qdqWriter) clip(e encoding.Entry, in, out string) *onnx.Node {
	lo, hi := e.Bounds(0)
	s := float32(e.Scale[0])
	bounds := [2]float32{float32(lo) * s, float32(hi) * s}
	n := &onnx.Node{Name: w.fresh(e.Name + "_clip_node"), OpType: "Clip", Inputs: []string{in}, Outputs: []string{out}}
	if w.opset < 11 {
		n.Attributes = []*onnx.Attribute{onnx.FloatAttr("min", bounds[0]), onnx.FloatAttr("max", bounds[1])}
		return n
	}
	for i, suffix := range []string{"_clip_min", "_clip_max"} {
		name := w.fresh(e.Name + suffix)
		w.constant(convert.FromTensor(name, tensor.Scalar(bounds[i])))
		n.Inputs = append(n.Inputs, name)
	}
	return n
}

func (w *qdqWriter) casts(e encoding.Entry, in, out string) []*onnx.Node {
	to := onnx.Float16
	if e.Type == encoding.BFloat16 {
		to = onnx.BFloat16
	}
	mid := w.fresh(e.Name + "_half")
	cast := func(suffix, in, out string, t onnx.DataType) *onnx.Node {
		return &onnx.Node{Name: w.fresh(e.Name + suffix), OpType: "Cast", Inputs: []string{in}, Outputs: []string{out},
			Attributes: []*onnx.Attribute{onnx.IntAttr("to", int64(t))}}
	}
	return []*onnx.Node{cast("_narrow_node", in, mid, to), cast("_widen_node", mid, out, onnx.Float)}
}

// steps returns how many steps a range has on a grid.
func steps(lo, hi, scale float64) float64 { return math.Round((hi - lo) / scale) }
