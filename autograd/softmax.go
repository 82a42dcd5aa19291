package autograd

import (
	"fmt"

	"roundel/tensor"
)

// lanes describes the vectors along one axis: element k of vector v starts at start(v) and is step apart.
type lanes struct{ count, n, step int }

func lanesOf(s tensor.Shape, ax int) lanes {
	ax = axis(ax, len(s))
	return lanes{s.Len() / max(1, s[ax]), s[ax], s[ax+1:].Len()}
}

func (l lanes) start(v int) int { return v/l.step*l.step*l.n + v%l.step }

// Softmax returns eˣ/Σeˣ along an axis (negative axes count from the end).
func (t *Tape[T]) Softmax(x *Value[T], ax int) *Value[T] {
	out := t.zeros(x.Shape()...)
	l, y := lanesOf(x.Shape(), ax), out.Data()
	for v := range l.count {
		at := l.start(v)
		norm := logSum(x.X.Data(), at, l)
		for k := range l.n {
			i := at + k*l.step
			y[i] = T(tensor.Exp(float64(x.X.Data()[i]) - norm))
		}
	}
	return t.record(out, func(g []T) {
		dx := t.gradOf(x)
		for v := range l.count {
			at := l.start(v)
			var dot float64
			for i := at; i < at+l.n*l.step; i += l.step {
				dot += float64(float64(g[i]) * float64(y[i]))
			}
			for i := at; i < at+l.n*l.step; i += l.step {
				dx[i] += T(y[i] * (g[i] - T(dot)))
			}
		}
	}, x)
}

// LogSoftmax returns x − log Σeˣ along an axis (negative axes count from the end).
func (t *Tape[T]) LogSoftmax(x *Value[T], ax int) *Value[T] {
	out := t.zeros(x.Shape()...)
	l, y := lanesOf(x.Shape(), ax), out.Data()
	for v := range l.count {
		at := l.start(v)
		norm := logSum(x.X.Data(), at, l)
		for i := at; i < at+l.n*l.step; i += l.step {
			y[i] = T(float64(x.X.Data()[i]) - norm)
		}
	}
	return t.record(out, func(g []T) {
		dx := t.gradOf(x)
		for v := range l.count {
			at := l.start(v)
			var total float64
			for i := at; i < at+l.n*l.step; i += l.step {
				total += float64(g[i])
			}
			for i := at; i < at+l.n*l.step; i += l.step {
				dx[i] += g[i] - T(tensor.Exp(float64(y[i]))*total)
			}
		}
	}, x)
}

// logSum returns log Σeˣ of one vector, computed from its maximum so that nothing overflows.
func logSum[T tensor.Float](x []T, at int, l lanes) float64 {
	top := float64(x[at])
	for i := at; i < at+l.n*l.step; i += l.step {
		top = max(top, float64(x[i]))
	}
	var s float64
	for i := at; i < at+l.n*l.step; i += l.step {
		s += tensor.Exp(float64(x[i]) - top)
	}
	return top + tensor.Log(s)
}

// CrossEntropy returns the mean over n of −Σₖ q[n][k]·log softmax(x)[n][k] for logits x [N, K].
// q is 1−smoothing at labels[n], plus smoothing/K everywhere.
func (t *Tape[T]) CrossEntropy(x *Value[T], labels []int, smoothing float64) *Value[T] {
	n, k := x.Shape()[0], x.Shape()[1]
	if len(labels) != n {
		panic(fmt.Sprintf("autograd: %d labels for logits %v", len(labels), x.Shape()))
	}
	target := t.zeros(n, k)
	for i, c := range labels {
		row := target.Data()[i*k : (i+1)*k]
		for j := range row {
			row[j] = T(smoothing / float64(k))
		}
		row[c] += T(1 - smoothing)
	}
	picked := t.Sum(t.Mul(t.LogSoftmax(x, 1), Const(target)), false)
	return t.Mul(picked, Const(tensor.Scalar(T(-1/float64(n)))))
}

// MSE returns the mean of (a − b)², a and b having the same shape.
func (t *Tape[T]) MSE(a, b *Value[T]) *Value[T] {
	d := t.Sub(a, b)
	return t.Mean(t.Mul(d, d), false)
}
