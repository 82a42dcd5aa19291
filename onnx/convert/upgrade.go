package convert

import (
	"errors"
	"fmt"
	"slices"

	"roundel/nn"
	"roundel/onnx"
	"roundel/tensor"
)

// valueKind says how the value of an attribute looks as an input.
type valueKind uint8

const (
	ints1D  valueKind = iota // list of integers: int64 [n]
	int1D                    // integer: int64 [1]
	int0D                    // integer: int64 scalar
	float0D                  // float: scalar of the first input's element type
	float1D                  // list of floats: float32 [n]
)

// movedAttr is an attribute that became an input.
type movedAttr struct {
	op    string
	since int64 // first opset where it is an input
	attr  string
	input int
	kind  valueKind
}

// moved lists the attributes that became inputs between opset 7 and 24; both directions use it.
var moved = []movedAttr{
	{"Clip", 11, "min", 1, float0D},
	{"Clip", 11, "max", 2, float0D},
	{"Pad", 11, "pads", 1, ints1D},
	{"Pad", 11, "value", 2, float0D},
	{"Slice", 10, "starts", 1, ints1D},
	{"Slice", 10, "ends", 2, ints1D},
	{"Slice", 10, "axes", 3, ints1D},
	{"TopK", 10, "k", 1, int1D},
	{"Split", 13, "split", 1, ints1D},
	{"Squeeze", 13, "axes", 1, ints1D},
	{"Unsqueeze", 13, "axes", 1, ints1D},
	{"ReduceSum", 13, "axes", 1, ints1D},
	{"ReduceL1", 18, "axes", 1, ints1D},
	{"ReduceL2", 18, "axes", 1, ints1D},
	{"ReduceLogSum", 18, "axes", 1, ints1D},
	{"ReduceLogSumExp", 18, "axes", 1, ints1D},
	{"ReduceMax", 18, "axes", 1, ints1D},
	{"ReduceMean", 18, "axes", 1, ints1D},
	{"ReduceMin", 18, "axes", 1, ints1D},
	{"ReduceProd", 18, "axes", 1, ints1D},
	{"ReduceSumSquare", 18, "axes", 1, ints1D},
	{"Upsample", 9, "scales", 1, float1D},
	{"DFT", 20, "axis", 2, int0D},
}

// upgrade brings n, which is of opset v, to the newest form of its operator.
func (s *scope) upgrade(n *nn.Node, v int64) error {
	if n.Op == "DFT" && v < 20 && n.Attrs["axis"].Kind == 0 {
		n.Attrs["axis"] = nn.Attr{Kind: nn.AttrInt, I: 1} // the default was another
	}
	for _, m := range moved {
		if m.op != n.Op {
			continue
		}
		if a, ok := n.Attrs[m.attr]; ok && v < m.since {
			if err := s.moveAttr(n, m, a); err != nil {
				return err
			}
		} else if ok {
			return fmt.Errorf("attribute %q is an input since opset %d, and the model is of opset %d", m.attr, m.since, v)
		}
	}
	switch n.Op {
	case "Softmax", "LogSoftmax", "Hardmax":
		if v < 13 {
			s.upgradeSoftmax(n)
		}
	case "Split":
		if v < 18 && n.In(1) == "" {
			n.Attrs["num_outputs"] = nn.Attr{Kind: nn.AttrInt, I: int64(len(n.Outputs))}
		}
	case "Dropout":
		return s.upgradeDropout(n)
	case "BatchNormalization":
		return s.upgradeBatchNorm(n)
	case "Upsample", "Resize":
		return s.upgradeResize(n, v)
	case "GroupNormalization":
		if v < 21 {
			return s.upgradeGroupNorm(n)
		}
	case "QuantizeLinear":
		s.upgradeQuantize(n)
	default:
		return upgradeRest(n, v)
	}
	return nil
}

// upgradeRest has the operators for which one attribute or name changed.
func upgradeRest(n *nn.Node, v int64) error {
	switch {
	case n.Op == "Scatter" && v < 11:
		n.Op = "ScatterElements"
	case n.Op == "RoiAlign" && v < 16:
		n.Attrs["coordinate_transformation_mode"] = nn.Attr{Kind: nn.AttrString, S: "output_half_pixel"}
	case n.Op == "GridSample" && v < 20:
		mode := n.Str("mode", "bilinear")
		switch mode {
		case "bilinear":
			mode = "linear"
		case "bicubic":
			mode = "cubic"
		}
		n.Attrs["mode"] = nn.Attr{Kind: nn.AttrString, S: mode}
	case n.Op == "Scan" && v < 9:
		return onnx.Unsupportedf("Scan from before opset 9")
	}
	return nil
}

// moveAttr turns an attribute into a new constant and makes it an input.
func (s *scope) moveAttr(n *nn.Node, m movedAttr, a nn.Attr) error {
	var v tensor.Any
	switch {
	case m.kind == ints1D && a.Kind == nn.AttrInts:
		v = tensor.From(slices.Clone(a.Ints), len(a.Ints))
	case m.kind == int1D && a.Kind == nn.AttrInt:
		v = tensor.From([]int64{a.I}, 1)
	case m.kind == int0D && a.Kind == nn.AttrInt:
		v = tensor.Scalar(a.I)
	case m.kind == float1D && a.Kind == nn.AttrFloats:
		v = tensor.From(slices.Clone(a.Floats), len(a.Floats))
	case m.kind == float0D && a.Kind == nn.AttrFloat:
		v = floatScalar(a.F, s.elem(n.In(0)))
	default:
		return fmt.Errorf("attribute %q has the wrong type", m.attr)
	}
	delete(n.Attrs, m.attr)
	setInput(n, m.input, s.newConst(n, m.attr, v))
	return nil
}

// floatScalar returns x in element type t, float32 if that is not a floating-point type.
func floatScalar(x float32, t onnx.DataType) tensor.Any {
	switch t {
	case onnx.Double:
		return tensor.Scalar(float64(x))
	case onnx.Float16:
		return tensor.Scalar(tensor.ToF16(float64(x)))
	}
	return tensor.Scalar(x)
}

// newConst adds a constant that belongs to node n.
func (s *scope) newConst(n *nn.Node, what string, v tensor.Any) string {
	name := s.values.fresh(n.Name + "_" + what)
	s.defs[name] = true
	s.g.Consts[name] = v
	return name
}

func setInput(n *nn.Node, i int, name string) {
	for len(n.Inputs) <= i {
		n.Inputs = append(n.Inputs, "")
	}
	n.Inputs[i] = name
}

// upgradeSoftmax: up to opset 12 the input is flattened to a matrix at axis, 1 if
// absent, and the operator works on rows. That is the same as working along axis when it is the last.
func (s *scope) upgradeSoftmax(n *nn.Node) {
	axis := n.Int("axis", 1)
	n.Attrs["axis"] = nn.Attr{Kind: nn.AttrInt, I: axis}
	if axis == -1 {
		return
	}
	rank := -1
	if d, ok := s.dims(n.In(0)); ok {
		rank = len(d)
	} else if s.flat[n.In(0)] {
		rank = 2
	}
	if rank < 0 || axis != int64(rank)-1 {
		n.Attrs["coerce2d"] = nn.Attr{Kind: nn.AttrInt, I: 1}
	}
}

func (s *scope) upgradeDropout(n *nn.Node) error {
	if mode := n.In(2); mode != "" {
		b, _ := s.constant(mode).(*tensor.Dense[bool])
		if b == nil || b.Len() != 1 || b.Data()[0] {
			return onnx.Unsupportedf("Dropout in training mode; export the model for inference")
		}
	}
	n.Attrs = map[string]nn.Attr{}
	n.Inputs = n.Inputs[:min(1, len(n.Inputs))]
	s.dropUnused(n, 1)
	return nil
}

// dropUnused cuts off the outputs from the keep-th on that nothing reads.
func (s *scope) dropUnused(n *nn.Node, keep int) {
	for len(n.Outputs) > keep && !s.used[n.Outputs[len(n.Outputs)-1]] {
		n.Outputs = n.Outputs[:len(n.Outputs)-1]
	}
}

func (s *scope) upgradeBatchNorm(n *nn.Node) error {
	if n.Int("training_mode", 0) != 0 {
		return onnx.Unsupportedf("BatchNormalization in training mode; export the model for inference")
	}
	if n.Int("spatial", 1) != 1 {
		return onnx.Unsupportedf("BatchNormalization with spatial=0")
	}
	if s.dropUnused(n, 1); len(n.Outputs) > 1 {
		return onnx.Unsupportedf("BatchNormalization whose statistics are used")
	}
	delete(n.Attrs, "spatial")
	return nil
}

// upgradeQuantize notes the type of a zero point that is packed, for its tensor no longer tells.
func (s *scope) upgradeQuantize(n *nn.Node) {
	if t := s.elem(n.In(2)); t == onnx.Int4 || t == onnx.Uint4 {
		n.Attrs["output_dtype"] = nn.Attr{Kind: nn.AttrInt, I: int64(t)}
	}
}

// upgradeGroupNorm: before opset 21 scale and bias are per group, since then per channel.
func (s *scope) upgradeGroupNorm(n *nn.Node) error {
	dims, _ := s.dims(n.In(0))
	groups := n.Int("num_groups", 0)
	if len(dims) < 2 || !dims[1].HasValue || groups < 1 || dims[1].Value%groups != 0 {
		return onnx.Unsupportedf("GroupNormalization from before opset 21 without a declared number of channels")
	}
	if err := s.unfold(2 * dims[1].Value); err != nil {
		return err
	}
	for i, what := range []string{1: "scale", 2: "bias"} {
		if i == 0 {
			continue
		}
		per, ok := s.constant(n.In(i)).(*tensor.Dense[float32])
		if !ok || int64(per.Len()) != groups {
			return onnx.Unsupportedf("GroupNormalization from before opset 21 whose %s is not a float32 constant per group", what)
		}
		out := tensor.New[float32](int(dims[1].Value))
		for c := range out.Data() {
			out.Data()[c] = per.Data()[c/(out.Len()/per.Len())]
		}
		setInput(n, i, s.newConst(n, what, out))
	}
	return nil
}

// upgradeResize brings Upsample and Resize to the inputs X, roi, scales, sizes.
// Before opset 11 coordinates are asymmetric, and in nearest mode a fraction is
// cut off when the image grows and rounded up when it shrinks, as ONNX Runtime does.
func (s *scope) upgradeResize(n *nn.Node, v int64) error {
	if n.Op == "Upsample" && v >= 10 {
		return errors.New("Upsample is not part of opset 10 and later")
	}
	if v < 11 {
		round, err := s.nearestRounding(n)
		if err != nil {
			return err
		}
		setInput(n, 2, n.In(1))
		n.Op, n.Inputs[1] = "Resize", ""
		for name, value := range map[string]string{"coordinate_transformation_mode": "asymmetric", "nearest_mode": round} {
			n.Attrs[name] = nn.Attr{Kind: nn.AttrString, S: value}
		}
		return nil
	}
	for i := 1; i < len(n.Inputs); i++ {
		if c := s.constant(n.Inputs[i]); c != nil && c.Len() == 0 {
			n.Inputs[i] = ""
		}
	}
	if n.Str("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize" && len(n.Inputs) > 1 {
		n.Inputs[1] = ""
	}
	n.Inputs = trim(n.Inputs)
	return nil
}

// nearestRounding returns the nearest_mode of a Resize from before opset 11.
func (s *scope) nearestRounding(n *nn.Node) (string, error) {
	if n.Op == "Upsample" || n.Str("mode", "nearest") != "nearest" {
		return "floor", nil
	}
	scales, ok := s.constant(n.In(1)).(*tensor.Dense[float32])
	if !ok {
		return "", onnx.Unsupportedf("nearest Resize of opset 10 with scales that are not constant")
	}
	grows, shrinks := false, false
	for _, x := range scales.Data() {
		grows, shrinks = grows || x > 1, shrinks || x < 1
	}
	switch {
	case grows && shrinks:
		return "", onnx.Unsupportedf("nearest Resize of opset 10 that both grows and shrinks")
	case shrinks:
		return "ceil", nil
	}
	return "floor", nil
}
