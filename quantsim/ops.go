package quantsim

import (
	"fmt"
	"slices"

	"roundel/nn"
	"roundel/tensor"
)

// op is an operator as placement sees it: a node, or several that are quantized as one
// (patterns.go). Parameters are constants at the slots that mean something
// to the operator; every other input is an activation, constant or not.
type op struct {
	node       *nn.Node // the last node, for messages and attributes
	typ        string
	inputs     []string // activations
	outputs    []string
	params     []param
	transposed bool // the weight is [out, in]
}

// param is a constant at a known slot.
type param struct {
	role, tensor string // "weight", "bias", ...
}

func (o *op) param(role string) string {
	for _, p := range o.params {
		if p.role == role {
			return p.tensor
		}
	}
	return ""
}

// slots lists the parameter inputs of the operators that have any, from input 1 on.
var slots = map[string][]string{
	"Conv": {"weight", "bias"}, "ConvTranspose": {"weight", "bias"}, "Gemm": {"weight", "bias"}, "MatMul": {"weight"},
	"BatchNormalization":    {"weight", "bias", "running_mean", "running_var"},
	"LayerNormalization":    {"weight", "bias"},
	"InstanceNormalization": {"weight", "bias"},
	"GroupNormalization":    {"weight", "bias"},
	"RMSNormalization":      {"weight"},
	"RNN":                   {"weight", "weight_r", "bias"},
	"LSTM":                  {"weight", "weight_r", "bias"},
	"GRU":                   {"weight", "weight_r", "bias"},
}

// keepsGrid are the operators whose output lies on the grid of their (first) input: data is moved or selected, not computed.
var keepsGrid = setOf("Col2Im", "Compress", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
	"Identity", "MaxPool", "MaxRoiPool", "NonZero", "Pad", "ReduceMax", "ReduceMin", "Reshape", "Slice", "SpaceToDepth", "Split",
	"SplitToSequence", "Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze")

// noQuantizer are the operators whose outputs do not even get a disabled quantizer.
var noQuantizer = setOf("Flatten", "Gather", "Reshape", "Shape", "Unsqueeze", "Squeeze", "Split", "Compress", "Tile", "Transpose", "Identity")

func setOf(names ...string) map[string]bool {
	m := map[string]bool{}
	for _, n := range names {
		m[n] = true
	}
	return m
}

// network is a graph as operators, with who makes and who reads each value.
type network struct {
	g         *nn.Graph
	ops       []*op
	producer  map[string]*op
	consumers map[string][]*op // of activations
	floats    map[string]bool  // values of a floating-point type
	inner     map[string]bool  // values inside an op, invisible to placement
}

func newNetwork(g *nn.Graph, passes []string) (*network, error) {
	if err := nn.Infer(g); err != nil {
		return nil, fmt.Errorf("quantsim: the graph is not valid: %w", err)
	}
	n := &network{g: g, producer: map[string]*op{}, consumers: map[string][]*op{}, floats: map[string]bool{}, inner: map[string]bool{}}
	for name, t := range g.Types {
		n.floats[name] = t.DType == tensor.Float32
	}
	fused := n.fuse(passes)
	for _, node := range g.Nodes {
		if o, part := fused[node]; !part {
			n.ops = append(n.ops, n.newOp(node))
		} else if o != nil {
			n.ops = append(n.ops, o)
		}
	}
	for _, o := range n.ops {
		for _, out := range o.outputs {
			n.producer[out] = o
		}
		for _, in := range o.inputs {
			if !slices.Contains(n.consumers[in], o) {
				n.consumers[in] = append(n.consumers[in], o)
			}
		}
	}
	return n, nil
}

// fuse finds the patterns of the passes. Every node of one is a key; the value of its
// last node is the operator that stands for all of them, of the others nil.
func (n *network) fuse(passes []string) map[*nn.Node]*op {
	fused := map[*nn.Node]*op{}
	taken := func(p *nn.Node) bool { _, ok := fused[p]; return ok }
	take := func(o *op, nodes []*nn.Node) {
		if o == nil || slices.ContainsFunc(nodes, taken) {
			return
		}
		for _, p := range nodes {
			fused[p] = nil
			if p != o.node {
				for _, out := range p.Outputs {
					n.inner[out] = true
				}
			}
		}
		fused[o.node] = o
	}
	layer, rms := slices.Contains(passes, "LayerNormalization"), slices.Contains(passes, "RMSNormalization")
	for _, node := range n.g.Nodes {
		o, nodes := n.normalization(node, layer, rms)
		if o == nil && slices.Contains(passes, "MatmulAdd") {
			o, nodes = n.matmulAdd(node)
		}
		if o == nil && slices.Contains(passes, "MaskedSoftmax") {
			o, nodes = n.maskedSoftmax(node)
		}
		take(o, nodes)
	}
	if slices.Contains(passes, "Pointwise") {
		f := newPointwise(n, taken)
		for _, node := range slices.Backward(n.g.Nodes) {
			take(f.endingAt(node))
		}
	}
	return fused
}

// newOp splits the inputs of a node into activations and parameters.
func (n *network) newOp(node *nn.Node) *op {
	o := &op{node: node, typ: node.Op, outputs: node.Outputs, transposed: node.Op == "Gemm" && node.Int("transB", 0) != 0}
	roles := slots[node.Op]
	for i, in := range node.Inputs {
		if in == "" {
			continue
		}
		if i >= 1 && i <= len(roles) {
			if c, transposed := n.constant(in); c != "" {
				o.params = append(o.params, param{roles[i-1], c})
				o.transposed = o.transposed || transposed
				continue
			}
		}
		o.inputs = append(o.inputs, in)
	}
	return o
}

// constant returns the constant behind a value: itself, or the input of a Transpose (of a matrix) or Identity of one.
func (n *network) constant(name string) (c string, transposed bool) {
	if v := n.g.Consts[name]; v != nil {
		if !n.floats[name] {
			return "", false
		}
		return name, false
	}
	p := n.g.Producer(name)
	if p == nil || n.g.Consts[p.In(0)] == nil || len(n.g.Consumers(name)) != 1 {
		return "", false
	}
	switch p.Op {
	case "Identity":
		return p.In(0), false
	case "Transpose":
		if perm := p.Ints("perm"); len(n.g.Consts[p.In(0)].Shape()) == 2 && (perm == nil || slices.Equal(perm, []int64{1, 0})) {
			return p.In(0), true
		}
	}
	return "", false
}

// depthwise reports whether a convolution has one input channel per group; such ones
// (and 3-D ones) never begin a supergroup, a limit of the hardware AIMET models.
func (n *network) depthwise(o *op) bool {
	w := n.g.Consts[o.param("weight")]
	if w == nil || o.typ != "Conv" && o.typ != "ConvTranspose" {
		return false
	}
	groups, shape := o.node.Int("group", 1), w.Shape()
	if len(shape) == 5 {
		return true
	}
	in := shape[1] * int(groups)
	if o.typ == "ConvTranspose" {
		in = shape[0]
	}
	return groups > 1 && int(groups) == in
}

// axes returns the channel and the block axis of a parameter, PerTensor and -1 where there is none.
func (n *network) axes(o *op, p param) (channel, block int) {
	rank := len(n.g.Consts[p.tensor].Shape())
	if rank == 1 {
		return 0, -1
	}
	if p.role != "weight" {
		return -1, -1
	}
	switch {
	case o.typ == "Conv":
		return 0, 1
	case o.typ == "ConvTranspose":
		return 1, 0
	case rank < 2:
		return -1, -1
	case o.typ == "Gemm" || o.typ == "MatMul":
		if o.transposed {
			return rank - 2, rank - 1
		}
		return rank - 1, rank - 2
	}
	return -1, -1
}
