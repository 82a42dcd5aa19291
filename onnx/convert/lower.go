package convert

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"roundel/nn"
	"roundel/onnx"
	"roundel/tensor"
)

// addedAttr is an attribute that an operator got later. Before, it had the value def.
type addedAttr struct {
	op    string
	attr  string
	since int64
	def   any // int64, string, or nil when there is no value to drop it at
}

var added = []addedAttr{
	{"ArgMax", "select_last_index", 12, int64(0)},
	{"ArgMin", "select_last_index", 12, int64(0)},
	{"Attention", "left_window_size", 25, int64(-1)},
	{"Attention", "right_window_size", 25, int64(-1)},
	{"AveragePool", "ceil_mode", 10, int64(0)},
	{"AveragePool", "dilations", 19, nil},
	{"BatchNormalization", "training_mode", 14, int64(0)},
	{"Cast", "saturate", 19, int64(1)},
	{"DepthToSpace", "mode", 11, "DCR"},
	{"DequantizeLinear", "axis", 13, nil},
	{"DequantizeLinear", "block_size", 21, int64(0)},
	{"DequantizeLinear", "output_dtype", 23, int64(0)},
	{"GatherND", "batch_dims", 12, int64(0)},
	{"GRU", "layout", 14, int64(0)},
	{"GroupNormalization", "stash_type", 21, int64(1)},
	{"LSTM", "layout", 14, int64(0)},
	{"LpPool", "ceil_mode", 18, int64(0)},
	{"LpPool", "dilations", 18, nil},
	{"MaxPool", "storage_order", 8, int64(0)},
	{"MaxPool", "ceil_mode", 10, int64(0)},
	{"MaxPool", "dilations", 10, nil},
	{"QuantizeLinear", "axis", 13, nil},
	{"QuantizeLinear", "saturate", 19, int64(1)},
	{"QuantizeLinear", "block_size", 21, int64(0)},
	{"QuantizeLinear", "output_dtype", 21, int64(0)},
	{"QuantizeLinear", "precision", 23, int64(0)},
	{"RNN", "layout", 14, int64(0)},
	{"Range", "stash_type", 27, int64(1)},
	{"Reshape", "allowzero", 14, int64(0)},
	{"Resize", "antialias", 18, int64(0)},
	{"Resize", "axes", 18, nil},
	{"Resize", "keep_aspect_ratio_policy", 18, "stretch"},
	{"RoiAlign", "coordinate_transformation_mode", 16, "output_half_pixel"},
	{"ScatterElements", "reduction", 16, "none"},
	{"ScatterND", "reduction", 16, "none"},
	{"Shape", "start", 15, int64(0)},
	{"Shape", "end", 15, nil},
	{"SpaceToDepth", "mode", 28, "DCR"},
	{"TopK", "largest", 11, int64(1)},
	{"TopK", "sorted", 11, int64(1)},
}

// lower writes n in the form of the exporter's opset. r and old are what base has in its place, or nil.
func (l *level) lower(n, r *nn.Node, old *onnx.Node) (*onnx.Node, error) {
	c := *n
	c.Inputs, c.Attrs = slices.Clone(n.Inputs), maps.Clone(n.Attrs)
	if c.Attrs == nil {
		c.Attrs = map[string]nn.Attr{}
	}
	if err := l.lowerSpecial(&c); err != nil {
		return nil, err
	}
	if err := l.lowerMoved(&c); err != nil {
		return nil, err
	}
	if v := since(c.Op); l.opset < v {
		return nil, l.needs(v, c.Op)
	}
	for _, a := range added {
		at, ok := c.Attrs[a.attr]
		if !ok || a.op != c.Op || l.opset >= a.since {
			continue
		}
		if a.def != at.I && a.def != at.S {
			return nil, l.needs(a.since, "attribute "+a.attr)
		}
		delete(c.Attrs, a.attr)
	}
	p := &onnx.Node{Name: c.Name, OpType: c.Op, Inputs: trim(c.Inputs), Outputs: slices.Clone(c.Outputs)}
	if domain, op, ok := strings.Cut(c.Op, "::"); ok {
		p.Domain, p.OpType = domain, op
	}
	for _, name := range slices.Sorted(maps.Keys(c.Attrs)) {
		p.Attributes = append(p.Attributes, l.protoAttr(name, c.Attrs[name], r, old))
	}
	return p, nil
}

// needs is the error for what the opset does not have.
func (l *level) needs(since int64, what string) error {
	return onnx.Unsupportedf("%s needs opset %d and the model is of opset %d", what, since, l.opset)
}

// lowerMoved turns inputs into attributes where the opset has them so.
func (l *level) lowerMoved(n *nn.Node) error {
	first := -1
	for _, m := range moved {
		if m.op != n.Op || l.opset >= m.since {
			continue
		}
		if first < 0 {
			first = m.input
		}
		name := n.In(m.input)
		if name == "" {
			continue
		}
		a, ok := attrOf(l.constant(name), m.kind)
		if !ok {
			return l.needs(m.since, fmt.Sprintf("%s that is not a constant", m.attr))
		}
		n.Attrs[m.attr], n.Inputs[m.input] = a, ""
	}
	if first < 0 {
		return nil
	}
	n.Inputs = trim(n.Inputs)
	if n.Op == "Slice" && len(n.Inputs) == 5 && allOnes(l.constant(n.Inputs[4])) {
		n.Inputs = n.Inputs[:first]
	}
	if len(n.Inputs) > first {
		return onnx.Unsupportedf("input %d of %s in opset %d", len(n.Inputs)-1, n.Op, l.opset)
	}
	return nil
}

func allOnes(v tensor.Any) bool {
	return v != nil && !slices.ContainsFunc(tensor.Float64s(v), func(x float64) bool { return x != 1 })
}

// attrOf returns the attribute for a constant input.
func attrOf(v tensor.Any, kind valueKind) (nn.Attr, bool) {
	if v == nil {
		return nn.Attr{}, false
	}
	switch kind {
	case ints1D:
		return nn.Attr{Kind: nn.AttrInts, Ints: tensor.Int64s(v)}, true
	case float1D:
		f, ok := v.(*tensor.Dense[float32])
		if !ok {
			return nn.Attr{}, false
		}
		return nn.Attr{Kind: nn.AttrFloats, Floats: f.Data()}, true
	}
	if v.Len() != 1 {
		return nn.Attr{}, false
	}
	if kind == float0D {
		return nn.Attr{Kind: nn.AttrFloat, F: float32(tensor.Float64s(v)[0])}, true
	}
	return nn.Attr{Kind: nn.AttrInt, I: tensor.Int64s(v)[0]}, true
}

// lowerSpecial has the operators that changed in other ways than moved and added say.
func (l *level) lowerSpecial(n *nn.Node) error {
	v := l.opset
	switch n.Op {
	case "Softmax", "LogSoftmax", "Hardmax":
		return l.lowerSoftmax(n)
	case "Resize":
		return l.lowerResize(n)
	case "Split":
		if v < 18 || n.In(1) != "" {
			delete(n.Attrs, "num_outputs")
		}
	case "Pad":
		if v < 18 && n.In(3) != "" {
			return l.needs(18, "Pad with axes")
		}
	case "QuantizeLinear":
		return l.lowerQuantize(n)
	case "GroupNormalization":
		if v < 21 {
			return l.needs(21, "GroupNormalization per channel")
		}
	case "ScatterElements":
		if v < 11 && n.Str("reduction", "none") == "none" {
			n.Op = "Scatter"
			delete(n.Attrs, "reduction")
		}
	case "GridSample":
		if v < 20 {
			mode := n.Str("mode", "linear")
			switch mode {
			case "linear":
				mode = "bilinear"
			case "cubic":
				mode = "bicubic"
			}
			n.Attrs["mode"] = nn.Attr{Kind: nn.AttrString, S: mode}
		}
	}
	if strings.HasPrefix(n.Op, "Reduce") && (v < 13 || v < 18 && n.Op != "ReduceSum") {
		if n.Int("noop_with_empty_axes", 0) != 0 && n.In(1) == "" {
			return l.needs(18, "noop_with_empty_axes")
		}
		delete(n.Attrs, "noop_with_empty_axes")
	}
	return nil
}

func (l *level) lowerSoftmax(n *nn.Node) error {
	// Of one axis, the last, both forms say the same; before shapes were inferred that was not known.
	flat := n.Int("coerce2d", 0) != 0 && n.Int("axis", 1) != l.rank(n.In(0))-1
	delete(n.Attrs, "coerce2d")
	switch {
	case l.opset >= 13 && flat:
		return onnx.Unsupportedf("%s over several axes since opset 13", n.Op)
	case l.opset < 13 && !flat && n.Int("axis", -1) < 0 && (l.opset < 11 || n.Int("axis", -1) != -1):
		return l.needs(13, n.Op+" along a negative axis")
	case l.opset < 13 && !flat && n.Int("axis", -1) >= 0 && n.Int("axis", -1) != l.rank(n.In(0))-1:
		return l.needs(13, n.Op+" along an axis that is not known to be the last")
	case l.opset < 13 && n.Attrs["axis"].Kind == 0:
		n.Attrs["axis"] = nn.Attr{Kind: nn.AttrInt, I: -1}
	}
	return nil
}

// rank returns the inferred or declared rank of a value, or -1. Quantizers that an export put in have no types yet.
func (l *level) rank(name string) int64 {
	for l.g.Types[name].DType == 0 {
		p := l.g.Producer(name)
		if p == nil || p.Op != "DequantizeLinear" && p.Op != "QuantizeLinear" {
			break
		}
		name = p.In(0)
	}
	t := l.g.Types[name]
	for _, v := range l.g.Inputs {
		if v.Name == name {
			t = v.Type
		}
	}
	if !t.Ranked {
		return -1
	}
	return int64(len(t.Dims))
}

// lowerQuantize gives the type of the result to the zero point, where there is one; a constant of 4 bits is packed again.
func (l *level) lowerQuantize(n *nn.Node) error {
	t := onnx.DataType(n.Int("output_dtype", 0))
	if packed := t == onnx.Int4 || t == onnx.Uint4; packed && l.opset < 21 {
		return l.needs(21, "QuantizeLinear to "+t.String())
	} else if packed && l.g.Consts[n.In(2)] != nil {
		l.packed[n.In(2)] = t
	}
	if n.In(2) != "" {
		delete(n.Attrs, "output_dtype")
	}
	return nil
}

func (l *level) lowerResize(n *nn.Node) error {
	v := l.opset
	if v >= 13 {
		return nil
	}
	if v >= 11 { // roi and scales had to be there, if only empty
		for i := 1; i <= 2; i++ {
			if n.In(i) == "" {
				t := FromTensor(n.Name+"_"+[]string{"roi", "scales"}[i-1]+"_none", tensor.New[float32](0))
				setInput(n, i, t.Name)
				l.inits = append(l.inits, t)
			}
		}
		return nil
	}
	round := n.Str("nearest_mode", "round_prefer_floor")
	nearest := n.Str("mode", "nearest") == "nearest"
	scales := n.In(2)
	if n.Str("coordinate_transformation_mode", "half_pixel") != "asymmetric" || n.In(3) != "" || scales == "" ||
		nearest && round != "floor" && (round != "ceil" || v < 10) {
		return l.needs(11, "Resize other than by scales with asymmetric coordinates")
	}
	mode := n.Str("mode", "nearest")
	n.Inputs, n.Attrs = []string{n.In(0), scales}, map[string]nn.Attr{"mode": {Kind: nn.AttrString, S: mode}}
	if v < 10 {
		n.Op = "Upsample"
	}
	return nil
}

// protoAttr converts an attribute. Inner graphs are written over the ones of base.
func (l *level) protoAttr(name string, a nn.Attr, r *nn.Node, old *onnx.Node) *onnx.Attribute {
	switch a.Kind {
	case nn.AttrInt:
		return onnx.IntAttr(name, a.I)
	case nn.AttrFloat:
		return onnx.FloatAttr(name, a.F)
	case nn.AttrString:
		return onnx.StringAttr(name, a.S)
	case nn.AttrInts:
		return onnx.IntsAttr(name, a.Ints...)
	case nn.AttrFloats:
		return onnx.FloatsAttr(name, a.Floats...)
	case nn.AttrStrings:
		out := &onnx.Attribute{Name: name, Type: onnx.AttributeStrings}
		for _, s := range a.Strings {
			out.Strings = append(out.Strings, []byte(s))
		}
		return out
	case nn.AttrTensor:
		return onnx.TensorAttr(name, FromTensor("", a.T))
	}
	var base *onnx.Graph
	var ref *nn.Graph
	if r != nil && old != nil && r.Attrs[name].Kind == nn.AttrGraph {
		if oa := old.Attribute(name); oa != nil {
			base, ref = oa.G, r.Attrs[name].G
		}
	}
	return &onnx.Attribute{Name: name, Type: onnx.AttributeGraph, G: l.graph(a.G, base, ref, l)}
}
