package nn

import (
	"context"
	"slices"
	"sync"

	"roundel/tensor"
)

// branches runs the subgraphs of an If as programs of their own, compiled when they
// are first taken. What does not compile is left to the reference.
type branches struct {
	n      *Node
	consts map[string]tensor.Any // outer values that are constant
	o      CompileOptions
	mu     sync.Mutex // images of a batch may arrive together
	progs  map[string]*Program
}

// newBranches returns the runner of n, or nil when it is not an If.
func (b *builder) newBranches(n *Node) *branches {
	if n.Op != "If" {
		return nil
	}
	br := &branches{n: n, consts: map[string]tensor.Any{}, progs: map[string]*Program{},
		o: CompileOptions{Pool: tensor.NewPool(1, b.p.k), Weights: b.p.cache, FoldBatchNorm: b.p.o.FoldBatchNorm}}
	for _, name := range reads(n)[len(n.Inputs):] {
		if c := b.r.consts[name]; c != nil {
			br.consts[name] = c
		}
	}
	return br
}

// eval runs the branch that is taken; args are parallel to reads(n).
func (br *branches) eval(args []tensor.Any) ([]tensor.Any, error) {
	cond, ok := args[0].(*tensor.Dense[bool])
	if !ok || cond.Len() != 1 {
		return evalNode(br.n, args)
	}
	name := "else_branch"
	if cond.Data()[0] {
		name = "then_branch"
	}
	g := br.n.Attrs[name].G
	if g == nil || len(g.Inputs) > 0 || len(g.Outputs) != len(br.n.Outputs) {
		return evalNode(br.n, args)
	}
	br.mu.Lock()
	defer br.mu.Unlock()
	p, tried := br.progs[name]
	if !tried {
		p = br.compile(g, args)
		br.progs[name] = p
	}
	if p == nil {
		return evalNode(br.n, args)
	}
	feeds := map[string]tensor.Any{}
	for i, v := range reads(br.n) {
		feeds[v] = args[i]
	}
	res, err := p.Run(context.Background(), feeds)
	if err != nil {
		return nil, err
	}
	out := make([]tensor.Any, len(g.Outputs))
	for i, o := range g.Outputs {
		out[i] = res[o.Name]
	}
	return out, nil
}

// compile returns the program of a branch for outer values of the types of args, or nil.
func (br *branches) compile(g *Graph, args []tensor.Any) *Program {
	sub, outer := g.Clone(), outerNames(g)
	for i, name := range reads(br.n) {
		switch {
		case !slices.Contains(outer, name):
		case br.consts[name] != nil:
			sub.Consts[name] = br.consts[name]
		case args[i] != nil && !slices.ContainsFunc(sub.Inputs, func(v ValueInfo) bool { return v.Name == name }):
			// The extents are left open: they may differ from run to run.
			t := typeOf(args[i])
			t.Dims = unknown(len(t.Dims))
			sub.Inputs = append(sub.Inputs, ValueInfo{Name: name, Type: t})
		}
	}
	p, err := Compile(sub, br.o)
	if err != nil {
		return nil
	}
	return p
}
