package convert

import (
	"container/heap"
	"errors"

	"roundel/nn"
)

// captured returns the values that the inner graphs of n read from the graphs around them.
func captured(n *nn.Node) []string {
	var out []string
	for _, a := range n.Attrs {
		if a.Kind != nn.AttrGraph || a.G == nil {
			continue
		}
		own := map[string]bool{}
		for name := range a.G.Consts {
			own[name] = true
		}
		for _, v := range a.G.Inputs {
			own[v.Name] = true
		}
		for _, m := range a.G.Nodes {
			for _, o := range m.Outputs {
				own[o] = true
			}
		}
		add := func(name string) {
			if name != "" && !own[name] {
				out = append(out, name)
			}
		}
		for _, m := range a.G.Nodes {
			for _, in := range m.Inputs {
				add(in)
			}
			for _, in := range captured(m) {
				add(in)
			}
		}
		for _, v := range a.G.Outputs {
			add(v.Name)
		}
	}
	return out
}

// sort puts the nodes in execution order: they stay as they are if they are in order, as ONNX
// demands; otherwise the earliest node that is ready comes next.
func (s *scope) sort() {
	nodes := s.g.Nodes
	maker := map[string]int{}
	for i, n := range nodes {
		for _, o := range n.Outputs {
			if o != "" {
				maker[o] = i
			}
		}
	}
	waits, readers, sorted := make([]int, len(nodes)), make([][]int, len(nodes)), true
	for i, n := range nodes {
		for _, list := range [][]string{n.Inputs, captured(n)} {
			for _, in := range list {
				if j, ok := maker[in]; ok {
					waits[i]++
					readers[j] = append(readers[j], i)
					sorted = sorted && j < i
				}
			}
		}
	}
	if sorted {
		return
	}
	ready, out := &intHeap{}, make([]*nn.Node, 0, len(nodes))
	for i := range nodes {
		if waits[i] == 0 {
			heap.Push(ready, i)
		}
	}
	for ready.Len() > 0 {
		i := heap.Pop(ready).(int)
		out = append(out, nodes[i])
		for _, j := range readers[i] {
			if waits[j]--; waits[j] == 0 {
				heap.Push(ready, j)
			}
		}
	}
	for i := range nodes {
		if waits[i] > 0 {
			s.fail(&nn.NodeError{Node: nodes[i].Name, Op: nodes[i].Op, Err: errors.New("it depends on its own output")})
			return
		}
	}
	s.g.Nodes = out
}

type intHeap []int

func (h intHeap) Len() int           { return len(h) }
func (h intHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h intHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *intHeap) Push(x any)        { *h = append(*h, x.(int)) }
func (h *intHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}
