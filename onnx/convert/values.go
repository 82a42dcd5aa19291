package convert

import (
	"bytes"
	"slices"

	"roundel/nn"
	"roundel/onnx"
	"roundel/tensor"
)

// equal reports whether a and b have the same type, shape and bits.
func equal(a, b tensor.Any) bool {
	if a == b {
		return true
	}
	return a.DType() == b.DType() && a.Shape().Equal(b.Shape()) && bytes.Equal(FromTensor("", a).RawData, FromTensor("", b).RawData)
}

// initializers sets out's initializers: base's with their present values, then new ones.
func (l *level) initializers(out *onnx.Graph) {
	out.Initializers, out.SparseInitializers = nil, nil
	have := map[string]bool{}
	for _, n := range out.Nodes {
		for _, o := range n.Outputs {
			have[o] = true
		}
	}
	for _, t := range l.base.Initializers {
		if t = l.initializer(t.Name, t); t != nil {
			out.Initializers = append(out.Initializers, t)
			have[t.Name] = true
		}
	}
	for _, s := range l.base.SparseInitializers {
		switch t := l.initializer(s.Values.Name, s.Values); {
		case t == s.Values:
			out.SparseInitializers = append(out.SparseInitializers, s)
			have[t.Name] = true
		case t != nil:
			out.Initializers = append(out.Initializers, t)
			have[t.Name] = true
		}
	}
	for _, name := range l.order {
		if v := l.g.Consts[name]; v != nil && !have[name] && !l.made[name] {
			out.Initializers = append(out.Initializers, l.replaced(&onnx.Tensor{Name: name, DataType: l.packed[name]}, v))
		}
	}
	out.Initializers = append(out.Initializers, l.inits...)
}

// initializer returns base's initializer t as it is to be written, or nil when it is to go.
func (l *level) initializer(name string, t *onnx.Tensor) *onnx.Tensor {
	was := l.ref.Consts[name]
	if l.made[name] || was != nil && !l.needed[name] {
		return nil
	}
	now := l.g.Consts[name]
	if now == nil || was != nil && equal(was, now) {
		return t
	}
	return l.replaced(t, now)
}

// values sets out's inputs, outputs and inner value types.
func (l *level) values(out *onnx.Graph) {
	inits := map[string]*onnx.Tensor{}
	for _, t := range out.Initializers {
		inits[t.Name] = t
	}
	kept := map[string]bool{}
	out.Inputs = l.infos(l.g.Inputs, l.base.Inputs, l.ref.Inputs)
	for _, vi := range l.base.Inputs {
		kept[vi.Name] = true
		if t := inits[vi.Name]; t != nil {
			if t != l.base.FindInitializer(vi.Name) {
				vi = &onnx.ValueInfo{Name: vi.Name, Type: onnx.NewTensorType(t.DataType, t.Dims...)}
			}
			out.Inputs = append(out.Inputs, vi)
		}
	}
	if l.oldIR && l.outer == nil {
		for _, t := range out.Initializers {
			if !kept[t.Name] {
				out.Inputs = append(out.Inputs, &onnx.ValueInfo{Name: t.Name, Type: onnx.NewTensorType(t.DataType, t.Dims...)})
			}
		}
	}
	l.inputOrder(out)
	out.Outputs = l.infos(l.g.Outputs, l.base.Outputs, l.ref.Outputs)
	have := l.existing(out)
	out.ValueInfo = slices.DeleteFunc(slices.Clone(l.base.ValueInfo), func(vi *onnx.ValueInfo) bool {
		now, was := l.g.Consts[vi.Name], l.ref.Consts[vi.Name]
		return !have[vi.Name] || now != nil && was != nil && !equal(now, was)
	})
	out.Annotations = slices.DeleteFunc(slices.Clone(l.base.Annotations), func(a *onnx.Annotation) bool { return !have[a.TensorName] })
}

// existing returns the names of the values of out.
func (l *level) existing(out *onnx.Graph) map[string]bool {
	have := map[string]bool{}
	for _, vi := range out.Inputs {
		have[vi.Name] = true
	}
	for _, t := range out.Initializers {
		have[t.Name] = true
	}
	for _, t := range out.SparseInitializers {
		have[t.Values.Name] = true
	}
	for _, n := range out.Nodes {
		for _, o := range n.Outputs {
			have[o] = true
		}
	}
	return have
}

// inputOrder puts the inputs of out in the order of base, new ones last.
func (l *level) inputOrder(out *onnx.Graph) {
	at := map[string]int{}
	for i, vi := range l.base.Inputs {
		at[vi.Name] = i
	}
	place := func(vi *onnx.ValueInfo) int {
		if i, ok := at[vi.Name]; ok {
			return i
		}
		return len(at)
	}
	slices.SortStableFunc(out.Inputs, func(a, b *onnx.ValueInfo) int { return place(a) - place(b) })
}

// infos returns the declarations of vs, base's own where the type is the same.
func (l *level) infos(vs []nn.ValueInfo, base []*onnx.ValueInfo, ref []nn.ValueInfo) []*onnx.ValueInfo {
	var out []*onnx.ValueInfo
	for _, v := range vs {
		i := slices.IndexFunc(ref, func(r nn.ValueInfo) bool { return r.Name == v.Name && sameType(r.Type, v.Type) })
		j := slices.IndexFunc(base, func(b *onnx.ValueInfo) bool { return b.Name == v.Name })
		if i >= 0 && j >= 0 {
			out = append(out, base[j])
			continue
		}
		out = append(out, &onnx.ValueInfo{Name: v.Name, Type: protoType(v.Type)})
	}
	return out
}
