package autograd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"roundel/tensor"
)

// trial makes random operands; all must be Params, so that each gradient is checked.
type trial struct {
	*rand.Rand
	tp     *Tape[float64]
	leaves []*Value[float64]
	move   move
}

// move shifts one element of one leaf by h.
type move struct {
	leaf, elem int
	h          float64
}

// normal returns a Param of standard normal elements.
func (r *trial) normal(shape ...int) *Value[float64] {
	x := tensor.New[float64](shape...)
	for i := range x.Data() {
		x.Data()[i] = r.NormFloat64()
	}
	return r.param(x)
}

// apart returns a Param whose elements are multiples of 0.37, all different and
// shifted by 0.05, so that no difference quotient crosses a kink at a multiple of 0.1 or a tie.
func (r *trial) apart(shape ...int) *Value[float64] {
	x := tensor.New[float64](shape...)
	for i, p := range r.Perm(x.Len()) {
		x.Data()[i] = 0.37*float64(p-x.Len()/2) + 0.0511
	}
	return r.param(x)
}

// positive returns a Param of elements in [0.5, 2.5).
func (r *trial) positive(shape ...int) *Value[float64] {
	x := tensor.New[float64](shape...)
	for i := range x.Data() {
		x.Data()[i] = 0.5 + 2*r.Float64()
	}
	return r.param(x)
}

func (r *trial) param(x *tensor.Dense[float64]) *Value[float64] {
	if len(r.leaves) == r.move.leaf {
		x.Data()[r.move.elem] += r.move.h
	}
	v := Param(x)
	r.leaves = append(r.leaves, v)
	return v
}

// n returns a random number in [lo, hi].
func (r *trial) n(lo, hi int) int { return lo + r.IntN(hi-lo+1) }

func (r *trial) shape() []int { return []int{r.n(1, 3), r.n(1, 4), r.n(1, 5)} }

// window returns random pooling geometry that fits an input of at least 4×4.
func (r *trial) window() Window {
	k := [2]int{r.n(1, 3), r.n(1, 4)}
	return Window{Kernel: k, Stride: [2]int{r.n(0, 3), r.n(0, 3)}, Ceil: r.n(0, 1) == 1, ExcludePad: r.n(0, 1) == 1,
		Pad: [4]int{r.n(0, k[0]/2), r.n(0, k[1]/2), r.n(0, k[0]/2), r.n(0, k[1]/2)}}
}

// conv returns random geometry with operands: stride, dilation and padding per side and axis, groups from 1 to depthwise.
func (r *trial) conv() (x, w, b *Value[float64], c Conv) {
	groups, icg, ocg := r.n(1, 3), r.n(1, 2), r.n(1, 2)
	kh, kw := r.n(1, 3), r.n(1, 3)
	c = Conv{Stride: [2]int{r.n(1, 3), r.n(1, 2)}, Dilation: [2]int{r.n(1, 2), r.n(1, 3)}, Groups: groups,
		Pad: [4]int{r.n(0, 2), r.n(0, 2), r.n(0, 2), r.n(0, 2)}}
	x = r.normal(r.n(1, 3), groups*icg, r.n(5, 8), r.n(7, 9))
	return x, r.normal(groups*ocg, icg, kh, kw), r.normal(groups * ocg), c
}

type op = func(r *trial) *Value[float64]

// ops has one entry per operation; an entry builds operands and returns the result.
func ops() map[string]op {
	tape := func(f func(t *Tape[float64], r *trial) *Value[float64]) op {
		return func(r *trial) *Value[float64] { return f(r.tp, r) }
	}
	unary := func(f func(*Tape[float64], *Value[float64]) *Value[float64]) op {
		return func(r *trial) *Value[float64] { return f(r.tp, r.apart(r.shape()...)) }
	}
	gentle := func(f func(*Tape[float64], *Value[float64]) *Value[float64]) op {
		return func(r *trial) *Value[float64] { return f(r.tp, r.normal(r.shape()...)) }
	}
	type T = Tape[float64]
	type V = *Value[float64]
	two := func(r *trial) (a, b []int) { // shapes that broadcast
		a, b = r.shape(), r.shape()
		for i := range a {
			switch r.n(0, 2) {
			case 0:
				a[i] = 1
			case 1:
				b[i] = 1
			default:
				a[i] = b[i]
			}
		}
		return a[r.n(0, 1):], b[r.n(0, 2):]
	}
	binary := func(f func(t *T, a, b V) V) op {
		return func(r *trial) V { a, b := two(r); return f(r.tp, r.normal(a...), r.positive(b...)) }
	}
	return map[string]op{
		"add": binary((*T).Add), "sub": binary((*T).Sub), "mul": binary((*T).Mul), "div": binary((*T).Div),
		"relu": unary((*T).Relu), "relu6": unary((*T).Relu6), "abs": unary((*T).Abs),
		"hardswish": unary((*T).HardSwish), "hardsigmoid": unary((*T).HardSigmoid),
		"clamp": unary(func(t *T, x V) V { return t.Clamp(x, -1.5, 2) }),
		"leaky": unary(func(t *T, x V) V { return t.LeakyRelu(x, 0.2) }),
		"exp":   gentle((*T).Exp), "tanh": gentle((*T).Tanh), "sigmoid": gentle((*T).Sigmoid),
		"silu": gentle((*T).SiLU), "gelu": gentle((*T).GELU), "gelutanh": gentle((*T).GELUTanh),
		"log":  tape(func(t *T, r *trial) V { return t.Log(r.positive(r.shape()...)) }),
		"sqrt": tape(func(t *T, r *trial) V { return t.Sqrt(r.positive(r.shape()...)) }),
		"prelu": tape(func(t *T, r *trial) V {
			c := r.n(1, 4)
			return t.PRelu(r.apart(2, c, 3, 2), r.normal([]int{1, c}[r.n(0, 1)]))
		}),
		"sum":  tape(func(t *T, r *trial) V { return t.Sum(r.normal(r.shape()...), r.n(0, 1) == 1, r.Perm(3)[:r.n(0, 3)]...) }),
		"mean": tape(func(t *T, r *trial) V { return t.Mean(r.normal(r.shape()...), r.n(0, 1) == 1, -1-r.n(0, 2)) }),
		"conv": tape(func(t *T, r *trial) V { x, w, b, c := r.conv(); return t.Conv2d(x, w, b, c) }),
		"pointwise": tape(func(t *T, r *trial) V {
			g, c := r.n(1, 2), r.n(1, 3)
			return t.Conv2d(r.normal(r.n(1, 10), g*c, 3, 4), r.normal(g*2, c, 1, 1), nil, Conv{Groups: g})
		}),
		"depthwise": tape(func(t *T, r *trial) V {
			c, s := r.n(2, 4), r.n(1, 2)
			pad := [4]int{r.n(0, 2), r.n(0, 2), r.n(0, 2), r.n(0, 2)}
			x, w := r.normal(r.n(1, 3), c, r.n(3, 7), r.n(3, 7)), r.normal(c, 1, 3, 3)
			return t.Conv2d(x, w, r.normal(c), Conv{Stride: [2]int{s, s}, Pad: pad, Groups: c})
		}),
		"transposed": tape(func(t *T, r *trial) V {
			groups, icg, ocg := r.n(1, 3), r.n(1, 2), r.n(1, 2)
			c := Conv{Stride: [2]int{r.n(1, 3), r.n(1, 2)}, Dilation: [2]int{r.n(1, 2), 1}, Pad: [4]int{r.n(0, 1), r.n(0, 1), r.n(0, 1), 0}, Groups: groups}
			w := r.normal(groups*icg, ocg, r.n(1, 3), r.n(1, 3))
			x := r.normal(r.n(1, 2), groups*icg, r.n(3, 4), r.n(3, 5))
			return t.ConvTranspose2d(x, w, r.normal(groups*ocg), c, [2]int{r.n(0, c.Stride[0]-1), r.n(0, c.Stride[1]-1)})
		}),
		"matmul": tape(func(t *T, r *trial) V {
			a, b := two(r)
			m, k, n := r.n(1, 4), r.n(1, 4), r.n(1, 4)
			return t.MatMul(r.normal(append(a, m, k)...), r.normal(append(b, k, n)...))
		}),
		"matvec": tape(func(t *T, r *trial) V {
			k := r.n(1, 5)
			a, b := r.normal(3, k), r.normal(k)
			return t.Add(t.MatMul(a, b), t.Sum(t.MatMul(b, t.MatMul(t.Transpose(a, 1, 0), a)), false))
		}),
		"linear": tape(func(t *T, r *trial) V {
			k, n := r.n(1, 5), r.n(1, 5)
			return t.Linear(r.normal(2, 3, k), r.normal(n, k), r.normal(n))
		}),
		"batchnorm train": tape(func(t *T, r *trial) V {
			c := r.n(1, 4)
			return t.BatchNorm(r.normal(r.n(2, 4), c, r.n(1, 3), r.n(1, 5)), r.normal(c), r.normal(c), NewBatchStats[float64](c), true)
		}),
		"batchnorm eval": tape(func(t *T, r *trial) V {
			c := r.n(1, 4)
			s := NewBatchStats[float64](c)
			for i := range c {
				s.Mean.Data()[i], s.Var.Data()[i] = 0.1*float64(i), 0.5+0.2*float64(i)
			}
			return t.BatchNorm(r.normal(2, c, 3), r.normal(c), r.normal(c), s, false)
		}),
		"layernorm": tape(func(t *T, r *trial) V {
			s := r.shape()
			s[2]++
			own := s[r.n(1, 2):]
			return t.LayerNorm(r.normal(s...), r.normal(own...), r.normal(own...), 1e-5)
		}),
		"maxpool": tape(func(t *T, r *trial) V { return t.MaxPool(r.apart(2, 2, r.n(4, 6), r.n(4, 7)), r.window()) }),
		"avgpool": tape(func(t *T, r *trial) V { return t.AvgPool(r.normal(2, 2, r.n(4, 6), r.n(4, 7)), r.window()) }),
		"adaptive": tape(func(t *T, r *trial) V {
			return t.AdaptiveAvgPool(r.normal(2, 2, r.n(1, 7), r.n(1, 7)), r.n(1, 4), r.n(1, 4))
		}),
		"nearest": tape(func(t *T, r *trial) V {
			return t.ResizeNearest(r.normal(1, 2, r.n(1, 5), r.n(1, 5)), r.n(1, 9), r.n(1, 9))
		}),
		"bilinear": tape(func(t *T, r *trial) V {
			return t.ResizeBilinear(r.normal(1, 2, r.n(1, 5), r.n(1, 5)), r.n(1, 9), r.n(1, 9))
		}),
		"softmax":    tape(func(t *T, r *trial) V { return t.Softmax(r.normal(r.shape()...), r.n(-3, 2)) }),
		"logsoftmax": tape(func(t *T, r *trial) V { return t.LogSoftmax(r.normal(r.shape()...), r.n(-3, 2)) }),
		"crossentropy": tape(func(t *T, r *trial) V {
			n, k := r.n(1, 5), r.n(2, 6)
			labels := make([]int, n)
			for i := range labels {
				labels[i] = r.IntN(k)
			}
			return t.CrossEntropy(r.normal(n, k), labels, 0.3*r.Float64())
		}),
		"mse":       tape(func(t *T, r *trial) V { s := r.shape(); return t.MSE(r.normal(s...), r.normal(s...)) }),
		"transpose": tape(func(t *T, r *trial) V { return t.Transpose(r.normal(r.shape()...), r.Perm(3)...) }),
		"reshape":   tape(func(t *T, r *trial) V { return t.Flatten(r.normal(r.shape()...), r.n(0, 2)) }),
		"slice": tape(func(t *T, r *trial) V {
			return t.Slice(r.normal(4, 5, 6), []int{r.n(0, 1), 0, r.n(0, 2)}, []int{r.n(2, 4), r.n(1, 5), 6}, []int{r.n(1, 2), r.n(1, 3), r.n(1, 4)})
		}),
		"pad": tape(func(t *T, r *trial) V {
			return t.Pad(r.normal(2, 3), []int{r.n(0, 2), r.n(0, 2)}, []int{r.n(0, 2), 1}, 0.5)
		}),
		"concat": tape(func(t *T, r *trial) V {
			s, ax := r.shape(), r.n(0, 2)
			long := append([]int(nil), s...)
			long[ax] += 2
			return t.Concat(ax-3*r.n(0, 1), r.normal(s...), r.normal(long...), r.normal(s...))
		}),
		"quantize outside": tape(func(t *T, r *trial) V { // inside, the straight-through gradient is no derivative
			x := r.apart(2, 3, 2)
			for i := range x.X.Data() {
				x.X.Data()[i] *= 1000
			}
			o := r.param(tensor.From([]float64{-3.2, 0.3, -7}, 3, 1))
			return t.QuantDequant(x, r.positive([]int{1, 3}[r.n(0, 1)], 1), o, Grid{QMin: 0, QMax: 15})
		}),
		"reuse": tape(func(t *T, r *trial) V { // a value with several consumers, two of them the same operation
			x := r.normal(r.shape()...)
			y := t.Tanh(x)
			return t.Add(t.Mul(y, y), t.Mul(t.Sigmoid(y), x))
		}),
	}
}

// TestGradients compares every backward function with central differences in float64 over random shapes.
func TestGradients(t *testing.T) {
	const trials = 12
	for name, f := range ops() {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(trials) {
				if err := checkGradient(seed, f); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
		})
	}
}

// checkGradient compares d/dx Σ c·f(x) for a random c with central differences, for every element of every leaf.
func checkGradient(seed uint64, f op) error {
	build := func(m move) (*trial, *Value[float64]) {
		r := &trial{Rand: rand.New(rand.NewPCG(seed, 7)), tp: New[float64](nil), move: m}
		return r, f(r)
	}
	r, y := build(move{leaf: -1})
	c := tensor.New[float64](y.Shape()...)
	for i := range c.Data() {
		c.Data()[i] = r.NormFloat64()
	}
	r.tp.Backward(y, c)
	loss := func(m move) (s float64) {
		_, y := build(m)
		for i, v := range y.X.Data() {
			s += v * c.Data()[i]
		}
		return s
	}
	const h = 1e-5
	for l, leaf := range r.leaves {
		if leaf.Grad == nil {
			return fmt.Errorf("no gradient for operand %d %v", l, leaf.Shape())
		}
		for i, g := range leaf.Grad.Data() {
			d := (loss(move{l, i, h}) - loss(move{l, i, -h})) / (2 * h)
			if math.Abs(g-d) > 1e-6*(1+math.Abs(d)) {
				return fmt.Errorf("operand %d %v of result %v, element %d: gradient %g, difference quotient %g",
					l, leaf.Shape(), y.Shape(), i, g, d)
			}
		}
	}
	return nil
}
