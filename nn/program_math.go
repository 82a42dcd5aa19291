package nn

import (
	"math"

	"roundel/asm"
	"roundel/tensor"
)

// lowerKernel is the lowering of an operator that is one kernel over slices. It is
// computed in float32, unlike the reference, which rounds once.
func lowerKernel(f func(k *asm.Kernels, dst, src []float32)) func(*builder, *group) (bool, error) {
	return func(b *builder, g *group) (bool, error) {
		x := b.floatValue(g.head.In(0))
		if x == nil || !b.isFloat(g.out) {
			return false, nil
		}
		k := b.p.k
		b.emitUnary(g, x, true, func(_ *machine, _ int, d, s []float32) { f(&k, d, s) })
		return true, nil
	}
}

// lowerSwish is x·sigmoid(alpha·x).
func lowerSwish(b *builder, g *group) (bool, error) {
	x, alpha := b.floatValue(g.head.In(0)), g.head.Float("alpha", 1)
	if x == nil || !b.isFloat(g.out) || alpha != 1 {
		return lowerScalar(b, g)
	}
	k := b.p.k
	b.emitUnary(g, x, true, func(m *machine, worker int, d, s []float32) {
		gate := m.chunk(worker, len(d))
		k.Sigmoid(gate, s)
		k.Multiply(d, s, gate)
	})
	return true, nil
}

// lowerGelu is x·(erf(x/√2)/2 + 1/2), or x·(tanh(√(2/π)·(x+0.044715·x³))/2 + 1/2).
func lowerGelu(b *builder, g *group) (bool, error) {
	x := b.floatValue(g.head.In(0))
	if x == nil || !b.isFloat(g.out) {
		return false, nil
	}
	const c = 0.7978845608028654 // √(2/π)
	k := b.p.k
	half, root := filled(chunkFloats, 0.5), filled(chunkFloats, 1/math.Sqrt2)
	cubic, linear := filled(chunkFloats, 0.044715*c), filled(chunkFloats, c)
	approximate := g.head.Str("approximate", "none") == "tanh"
	b.emitUnary(g, x, true, func(m *machine, worker int, d, s []float32) {
		n := (len(d) + 7) &^ 7 // see scalesInPlace
		whole, t := m.chunk(worker, n), &m.tiles[worker]
		gate := whole[:len(d)]
		if approximate {
			k.Multiply(gate, s, s)
			scaleRows(&k, t, whole, whole, cubic[:n], linear, negInf, posInf)
			k.Multiply(gate, gate, s)
			k.Tanh(gate, gate)
		} else {
			k.Multiply(gate, s, root)
			k.Erf(gate, gate)
		}
		scaleRows(&k, t, whole, whole, half[:n], half, negInf, posInf)
		k.Multiply(d, s, gate)
	})
	return true, nil
}

// lastAxis returns the layout of x in which its elements from axis on are rows, and
// their length; for axis 1 of an image that is NHWC.
func lastAxis(x *operand, axis int64, all bool) (Layout, int, bool) {
	rank := len(x.shape)
	a := int(axis)
	if a < 0 {
		a += rank
	}
	switch {
	case a < 0 || a >= rank || x.shape.Len() == 0:
		return 0, 0, false
	case all || a == rank-1:
		return RowMajor, tensor.Shape(x.shape[a:]).Len(), true
	case a == 1 && rank == 4:
		return NHWC, x.shape[1], true
	}
	return 0, 0, false
}

// lowerSoftmax works on rows: e^(x-max) in float32, divided by its sum in float64.
func lowerSoftmax(b *builder, g *group) (bool, error) {
	x := b.floatValue(g.head.In(0))
	if x == nil || !b.isFloat(g.out) {
		return false, nil
	}
	l, n, ok := lastAxis(x, g.head.Int("axis", -1), false)
	if !ok {
		return false, nil
	}
	src, k := b.in(x, l), b.p.k
	b.emit(g, &elementwise{unit: n, f: func(m *machine, _ int, d []float32, from, to int) {
		softmaxRows(&k, d, m.f32(src)[from:to], n)
	}}, l, []*buffer{src}, []*buffer{src})
	return true, nil
}

// softmaxRows sets d to the softmax of rows of n elements of s; d may be s.
func softmaxRows(k *asm.Kernels, d, s []float32, n int) {
	for i := 0; i < len(d); i += n {
		row, dst := s[i:i+n], d[i:i+n]
		_, top := k.MinMax(row)
		for j, v := range row {
			dst[j] = v - top
		}
	}
	k.Exp(d, d)
	for i := 0; i < len(d); i += n {
		row := d[i : i+n]
		scale := float32(1 / sum4(row))
		for j, v := range row {
			row[j] = v * scale
		}
	}
}

// sum4 adds in float64: four partial sums, then what is left over.
func sum4(row []float32) float64 {
	var a, b, c, d float64
	for ; len(row) >= 4; row = row[4:] {
		a, b, c, d = a+float64(row[0]), b+float64(row[1]), c+float64(row[2]), d+float64(row[3])
	}
	s := (a + b) + (c + d)
	for _, v := range row {
		s += float64(v)
	}
	return s
}

// squares4 is sum4 of (x-mean)².
func squares4(row []float32, mean float64) float64 {
	var a, b, c, d float64
	for ; len(row) >= 4; row = row[4:] {
		p, q, r, s := float64(row[0])-mean, float64(row[1])-mean, float64(row[2])-mean, float64(row[3])-mean
		a, b, c, d = a+float64(p*p), b+float64(q*q), c+float64(r*r), d+float64(s*s)
	}
	sum := (a + b) + (c + d)
	for _, v := range row {
		p := float64(v) - mean
		sum += float64(p * p)
	}
	return sum
}

// lowerLayerNorm normalises rows; mean and variance are float64, scale and bias float32.
func lowerLayerNorm(b *builder, g *group) (bool, error) {
	n := g.head
	x, scale, bias := b.floatValue(n.In(0)), b.floatValue(n.In(1)), b.floatValue(n.In(2))
	if x == nil || scale == nil || n.In(2) != "" && bias == nil || !b.isFloat(g.out) || n.Out(1) != "" || n.Out(2) != "" {
		return false, nil
	}
	l, c, ok := lastAxis(x, n.Int("axis", -1), true)
	if !ok || scale.shape.Len() != c || bias != nil && bias.shape.Len() != c {
		return false, nil
	}
	src, sc := b.in(x, l), b.inRowMajor(scale)
	reads := []*buffer{src, sc}
	bi := &buffer{kind: bufConst, n: c, data: make([]float32, c)}
	if bias != nil {
		bi = b.inRowMajor(bias)
		reads = append(reads, bi)
	}
	eps := float64(n.Float("epsilon", 1e-5))
	b.emit(g, &elementwise{unit: c, f: func(m *machine, _ int, d []float32, from, to int) {
		s, w, o := m.f32(src)[from:to], m.f32(sc), m.f32(bi)
		for ; len(d) > 0; d, s = d[c:], s[c:] {
			normalizeRow(d[:c], s[:c], w, o, eps)
		}
	}}, l, reads, []*buffer{src})
	return true, nil
}

// normalizeRow sets d = (s-mean)/√(variance+eps)·w + bias; d may be s.
func normalizeRow(d, s, w, bias []float32, eps float64) {
	mean := sum4(s) / float64(len(s))
	inv := 1 / math.Sqrt(squares4(s, mean)/float64(len(s))+eps)
	w, bias = w[:len(s)], bias[:len(s)]
	for i, v := range s {
		d[i] = float32(float32((float64(v)-mean)*inv)*w[i]) + bias[i]
	}
}
