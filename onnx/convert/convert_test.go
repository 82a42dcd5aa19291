package convert

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"roundel/nn"
	"roundel/onnx"
	"roundel/tensor"
)

// text writes g with one node per line and constants in place: "n: Clip(x, [0.5], -) {axis=1} -> y".
func text(g *nn.Graph) string {
	var lines []string
	for _, n := range g.Nodes {
		var in []string
		for _, name := range n.Inputs {
			switch v := g.Consts[name]; {
			case name == "":
				in = append(in, "-")
			case v == nil:
				in = append(in, name)
			case v.DType() == tensor.Bool:
				in = append(in, fmt.Sprintf("bool%v", v.Shape()))
			default:
				in = append(in, fmt.Sprintf("%v%v%v", v.DType(), v.Shape(), tensor.Float64s(v)))
			}
		}
		line := fmt.Sprintf("%s: %s(%s)", n.Name, n.Op, strings.Join(in, ", "))
		for _, k := range slices.Sorted(maps.Keys(n.Attrs)) {
			line += fmt.Sprintf(" %s=%s", k, attrText(n.Attrs[k]))
		}
		lines = append(lines, line+" -> "+strings.Join(n.Outputs, ", "))
	}
	return strings.Join(lines, "\n")
}

func attrText(a nn.Attr) string {
	switch a.Kind {
	case nn.AttrInt:
		return fmt.Sprint(a.I)
	case nn.AttrFloat:
		return fmt.Sprint(a.F)
	case nn.AttrString:
		return a.S
	case nn.AttrInts:
		return fmt.Sprint(a.Ints)
	case nn.AttrGraph:
		return "{" + strings.ReplaceAll(text(a.G), "\n", "; ") + "}"
	}
	return fmt.Sprintf("kind %d", a.Kind)
}

func TestCanonicalForms(t *testing.T) {
	tests := []struct{ model, want string }{
		{"clip7", "n: Clip(x, float32[][-0.5], float32[][1.5]) -> y"},
		{"clip7_min", "n: Clip(x, float32[][0.25]) -> y"},
		{"clip7_double", "/Clip: Clip(x, float64[][-0.5], float64[][0.5]) -> y"},
		{"clip11", "n: Clip(x, float32[][-0.5], float32[][1.5]) -> y"},
		{"clip13_max", "n: Clip(x, -, float32[][0.5]) -> y"},
		{"squeeze7", "n: Squeeze(x, int64[2][1 3]) -> y"},
		{"squeeze7_all", "n: Squeeze(x) -> y"},
		{"squeeze13", "n: Squeeze(x, int64[2][1 3]) -> y"},
		{"unsqueeze7", "n: Unsqueeze(x, int64[2][0 2]) -> y"},
		{"unsqueeze13", "n: Unsqueeze(x, int64[2][0 2]) -> y"},
		{"reducemean7", "n: ReduceMean(x, int64[1][1]) -> y"},
		{"reducemean7_all", "n: ReduceMean(x) keepdims=0 -> y"},
		{"reducemean13", "n: ReduceMean(x, int64[1][-1]) keepdims=0 -> y"},
		{"reducemean18", "n: ReduceMean(x, int64[1][-1]) keepdims=0 -> y"},
		{"reducesum11", "n: ReduceSum(x, int64[1][1]) keepdims=0 -> y"},
		{"reducesum13", "n: ReduceSum(x, int64[1][1]) keepdims=0 -> y"},
		{"reducemax13", "n: ReduceMax(x, int64[2][0 2]) -> y"},
		{"pad7", "n: Pad(x, int64[4][1 0 2 1], float32[][1.5]) -> y"},
		{"pad10_reflect", "n: Pad(x, int64[4][1 0 1 1]) mode=reflect -> y"},
		{"pad11", "n: Pad(x, int64[4][1 0 2 1], float32[][1.5]) -> y"},
		{"pad18_axes", "n: Pad(x, int64[2][1 2], -, int64[1][1]) -> y"},
		{"slice7", "n: Slice(x, int64[1][1], int64[1][3], int64[1][0]) -> y"},
		{"slice9", "n: Slice(x, int64[2][1 0], int64[2][3 -1]) -> y"},
		{"slice10", "n: Slice(x, int64[1][4], int64[1][0], int64[1][1], int64[1][-2]) -> y"},
		{"split7", "n: Split(x, int64[2][2 3]) axis=1 -> y0, y1"},
		{"split11_equal", "n: Split(x) axis=-1 num_outputs=2 -> y0, y1"},
		{"split13", "n: Split(x, int64[2][2 3]) axis=1 -> y0, y1"},
		{"split18", "n: Split(x) axis=1 num_outputs=2 -> y0, y1"},
		{"topk7", "n: TopK(x, int64[1][2]) -> y0, y1"},
		{"topk10", "n: TopK(x, int64[1][2]) -> y0, y1"},
		{"topk11", "n: TopK(x, int64[1][2]) largest=0 -> y0, y1"},
		{"upsample7", "n: Resize(x, -, float32[4][1 1 2 3]) coordinate_transformation_mode=asymmetric mode=nearest nearest_mode=floor -> y"},
		{"upsample9_linear", "n: Resize(x, -, float32[4][1 1 2 2]) coordinate_transformation_mode=asymmetric mode=linear nearest_mode=floor -> y"},
		{"resize10_up", "n: Resize(x, -, float32[4][1 1 1.5 2.5]) coordinate_transformation_mode=asymmetric mode=nearest nearest_mode=floor -> y"},
		{"resize10_down", fmt.Sprintf("n: Resize(x, -, float32[4][1 1 %v %v]) coordinate_transformation_mode=asymmetric mode=nearest nearest_mode=ceil -> y",
			float64(float32(0.6)), float64(float32(0.6)))},
		{"resize11_sizes", "n: Resize(x, -, -, int64[4][1 1 5 4]) coordinate_transformation_mode=asymmetric mode=nearest nearest_mode=floor -> y"},
		{"resize11_scales", "n: Resize(x, -, float32[4][1 1 2 2]) coordinate_transformation_mode=align_corners mode=linear -> y"},
		{"resize13", "n: Resize(x, -, float32[4][1 1 2 2]) mode=linear -> y"},
		{"softmax7_flat", "n: Softmax(x) axis=1 coerce2d=1 -> y"},
		{"softmax11_last", "n: Softmax(x) axis=2 -> y"},
		{"softmax11_minus", "n: LogSoftmax(x) axis=-1 -> y"},
		{"softmax12_2d", "n: Softmax(x) axis=1 -> y"},
		{"softmax13", "n: Softmax(x) axis=1 -> y"},
		{"softmax9_gemm", "fc: Gemm(x, float32[3 2][1 2 0 -1 0.5 0.25], float32[2][0.5 -1]) -> g\nsm: Softmax(g) axis=1 -> y"},
		{"hardmax11_flat", "n: Hardmax(x) axis=1 coerce2d=1 -> y"},
		{"dropout7", "n: Dropout(x) -> y"},
		{"dropout10_mask", "drop: Dropout(x) -> y"},
		{"dropout12", "n: Dropout(x) -> y"},
		{"dropout12_mask", "drop: Dropout(x) -> y, mask"},
		{"bn7", "n: BatchNormalization(x, float32[2][1 0.5], float32[2][0 1], float32[2][0.10000000149011612 0.20000000298023224], float32[2][1 2]) epsilon=0.001 -> y"},
		{"bn15", "n: BatchNormalization(x, float32[2][1 0.5], float32[2][0 1], float32[2][0.10000000149011612 0.20000000298023224], float32[2][1 2]) training_mode=0 -> y"},
		{"scatter9", "sc: ScatterElements(x, int64[2 2][0 2 1 0], float32[2 2][9 8 7 6]) axis=1 -> y"},
		{"roialign10", "ra: RoiAlign(x, float32[1 4][0 0 3 3], int64[1][0]) coordinate_transformation_mode=output_half_pixel output_height=2 output_width=2 -> y"},
		{"groupnorm18", "n: GroupNormalization(x, float32[4][1 1 2 2], float32[4][0 0 0.5 0.5]) num_groups=2 -> y"},
		{"dft17", "n: DFT(x, -, int64[][1]) -> y"},
		{"qdq21_int4", "dq: DequantizeLinear(int8[2 3][-8 -3 0 1 5 7], float32[][0.25], int8[][0]) -> w\nmm: MatMul(x, w) -> y\n" +
			"q: QuantizeLinear(y, float32[][0.5], int8[][0]) output_dtype=22 -> yq\ndq2: DequantizeLinear(yq, float32[][0.5], int8[][0]) -> z"},
		{"qdq17_contrib", "q: QuantizeLinear(x, float32[][0.009999999776482582], uint16[][7]) -> q\ndq: DequantizeLinear(q, float32[][0.009999999776482582], uint16[][7]) -> y"},
		{"constants13", "/Add: Add(x, float32[3][1 2 3]) -> t1\n/Mul: Mul(t1, float32[][0.5]) -> t2\n/Add_1: Add(t2, float32[3][1 -1 2]) -> t3\n" +
			"/Add_2: Add(t3, float32[3][0 4 0]) -> t4\n/Gather: Gather(t4, int64[2][0 2]) axis=1 -> t5\n/Gather_1: Gather(t5, int64[][1]) axis=1 -> y"},
		{"sparse13", "add: Add(x, float32[2 3][0 5 0 0 0 6]) -> y"},
		{"if11", "/ReduceSum: ReduceSum(x) keepdims=0 -> s\n/Greater: Greater(s, float32[][0]) -> cond\nbranch: If(cond) " +
			"else_branch={/Squeeze: Squeeze(x, int64[1][0]) -> e0; /Add: Add(e0, float32[1][10]) -> e1; /Add_1: Add(e1, w) -> e_out} " +
			"then_branch={sq: Squeeze(x, int64[1][0]) -> t_out} -> y"},
		{"function17", `call/Scaled/lr: LeakyRelu(x) alpha=0.5 -> call/Scaled/t
call/Scaled/mul: Mul(call/Scaled/t, float32[][2]) -> call/t
call/Scaled_1/lr: LeakyRelu(call/t) alpha=0.25 -> call/Scaled_1/t
call/Scaled_1/mul: Mul(call/Scaled_1/t, float32[][2]) -> h
relu: Relu(h) -> r
/Twice/Scaled/lr: LeakyRelu(h) alpha=0.5 -> /Twice/Scaled/t
/Twice/Scaled/mul: Mul(/Twice/Scaled/t, r) -> /Twice/t
/Twice/Scaled_1/lr: LeakyRelu(/Twice/t) alpha=2 -> /Twice/Scaled_1/t
/Twice/Scaled_1/mul: Mul(/Twice/Scaled_1/t, r) -> y`},
		{"names", "/Relu_1: Relu(x) -> a\nsame: Relu(a) -> b\n/Relu_2: Relu(b) -> c\n/Relu: Relu(c) -> d\n/Abs: Abs(d) -> y"},
		{"unused", "add: Add(x, float32[2][1 2]) -> y"},
		{"unsorted", "first: Neg(x) -> a\nsecond: Abs(a) -> y"},
		{"ir3", "conv: Conv(x, float32[1 1 1 1][2]) -> c\nadd: Add(c, float32[1][1]) -> y"},
	}
	for _, tt := range tests {
		t.Run(tt.model, func(t *testing.T) {
			g, err := ToGraph(load(t, filepath.Join("testdata", tt.model+".onnx")))
			if err != nil {
				t.Fatal(err)
			}
			if got := text(g); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	tests := []struct{ model, want string }{
		{"dropout12_train", `node "drop" (Dropout): onnx: not supported: Dropout in training mode`},
		{"bn14_train", `node "bn" (BatchNormalization): onnx: not supported: BatchNormalization in training mode`},
		{"function_recursive", `function "Loop1" calls itself`},
		{"foreign", `com.microsoft::FusedConv (2 nodes, the first "f1"), my.ops::Thing (node "t")`},
		{"cycle", `node "one" (Add): it depends on its own output`},
		{"external", `data in file "external.data" was not loaded`},
	}
	for _, tt := range tests {
		t.Run(tt.model, func(t *testing.T) {
			_, err := ToGraph(load(t, filepath.Join("testdata", tt.model+".onnx")))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	m := load(t, filepath.Join("testdata", "names.onnx"))
	for _, v := range []int64{1, MinOpset - 1, MaxOpset + 1} {
		m.SetOpset("", v)
		var u *onnx.UnsupportedError
		if _, err := ToGraph(m); !errors.As(err, &u) {
			t.Errorf("opset %d: %v", v, err)
		}
	}
}

func TestGraphErrors(t *testing.T) {
	node := func(op string, in, out []string) *onnx.Node {
		return &onnx.Node{Name: op, OpType: op, Inputs: in, Outputs: out}
	}
	info := func(name string) *onnx.ValueInfo {
		return &onnx.ValueInfo{Name: name, Type: onnx.NewTensorType(onnx.Float, 2)}
	}
	tests := []struct {
		name, want string
		edit       func(g *onnx.Graph)
	}{
		{"missing input", `node "Neg" (Neg): input "z" is not made by any node`, func(g *onnx.Graph) { g.Nodes[0].Inputs[0] = "z" }},
		{"missing output", `output "q" of graph "" is not made by any node`, func(g *onnx.Graph) { g.Outputs[0] = info("q") }},
		{"twice", `value "y" is defined twice`, func(g *onnx.Graph) {
			g.Nodes = append(g.Nodes, node("Abs", []string{"x"}, []string{"y"}))
		}},
		{"sequence", "sequence types", func(g *onnx.Graph) { g.Inputs[0].Type = &onnx.Type{Sequence: &onnx.SequenceType{}} }},
		{"string input", "element type string", func(g *onnx.Graph) { g.Inputs[0].Type.Tensor.ElemType = onnx.String }},
		{"bad attribute", `attribute "g"`, func(g *onnx.Graph) {
			g.Nodes[0].Attributes = []*onnx.Attribute{{Name: "g", Type: onnx.AttributeGraph}}
		}},
		{"reference outside a function", "outside of one", func(g *onnx.Graph) {
			g.Nodes[0].Attributes = []*onnx.Attribute{{Name: "a", RefAttrName: "b"}}
		}},
		{"negative dims", "impossible dimensions", func(g *onnx.Graph) {
			g.Initializers = []*onnx.Tensor{{Name: "w", DataType: onnx.Float, Dims: []int64{-1}}}
			g.Nodes[0].Inputs[0] = "w"
		}},
		{"huge dims", "impossible dimensions", func(g *onnx.Graph) {
			g.Initializers = []*onnx.Tensor{{Name: "w", DataType: onnx.Float, Dims: []int64{1 << 30, 1 << 30, 1 << 30}}}
			g.Nodes[0].Inputs[0] = "w"
		}},
		{"short data", "needs 8 bytes and has 4", func(g *onnx.Graph) {
			g.Initializers = []*onnx.Tensor{{Name: "w", DataType: onnx.Float, Dims: []int64{2}, RawData: make([]byte, 4)}}
			g.Nodes[0].Inputs[0] = "w"
		}},
		{"old attribute in a new opset", "is an input since opset 13", func(g *onnx.Graph) {
			g.Nodes[0].OpType, g.Nodes[0].Attributes = "Squeeze", []*onnx.Attribute{onnx.IntsAttr("axes", 0)}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := &onnx.Model{IRVersion: 8, Graph: &onnx.Graph{Nodes: []*onnx.Node{node("Neg", []string{"x"}, []string{"y"})},
				Inputs: []*onnx.ValueInfo{info("x")}, Outputs: []*onnx.ValueInfo{info("y")}}}
			m.SetOpset("", 17)
			if _, err := ToGraph(m); err != nil {
				t.Fatal(err)
			}
			tt.edit(m.Graph)
			if _, err := ToGraph(m); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestInputsAndOrigins(t *testing.T) {
	g, err := ToGraph(load(t, filepath.Join("testdata", "ir3.onnx")))
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Inputs) != 1 || g.Inputs[0].Name != "x" || g.Inputs[0].Type.String() != "float32[N 1 3 W]" {
		t.Errorf("inputs %v", g.Inputs)
	}
	if g.Nodes[0].Origin != 1 || g.Nodes[1].Origin != 2 {
		t.Errorf("origins %d, %d", g.Nodes[0].Origin, g.Nodes[1].Origin)
	}
	g, err = ToGraph(load(t, filepath.Join("testdata", "unused.onnx")))
	if err != nil || len(g.Consts) != 1 {
		t.Errorf("consts %v, %v", g.Consts, err)
	}
}
