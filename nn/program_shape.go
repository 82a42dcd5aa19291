package nn

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"roundel/tensor"
)

// resolved has the type of every value for given shapes of the feeds, and the
// values that do not depend on the data: graph constants, what follows from
// them, and shape arithmetic.
type resolved struct {
	types  map[string]Type
	consts map[string]tensor.Any
	stable map[string]bool // constants that do not depend on the shapes of the feeds
}

// resolve infers types with the feeds at the given shapes and computes what is constant.
func (p *Program) resolve(ctx context.Context, shapes []tensor.Shape) (*resolved, error) {
	r := &resolved{types: map[string]Type{}, consts: map[string]tensor.Any{}, stable: map[string]bool{}}
	for i, f := range p.feeds {
		declared, _ := p.declaredType(f)
		r.types[f] = Type{DType: feedDType(declared), Dims: knownDims(shapes[i]), Ranked: true}
	}
	for v := range p.wanted {
		p.resolveConst(r, v)
	}
	for _, n := range p.nodes {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("nn: compile: %w", err)
		}
		if err := p.resolveNode(r, n); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// feedDType is the element type of a feed; one of unknown type is float32.
func feedDType(t Type) tensor.DType {
	if t.DType == tensor.Invalid {
		return tensor.Float32
	}
	return t.DType
}

// resolveConst enters the graph constant name, quantized when FakeQuant says so.
func (p *Program) resolveConst(r *resolved, name string) {
	if _, done := r.types[name]; done || name == "" {
		return
	}
	if c := p.constant(name); c != nil {
		r.setConst(p, name, c, true)
	}
}

func (r *resolved) setConst(p *Program, name string, c tensor.Any, stable bool) {
	if q, ok := p.o.FakeQuant[name]; ok {
		if f, ok := c.(*tensor.Dense[float32]); ok {
			f = f.Clone()
			tensor.QuantDequant(f.Data(), f.Data(), q, p.k)
			c = f
		}
	}
	r.consts[name], r.types[name], r.stable[name] = c, typeOf(c), stable
}

// resolveNode infers the outputs of n, or computes them when they are constant.
func (p *Program) resolveNode(r *resolved, n *Node) error {
	names := reads(n)
	in := make([]Type, len(names))
	consts := make([]tensor.Any, len(names))
	all, stable := len(names) > 0, true
	for i, name := range names {
		if name == "" {
			continue
		}
		p.resolveConst(r, name)
		in[i], consts[i] = r.types[name], r.consts[name]
		all = all && consts[i] != nil
		stable = stable && r.stable[name]
	}
	if all && foldable(n.Op) {
		return p.foldNode(r, n, consts, stable)
	}
	out, vals, err := inferNode(n, in, consts)
	if err != nil {
		return nodeError(n, err)
	}
	for i, name := range n.Outputs {
		switch {
		case name == "" || p.isFeed(name):
		case vals[i].t != nil:
			r.setConst(p, name, vals[i].t, false)
		default:
			r.types[name] = out[i]
		}
	}
	return nil
}

// foldable reports whether a node with constant inputs may be computed ahead.
func foldable(op string) bool {
	switch op {
	case "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial":
		return false
	}
	return true
}

func (p *Program) foldNode(r *resolved, n *Node, consts []tensor.Any, stable bool) error {
	compute := func() ([]tensor.Any, error) { return evalNode(n, consts) }
	var out []tensor.Any
	var err error
	if stable {
		out, err = p.cache.fold(n, "", consts, compute)
	} else {
		out, err = compute()
	}
	if err != nil {
		return nodeError(n, err)
	}
	for i, name := range n.Outputs {
		if name != "" && i < len(out) && !p.isFeed(name) {
			r.setConst(p, name, out[i], stable)
		}
	}
	return nil
}

// inferNode infers the outputs of n, with the contents of those that follow from
// the shapes alone. in and consts are parallel to reads(n).
func inferNode(n *Node, in []Type, consts []tensor.Any) ([]Type, []value, error) {
	d := lookup(n.Op)
	if d == nil {
		return nil, nil, &UnsupportedError{map[string][]string{n.Op: {n.Name}}}
	}
	vals := make([]value, len(in))
	env := &inferer{oneRun: true, types: map[string]Type{}, vals: map[string]value{}, missing: map[string][]string{}}
	for i, name := range reads(n) {
		vals[i].t = consts[i]
		if i >= len(n.Inputs) { // an outer value that a subgraph uses
			env.types[name], env.vals[name] = in[i], vals[i]
		}
	}
	c := &InferCtx{node: n, in: in[:len(n.Inputs)], val: vals[:len(n.Inputs)],
		out: make([]Type, len(n.Outputs)), outVal: make([]value, len(n.Outputs)), sub: env}
	if err := c.infer(d); err != nil {
		return nil, nil, err
	}
	return c.out, c.outVal, nil
}

// nodeError adds the node to an error that does not name one yet.
func nodeError(n *Node, err error) error {
	var ne *NodeError
	if err == nil || errors.As(err, &ne) {
		return err
	}
	return &NodeError{n.Name, n.Op, err}
}

// variant is the program for one set of feed shapes.
type variant struct {
	shapes    []tensor.Shape
	plan      *plan
	imagewise bool // shapes have batch 1, and a batch may be run image by image
}

// maxVariants bounds how many shapes are kept; the oldest goes first.
const maxVariants = 8

// variantFor returns the variant for feeds of the given shapes, and whether it is to be run once per image.
func (p *Program) variantFor(ctx context.Context, shapes []tensor.Shape, batched bool) (*variant, error) {
	if v := p.findVariant(shapes, batched); v != nil {
		return v, nil
	}
	if n := batchOf(shapes); n != 1 && n >= 0 {
		// Try one image first: that plan serves every batch size.
		one := perImage(shapes)
		v := p.findVariant(one, false)
		if v == nil {
			v, _ = p.addVariant(ctx, one)
		}
		if v != nil && v.imagewise {
			return v, nil
		}
	}
	return p.addVariant(ctx, shapes)
}

// findVariant looks a variant up without allocating. With batched set it also
// accepts the variant of one image when the batch may be split.
func (p *Program) findVariant(shapes []tensor.Shape, batched bool) *variant {
	for _, v := range p.variants {
		if slices.EqualFunc(v.shapes, shapes, tensor.Shape.Equal) {
			return v
		}
		if batched && v.imagewise && slices.EqualFunc(v.shapes, shapes, sameImage) {
			return v
		}
	}
	return nil
}

// sameImage reports whether the shapes agree but for the batch.
func sameImage(a, b tensor.Shape) bool {
	return len(a) == len(b) && len(a) > 0 && slices.Equal(a[1:], b[1:])
}

// addVariant plans for the given shapes.
func (p *Program) addVariant(ctx context.Context, shapes []tensor.Shape) (*variant, error) {
	one, err := p.resolve(ctx, shapes)
	if err != nil {
		return nil, err
	}
	v := &variant{shapes: make([]tensor.Shape, len(shapes))}
	for i, s := range shapes {
		v.shapes[i] = s.Clone()
	}
	if v.plan, err = p.buildPlan(ctx, one); err != nil {
		return nil, err
	}
	if batchOf(shapes) == 1 {
		v.imagewise = p.splittable(ctx, one, shapes)
		if err := ctx.Err(); err != nil { // then it is not known
			return nil, fmt.Errorf("nn: compile: %w", err)
		}
	}
	if len(p.variants) == maxVariants {
		p.variants = slices.Delete(p.variants, 0, 1)
	}
	p.variants = append(p.variants, v)
	return v, nil
}

// batchOf returns the common first dimension of the shapes, or -1.
func batchOf(shapes []tensor.Shape) int {
	n := -1
	for _, s := range shapes {
		if len(s) == 0 || n >= 0 && s[0] != n {
			return -1
		}
		n = s[0]
	}
	return n
}

// perImage returns the shapes with the batch set to 1.
func perImage(shapes []tensor.Shape) []tensor.Shape {
	out := make([]tensor.Shape, len(shapes))
	for i, s := range shapes {
		out[i] = s.Clone()
		out[i][0] = 1
	}
	return out
}

// checkFeed compares a tensor that the caller gives with what the graph declares.
func (p *Program) checkFeed(name string, t tensor.Any) error {
	if t == nil {
		return fmt.Errorf("nn: run: no tensor for the feed %q", name)
	}
	want, _ := p.declaredType(name)
	ok := t.DType() == feedDType(want)
	if want.Ranked {
		ok = ok && len(want.Dims) == len(t.Shape())
		for i := 1; ok && i < len(want.Dims); i++ {
			ok = !want.Dims[i].IsKnown() || want.Dims[i].Size == t.Shape()[i]
		}
	}
	if ok {
		return nil
	}
	want.DType = feedDType(want)
	return fmt.Errorf("nn: run: feed %q is %v, want %v", name, describe(t), want)
}
