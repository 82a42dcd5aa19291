package autograd

import (
	"math"

	"roundel/tensor"
)

// unary applies f elementwise; df is the derivative at x, where y = f(x).
func (t *Tape[T]) unary(x *Value[T], f func(x T) T, df func(x, y T) T) *Value[T] {
	out := t.zeros(x.Shape()...)
	in, y := x.X.Data(), out.Data()
	for i, v := range in {
		y[i] = f(v)
	}
	return t.record(out, func(g []T) {
		dx := t.gradOf(x)
		for i, v := range in {
			dx[i] += T(g[i] * df(v, y[i]))
		}
	}, x)
}

// clip returns min(max(x, lo), hi). The derivative is 1 inside, 0 outside and,
// on the bounds themselves, 1 if inclusive: frameworks differ by operator.
func (t *Tape[T]) clip(x *Value[T], lo, hi T, inclusive bool) *Value[T] {
	out := t.zeros(x.Shape()...)
	in, y := x.X.Data(), out.Data()
	t.split(len(in), func(a, b int) { t.clamp(y[a:b], in[a:b], lo, hi) })
	// A strict bound is the inclusive bound one step further in.
	if !inclusive {
		lo, hi = after(lo, 1), after(hi, -1)
	}
	return t.record(out, func(g []T) {
		dx := t.gradOf(x)
		// A product instead of a branch: which side of the bound a value lies is not predictable.
		pass := [4]T{3: 1}
		t.split(len(in), func(a, b int) {
			dst, src, gs := dx[a:b], in[a:b], g[a:b]
			for i, v := range src {
				var above, below uint
				if v >= lo {
					above = 1
				}
				if v <= hi {
					below = 2
				}
				dst[i] += T(gs[i] * pass[(above|below)&3])
			}
		})
	}, x)
}

// split has the workers call f for ranges [a, b) that make up n elements; their length is fixed.
func (t *Tape[T]) split(n int, f func(a, b int)) {
	const size = 1 << 14
	t.pool.For((n+size-1)/size, func(_, i int) { f(i*size, min((i+1)*size, n)) })
}

// after returns the number of type T next to x, upwards for dir > 0.
func after[T tensor.Float](x T, dir float64) T {
	if _, ok := any(x).(float32); ok {
		return T(math.Nextafter32(float32(x), float32(math.Inf(int(dir)))))
	}
	return T(math.Nextafter(float64(x), math.Inf(int(dir))))
}

// Clamp returns min(max(x, lo), hi); the gradient passes where lo ≤ x ≤ hi.
func (t *Tape[T]) Clamp(x *Value[T], lo, hi float64) *Value[T] { return t.clip(x, T(lo), T(hi), true) }

// Relu returns max(x, 0); the gradient passes where x > 0.
func (t *Tape[T]) Relu(x *Value[T]) *Value[T] { return t.clip(x, 0, T(math.Inf(1)), false) }

// Relu6 returns min(max(x, 0), 6); the gradient passes where 0 < x < 6.
func (t *Tape[T]) Relu6(x *Value[T]) *Value[T] { return t.clip(x, 0, 6, false) }

// LeakyRelu returns x where x > 0 and slope·x elsewhere.
func (t *Tape[T]) LeakyRelu(x *Value[T], slope float64) *Value[T] {
	s := T(slope)
	df := func(x, _ T) T {
		if x > 0 {
			return 1
		}
		return s
	}
	return t.unary(x, func(x T) T { return x * df(x, 0) }, df)
}

// PRelu returns x where x > 0 and slope·x elsewhere, with one trainable slope per
// channel (x: [N, C, ...], slope: [C]) or one for all (slope: [1]).
func (t *Tape[T]) PRelu(x, slope *Value[T]) *Value[T] {
	shape := slope.Shape().Clone()
	for range max(0, len(x.Shape())-2) {
		shape = append(shape, 1)
	}
	pick := func(x, s T) T {
		if x > 0 {
			return 1
		}
		return s
	}
	return t.binary(x, t.Reshape(slope, shape...), func(x, s T) T { return x * pick(x, s) },
		func(x, s, g T) (T, T) { return g * pick(x, s), g * min(x, 0) })
}

// Abs returns |x|; the gradient at 0 is 0.
func (t *Tape[T]) Abs(x *Value[T]) *Value[T] {
	return t.unary(x, func(x T) T { return T(math.Abs(float64(x))) }, func(x, _ T) T {
		switch {
		case x > 0:
			return 1
		case x < 0:
			return -1
		}
		return 0
	})
}

// Exp returns eˣ.
func (t *Tape[T]) Exp(x *Value[T]) *Value[T] {
	return t.unary(x, func(x T) T { return T(tensor.Exp(float64(x))) }, func(_, y T) T { return y })
}

// Log returns the natural logarithm of x.
func (t *Tape[T]) Log(x *Value[T]) *Value[T] {
	return t.unary(x, func(x T) T { return T(tensor.Log(float64(x))) }, func(x, _ T) T { return 1 / x })
}

// Sqrt returns the square root of x.
func (t *Tape[T]) Sqrt(x *Value[T]) *Value[T] {
	return t.unary(x, func(x T) T { return T(math.Sqrt(float64(x))) }, func(_, y T) T { return 0.5 / y })
}

// Tanh returns the hyperbolic tangent of x.
func (t *Tape[T]) Tanh(x *Value[T]) *Value[T] {
	return t.unary(x, func(x T) T { return T(tensor.Tanh(float64(x))) }, func(_, y T) T { return 1 - T(y*y) })
}

// Sigmoid returns 1/(1 + e⁻ˣ).
func (t *Tape[T]) Sigmoid(x *Value[T]) *Value[T] {
	return t.unary(x, func(x T) T { return T(tensor.Sigmoid(float64(x))) }, func(_, y T) T { return y * (1 - y) })
}

// SiLU returns x·sigmoid(x), also called swish.
func (t *Tape[T]) SiLU(x *Value[T]) *Value[T] {
	return t.smooth(x, func(x float64) float64 { return x * tensor.Sigmoid(x) },
		func(x float64) float64 { s := tensor.Sigmoid(x); return s * (1 + float64(x*(1-s))) })
}

// GELU returns x·Φ(x), Φ being the normal distribution function (Hendrycks and Gimpel 2016).
func (t *Tape[T]) GELU(x *Value[T]) *Value[T] {
	phi := func(x float64) float64 { return 0.5 * (1 + tensor.Erf(x/math.Sqrt2)) }
	norm := 1 / math.Sqrt(2*math.Pi)
	return t.smooth(x, func(x float64) float64 { return x * phi(x) },
		func(x float64) float64 { return phi(x) + float64(x*norm*tensor.Exp(-0.5*x*x)) })
}

// GELUTanh returns ½x(1 + tanh(√(2/π)(x + 0.044715x³))), the usual approximation of GELU.
func (t *Tape[T]) GELUTanh(x *Value[T]) *Value[T] {
	k := math.Sqrt(2 / math.Pi)
	inner := func(x float64) float64 { return tensor.Tanh(k * (x + float64(0.044715*x*x*x))) }
	return t.smooth(x, func(x float64) float64 { return 0.5 * x * (1 + inner(x)) },
		func(x float64) float64 {
			y := inner(x)
			slope := k * (1 + float64(3*0.044715*x*x))
			return float64(0.5*(1+y)) + float64(0.5*x*(1-float64(y*y))*slope)
		})
}

// smooth is unary for a function and derivative of x that are given in float64.
func (t *Tape[T]) smooth(x *Value[T], f, df func(x float64) float64) *Value[T] {
	return t.unary(x, func(x T) T { return T(f(float64(x))) }, func(x, _ T) T { return T(df(float64(x))) })
}

// HardSigmoid returns min(max(x/6 + 1/2, 0), 1); the gradient passes where −3 < x < 3.
func (t *Tape[T]) HardSigmoid(x *Value[T]) *Value[T] {
	return t.unary(x, hardSigmoid[T], func(x, _ T) T {
		if x > -3 && x < 3 {
			return T(1) / 6
		}
		return 0
	})
}

// HardSwish returns x·min(max(x/6 + 1/2, 0), 1).
func (t *Tape[T]) HardSwish(x *Value[T]) *Value[T] {
	return t.unary(x, func(x T) T { return x * hardSigmoid(x) }, func(x, _ T) T {
		switch {
		case x <= -3:
			return 0
		case x < 3:
			return T(x/3) + 0.5
		}
		return 1
	})
}

func hardSigmoid[T tensor.Float](x T) T { return min(max(T(x/6)+0.5, 0), 1) }
