package tensor

// MatMul returns the matrix product of the last two axes, broadcast over the
// axes before them; a vector is a row on the left and a column on the right. Sums
// are made in A (float64 for float tensors), in ascending order, and rounded once.
func MatMul[A, T Number](a, b *Dense[T]) *Dense[T] {
	sa, sb := a.shape, b.shape
	if len(sa) == 1 {
		sa = Shape{1, sa[0]}
	}
	if len(sb) == 1 {
		sb = Shape{sb[0], 1}
	}
	ra, rb := len(sa), len(sb)
	m, k, n := sa[ra-2], sa[ra-1], sb[rb-1]
	batch := mustBroadcast(sa[:ra-2], sb[:rb-2])
	shape := batch.Clone()
	if len(a.shape) > 1 {
		shape = append(shape, m)
	}
	if len(b.shape) > 1 {
		shape = append(shape, n)
	}
	out := New[T](shape...)
	if out.Len() == 0 {
		return out
	}
	acc := make([]A, n)
	eachRun(batch, [][]int{broadcastStrides(sa[:ra-2], batch), broadcastStrides(sb[:rb-2], batch)}, func(o int, at []int, count int, inc []int) {
		for i := range count {
			x := a.data[(at[0]+i*inc[0])*m*k:][:m*k]
			y := b.data[(at[1]+i*inc[1])*k*n:][:k*n]
			z := out.data[(o+i)*m*n:][:m*n]
			for r := range m {
				clear(acc)
				for p, v := range x[r*k : (r+1)*k] {
					for c, w := range y[p*n : (p+1)*n] {
						acc[c] += A(A(v) * A(w))
					}
				}
				for c, v := range acc {
					z[r*n+c] = T(v)
				}
			}
		}
	})
	return out
}

// Einsum sums the products of the operands. labels[i] names the index variable of
// every axis of operand i; the first nOut variables are the axes of the result,
// the others are summed over. dims holds the extent of each variable; an operand
// axis of extent one is repeated along its variable.
func Einsum[A, T Number](xs []*Dense[T], labels [][]int, dims []int, nOut int) *Dense[T] {
	strides := make([][]int, len(xs)) // of each operand, for each variable
	for i, x := range xs {
		strides[i] = make([]int, len(dims))
		for j, st := range x.shape.Strides() {
			if x.shape[j] != 1 {
				strides[i][labels[i][j]] += st // a repeated variable walks the diagonal
			}
		}
	}
	out := New[T](dims[:nOut]...)
	sum := Shape(dims[nOut:])
	inner := make([][]int, len(xs)) // offsets of the terms of one sum, for each operand
	outer := make([][]int, len(xs))
	for i := range xs {
		outer[i] = strides[i][:nOut]
		inner[i] = offsets(sum, strides[i][nOut:])
	}
	if out.Len() == 0 {
		return out
	}
	eachRun(out.shape, outer, func(o int, at []int, n int, inc []int) {
		for e := range n {
			var acc A
			for t := range sum.Len() {
				p := A(1)
				for i, x := range xs {
					p *= A(x.data[at[i]+e*inc[i]+inner[i][t]])
				}
				acc += A(p)
			}
			out.data[o+e] = T(acc)
		}
	})
	return out
}

// offsets returns Σ i·strides for every index of shape, in row-major order.
func offsets(shape Shape, strides []int) []int {
	out := []int{0}
	for i, d := range shape {
		next := make([]int, 0, len(out)*d)
		for _, o := range out {
			for j := range d {
				next = append(next, o+j*strides[i])
			}
		}
		out = next
	}
	return out
}
