package tensor

import "fmt"

// BroadcastShape returns the shape that all shapes broadcast to: aligned at the
// last axis, where an extent of one stretches.
func BroadcastShape(shapes ...Shape) (Shape, error) {
	rank := 0
	for _, s := range shapes {
		rank = max(rank, len(s))
	}
	out := make(Shape, rank)
	for i := range out {
		out[i] = 1
	}
	for _, s := range shapes {
		for i, d := range s {
			o := &out[rank-len(s)+i]
			switch {
			case *o == 1:
				*o = d
			case d != 1 && d != *o:
				return nil, fmt.Errorf("tensor: shapes %v do not broadcast together", shapes)
			}
		}
	}
	return out, nil
}

// mustBroadcast is BroadcastShape for operands that were checked before.
func mustBroadcast(shapes ...Shape) Shape {
	s, err := BroadcastShape(shapes...)
	if err != nil {
		panic(err)
	}
	return s
}

// Map returns f of every element.
func Map[T, D Elem](x *Dense[T], f func(T) D) *Dense[D] {
	return From(mapSlice(x.data, f), x.shape...)
}

// MapFloat returns f of every element, computed in float64 and rounded once.
func MapFloat[T Float](x *Dense[T], f func(float64) float64) *Dense[T] {
	out := New[T](x.shape...)
	for i, v := range x.data {
		out.data[i] = T(f(float64(v)))
	}
	return out
}

// Map2 returns f of every pair of elements of a and b, broadcast to one shape; it panics if they do not broadcast.
func Map2[A, B, D Elem](a *Dense[A], b *Dense[B], f func(A, B) D) *Dense[D] {
	out := New[D](mustBroadcast(a.shape, b.shape)...)
	strides := [][]int{broadcastStrides(a.shape, out.shape), broadcastStrides(b.shape, out.shape)}
	eachRun(out.shape, strides, func(o int, at []int, n int, inc []int) {
		p, q, ip, iq := at[0], at[1], inc[0], inc[1]
		for i := range out.data[o : o+n] {
			out.data[o+i] = f(a.data[p], b.data[q])
			p, q = p+ip, q+iq
		}
	})
	return out
}

// Where returns the elements of a where cond holds and those of b elsewhere, all
// broadcast to one shape. a and b have the same type.
func Where(cond *Dense[bool], a, b Any) Any {
	shape := mustBroadcast(cond.shape, a.Shape(), b.Shape())
	c := Expand(cond, shape).(*Dense[bool])
	idx := make([]int, shape.Len())
	for i, v := range c.data {
		idx[i] = i
		if !v {
			idx[i] = -1
		}
	}
	// Elements of a, and then those of b where a left a gap.
	out := Take(Expand(a, shape), shape, idx, 1, nil)
	from, to := idx[:0], []int{}
	for i, v := range c.data {
		if !v {
			from, to = append(from, i), append(to, i)
		}
	}
	return Put(out, to, 1, Take(Expand(b, shape), Shape{len(from)}, from, 1, nil))
}
