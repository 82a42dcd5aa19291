package main

import (
	"math"
	"math/rand/v2"

	"roundel/autograd"
	"roundel/tensor"
)

type (
	value = autograd.Value[float32]
	tape  = autograd.Tape[float32]
)

// layer is a convolution followed by BatchNorm and, if act, ReLU6.
type layer struct {
	name           string
	in, out        int
	kernel, stride int
	groups         int
	act            bool
	w, gamma, beta *value
	stats          *autograd.BatchStats[float32]
}

func (l *layer) conv() autograd.Conv {
	p := l.kernel / 2
	return autograd.Conv{Stride: [2]int{l.stride, l.stride}, Pad: [4]int{p, p, p, p}, Groups: l.groups}
}

// block is a run of layers; with residual its input is added to its output.
type block struct {
	layers   []*layer
	residual bool
}

// net is a small MobileNetV2: a stem, inverted residuals, a 1×1 head, global average pooling and a classifier.
type net struct {
	blocks   []block
	fcW, fcB *value
}

const classes = 10

// inverted lists the inverted residual blocks: expansion, output channels, stride.
var inverted = []struct{ expand, out, stride int }{
	{3, 16, 1}, {4, 24, 2}, {4, 24, 1}, {4, 32, 1}, {4, 32, 1},
}

const (
	stem = 16
	head = 128
)

func newNet(rng *rand.Rand) *net {
	n := &net{}
	conv := func(name string, in, out, kernel, stride, groups int, act bool) *layer {
		// He initialisation by fan-out.
		std := math.Sqrt(2 / float64(kernel*kernel*out/groups))
		l := &layer{name: name, in: in, out: out, kernel: kernel, stride: stride, groups: groups, act: act,
			w: normal(rng, std, out, in/groups, kernel, kernel), stats: autograd.NewBatchStats[float32](out)}
		l.gamma, l.beta = autograd.Param(tensor.New[float32](out)), autograd.Param(tensor.New[float32](out))
		for i := range out {
			l.gamma.X.Data()[i] = 1
		}
		return l
	}
	n.blocks = append(n.blocks, block{layers: []*layer{conv("stem", 1, stem, 3, 2, 1, true)}})
	in := stem
	for i, b := range inverted {
		name, mid := "block"+string(rune('1'+i)), in*b.expand
		n.blocks = append(n.blocks, block{residual: b.stride == 1 && in == b.out, layers: []*layer{
			conv(name+".expand", in, mid, 1, 1, 1, true),
			conv(name+".depthwise", mid, mid, 3, b.stride, mid, true),
			conv(name+".project", mid, b.out, 1, 1, 1, false),
		}})
		in = b.out
	}
	n.blocks = append(n.blocks, block{layers: []*layer{conv("head", in, head, 1, 1, 1, true)}})
	n.fcW = normal(rng, math.Sqrt(1/float64(head)), classes, head)
	n.fcB = autograd.Param(tensor.New[float32](classes))
	return n
}

// normal returns a Param of normal elements (Box and Muller, by functions that give the same bits on every CPU).
func normal(rng *rand.Rand, std float64, shape ...int) *value {
	x := tensor.New[float32](shape...)
	for i := range x.Data() {
		r := math.Sqrt(-2 * tensor.Log(1-rng.Float64()))
		x.Data()[i] = float32(std * r * tensor.Cos(2*math.Pi*rng.Float64()))
	}
	return autograd.Param(x)
}

func (n *net) layers() (all []*layer) {
	for _, b := range n.blocks {
		all = append(all, b.layers...)
	}
	return all
}

// forward returns the logits [N, 10] of images x [N, 1, 28, 28]; run computes a layer without its activation.
func (n *net) forward(t *tape, x *value, fcW *value, run func(l *layer, x *value) *value) *value {
	for _, b := range n.blocks {
		y := x
		for _, l := range b.layers {
			if y = run(l, y); l.act {
				y = t.Relu6(y)
			}
		}
		if b.residual {
			y = t.Add(y, x)
		}
		x = y
	}
	return t.Linear(t.Flatten(t.AdaptiveAvgPool(x, 1, 1), 1), fcW, n.fcB)
}

// train returns the logits with batch statistics.
func (n *net) train(t *tape, x *value) *value {
	return n.forward(t, x, n.fcW, func(l *layer, x *value) *value {
		return t.BatchNorm(t.Conv2d(x, l.w, nil, l.conv()), l.gamma, l.beta, l.stats, true)
	})
}

// folded is a network whose BatchNorms are part of the convolutions.
type folded struct {
	*net
	w   map[*layer]*value
	b   map[*layer]*value
	fcW *value
}

// fold returns n with w' = w·γ/√(σ² + ε) and b' = β − μ·γ/√(σ² + ε), by the running statistics.
func (n *net) fold() *folded {
	f := &folded{n, map[*layer]*value{}, map[*layer]*value{}, n.fcW}
	for _, l := range n.layers() {
		w, b := l.w.X.Clone(), tensor.New[float32](l.out)
		per := w.Len() / l.out
		for c := range l.out {
			k := float32(float64(l.gamma.X.Data()[c]) / math.Sqrt(float64(l.stats.Var.Data()[c])+l.stats.Eps))
			for i := range per {
				w.Data()[c*per+i] *= k
			}
			b.Data()[c] = l.beta.X.Data()[c] - float32(l.stats.Mean.Data()[c]*k)
		}
		f.w[l], f.b[l] = autograd.Const(w), autograd.Const(b)
	}
	return f
}

func (f *folded) logits(t *tape, x *value) *value {
	return f.forward(t, x, f.fcW, func(l *layer, x *value) *value { return t.Conv2d(x, f.w[l], f.b[l], l.conv()) })
}
