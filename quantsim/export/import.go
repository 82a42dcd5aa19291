package export

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// Quantized reports whether a model has QuantizeLinear or DequantizeLinear nodes.
func Quantized(m *onnx.Model) bool {
	return slices.ContainsFunc(m.Graph.Nodes, func(n *onnx.Node) bool {
		return n.OpType == "QuantizeLinear" || n.OpType == "DequantizeLinear"
	})
}

// FromQDQ takes a QDQ model apart: it returns the float model without the pairs, and
// their encodings. Integer weights become floats on their grid, under the name they had
// before ToQDQ (or another tool that appends _q or _quantized). int32 biases become
// floats and have an entry of 32 bits. A float32 value that goes through a Cast to float16
// or bfloat16 and back has an entry of that type. m is not changed.
//
// It is an error if a QuantizeLinear is not followed by its DequantizeLinear only, or a
// scale or zero point is not a constant: then the model computes on integers.
func FromQDQ(m *onnx.Model) (*onnx.Model, *encoding.File, error) {
	r := &qdqReader{whole: m, editor: newEditor(m), f: &encoding.File{Package: Producer}, dq: map[string][]int{}, widen: map[string][]int{}, readers: map[string]int{}}
	for i, n := range r.m.Graph.Nodes {
		for _, in := range n.Inputs {
			r.readers[in]++
		}
		switch {
		case n.OpType == "DequantizeLinear" && len(n.Inputs) > 0:
			r.dq[n.Inputs[0]] = append(r.dq[n.Inputs[0]], i)
		case castTo(n) == onnx.Float:
			r.widen[n.Inputs[0]] = append(r.widen[n.Inputs[0]], i)
		}
	}
	var errs []error
	for i, n := range r.m.Graph.Nodes {
		var err error
		switch n.OpType {
		case "QuantizeLinear":
			err = r.pair(i, n)
		case "Cast":
			err = r.casts(i, n)
		case "DequantizeLinear":
			if t, _ := r.m.Graph.FindConstant(n.Inputs[0]); t != nil {
				err = r.stored(i, n, t)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("export: node %q (%s): %w", n.Name, n.OpType, err))
		}
	}
	for _, n := range r.m.Graph.Nodes {
		if n.OpType == "QuantizeLinear" || n.OpType == "DequantizeLinear" {
			errs = append(errs, fmt.Errorf("export: node %q (%s) is not part of a pair: the model computes on integers", n.Name, n.OpType))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	r.sweep()
	r.params()
	return r.finish(), r.f, nil
}

type qdqReader struct {
	*editor
	whole   *onnx.Model
	types   map[string]nn.Type // of its values, when first needed
	f       *encoding.File
	dq      map[string][]int // DequantizeLinear nodes by their input
	widen   map[string][]int // Cast nodes to float32 by their input
	readers map[string]int
	gone    []string // scales and zero points, perhaps unused now
}

// pair removes a QuantizeLinear and the DequantizeLinear nodes behind it.
func (r *qdqReader) pair(at int, q *onnx.Node) error {
	back := r.dq[q.Outputs[0]]
	if len(back) == 0 || len(back) != r.readers[q.Outputs[0]] || r.isOutput(q.Outputs[0]) {
		return errors.New("its integers are used by other operators than DequantizeLinear")
	}
	e, err := r.grid(q, onnx.Undefined)
	if err != nil {
		return err
	}
	from := q.Inputs[0]
	if c := r.clipBefore(from, e); c >= 0 {
		clip := r.m.Graph.Nodes[c]
		r.gone = append(r.gone, clip.Inputs[1:]...)
		from = clip.Inputs[0]
		r.m.Graph.Nodes[c] = &onnx.Node{}
	}
	return r.remove(at, back, from, e)
}

// castTo returns the type that a Cast makes, Undefined for other nodes.
func castTo(n *onnx.Node) onnx.DataType {
	if a := n.Attribute("to"); n.OpType == "Cast" && a != nil && len(n.Inputs) == 1 {
		return onnx.DataType(a.I)
	}
	return onnx.Undefined
}

// casts removes a Cast of a float32 value to a shorter type if nothing but Casts back to float32 follow.
func (r *qdqReader) casts(at int, n *onnx.Node) error {
	t := map[onnx.DataType]encoding.DataType{onnx.Float16: encoding.Float16, onnx.BFloat16: encoding.BFloat16}[castTo(n)]
	if t == encoding.Int {
		return nil
	}
	back := r.widen[n.Outputs[0]]
	if len(back) == 0 || len(back) != r.readers[n.Outputs[0]] || r.isOutput(n.Outputs[0]) {
		return nil // the model computes in that type
	}
	if r.types == nil {
		g, err := convert.ToGraph(r.whole)
		if err != nil {
			return err
		}
		_ = nn.Infer(g) // what is wrong with the model is said when it is used
		r.types = g.Types
		for name, c := range g.Consts {
			r.types[name] = nn.Type{DType: c.DType()}
		}
	}
	if r.types[n.Inputs[0]].DType != tensor.Float32 {
		return nil
	}
	return r.remove(at, back, n.Inputs[0], &encoding.Encoding{Grid: encoding.Grid{Type: t, Bits: 16, Axis: encoding.PerTensor, BlockAxis: -1}})
}

// remove takes out node at and those behind it, lets their readers read from, and adds its encoding.
func (r *qdqReader) remove(at int, back []int, from string, e *encoding.Encoding) error {
	name := from
	r.m.Graph.Nodes[at] = &onnx.Node{}
	for _, i := range back {
		dq := r.m.Graph.Nodes[i]
		r.m.Graph.Nodes[i] = &onnx.Node{}
		out := dq.Outputs[0]
		if p := r.producer(from); r.isOutput(out) && p >= 0 {
			// What comes out of the pair is the graph's output: its source takes the name.
			n := r.m.Graph.Nodes[p]
			n.Outputs[slices.Index(n.Outputs, from)] = out
			r.rewire(from, out)
			from, name = out, out
			continue
		}
		r.rewire(out, from)
	}
	kind := encoding.Activation
	if t, _ := r.m.Graph.FindConstant(from); t != nil && (e.Symmetric || e.Type != encoding.Int) {
		kind = encoding.Param
	}
	return r.add(name, kind, e)
}

// add appends an entry; several pairs on one value must agree.
func (r *qdqReader) add(name string, kind encoding.Kind, e *encoding.Encoding) error {
	if old := r.f.Find(name); old != nil {
		if old.Type != e.Type || old.Bits != e.Bits || !slices.Equal(old.Scale, e.Scale) || !slices.Equal(old.Offset, e.Offset) {
			return fmt.Errorf("the value %q is quantized in two ways", name)
		}
		return nil
	}
	r.f.Entries = append(r.f.Entries, encoding.Entry{Name: name, Kind: kind, Encoding: e})
	return nil
}

// clipBefore returns the index of a Clip that ToQDQ put before a container, and gives e its bitwidth; -1 if there is none.
func (r *qdqReader) clipBefore(name string, e *encoding.Encoding) int {
	i := r.producer(name)
	if i < 0 || !strings.HasSuffix(name, "_clip") || r.m.Graph.Nodes[i].OpType != "Clip" || r.readers[name] != 1 {
		return -1
	}
	var ends [2]float64
	n := r.m.Graph.Nodes[i]
	for k, attr := range []string{"min", "max"} {
		if a := n.Attribute(attr); a != nil {
			ends[k] = float64(a.F)
			continue
		}
		if len(n.Inputs) < 3 {
			return -1
		}
		t, _ := r.m.Graph.FindConstant(n.Inputs[k+1])
		if t == nil {
			return -1
		}
		v, err := convert.ToTensor(t)
		if err != nil || v.Len() != 1 {
			return -1
		}
		ends[k] = tensor.Float64s(v)[0]
	}
	bits := math.Log2(steps(ends[0], ends[1], e.Scale[0]) + 1)
	if bits != math.Trunc(bits) || bits < 2 || bits >= float64(e.Bits) {
		return -1
	}
	e.Bits = int(bits)
	return i
}

// stored turns an integer constant back into floats.
func (r *qdqReader) stored(at int, dq *onnx.Node, t *onnx.Tensor) error {
	e, err := r.grid(dq, t.DataType)
	if err != nil {
		return err
	}
	v, err := convert.ToTensor(t)
	if err != nil {
		return err
	}
	shape := v.Shape()
	if err := e.Validate(shape); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "encoding: "))
	}
	codes := tensor.Int64s(v)
	x := tensor.New[float32](shape...)
	half := 0.0
	if signed(t.DataType) {
		half = math.Ldexp(1, e.Bits-1)
	}
	e.Runs(shape, func(g, lo, hi int) {
		s := float32(e.Scale[g])
		for i := lo; i < hi; i++ {
			x.Data()[i] = float32(float64(codes[i])+half+e.Offset[g]) * s
		}
	})
	name := dq.Outputs[0]
	for _, suffix := range []string{"_q", "_quantized"} {
		if base, ok := strings.CutSuffix(dq.Inputs[0], suffix); ok && (!r.taken[base] || r.f.Find(base) == nil && r.producer(base) < 0 && r.m.Graph.FindInitializer(base) == nil) {
			name = base
			break
		}
	}
	if name == dq.Outputs[0] && r.isOutput(name) {
		return errors.New("a constant is a graph output")
	}
	r.gone = append(r.gone, dq.Inputs[0])
	r.m.Graph.Nodes[at] = &onnx.Node{}
	r.taken[name] = true
	r.rewire(dq.Outputs[0], name)
	r.constant(convert.FromTensor(name, x))
	return r.add(name, encoding.Param, e)
}

func signed(t onnx.DataType) bool {
	return t == onnx.Int4 || t == onnx.Int8 || t == onnx.Int16 || t == onnx.Int32
}

// grid reads scale, zero point and axis of a node; dt is the integer type if it is known otherwise.
func (r *qdqReader) grid(n *onnx.Node, dt onnx.DataType) (*encoding.Encoding, error) {
	if len(n.Inputs) < 2 {
		return nil, errors.New("has no scale")
	}
	st, _ := r.m.Graph.FindConstant(n.Inputs[1])
	if st == nil {
		return nil, fmt.Errorf("its scale %q is not a constant", n.Inputs[1])
	}
	scale, err := convert.ToTensor(st)
	if err != nil {
		return nil, err
	}
	r.gone = append(r.gone, n.Inputs[1])
	zeros := make([]float64, scale.Len())
	if len(n.Inputs) > 2 && n.Inputs[2] != "" {
		zt, _ := r.m.Graph.FindConstant(n.Inputs[2])
		if zt == nil {
			return nil, fmt.Errorf("its zero point %q is not a constant", n.Inputs[2])
		}
		z, err := convert.ToTensor(zt)
		if err != nil {
			return nil, err
		}
		if z.Len() != scale.Len() {
			return nil, fmt.Errorf("%d scales and %d zero points", scale.Len(), z.Len())
		}
		zeros, dt = tensor.Float64s(z), zt.DataType
		r.gone = append(r.gone, n.Inputs[2])
	} else if a := n.Attribute("output_dtype"); a != nil && a.I != 0 {
		dt = onnx.DataType(a.I)
	} else if dt == onnx.Undefined {
		dt = onnx.Uint8
	}
	return makeGrid(n, tensor.Float64s(scale), zeros, scale.Shape(), dt)
}

func makeGrid(n *onnx.Node, scale, zeros []float64, shape tensor.Shape, dt onnx.DataType) (*encoding.Encoding, error) {
	e := &encoding.Encoding{Grid: encoding.Grid{Bits: dt.Bits(), Axis: encoding.PerTensor, BlockAxis: -1}, Scale: scale}
	if _, err := convert.DTypeOf(dt); err != nil || dt.Bits() > 32 {
		return nil, fmt.Errorf("its type is %v", dt)
	}
	axis := int64(1)
	if a := n.Attribute("axis"); a != nil {
		axis = a.I
	}
	if axis < 0 {
		return nil, fmt.Errorf("its axis is %d; negative axes are not understood here", axis)
	}
	if b := n.Attribute("block_size"); b != nil && b.I > 0 {
		if err := blocks(e, shape, int(axis), int(b.I)); err != nil {
			return nil, err
		}
		zeros = zeros[:min(len(zeros), len(e.Scale))]
	} else if len(shape) == 1 && shape[0] > 1 {
		e.Axis = int(axis)
	}
	lo := 0.0
	if signed(dt) {
		lo = -math.Ldexp(1, dt.Bits()-1)
	}
	e.Symmetric = signed(dt)
	for i := range e.Scale {
		e.Offset = append(e.Offset, lo-zeros[i])
		e.Symmetric = e.Symmetric && zeros[i] == 0
	}
	return e, nil
}

// blocks sets the axes of block-wise scales of a matrix.
func blocks(e *encoding.Encoding, shape tensor.Shape, axis, size int) error {
	if len(shape) != 2 || axis > 1 {
		return fmt.Errorf("block-wise scales of shape %v; only matrices are understood", shape)
	}
	e.BlockAxis, e.BlockSize, e.Axis = axis, size, 1-axis
	return nil
}

// sweep removes scales and zero points that nothing reads any more.
func (r *qdqReader) sweep() {
	used := map[string]bool{}
	for _, n := range r.m.Graph.Nodes {
		if n.OpType != "" {
			for _, in := range n.Inputs {
				used[in] = true
			}
		}
	}
	for _, name := range r.gone {
		if !used[name] && !r.isOutput(name) {
			r.drop(name)
		}
	}
}

// params puts constants first, as files have it.
func (r *qdqReader) params() {
	slices.SortStableFunc(r.f.Entries, func(a, b encoding.Entry) int { return int(a.Kind) - int(b.Kind) })
}

// Import makes a simulation of a QDQ model: the float model behind it with its
// encodings loaded, and everything that the model does not quantize disabled. It returns
// the float model too, as base of later exports.
func Import(m *onnx.Model, cfg quantsim.Config) (*quantsim.Sim, *onnx.Model, error) {
	float, f, err := FromQDQ(m)
	if err != nil {
		return nil, nil, err
	}
	g, err := convert.ToGraph(float)
	if err != nil {
		return nil, nil, fmt.Errorf("export: %w", err)
	}
	s, err := quantsim.New(g, cfg)
	if err != nil {
		return nil, nil, err
	}
	for i, e := range f.Entries {
		if st, ok := s.State(e.Name); ok {
			f.Entries[i].Kind = st.Kind
		}
	}
	if err := s.LoadEncodings(f, quantsim.LoadOptions{Reconfigure: true}); err != nil {
		return nil, nil, err
	}
	return s, float, nil
}
