package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"roundel/adaround"
	"roundel/nn"
	"roundel/tensor"
)

// This file makes rounding problems without package adaround's own sampling, so
// that two tools can be judged on the same positions by code that belongs to neither.

// weighted is one layer with a constant weight whose outputs come first: Conv, or Gemm with transB.
type weighted struct {
	node    *nn.Node
	weight  *tensor.Dense[float32]
	bias    []float32
	groups  int
	outs, k int // of one group
	act     adaround.Activation
}

func findLayer(g *nn.Graph, weight string) (*weighted, error) {
	users := g.Consumers(weight)
	if len(users) != 1 || g.ConstF32(weight) == nil {
		return nil, fmt.Errorf("weight %q is not a constant of one layer", weight)
	}
	n := users[0]
	l := &weighted{node: n, weight: g.ConstF32(weight), groups: 1}
	switch {
	case n.Op == "Conv" && len(l.weight.Shape()) == 4 && n.Str("auto_pad", "NOTSET") == "NOTSET":
		l.groups = int(n.Int("group", 1))
	case n.Op == "Gemm" && n.Int("transB", 0) == 1 && n.Int("transA", 0) == 0 && n.Float("alpha", 1) == 1 && n.Float("beta", 1) == 1:
	default:
		return nil, fmt.Errorf("layer %q: this comparison knows 2-D Conv and Gemm with transB only", n.Name)
	}
	l.outs = l.weight.Shape()[0] / l.groups
	l.k = l.weight.Len() / l.weight.Shape()[0]
	if b := g.ConstF32(n.In(2)); b != nil {
		l.bias = b.Data()
	}
	l.act = activationAfter(g, n.Out(0))
	return l, nil
}

// activationAfter knows what AIMET folds into the loss for the networks compared here: Relu, and Clip (its ReLU6).
func activationAfter(g *nn.Graph, value string) adaround.Activation {
	inf := float32(math.Inf(1))
	users := g.Consumers(value)
	if len(users) != 1 || g.IsOutput(value) {
		return adaround.Activation{}
	}
	switch n := users[0]; n.Op {
	case "Relu":
		return adaround.Activation{Kind: adaround.ActClamp, Hi: inf}
	case "Clip":
		a := adaround.Activation{Kind: adaround.ActClamp, Lo: -inf, Hi: inf}
		if c := g.ConstF32(n.In(1)); c != nil {
			a.Lo = c.Data()[0]
		}
		if c := g.ConstF32(n.In(2)); c != nil {
			a.Hi = c.Data()[0]
		}
		return a
	}
	return adaround.Activation{}
}

// at writes the columns of one output position of a sample x of the given shape (without batch), group after group, [Groups][K].
func (l *weighted) at(dst, x []float32, shape tensor.Shape, position int) {
	if l.node.Op == "Gemm" {
		copy(dst, x)
		return
	}
	kh, kw := l.weight.Shape()[2], l.weight.Shape()[3]
	c, h, w := shape[0], shape[1], shape[2]
	stride, pads, dil := l.window()
	_, ow := l.size(h, w)
	y0, x0 := position/ow*stride[0]-pads[0], position%ow*stride[1]-pads[1]
	i := 0
	for ch := range c {
		for ky := range kh {
			for kx := range kw {
				yy, xx := y0+ky*dil[0], x0+kx*dil[1]
				dst[i] = 0
				if yy >= 0 && yy < h && xx >= 0 && xx < w {
					dst[i] = x[(ch*h+yy)*w+xx]
				}
				i++
			}
		}
	}
}

func (l *weighted) window() (stride, pads, dil [4]int) {
	stride, dil = [4]int{1, 1}, [4]int{1, 1}
	for name, v := range map[string]*[4]int{"strides": &stride, "pads": &pads, "dilations": &dil} {
		for i, n := range l.node.Ints(name) {
			v[i] = int(n)
		}
	}
	return stride, pads, dil
}

func (l *weighted) size(h, w int) (oh, ow int) {
	stride, pads, dil := l.window()
	ws := l.weight.Shape()
	return (h+pads[0]+pads[2]-dil[0]*(ws[2]-1)-1)/stride[0] + 1, (w+pads[1]+pads[3]-dil[1]*(ws[3]-1)-1)/stride[1] + 1
}

// positions is how many output positions a sample has.
func (l *weighted) positions(shape tensor.Shape) int {
	if l.node.Op == "Gemm" {
		return 1
	}
	oh, ow := l.size(shape[1], shape[2])
	return oh * ow
}

// sample takes about total positions of the chosen samples: columns from rounded, targets from float. Rows are in random order.
func (l *weighted) sample(rounded, float *tensor.Dense[float32], chosen []int, total int, rng *rand.Rand, pool *tensor.Pool) adaround.Samples {
	shape := rounded.Shape()[1:]
	stride := rounded.Len() / rounded.Shape()[0]
	available := l.positions(shape)
	each := min(max(total/max(len(chosen), 1), 1), available)
	s := adaround.Samples{P: each * len(chosen)}
	s.A = make([]float32, s.P*l.groups*l.k)
	a := make([]float32, len(s.A)) // of the float network
	rows := rng.Perm(s.P)
	buf := make([]float32, l.groups*l.k)
	put := func(dst, x []float32, row, pos int) {
		l.at(buf, x, shape, pos)
		for g := range l.groups {
			copy(dst[(g*s.P+row)*l.k:][:l.k], buf[g*l.k:])
		}
	}
	for i, img := range chosen {
		for j, pos := range rng.Perm(available)[:each] {
			row := rows[i*each+j]
			put(s.A, rounded.Data()[img*stride:(img+1)*stride], row, pos)
			put(a, float.Data()[img*stride:(img+1)*stride], row, pos)
		}
	}
	s.Y = l.predict(l.weight.Data(), a, s.P, pool)
	return s
}

// predict returns the pre-activation outputs [Groups][P][outs] of weights x for columns a [Groups][P][K].
func (l *weighted) predict(x, a []float32, p int, pool *tensor.Pool) []float32 {
	y := make([]float32, p*l.groups*l.outs)
	for g := range l.groups {
		yg := y[g*p*l.outs : (g+1)*p*l.outs]
		tensor.Gemm(yg, l.outs, a[g*p*l.k:(g+1)*p*l.k], l.k, x[g*l.outs*l.k:(g+1)*l.outs*l.k], l.k, p, l.outs, l.k, false, true, false, pool)
		if l.bias != nil {
			for i := range yg {
				yg[i] += l.bias[g*l.outs+i%l.outs]
			}
		}
	}
	return y
}

// loss is the mean over positions of the sum over outputs of the squared error after the activation, in float64.
func (l *weighted) loss(x []float32, s *adaround.Samples, pool *tensor.Pool) float64 {
	z := l.predict(x, s.A, s.P, pool)
	f := func(v float32) float64 {
		if l.act.Kind == adaround.ActClamp {
			v = min(max(v, l.act.Lo), l.act.Hi)
		}
		return float64(v)
	}
	var sum float64
	for i, v := range z {
		e := f(v) - f(s.Y[i])
		sum += e * e
	}
	return sum / float64(s.P)
}

// values runs the graph with other constants over all samples and returns one value of it.
func values(ctx context.Context, g *nn.Graph, consts map[string]tensor.Any, x *tensor.Dense[float32], name string, pool *tensor.Pool) (*tensor.Dense[float32], error) {
	if name == g.Inputs[0].Name {
		return x, nil
	}
	p, err := nn.Compile(context.Background(), g, nn.CompileOptions{Pool: pool, Consts: consts, Fetches: []string{name}})
	if err != nil {
		return nil, err
	}
	out, err := p.Run(ctx, map[string]tensor.Any{g.Inputs[0].Name: x})
	if err != nil {
		return nil, err
	}
	return tensor.As[float32](out[name])
}
