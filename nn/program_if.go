package nn

import (
	"context"
	"maps"
	"slices"
	"sync"

	"roundel/tensor"
)

// branches runs the subgraphs of an If as programs of their own, compiled when they are first taken with outer
// values of the same shapes. What does not compile is left to the reference.
type branches struct {
	n      *Node
	names  []string                // reads(n)
	consts map[string]tensor.Any   // outer values that are constant
	outer  map[bool]map[string]int // by condition: what the branch reads from outside, and where it stands in names
	o      CompileOptions
	mu     sync.Mutex // images of a batch may arrive together
	taken  []*branch  // at most maxVariants for each condition; the oldest goes first
}

// branch is one subgraph for one set of shapes.
type branch struct {
	cond   bool
	shapes []tensor.Shape // parallel to names; nil for what the branch does not read
	p      *Program       // nil when it does not compile
}

// newBranches returns the runner of n, or nil when it is not an If.
func (b *builder) newBranches(n *Node) *branches {
	if n.Op != "If" {
		return nil
	}
	br := &branches{n: n, names: reads(n), consts: map[string]tensor.Any{}, outer: map[bool]map[string]int{},
		o: CompileOptions{Pool: tensor.NewPool(1, b.p.k), Weights: b.p.cache, FoldBatchNorm: b.p.o.FoldBatchNorm}}
	for _, name := range br.names[len(n.Inputs):] {
		if c := b.r.consts[name]; c != nil {
			br.consts[name] = c
		}
	}
	for _, cond := range []bool{false, true} {
		br.outer[cond] = map[string]int{}
		if g := branchOf(br.n, cond); g != nil {
			for _, name := range outerNames(g) {
				br.outer[cond][name] = slices.Index(br.names, name)
			}
		}
	}
	return br
}

// branchOf returns the subgraph of an If for a condition, or nil when it is not one that an If may have.
func branchOf(n *Node, cond bool) *Graph {
	name := "else_branch"
	if cond {
		name = "then_branch"
	}
	g := n.Attrs[name].G
	if g == nil || len(g.Inputs) > 0 || len(g.Outputs) != len(n.Outputs) {
		return nil
	}
	return g
}

// eval runs the branch that is taken; args are parallel to reads(n).
func (br *branches) eval(args []tensor.Any) ([]tensor.Any, error) {
	cond, ok := args[0].(*tensor.Dense[bool])
	if !ok || cond.Len() != 1 {
		return evalNode(br.n, args)
	}
	g := branchOf(br.n, cond.Data()[0])
	if g == nil {
		return evalNode(br.n, args)
	}
	br.mu.Lock()
	defer br.mu.Unlock()
	p := br.program(cond.Data()[0], args)
	if p == nil {
		return evalNode(br.n, args)
	}
	feeds := make(map[string]tensor.Any, len(p.feeds))
	for _, f := range p.feeds {
		feeds[f] = args[br.outer[cond.Data()[0]][f]]
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

// program returns the program of a branch for outer values of the shapes of args, or nil.
func (br *branches) program(cond bool, args []tensor.Any) *Program {
	oldest, same := -1, 0
	for i, t := range br.taken {
		if t.cond != cond {
			continue
		}
		if br.fits(t, args) {
			return t.p
		}
		if same++; oldest < 0 {
			oldest = i
		}
	}
	if same == maxVariants {
		br.taken = slices.Delete(br.taken, oldest, oldest+1)
	}
	t := &branch{cond: cond, shapes: make([]tensor.Shape, len(args))}
	for _, i := range br.outer[cond] {
		if i >= 0 && args[i] != nil {
			t.shapes[i] = args[i].Shape().Clone()
		}
	}
	if p, err := Compile(context.Background(), br.flat(cond, args), br.o); err == nil {
		t.p = p
	}
	br.taken = append(br.taken, t)
	return t.p
}

// fits reports whether t was compiled for outer values of the shapes of args.
func (br *branches) fits(t *branch, args []tensor.Any) bool {
	for _, i := range br.outer[t.cond] {
		if i >= 0 && args[i] != nil && !args[i].Shape().Equal(t.shapes[i]) {
			return false
		}
	}
	return true
}

// flat returns a branch as a graph with the outer values as inputs of the shapes of args. An If inside
// whose condition follows from these shapes is replaced by the nodes of the branch that it takes.
func (br *branches) flat(cond bool, args []tensor.Any) *Graph {
	g := branchOf(br.n, cond)
	sub := &Graph{Name: g.Name, Outputs: g.Outputs, Nodes: slices.Clone(g.Nodes), Consts: maps.Clone(g.Consts)}
	if sub.Consts == nil {
		sub.Consts = map[string]tensor.Any{}
	}
	for i, name := range br.names {
		at, read := br.outer[cond][name]
		switch {
		case !read || at != i:
		case br.consts[name] != nil:
			sub.Consts[name] = br.consts[name]
		case args[i] != nil:
			sub.Inputs = append(sub.Inputs, ValueInfo{Name: name, Type: typeOf(args[i])})
		}
	}
	for range maxSubgraph {
		s := &inferer{oneRun: true, types: map[string]Type{}, vals: map[string]value{}, missing: map[string][]string{}}
		s.graph(sub)
		if !spliceIfs(sub, s.vals) {
			break
		}
	}
	return sub
}

// spliceIfs puts the nodes of the branch in the place of every If of g whose condition is among vals, unless a name would
// mean two things. It reports whether there was one.
func spliceIfs(g *Graph, vals map[string]value) (found bool) {
	used := map[string]bool{}
	for _, v := range g.Inputs {
		used[v.Name] = true
	}
	claim(used, g)
	var nodes []*Node
	for _, n := range g.Nodes {
		var branch *Graph
		if n.Op == "If" {
			if cond, ok := vals[n.Inputs[0]].t.(*tensor.Dense[bool]); ok && cond.Len() == 1 {
				branch = branchOf(n, cond.Data()[0])
			}
		}
		if branch == nil || !claim(used, branch) {
			nodes = append(nodes, n)
			continue
		}
		found = true
		maps.Copy(g.Consts, branch.Consts)
		nodes = append(nodes, branch.Nodes...)
		for i, o := range n.Outputs {
			if o != "" {
				nodes = append(nodes, &Node{Name: n.Name + ":" + o, Op: "Identity", Inputs: []string{branch.Outputs[i].Name}, Outputs: []string{o}})
			}
		}
	}
	g.Nodes = nodes
	return found
}

// claim adds the names that g makes to used; when one is there already it adds none and returns false.
func claim(used map[string]bool, g *Graph) bool {
	names := slices.Collect(maps.Keys(g.Consts))
	for _, n := range g.Nodes {
		names = append(names, n.Outputs...)
	}
	if slices.ContainsFunc(names, func(s string) bool { return used[s] }) {
		return false
	}
	for _, s := range names {
		used[s] = s != ""
	}
	return true
}
