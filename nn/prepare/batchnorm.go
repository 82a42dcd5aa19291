package prepare

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"roundel/nn"
	"roundel/tensor"
)

const foldBN = "fold batch norm"

// affine is a batch normalisation as y = scale·x + shift per channel.
type affine struct {
	scale, shift []float64 // γ/√(σ²+ε) and β − μ·γ/√(σ²+ε)
	mean, std    []float64 // β and |γ|: the moments of y, when x has mean μ and variance σ²
}

// affineOf reads the constants of a BatchNormalization.
func (e *editor) affineOf(bn *nn.Node) (affine, error) {
	if bn.Int("training_mode", 0) != 0 {
		return affine{}, errors.New("it is in training mode; export the model for inference")
	}
	for _, o := range bn.Outputs[1:] {
		if o != "" {
			return affine{}, errors.New("its running statistics are outputs of the graph")
		}
	}
	var c [4][]float32
	for i := range c {
		t := e.g.ConstF32(bn.In(i + 1))
		if t == nil || t.Len() != e.g.Consts[bn.In(1)].Len() {
			return affine{}, fmt.Errorf("its input %q is not a float32 constant of one value per channel", bn.In(i+1))
		}
		c[i] = t.Data()
	}
	eps := float64(bn.Float("epsilon", 1e-5))
	n := len(c[0])
	a := affine{make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)}
	for i := range n {
		gamma, beta, mu, variance := float64(c[0][i]), float64(c[1][i]), float64(c[2][i]), float64(c[3][i])
		s := gamma / math.Sqrt(variance+eps)
		a.scale[i], a.shift[i] = s, beta-float64(mu*s)
		a.mean[i], a.std[i] = beta, math.Abs(gamma)
		if math.IsNaN(s) || math.IsInf(s, 0) || math.IsNaN(a.shift[i]) || math.IsInf(a.shift[i], 0) {
			return affine{}, fmt.Errorf("channel %d has scale %v and variance %v", i, gamma, variance)
		}
	}
	return a, nil
}

// foldBatchNorms folds each batch normalisation into the layer before it or, failing that, after it.
func (e *editor) foldBatchNorms() {
	for _, n := range slices.Clone(e.g.Nodes) {
		if !isLayer(n.Op) {
			continue
		}
		if bn := e.soleReader(n.Out(0)); bn != nil && bn.Op == "BatchNormalization" {
			e.try(n, bn, e.foldBackward)
		}
	}
	for _, bn := range slices.Clone(e.g.Nodes) {
		if bn.Op != "BatchNormalization" {
			continue
		}
		next := e.soleReader(bn.Out(0))
		if next != nil && (next.Op == "Flatten" || next.Op == "Reshape") {
			if next = e.soleReader(next.Out(0)); next != nil && isConv(next.Op) {
				next = nil
			}
		}
		if next != nil && isLayer(next.Op) {
			e.try(next, bn, e.foldForward)
		}
	}
}

// try folds bn into n and notes what came of it.
func (e *editor) try(n, bn *nn.Node, fold func(*layer, *nn.Node, affine) error) {
	a, err := e.affineOf(bn)
	if err != nil {
		e.report.skip(foldBN, bn.Name, "left as it is: %v", err)
		return
	}
	l, err := e.layerOf(n)
	if err == nil {
		err = fold(l, bn, a)
	}
	if err != nil {
		e.report.skip(foldBN, bn.Name, "not folded into %s %s: %v", n.Op, n.Name, err)
	}
}

// foldBackward makes y = s·(W·x + b) + t one layer: W'[o] = s[o]·W[o], b'[o] = s[o]·b[o] + t[o].
func (e *editor) foldBackward(l *layer, bn *nn.Node, a affine) error {
	if len(a.scale) != l.out {
		return fmt.Errorf("%d channels of the batch norm, %d of the layer", len(a.scale), l.out)
	}
	if l.node.Op == "ConvTranspose" && l.groups != 1 && l.groups != l.in {
		return fmt.Errorf("a ConvTranspose in %d groups is not supported", l.groups)
	}
	if err := l.toGemm(e); err != nil {
		return err
	}
	b := make([]float64, l.out)
	for o := range b {
		if l.bias != nil {
			b[o] = float64(l.bias[o] * a.scale[o])
		}
		b[o] += a.shift[o]
	}
	l.store(e, l.scaled(func(o, _ int) float64 { return a.scale[o] }), b)
	e.bypass(bn, l.node.Out(0)) // the layer's output has one reader, so this cannot fail
	e.report.Moments[l.node.Name] = Moments{Mean: a.mean, Std: a.std}
	e.report.done(foldBN, l.node.Name, "took over %s after it", bn.Name)
	return nil
}

// foldForward makes y = W·(s·x + t) + b one layer: W'[o,i] = W[o,i]·s[i], b'[o] = b[o] + Σ W[o,i,k]·t[i].
// With a Flatten between them each channel of the batch norm stands for a run of inputs.
func (e *editor) foldForward(l *layer, bn *nn.Node, a affine) error {
	if err := e.foldableForward(l, bn, len(a.scale)); err != nil {
		return err
	}
	if err := l.toGemm(e); err != nil {
		return err
	}
	run := l.in / len(a.scale)
	shift := make([]float64, l.in)
	for i := range shift {
		shift[i] = a.shift[i/run]
	}
	b := l.sumTimes(shift)
	for o := range l.bias {
		b[o] += l.bias[o]
	}
	l.store(e, l.scaled(func(_, i int) float64 { return a.scale[i/run] }), b)
	e.bypass(bn, bn.In(0)) // its output has one reader, so this cannot fail
	e.report.done(foldBN, l.node.Name, "took over %s before it", bn.Name)
	return nil
}

// foldableForward says what keeps a batch norm of the given number of channels out of the layer after it.
func (e *editor) foldableForward(l *layer, bn *nn.Node, channels int) error {
	n := l.node
	switch n.Op {
	case "ConvTranspose":
		return errors.New("a ConvTranspose mixes positions in a way that has no constant shift")
	case "Conv":
		if l.groups != 1 {
			return fmt.Errorf("the convolution has %d groups", l.groups)
		}
		auto := n.Str("auto_pad", "NOTSET")
		if auto != "NOTSET" && auto != "VALID" || slices.ContainsFunc(n.Ints("pads"), func(p int64) bool { return p != 0 }) {
			return errors.New("the convolution pads with zeros, which the batch norm would have shifted")
		}
	case "Gemm":
		if n.Int("transA", 0) != 0 {
			return errors.New("the Gemm transposes its input")
		}
	}
	if n.In(0) == bn.Out(0) {
		if l.in != channels {
			return fmt.Errorf("%d channels of the batch norm, %d of the layer", channels, l.in)
		}
		return nil
	}
	return e.flattens(e.producer[n.In(0)], l.in, channels)
}

// flattens checks that n, a Flatten or Reshape, gives rows that are whole samples of features values.
func (e *editor) flattens(n *nn.Node, features, channels int) error {
	dims := e.dims(n.In(0))
	if len(dims) > 1 {
		size := 1
		for _, d := range dims[1:] {
			size *= d.Size
			if !d.IsKnown() {
				size = -1
				break
			}
		}
		if size == features && features%channels == 0 {
			return nil
		}
	}
	to, _ := e.g.Consts[n.In(1)].(*tensor.Dense[int64])
	whole := n.Op == "Flatten" && n.Int("axis", 1) == 1 ||
		n.Op == "Reshape" && to != nil && slices.Equal(to.Data(), []int64{0, -1}) && n.Int("allowzero", 0) == 0
	if !whole || features%channels != 0 {
		return fmt.Errorf("%s %s between them does not give one row of %d values per sample", n.Op, n.Name, features)
	}
	return nil
}

// normalizeBatchNorms turns each remaining batch normalisation into a scale and a shift:
// γ' = γ/√(σ²+ε), β' = β − μ·γ', mean 0, variance 1, ε 0, so that quantizing γ' quantizes what is multiplied.
func (e *editor) normalizeBatchNorms() {
	for _, bn := range e.g.Nodes {
		if bn.Op != "BatchNormalization" {
			continue
		}
		a, err := e.affineOf(bn)
		if err != nil {
			e.report.skip("normalize batch norm", bn.Name, "left as it is: %v", err)
			continue
		}
		n := len(a.scale)
		t := [4]*tensor.Dense[float32]{tensor.New[float32](n), tensor.New[float32](n), tensor.New[float32](n), tensor.New[float32](n)}
		for i := range n {
			t[0].Data()[i], t[1].Data()[i], t[3].Data()[i] = float32(a.scale[i]), float32(a.shift[i]), 1
		}
		for i, suffix := range []string{".weight", ".bias", ".running_mean", ".running_var"} {
			e.setConst(bn, i+1, t[i], bn.Name+suffix)
		}
		bn.Attrs["epsilon"] = nn.Attr{Kind: nn.AttrFloat}
		bn.Origin = 0
		e.report.done("normalize batch norm", bn.Name, "is now a scale and a shift")
	}
}
