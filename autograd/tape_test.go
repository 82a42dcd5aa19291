package autograd

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"testing"

	"roundel/asm"
	"roundel/tensor"
)

// smallNet is a network with every kernel path that training uses.
type smallNet struct {
	stem, dw, point, fc, gamma, beta, slope *Value[float32]
	stats                                   *BatchStats[float32]
	x                                       *Value[float32]
	labels                                  []int
}

func newSmallNet() *smallNet {
	rng := rand.New(rand.NewPCG(3, 4))
	leaf := func(shape ...int) *Value[float32] {
		x := tensor.New[float32](shape...)
		for i := range x.Data() {
			x.Data()[i] = float32(rng.NormFloat64()) / 2
		}
		return Param(x)
	}
	n := &smallNet{stem: leaf(12, 1, 3, 3), dw: leaf(12, 1, 3, 3), point: leaf(20, 12, 1, 1), fc: leaf(5, 20),
		gamma: leaf(12), beta: leaf(12), slope: leaf(20), stats: NewBatchStats[float32](12), x: leaf(19, 1, 11, 10)}
	for range 19 {
		n.labels = append(n.labels, rng.IntN(5))
	}
	return n
}

func (n *smallNet) params() []*Value[float32] {
	return []*Value[float32]{n.stem, n.dw, n.point, n.fc, n.gamma, n.beta, n.slope, n.x}
}

func (n *smallNet) loss(t *Tape[float32]) *Value[float32] {
	y := t.Conv2d(n.x, n.stem, nil, Conv{Stride: [2]int{2, 2}, Pad: [4]int{1, 1, 1, 1}})
	y = t.Relu6(t.BatchNorm(y, n.gamma, n.beta, n.stats, true))
	y = t.Add(y, t.Conv2d(y, n.dw, nil, Conv{Pad: [4]int{1, 1, 1, 1}, Groups: 12}))
	y = t.PRelu(t.Conv2d(y, n.point, nil, Conv{}), n.slope)
	y = t.Flatten(t.AdaptiveAvgPool(y, 1, 1), 1)
	return t.CrossEntropy(t.Linear(y, n.fc, nil), n.labels, 0.1)
}

// digest hashes the loss, the gradients and the running statistics, bit by bit.
func (n *smallNet) digest(loss *Value[float32]) uint64 {
	h := fnv.New64a()
	add := func(x *tensor.Dense[float32]) {
		for _, v := range x.Data() {
			b := math.Float32bits(v)
			h.Write([]byte{byte(b), byte(b >> 8), byte(b >> 16), byte(b >> 24)})
		}
	}
	add(loss.X)
	for _, p := range n.params() {
		add(p.Grad)
	}
	add(n.stats.Mean)
	add(n.stats.Var)
	return h.Sum64()
}

// TestSameBits trains one step with every kernel table and several worker
// counts; the constant is what holds on every CPU.
func TestSameBits(t *testing.T) {
	var want uint64
	for _, k := range asm.Available() {
		for _, workers := range []int{1, 2, 3} {
			n, tp := newSmallNet(), New[float32](tensor.NewPool(workers, k))
			loss := n.loss(tp)
			tp.Backward(loss, nil)
			got := n.digest(loss)
			if want == 0 {
				want = got
			}
			if got != want {
				t.Errorf("%s with %d workers: digest %#x, want %#x", k.ISA, workers, got, want)
			}
		}
	}
	const everywhere = 0x26bae1c410c0217b
	if want != everywhere {
		t.Errorf("digest %#x, want %#x on every CPU", want, uint64(everywhere))
	}
}

// TestResetReusesBuffers trains on one tape and on a fresh tape per step; the parameters must stay equal, bit for bit.
func TestResetReusesBuffers(t *testing.T) {
	train := func(fresh bool) uint64 {
		n, tp := newSmallNet(), New[float32](nil)
		sgd := &SGD[float32]{Params: n.params(), LR: 0.05, Momentum: 0.9}
		var loss *Value[float32]
		for range 4 {
			if fresh {
				tp = New[float32](nil)
			}
			tp.Reset()
			sgd.Step()
			loss = n.loss(tp)
			tp.Backward(loss, nil)
		}
		return n.digest(loss)
	}
	if a, b := train(false), train(true); a != b {
		t.Errorf("digest %#x with reused buffers, %#x with fresh ones", a, b)
	}
}

// TestBackwardTwice runs the same tape backwards twice: gradients add up (to rounding: chains start from the sum so far).
func TestBackwardTwice(t *testing.T) {
	n, tp := newSmallNet(), New[float32](nil)
	loss := n.loss(tp)
	tp.Backward(loss, nil)
	once := n.fc.Grad.Clone()
	tp.Backward(loss, nil)
	for i, g := range n.fc.Grad.Data() {
		if d := g - 2*once.Data()[i]; math.Abs(float64(d)) > 1e-6 {
			t.Fatalf("element %d: %g after two passes, %g after one", i, g, once.Data()[i])
		}
	}
}

// TestConstCollectsNothing checks that no work is recorded without a Param.
func TestConstCollectsNothing(t *testing.T) {
	tp := New[float64](nil)
	x := Const(tensor.From([]float64{1, 2}, 2))
	w := Param(tensor.From([]float64{3, 4}, 2))
	tp.Backward(tp.Sum(tp.Mul(tp.Exp(x), w), false), nil)
	if x.Grad != nil || len(tp.nodes) != 2 {
		t.Errorf("gradient %v and %d records, want none and 2", x.Grad, len(tp.nodes))
	}
	if w.Grad == nil {
		t.Error("no gradient for the parameter")
	}
}

// TestMaxPoolNaN checks that a NaN is not hidden by larger neighbours.
func TestMaxPoolNaN(t *testing.T) {
	x := Const(tensor.From([]float32{1, float32(math.NaN()), 9, 2}, 1, 1, 2, 2))
	if y := New[float32](nil).MaxPool(x, Window{Kernel: [2]int{2, 2}}).X.Data()[0]; y == y {
		t.Errorf("got %g, want NaN", y)
	}
}

func TestMismatchPanics(t *testing.T) {
	zeros := func(shape ...int) *Value[float32] { return Const(tensor.New[float32](shape...)) }
	tp := New[float32](nil)
	for name, f := range map[string]func(){
		"broadcast": func() { tp.Add(zeros(2, 3), zeros(2)) },
		"matmul":    func() { tp.MatMul(zeros(2, 3), zeros(2, 3)) },
		"linear":    func() { tp.Linear(zeros(2, 3), zeros(2, 4), nil) },
		"conv":      func() { tp.Conv2d(zeros(1, 3, 4, 4), zeros(2, 2, 1, 1), nil, Conv{}) },
		"concat":    func() { tp.Concat(0, zeros(2, 3), zeros(2, 4)) },
		"labels":    func() { tp.CrossEntropy(zeros(2, 3), []int{1}, 0) },
		"cotangent": func() { tp.Backward(zeros(2), tensor.New[float32](3)) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
}
