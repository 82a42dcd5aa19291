package nn

import (
	"roundel/asm"
	"roundel/tensor"
)

// lowerings are the operators with fast paths. A function returns false, having
// added nothing, when this node is not one it can do.
var lowerings = map[string]func(*builder, *group) (bool, error){
	"Conv":               lowerAnyConv,
	"LSTM":               lowerRecurrent,
	"GRU":                lowerRecurrent,
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
	"Transpose":          lowerPermute,
	"Slice":              lowerSlice,
	"Split":              lowerSplit,
	"Pad":                lowerPad,
	"Expand":             lowerExpand,
	"Resize":             lowerResize,
	"ConvTranspose":      lowerConvTranspose,
	"HardSigmoid":        lowerHardSigmoid,
	"HardSwish":          lowerHardSwish,
	"LeakyRelu":          lowerLeakyRelu,
	"PRelu":              lowerPRelu,
	"QuantizeLinear":     lowerQuantPair,
	"Sigmoid":            lowerKernel((*asm.Kernels).Sigmoid),
	"Tanh":               lowerKernel((*asm.Kernels).Tanh),
	"Erf":                lowerKernel((*asm.Kernels).Erf),
	"Exp":                lowerKernel((*asm.Kernels).Exp),
	"Swish":              lowerSwish,
	"Gelu":               lowerGelu,
	"Softmax":            lowerSoftmax,
	"LayerNormalization": lowerLayerNorm,
}

// loweringOf returns the fast path of an operator, or nil.
func loweringOf(op string) func(*builder, *group) (bool, error) {
	if lower := lowerings[op]; lower != nil {
		return lower
	}
	if d := lookup(op); d != nil && d.scalar != nil {
		return lowerScalar
	}
	return nil
}

// generic adds a step that calls the reference of the operator on plain tensors.
func (b *builder) generic(n *Node) error {
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
	eval := func(args []tensor.Any) ([]tensor.Any, error) { return evalNode(n, args) }
	if br := b.newBranches(n); br != nil {
		eval = br.eval
	}
	b.add(&step{node: n, reads: used, writes: writes, run: func(m *machine) error {
		args := make([]tensor.Any, len(in))
		for i, v := range in {
			if v != nil {
				args[i] = m.any(v, bufs[i])
			}
		}
		res, err := eval(args)
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
