// Package autograd is reverse-mode differentiation over tensor.Dense: a tape of
// values, one backward closure per operation, and a walk over the tape backwards.
//
// An operation is a method of Tape. It computes its result at once and records
// how a gradient of the result becomes gradients of its operands. Recording order
// is a topological order, so Backward is a loop from the last record to the first.
//
//	t := autograd.New[float32](nil)
//	w := autograd.Param(tensor.New[float32](4, 6))
//	loss := t.MSE(t.Linear(x, w, nil), target)
//	t.Backward(loss, nil)   // w.Grad is filled
//	sgd.Step()              // uses and clears the gradients
//	t.Reset()               // hands every buffer back to the tape
//
// Results are the same for any number of workers, and on every CPU: products
// are rounded before they are added, except in GEMM, where every chain is
// fused; reductions have a fixed order; elementary functions come from package tensor.
// Operations panic on mismatched shapes: those are broken invariants of the caller.
package autograd

import (
	"fmt"

	"roundel/asm"
	"roundel/tensor"
)

// Value is a tensor that operations of a Tape read or made.
type Value[T tensor.Float] struct {
	X    *tensor.Dense[T] // the value
	Grad *tensor.Dense[T] // sum of the gradients that reached a Param; kept until an optimiser clears it
	leaf bool
	need bool // a Param is among the ancestors
}

// Param returns a leaf that collects a gradient.
func Param[T tensor.Float](x *tensor.Dense[T]) *Value[T] {
	return &Value[T]{X: x, leaf: true, need: true}
}

// Const returns a leaf without gradient.
func Const[T tensor.Float](x *tensor.Dense[T]) *Value[T] { return &Value[T]{X: x, leaf: true} }

// Shape returns the shape of the value; the caller must not change it.
func (v *Value[T]) Shape() tensor.Shape { return v.X.Shape() }

// Tape records operations. It is not safe for concurrent use; operations use the workers of its pool themselves.
type Tape[T tensor.Float] struct {
	pool  *tensor.Pool
	nodes []node[T]
	// Buffers by length, reused after Reset: a training step asks for the same
	// sizes every time, and fresh memory would cost more than the arithmetic.
	free map[int][][]T
	used [][]T
}

type node[T tensor.Float] struct {
	v    *Value[T]
	back func(g []T)
}

// New returns an empty tape whose operations share the workers of p; a nil p means one worker with the best kernels.
func New[T tensor.Float](p *tensor.Pool) *Tape[T] {
	if p == nil {
		p = tensor.NewPool(1, asm.Kernels{})
	}
	return &Tape[T]{pool: p, free: map[int][][]T{}}
}

// Backward adds the gradient of sum(v·cotangent) to the Grad of every Param that v depends on.
// A nil cotangent means ones. Gradients of inner values are dropped as soon as they are used.
func (t *Tape[T]) Backward(v *Value[T], cotangent *tensor.Dense[T]) {
	if cotangent != nil && !cotangent.Shape().Equal(v.Shape()) {
		panic(fmt.Sprintf("autograd: cotangent %v for a value %v", cotangent.Shape(), v.Shape()))
	}
	if g := t.gradOf(v); cotangent != nil {
		addTo(g, cotangent.Data())
	} else {
		for i := range g {
			g[i]++
		}
	}
	for i := len(t.nodes) - 1; i >= 0; i-- {
		n := &t.nodes[i]
		if n.v.Grad == nil {
			continue // no path from here to v
		}
		n.back(n.v.Grad.Data())
		t.release(n.v.Grad.Data())
		n.v.Grad = nil
	}
}

// Reset forgets all records and takes back every buffer. Values made by the
// tape must not be used any more; leaves are not touched.
func (t *Tape[T]) Reset() {
	clear(t.nodes)
	t.nodes = t.nodes[:0]
	for _, b := range t.used {
		t.free[len(b)] = append(t.free[len(b)], b)
	}
	clear(t.used)
	t.used = t.used[:0]
}

// record makes the value x and, if a parent needs a gradient, keeps back, which
// receives the gradient g of x and adds to the gradients of the parents.
func (t *Tape[T]) record(x *tensor.Dense[T], back func(g []T), parents ...*Value[T]) *Value[T] {
	v := &Value[T]{X: x}
	for _, p := range parents {
		v.need = v.need || p != nil && p.need
	}
	if v.need {
		t.nodes = append(t.nodes, node[T]{v, back})
	}
	return v
}

// gradOf returns the buffer to add a gradient of v to, or nil when v needs none (also when v itself is nil).
func (t *Tape[T]) gradOf(v *Value[T]) []T {
	if v == nil || !v.need {
		return nil
	}
	if v.Grad == nil {
		if v.leaf {
			v.Grad = tensor.New[T](v.Shape()...)
		} else {
			v.Grad = tensor.From(t.grab(v.X.Len()), v.Shape()...)
		}
	}
	return v.Grad.Data()
}

// zeros returns a zeroed tensor that lives until Reset.
func (t *Tape[T]) zeros(shape ...int) *tensor.Dense[T] {
	b := t.grab(tensor.Shape(shape).Len())
	t.used = append(t.used, b)
	return tensor.From(b, shape...)
}

// grab returns a zeroed buffer; whoever grabs it releases it, or leaves it in used for Reset.
func (t *Tape[T]) grab(n int) []T {
	l := t.free[n]
	if len(l) == 0 {
		return make([]T, n)
	}
	b := l[len(l)-1]
	t.free[n] = l[:len(l)-1]
	clear(b)
	return b
}

func (t *Tape[T]) release(b []T) { t.free[len(b)] = append(t.free[len(b)], b) }

// addTo is dst[i] += src[i].
func addTo[T tensor.Float](dst, src []T) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] += src[i]
	}
}
