package tensor

import "slices"

// Gathering and scattering by index. Indices were resolved before: they are
// non-negative and inside their axis.

// TakeAxes returns the tensor whose element at (i₀, i₁, …) is the element of x at
// (maps[0][i₀], maps[1][i₁], …); a negative entry anywhere gives fill, or zero if
// fill is nil. Padding, tiling, cropping and nearest resizing are of this form.
func TakeAxes(x Any, maps [][]int, fill Any) Any {
	st := x.Shape().Strides()
	shape := make(Shape, len(maps))
	idx := []int{0}
	for i, m := range maps {
		shape[i] = len(m)
		next := make([]int, 0, len(idx)*len(m))
		for _, o := range idx {
			for _, j := range m {
				if o < 0 || j < 0 {
					next = append(next, -1)
				} else {
					next = append(next, o+j*st[i])
				}
			}
		}
		idx = next
	}
	return Take(x, shape, idx, 1, fill)
}

// Gather returns slices of x along axis: the result has the shape of x with the
// extent of that axis replaced by idxShape.
func Gather(x Any, idx []int, idxShape Shape, axis int) Any {
	s := x.Shape()
	shape := slices.Concat(s[:axis], idxShape, s[axis+1:])
	all := make([]int, 0, s[:axis].Len()*len(idx))
	for o := range s[:axis].Len() {
		for _, j := range idx {
			all = append(all, o*s[axis]+j)
		}
	}
	return Take(x, shape, all, s[axis+1:].Len(), nil)
}

// ElementOffsets returns, for every element of an index tensor of shape idxShape,
// the offset in a tensor of shape s of the position with that coordinate along
// axis replaced by the index. GatherElements and ScatterElements are Take and Put of these.
func ElementOffsets(s Shape, idx []int, idxShape Shape, axis int) []int {
	st := s.Strides()
	step := st[axis]
	st[axis] = 0
	out := make([]int, 0, len(idx))
	if len(idx) == 0 {
		return out
	}
	eachRun(idxShape, [][]int{st}, func(o int, at []int, n int, inc []int) {
		for i := range n {
			out = append(out, at[0]+i*inc[0]+idx[o+i]*step)
		}
	})
	return out
}

// TupleOffsets returns the block numbers that index tuples of the given length
// select in a tensor of shape s, whose first batch axes are walked along with the
// tuples: idx holds batches of tuples, as many as s[:batch] has elements. A block
// is everything behind the axes that the tuple fixes.
func TupleOffsets(s Shape, idx []int, tuple, batch int) []int {
	n := len(idx) / max(tuple, 1)
	batches := s[:batch].Len()
	out := make([]int, n)
	for i := range out {
		o := 0
		if batch > 0 {
			o = i / (n / batches)
		}
		for j := range tuple {
			o = o*s[batch+j] + idx[i*tuple+j]
		}
		out[i] = o
	}
	return out
}

// PutWith returns a copy of x in which f(old, new) is stored at block idx[i], for block i of src, in order.
func PutWith[T Elem](x *Dense[T], idx []int, block int, src *Dense[T], f func(old, new T) T) *Dense[T] {
	y := x.Clone()
	for i, j := range idx {
		for k := range block {
			p := &y.data[j*block+k]
			*p = f(*p, src.data[i*block+k])
		}
	}
	return y
}

// Unique returns the indices of the distinct slices of x along axis — the first
// occurrence of each, ascending by value if sorted, else in order of appearance —
// the index of its distinct slice for every slice, and how often each occurs.
func Unique[T Number](x *Dense[T], axis int, sorted bool) (first, inverse, counts []int) {
	n := x.shape[axis]
	starts, inner := lines(x.shape, []int{axis})
	compare := func(a, b int) int {
		for _, s := range starts {
			if c := compareNumbers(x.data[s+inner[a]], x.data[s+inner[b]]); c != 0 {
				return c
			}
		}
		return 0
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, compare)
	inverse = make([]int, n)
	for i, j := range order {
		if i == 0 || compare(order[i-1], j) != 0 {
			first, counts = append(first, j), append(counts, 0)
		}
		inverse[j] = len(first) - 1
		counts[len(first)-1]++
	}
	if sorted {
		return first, inverse, counts
	}
	rank := make([]int, len(first)) // position in the order of appearance
	byFirst := make([]int, len(first))
	for i := range byFirst {
		byFirst[i] = i
	}
	slices.SortFunc(byFirst, func(a, b int) int { return first[a] - first[b] })
	f2, c2 := make([]int, len(first)), make([]int, len(first))
	for i, j := range byFirst {
		rank[j], f2[i], c2[i] = i, first[j], counts[j]
	}
	for i, j := range inverse {
		inverse[i] = rank[j]
	}
	return f2, inverse, c2
}
