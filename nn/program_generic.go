package nn

import (
	"roundel/tensor"
)

// lowerings are the operators with fast paths. A function returns false, having
// added nothing, when this node is not one it can do.
var lowerings = map[string]func(*builder, *group) (bool, error){
	"Conv":               lowerConv,
	"Gemm":               lowerProduct,
	"MatMul":             lowerProduct,
	"Add":                lowerBinary,
	"Sub":                lowerBinary,
	"Mul":                lowerBinary,
	"Div":                lowerBinary,
	"BatchNormalization": lowerBatchNorm,
	"Relu":               lowerClamp,
	"Clip":               lowerClamp,
	"MaxPool":            lowerPool,
	"AveragePool":        lowerPool,
	"GlobalAveragePool":  lowerGlobalPool,
	"ReduceMean":         lowerGlobalPool,
	"Concat":             lowerConcat,
	"Identity":           lowerView,
	"Dropout":            lowerView,
	"Reshape":            lowerView,
	"Flatten":            lowerView,
	"Squeeze":            lowerView,
	"Unsqueeze":          lowerView,
	"Transpose":          lowerTranspose,
}

// anyOrder are operators of one input that treat each element alone, so that the layout does not matter.
var anyOrder = map[string]bool{
	"Abs": true, "Ceil": true, "Celu": true, "Cos": true, "Elu": true, "Erf": true, "Exp": true, "Floor": true, "Gelu": true,
	"HardSigmoid": true, "HardSwish": true, "LeakyRelu": true, "Log": true, "Mish": true, "Neg": true, "Reciprocal": true,
	"Round": true, "Selu": true, "Sigmoid": true, "Sign": true, "Sin": true, "Softplus": true, "Softsign": true, "Sqrt": true,
	"Swish": true, "Tan": true, "Tanh": true, "ThresholdedRelu": true,
}

// generic adds a step that calls the reference of the operator on plain tensors.
func (b *builder) generic(n *Node) error {
	if x := b.floatValue(n.In(0)); anyOrder[n.Op] && len(n.Inputs) == 1 && len(n.Outputs) == 1 && x != nil && x.rowMajor == nil {
		b.genericNHWC(n, x)
		return b.produced(n.Out(0), false)
	}
	names := reads(n)
	in, used := make([]*operand, len(names)), make([]*buffer, 0, len(names))
	bufs := make([]*buffer, len(names))
	for i, name := range names {
		v := b.value(name)
		if v == nil {
			continue
		}
		in[i], bufs[i] = v, b.inRowMajor(v)
		used = append(used, bufs[i])
	}
	var writes []*buffer
	out := make([]*buffer, len(n.Outputs))
	for i, name := range n.Outputs {
		if name == "" || b.p.isFeed(name) {
			continue
		}
		size := 0
		if s, ok := b.r.types[name].Shape(); ok {
			size = s.Len() * b.r.types[name].DType.Size() / 4
		}
		out[i] = b.newBox(size)
		writes = append(writes, out[i])
	}
	b.add(&step{node: n, reads: used, writes: writes, run: func(m *machine) error {
		args := make([]tensor.Any, len(in))
		for i, v := range in {
			if v != nil {
				args[i] = m.any(v, bufs[i])
			}
		}
		res, err := evalNode(n, args)
		if err != nil {
			return err
		}
		for i, box := range out {
			if box != nil && i < len(res) {
				m.boxes[box.index] = unshared(res[i], args, bufs)
			}
		}
		return nil
	}})
	for i, name := range n.Outputs {
		if out[i] == nil {
			continue
		}
		b.define(name, RowMajor, out[i])
		if err := b.produced(name, false); err != nil {
			return err
		}
	}
	return nil
}

// genericNHWC is generic for an elementwise operator on an image that only exists in NHWC order.
func (b *builder) genericNHWC(n *Node, x *operand) {
	src, dst := x.nhwc, b.newBox(x.shape.Len())
	s := x.shape
	b.add(&step{node: n, reads: []*buffer{src}, writes: []*buffer{dst}, run: func(m *machine) error {
		args := []tensor.Any{tensor.From(m.f32(src), s[0], s[2], s[3], s[1])}
		res, err := evalNode(n, args)
		if err != nil {
			return err
		}
		m.boxes[dst.index] = unshared(res[0], args, []*buffer{src})
		return nil
	}})
	b.define(n.Out(0), NHWC, dst)
}

// unshared returns t, or a copy when t uses the memory of an argument that lies
// in the arena and will be overwritten.
func unshared(t tensor.Any, args []tensor.Any, bufs []*buffer) tensor.Any {
	f, ok := t.(*tensor.Dense[float32])
	if !ok || f.Len() == 0 {
		return t
	}
	end := &f.Data()[:cap(f.Data())][cap(f.Data())-1]
	for i, a := range args {
		x, ok := a.(*tensor.Dense[float32])
		if !ok || x.Len() == 0 || bufs[i].kind == bufConst || bufs[i].kind == bufBox {
			continue
		}
		d := x.Data()
		if &d[0] == &f.Data()[0] || &d[:cap(d)][cap(d)-1] == end {
			return f.Clone()
		}
	}
	return t
}
