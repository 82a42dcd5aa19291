package main

import (
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/tensor"
)

// graph collects the nodes and initializers of the exported model.
type graph struct{ onnx.Graph }

// export returns n as an ONNX file of opset 17 with symbolic batch "N", BatchNorms separate, input "input" and output "logits".
func export(n *net) ([]byte, error) {
	g := &graph{onnx.Graph{Name: "fashion"}}
	g.constant("zero", tensor.Scalar[float32](0))
	g.constant("six", tensor.Scalar[float32](6))
	at := "input"
	for i, b := range n.blocks {
		in := at
		for _, l := range b.layers {
			at = g.layer(l, at)
		}
		if b.residual {
			at = g.node("Add", n.blocks[i].layers[0].name+".sum", []string{at, in})
		}
	}
	at = g.node("GlobalAveragePool", "pool", []string{at})
	at = g.node("Flatten", "flatten", []string{at}, onnx.IntAttr("axis", 1))
	g.constant("classifier.weight", n.fcW.X)
	g.constant("classifier.bias", n.fcB.X)
	g.node("Gemm", "logits", []string{at, "classifier.weight", "classifier.bias"}, onnx.IntAttr("transB", 1))
	g.Inputs = []*onnx.ValueInfo{{Name: "input", Type: batchType(1, side, side)}}
	g.Outputs = []*onnx.ValueInfo{{Name: "logits", Type: batchType(classes)}}
	m := &onnx.Model{IRVersion: 8, ProducerName: "roundel internal/demo/train", Graph: &g.Graph}
	m.SetOpset("", 17)
	b := m.Encode()
	back, err := onnx.Decode(b)
	if err != nil {
		return nil, err
	}
	_, err = convert.ToGraph(back) // what is written can be read
	return b, err
}

// layer adds a convolution with its BatchNorm and activation and returns the name of the result.
func (g *graph) layer(l *layer, at string) string {
	g.constant(l.name+".weight", l.w.X)
	for _, p := range []struct {
		name string
		x    *tensor.Dense[float32]
	}{{"scale", l.gamma.X}, {"bias", l.beta.X}, {"mean", l.stats.Mean}, {"var", l.stats.Var}} {
		g.constant(l.name+".bn."+p.name, p.x)
	}
	k, s, p := int64(l.kernel), int64(l.stride), int64(l.kernel/2)
	at = g.node("Conv", l.name+".conv", []string{at, l.name + ".weight"}, onnx.IntsAttr("kernel_shape", k, k),
		onnx.IntsAttr("strides", s, s), onnx.IntsAttr("pads", p, p, p, p), onnx.IntAttr("group", int64(l.groups)))
	bn := l.name + ".bn"
	at = g.node("BatchNormalization", bn, []string{at, bn + ".scale", bn + ".bias", bn + ".mean", bn + ".var"},
		onnx.FloatAttr("epsilon", float32(l.stats.Eps)))
	if l.act {
		at = g.node("Clip", l.name+".relu6", []string{at, "zero", "six"})
	}
	return at
}

// node adds a node whose name is also that of its output, and returns that name.
func (g *graph) node(op, name string, inputs []string, attrs ...*onnx.Attribute) string {
	g.Nodes = append(g.Nodes, &onnx.Node{OpType: op, Name: name, Inputs: inputs, Outputs: []string{name}, Attributes: attrs})
	return name
}

func (g *graph) constant(name string, x *tensor.Dense[float32]) {
	g.Initializers = append(g.Initializers, convert.FromTensor(name, x))
}

// batchType is the type of a float tensor [N, dims...].
func batchType(dims ...int64) *onnx.Type {
	t := onnx.NewTensorType(onnx.Float, append([]int64{-1}, dims...)...)
	t.Tensor.Shape.Dims[0].Param = "N"
	return t
}
