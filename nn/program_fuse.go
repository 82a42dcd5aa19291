package nn

import (
	"math"

	"roundel/tensor"
)

// group is a chain of nodes that run as one step, at the place of the last one:
// a convolution or matrix product, or an elementwise operator, and what follows it.
type group struct {
	head, tail *Node
	rest       []*Node // all but the head
	out        string  // the value that the group makes
	bn         *Node   // BatchNormalization folded into the weights, or nil
	bias       string  // constant added per channel, or ""
	residual   string  // value of the same shape added, or ""
	clamp      bool
	lo, hi     float32
	quant      *tensor.FakeQuant // a pair of QuantizeLinear and DequantizeLinear at the end
	quantized  bool              // the step also does the FakeQuant of out
}

// newGroup returns the group of n alone.
func newGroup(n *Node) *group {
	return &group{head: n, tail: n, out: n.Out(0), lo: float32(math.Inf(-1)), hi: float32(math.Inf(1))}
}

// findGroups decides which nodes run together. Convolutions and products choose
// first and the later ones before the earlier: of two that meet in an Add, the
// later one takes it and the other one is its residual.
func (b *builder) findGroups() {
	consumer := map[string]*Node{}
	for _, n := range b.p.nodes {
		for _, in := range reads(n) {
			consumer[in] = n
		}
	}
	for i := len(b.p.nodes) - 1; i >= 0; i-- {
		n := b.p.nodes[i]
		if b.fused[n] == nil && !b.allConst(n) && b.isProduct(n) {
			b.grow(n, consumer, true)
		}
	}
	for _, n := range b.p.nodes {
		if b.fused[n] != nil || b.allConst(n) {
			continue
		}
		if b.clampable(n) {
			b.grow(n, consumer, false)
		} else if d, q := b.quantPair(n, consumer); d != nil {
			g := newGroup(n)
			g.tail, g.out, g.quant, g.rest = d, d.Out(0), q, []*Node{d}
			b.fused[n], b.fused[d] = g, g
		}
	}
}

// grow makes the group of head.
func (b *builder) grow(head *Node, consumer map[string]*Node, product bool) {
	g := newGroup(head)
	b.fused[head] = g
	next := func() *Node {
		if n := consumer[g.out]; b.p.private(g.out) && n != nil && b.fused[n] == nil {
			return n
		}
		return nil
	}
	take := func(n *Node) {
		g.tail, g.out, g.rest = n, n.Out(0), append(g.rest, n)
		b.fused[n] = g
	}
	if n := next(); product && n != nil && b.p.o.FoldBatchNorm && b.foldsInto(n, head) {
		g.bn = n
		take(n)
	}
	if n := next(); product && n != nil && n.Op == "Add" && g.bn == nil && !hasBias(head) {
		if c := otherInput(n, g.out); b.channelConst(c, head) {
			g.bias = c
			take(n)
		}
	}
	if n := next(); product && n != nil && n.Op == "Add" {
		if r := otherInput(n, g.out); b.sameShape(r, g.out) {
			g.residual = r
			take(n)
		}
	}
	if n := next(); n != nil {
		if lo, hi, ok := b.clampOf(n); ok && n.In(0) == g.out {
			g.lo, g.hi, g.clamp = lo, hi, true
			take(n)
		}
	}
	if n := next(); n != nil {
		if d, q := b.quantPair(n, consumer); d != nil {
			g.quant = q
			take(n)
			take(d)
		}
	}
}

// finalQuant returns the quantization that the step of g does at the end, or nil.
// When there are two, FakeQuant's is left to a step of its own.
func (b *builder) finalQuant(g *group) *tensor.FakeQuant {
	if g.quant != nil {
		return g.quant
	}
	g.quantized = true
	if q, ok := b.p.o.FakeQuant[g.out]; ok {
		return &q
	}
	return nil
}

// otherInput returns the operand of the binary node n that is not name.
func otherInput(n *Node, name string) string {
	if n.In(0) == name {
		return n.In(1)
	}
	return n.In(0)
}

func hasBias(n *Node) bool { return n.Op != "MatMul" && n.In(2) != "" }

// clampOf returns the bounds of a Relu, or of a Clip with constant bounds.
func (b *builder) clampOf(n *Node) (lo, hi float32, ok bool) {
	lo, hi = float32(math.Inf(-1)), float32(math.Inf(1))
	switch n.Op {
	case "Relu":
		return 0, hi, b.isFloat(n.In(0))
	case "Clip":
		for i, bound := range []*float32{&lo, &hi} {
			if name := n.In(i + 1); name != "" {
				c, _ := b.r.consts[name].(*tensor.Dense[float32])
				if c == nil || c.Len() != 1 {
					return 0, 0, false
				}
				*bound = c.Data()[0]
			}
		}
		return lo, hi, b.isFloat(n.In(0)) && lo <= hi
	}
	return 0, 0, false
}

// isFloat reports whether a value is float32 of known shape.
func (b *builder) isFloat(name string) bool {
	t := b.r.types[name]
	_, ok := t.Shape()
	return ok && t.DType == tensor.Float32
}

func (b *builder) shapeOf(name string) tensor.Shape {
	s, _ := b.r.types[name].Shape()
	return s
}

// sameShape reports whether r is a value of the shape of out that is computed, not constant.
func (b *builder) sameShape(r, out string) bool {
	return r != "" && r != out && b.r.consts[r] == nil && b.isFloat(r) && b.shapeOf(r).Equal(b.shapeOf(out))
}

// channelConst reports whether name is a constant with one element per output channel of head, in the right place.
func (b *builder) channelConst(name string, head *Node) bool {
	c, _ := b.r.consts[name].(*tensor.Dense[float32])
	out := b.shapeOf(head.Out(0))
	if c == nil || len(out) < 2 || len(c.Shape()) > len(out) {
		return false
	}
	axis := len(out) - 1
	if head.Op == "Conv" {
		axis = 1
	}
	if c.Len() != out[axis] {
		return false
	}
	at := axis - (len(out) - len(c.Shape()))
	return at >= 0 && c.Shape()[at] == c.Len()
}

// foldsInto reports whether the BatchNormalization n can be folded into the convolution conv.
func (b *builder) foldsInto(n, conv *Node) bool {
	if n.Op != "BatchNormalization" || conv.Op != "Conv" || n.In(0) != conv.Out(0) {
		return false
	}
	_, ok := b.batchNorm(n)
	return ok
}
