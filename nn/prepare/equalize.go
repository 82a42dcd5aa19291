package prepare

import (
	"math"
	"slices"

	"roundel/nn"
)

const equalize = "equalize"

// chain is a run of convolutions in which each feeds only the next, possibly through activations
// that let positive factors through.
type chain struct {
	layers []*layer
	acts   []bool // acts[i]: there is an activation between layers i and i+1
}

// set is two or three neighbours of a chain whose ranges are equalised together. In a triple the middle one is depthwise.
type set struct {
	layers []*layer
	acts   []bool
}

// equalizeAll rescales channels between neighbouring convolutions so that each channel has the same
// range in both. Sets overlap by one layer and are done in order; later sets see the new weights.
func (e *editor) equalizeAll() {
	for _, c := range e.chains() {
		for _, s := range c.sets() {
			var scales [][]float64
			if len(s.layers) == 2 {
				scales = [][]float64{pairScale(s.layers[0].outRange(), s.layers[1].inRange())}
			} else {
				scales = tripleScales(s.layers[0].outRange(), s.layers[1].outRange(), s.layers[2].inRange())
			}
			e.rescale(s, scales)
		}
	}
}

// chains finds the runs of convolutions. One whose weights are shared or not constant ends a run.
func (e *editor) chains() []chain {
	var out []chain
	seen := map[*nn.Node]bool{}
	for _, n := range e.g.Nodes {
		if !isConv(n.Op) || seen[n] {
			continue
		}
		var c chain
		for act := false; n != nil; {
			if isConv(n.Op) {
				l, err := e.layerOf(n)
				if seen[n] = true; err != nil {
					e.report.skip(equalize, n.Name, "left as it is: %v", err)
					break
				}
				if c.layers = append(c.layers, l); len(c.layers) > 1 {
					c.acts = append(c.acts, act)
				}
				act = false
			} else if act = true; !e.homogeneous(n) {
				break
			}
			n = e.soleReader(n.Out(0))
		}
		if len(c.layers) > 1 {
			out = append(out, c)
		}
	}
	return out
}

// homogeneous reports whether f(s·x) = s·f(x) for positive s, channel by channel.
func (e *editor) homogeneous(n *nn.Node) bool {
	return n.Op == "Relu" || n.Op == "PRelu" && e.g.ConstF32(n.In(1)) != nil
}

// sets splits a chain into pairs and, around a depthwise layer, triples.
func (c chain) sets() []set {
	var out []set
	first := -1 // where the next set starts
	emit := func(last int) {
		out = append(out, set{c.layers[first : last+1], c.acts[first:last]})
		first = last
	}
	for i, l := range c.layers {
		switch {
		case l.depthwise():
			if first < 0 || i-first == 2 || c.layers[first].depthwise() {
				first = i
			}
		case l.groups == 1:
			if first >= 0 {
				emit(i)
			}
			first = i
		default:
			first = -1
		}
	}
	return out
}

// depthwise reports whether each channel has a filter of its own.
func (l *layer) depthwise() bool { return l.groups > 1 && l.groups == l.out && l.groups == l.in }

// pairScale returns S[i] = √(r1[i]/r2[i]), which makes both ranges √(r1·r2); 1 where that is not possible.
func pairScale(r1, r2 []float64) []float64 {
	s := make([]float64, len(r1))
	for i := range s {
		s[i] = usable(r1[i] / math.Sqrt(r1[i]*r2[i]))
	}
	return s
}

// tripleScales returns S12 = r1/g and S23 = g/r3 with g the geometric mean of the three ranges, which all become g.
func tripleScales(r1, r2, r3 []float64) [][]float64 {
	s12, s23 := make([]float64, len(r1)), make([]float64, len(r1))
	for i := range s12 {
		g := cubeRoot(r1[i] * r2[i] * r3[i])
		s12[i], s23[i] = usable(r1[i]/g), usable(g/r3[i])
	}
	return [][]float64{s12, s23}
}

// usable replaces a factor that cannot be divided by with 1.
func usable(s float64) float64 {
	if s == 0 || math.IsNaN(s) || math.IsInf(s, 0) {
		return 1
	}
	return s
}

// cubeRoot returns ∛x for x ≥ 0 by Newton's method, in the same operations on every CPU (math.Cbrt does not promise that).
func cubeRoot(x float64) float64 {
	if x == 0 || math.IsInf(x, 1) || math.IsNaN(x) {
		return x
	}
	frac, exp := math.Frexp(x)
	for exp%3 != 0 {
		frac, exp = frac/2, exp+1
	}
	y := 0.75
	for range 8 { // frac ∈ [1/8, 1): quadratic convergence from 0.75 needs six steps
		y = (float64(2*y) + frac/float64(y*y)) / 3
	}
	return math.Ldexp(y, exp/3)
}

// rescale divides output channel i of each layer by its scale and multiplies input channel i of the
// next by it: W1[i] /= S[i], b1[i] /= S[i], W2[:,i] *= S[i].
func (e *editor) rescale(s set, scales [][]float64) {
	for j, l := range s.layers {
		l.store(e, l.scaled(func(out, in int) float64 {
			f := 1.0
			if j < len(scales) {
				f = 1 / scales[j][out]
			}
			if j > 0 {
				f *= scales[j-1][in]
			}
			return f
		}), nil)
		if j == len(scales) {
			break
		}
		if l.bias != nil {
			b := slices.Clone(l.bias)
			for i := range b {
				b[i] /= scales[j][i]
			}
			l.store(e, nil, b)
		}
		e.note(l, s.layers[j+1], scales[j], s.acts[j])
	}
}

// note records one rescaled pair, and that the moments of the first layer's output changed with it.
func (e *editor) note(l, next *layer, scale []float64, act bool) {
	e.report.Equalized = append(e.report.Equalized, Equalized{l.node.Name, next.node.Name, scale, act})
	e.report.done(equalize, l.node.Name, "channels rescaled against %s by %.3g to %.3g", next.node.Name, slices.Min(scale), slices.Max(scale))
	m, ok := e.report.Moments[l.node.Name]
	if !ok {
		return
	}
	m = Moments{slices.Clone(m.Mean), slices.Clone(m.Std)}
	for i, s := range scale {
		m.Mean[i] /= s
		m.Std[i] /= s
	}
	e.report.Moments[l.node.Name] = m
}

// relu6ToReLU drops the upper bound of each Clip from 0 directly between two convolutions.
func (e *editor) relu6ToReLU() {
	for _, n := range e.g.Nodes {
		lo := e.g.ConstF32(n.In(1))
		if n.Op != "Clip" || lo == nil || lo.Len() != 1 || lo.Data()[0] != 0 {
			continue
		}
		before, after := e.producer[n.In(0)], e.soleReader(n.Out(0))
		if before == nil || after == nil || !isConv(before.Op) || !isConv(after.Op) {
			continue
		}
		for slot, name := range n.Inputs[1:] {
			e.unread(name, use{n, slot + 1})
		}
		n.Op, n.Inputs, n.Attrs, n.Origin = "Relu", n.Inputs[:1], map[string]nn.Attr{}, 0
		e.report.done("relu6 to relu", n.Name, "has no upper bound any more; the network's output changes")
	}
}

// absorbBiases moves what a bias adds to every activation into the next layer, which shortens the
// range that the activations need: with c = max(0, μ − 3σ), b1 −= c and b2 += Σ W2·c.
// Pairs are those that were equalised, with both biases and a folded batch norm on the first layer.
func (e *editor) absorbBiases() {
	nodes := map[string]*nn.Node{}
	for _, n := range e.g.Nodes {
		nodes[n.Name] = n
	}
	for _, p := range e.report.Equalized {
		m, ok := e.report.Moments[p.First]
		l1, err1 := e.layerOf(nodes[p.First])
		l2, err2 := e.layerOf(nodes[p.Second])
		if !ok || err1 != nil || err2 != nil || l1.bias == nil || l2.bias == nil || !l2.everyTap() {
			continue
		}
		c, total := make([]float64, l1.out), 0.0
		for i := range c {
			c[i] = m.Mean[i]
			if p.Activation {
				c[i] = max(0, m.Mean[i]-float64(3*m.Std[i]))
			}
			total = max(total, math.Abs(c[i]))
		}
		if total == 0 {
			continue
		}
		b1, b2 := slices.Clone(l1.bias), l2.sumTimes(c)
		for i := range b1 {
			b1[i] -= c[i]
		}
		for o := range b2 {
			b2[o] += l2.bias[o]
		}
		l1.store(e, nil, b1)
		l2.store(e, nil, b2)
		e.report.done("absorb bias", p.First, "up to %.3g per channel moved into %s", total, p.Second)
	}
}

// everyTap reports whether each output position (away from the border) sees every tap of the kernel once, so that a
// constant input is multiplied by the sum of the taps. A ConvTranspose with a stride spreads its taps over positions.
func (l *layer) everyTap() bool {
	return l.node.Op == "Conv" || !slices.ContainsFunc(l.node.Ints("strides"), func(s int64) bool { return s != 1 })
}
