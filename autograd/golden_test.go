package autograd

import (
	"encoding/json"
	"strings"
	"testing"

	"roundel/internal/golden"
	"roundel/tensor"
)

// inputs gives a golden case its operands, all of them Params, and its parameters.
type inputs[T tensor.Float] struct {
	t  *testing.T
	m  *golden.Manifest
	by map[string]*Value[T]
}

func (in inputs[T]) v(name string) *Value[T] {
	in.t.Helper()
	if in.by[name] == nil {
		x := golden.NpyOf[float32](in.t, in.m.InputFile(in.t, name))
		in.by[name] = Param(convert[T](x))
	}
	return in.by[name]
}

// pair reads a parameter that is one number or two.
func (in inputs[T]) pair(name string) (p [2]int) {
	raw, ok := in.m.Params[name]
	if !ok {
		return p
	}
	if json.Unmarshal(raw, &p) != nil {
		in.m.Param(in.t, name, &p[0])
		p[1] = p[0]
	}
	return p
}

func (in inputs[T]) conv() Conv {
	p := in.pair("padding")
	return Conv{Stride: in.pair("stride"), Dilation: in.pair("dilation"), Groups: in.pair("groups")[0], Pad: [4]int{p[0], p[1], p[0], p[1]}}
}

func convert[T, S tensor.Float](x *tensor.Dense[S]) *tensor.Dense[T] {
	y := tensor.New[T](x.Shape()...)
	for i, v := range x.Data() {
		y.Data()[i] = T(v)
	}
	return y
}

// forward maps a golden case, or the part of its name before the first "_" plus "_*", to the operation it tests.
func forward[T tensor.Float](tp *Tape[T]) map[string]func(in inputs[T]) *Value[T] {
	type fn = func(in inputs[T]) *Value[T]
	unary := func(f func(*Value[T]) *Value[T]) fn { return func(in inputs[T]) *Value[T] { return f(in.v("x")) } }
	binary := func(f func(a, b *Value[T]) *Value[T]) fn {
		return func(in inputs[T]) *Value[T] { return f(in.v("a"), in.v("b")) }
	}
	stats := func(in inputs[T], training bool) *Value[T] {
		s := NewBatchStats[T](4)
		if !training {
			s.Mean, s.Var = in.v("rm").X, in.v("rv").X
			delete(in.by, "rm")
			delete(in.by, "rv")
		}
		return tp.BatchNorm(in.v("x"), in.v("gamma"), in.v("beta"), s, training)
	}
	pool := Window{Kernel: [2]int{3, 3}, Stride: [2]int{2, 2}, Pad: [4]int{1, 1, 1, 1}}
	exclude := pool
	exclude.ExcludePad = true
	entropy := func(smoothing float64) fn {
		return func(in inputs[T]) *Value[T] {
			var labels []int
			for _, l := range golden.NpyOf[int64](in.t, in.m.InputFile(in.t, "labels")).Data() {
				labels = append(labels, int(l))
			}
			return tp.CrossEntropy(in.v("x"), labels, smoothing)
		}
	}
	return map[string]fn{
		"add_*":              binary(tp.Add),
		"sub_*":              binary(tp.Sub),
		"mul_*":              binary(tp.Mul),
		"div_*":              binary(func(a, b *Value[T]) *Value[T] { return tp.Div(a, tp.Add(b, constant[T](5))) }),
		"matmul_*":           binary(tp.MatMul),
		"act_abs":            unary(tp.Abs),
		"act_exp":            unary(func(x *Value[T]) *Value[T] { return tp.Exp(tp.Mul(x, constant[T](0.2))) }),
		"act_gelu_erf":       unary(tp.GELU),
		"act_gelu_tanh":      unary(tp.GELUTanh),
		"act_hardsigmoid":    unary(tp.HardSigmoid),
		"act_hardswish":      unary(tp.HardSwish),
		"act_relu":           unary(tp.Relu),
		"act_relu6":          unary(tp.Relu6),
		"act_sigmoid":        unary(tp.Sigmoid),
		"act_silu":           unary(tp.SiLU),
		"act_tanh":           unary(tp.Tanh),
		"act_clamp_m1_2":     unary(func(x *Value[T]) *Value[T] { return tp.Clamp(x, -1, 2) }),
		"act_leaky_relu_0_1": unary(func(x *Value[T]) *Value[T] { return tp.LeakyRelu(x, 0.1) }),
		"act_log_abs":        unary(func(x *Value[T]) *Value[T] { return tp.Log(tp.Add(tp.Abs(x), constant[T](1))) }),
		"act_sqrt_abs":       unary(func(x *Value[T]) *Value[T] { return tp.Sqrt(tp.Add(tp.Abs(x), constant[T](0.1))) }),
		"prelu":              func(in inputs[T]) *Value[T] { return tp.PRelu(in.v("x"), in.v("slope")) },
		"batchnorm_train":    func(in inputs[T]) *Value[T] { return stats(in, true) },
		"batchnorm_eval":     func(in inputs[T]) *Value[T] { return stats(in, false) },
		"layernorm":          func(in inputs[T]) *Value[T] { return tp.LayerNorm(in.v("x"), in.v("g"), in.v("b"), 1e-5) },
		"linear":             func(in inputs[T]) *Value[T] { return tp.Linear(in.v("x"), in.v("w"), in.v("b")) },
		"linear_3d":          func(in inputs[T]) *Value[T] { return tp.Linear(in.v("x"), in.v("w"), in.v("b")) },
		"conv2d_*":           func(in inputs[T]) *Value[T] { return tp.Conv2d(in.v("x"), in.v("w"), in.v("b"), in.conv()) },
		"conv_*": func(in inputs[T]) *Value[T] {
			return tp.ConvTranspose2d(in.v("x"), in.v("w"), in.v("b"), in.conv(), in.pair("output_padding"))
		},
		"maxpool_3x3_s2_p1":    unary(func(x *Value[T]) *Value[T] { return tp.MaxPool(x, pool) }),
		"maxpool_ceil":         unary(func(x *Value[T]) *Value[T] { return tp.MaxPool(x, Window{Kernel: [2]int{2, 2}, Ceil: true}) }),
		"maxpool_ties":         unary(func(x *Value[T]) *Value[T] { return tp.MaxPool(x, Window{Kernel: [2]int{2, 2}}) }),
		"avgpool_pad":          unary(func(x *Value[T]) *Value[T] { return tp.AvgPool(x, pool) }),
		"avgpool_exclude_pad":  unary(func(x *Value[T]) *Value[T] { return tp.AvgPool(x, exclude) }),
		"adaptive_avgpool_1x1": unary(func(x *Value[T]) *Value[T] { return tp.AdaptiveAvgPool(x, 1, 1) }),
		"adaptive_avgpool_3x2": unary(func(x *Value[T]) *Value[T] { return tp.AdaptiveAvgPool(x, 3, 2) }),
		"interp_nearest":       unary(func(x *Value[T]) *Value[T] { return tp.ResizeNearest(x, 6, 8) }),
		"interp_bilinear":      unary(func(x *Value[T]) *Value[T] { return tp.ResizeBilinear(x, 6, 8) }),
		"softmax_axis0":        unary(func(x *Value[T]) *Value[T] { return tp.Softmax(x, 0) }),
		"softmax_axis1":        unary(func(x *Value[T]) *Value[T] { return tp.Softmax(x, 1) }),
		"softmax_axism1":       unary(func(x *Value[T]) *Value[T] { return tp.Softmax(x, -1) }),
		"log_softmax":          unary(func(x *Value[T]) *Value[T] { return tp.LogSoftmax(x, 1) }),
		"cross_entropy_mean":   entropy(0),
		"cross_entropy_smooth": entropy(0.1),
		"mse":                  func(in inputs[T]) *Value[T] { return tp.MSE(in.v("x"), in.v("t")) },
		"fro_dim1": func(in inputs[T]) *Value[T] {
			d := tp.Sub(in.v("x"), in.v("t"))
			return tp.Mean(tp.Sum(tp.Mul(d, d), false, 1), false)
		},
		"reduce_mean_1_keep": unary(func(x *Value[T]) *Value[T] { return tp.Mean(x, true, 1) }),
		"reduce_mean_23":     unary(func(x *Value[T]) *Value[T] { return tp.Mean(x, false, 2, -1) }),
		"reduce_sum_all":     unary(func(x *Value[T]) *Value[T] { return tp.Sum(x, false) }),
		"concat_axis1":       func(in inputs[T]) *Value[T] { return tp.Concat(1, in.v("a"), in.v("b"), in.v("c")) },
		"slice_pad": unary(func(x *Value[T]) *Value[T] {
			y := tp.Slice(x, []int{1, 0, 0}, x.Shape(), []int{1, 1, 2})
			return tp.Pad(y, []int{0, 0, 1}, []int{0, 1, 2}, 0)
		}),
		"transpose_reshape": unary(func(x *Value[T]) *Value[T] { return tp.Reshape(tp.Transpose(x, 0, 2, 1, 3), 8, 6) }),
	}
}

func constant[T tensor.Float](v T) *Value[T] { return Const(tensor.Scalar(v)) }

// TestGolden compares values and gradients with PyTorch's, in float64 and in float32.
func TestGolden(t *testing.T) {
	ran := 0
	golden.Each(t, "autograd", func(t *testing.T, m *golden.Manifest) {
		ran++
		switch {
		case strings.HasPrefix(m.Case, "sgd_"), strings.HasPrefix(m.Case, "adam"):
			checkOptimiser(t, m)
		case strings.HasPrefix(m.Case, "fake_quant_"):
			checkFakeQuant(t, m)
		case m.Case == "batchnorm_running_stats":
			checkRunningStats(t, m)
		default:
			checkOp[float64](t, m, "f64_")
			checkOp[float32](t, m, "f32_")
		}
	})
	if !t.Failed() && !t.Skipped() {
		t.Logf("%d cases", ran)
	}
}

func checkOp[T tensor.Float](t *testing.T, m *golden.Manifest, tol string) {
	tp := New[T](nil)
	ops := forward(tp)
	op := ops[m.Case]
	if op == nil {
		family, _, _ := strings.Cut(m.Case, "_")
		op = ops[family+"_*"]
	}
	if op == nil {
		t.Fatalf("no operation for case %s", m.Case)
	}
	in := inputs[T]{t, m, map[string]*Value[T]{}}
	y := op(in)
	rtol := m.Tol(t, tol+"rtol")
	if m.Case == "act_hardsigmoid" && tol == "f64_" {
		rtol = 4e-8 // the reference multiplies by float32(1/6) = (1 + 3.0e-8)/6, even in float64
	}
	same := func(name string, got tensor.Any) {
		t.Helper()
		if err := golden.Close(got, m.Want(t, name), rtol, m.Tol(t, tol+"atol")); err != nil {
			t.Errorf("%s%s: %v", tol, name, err)
		}
	}
	same("y_f64", y.X)
	tp.Backward(y, convert[T](golden.NpyOf[float32](t, m.InputFile(t, "cotangent"))))
	for name, v := range in.by {
		if v.Grad == nil {
			t.Errorf("no gradient reached %s", name)
			continue
		}
		same("grad_"+name+"_f64", v.Grad)
	}
	for name := range m.Expected { // every gradient in the fixture was compared
		if v, ok := strings.CutPrefix(name, "grad_"); ok && in.by[v[:len(v)-4]] == nil {
			t.Errorf("%s was not compared", name)
		}
	}
}

func checkRunningStats(t *testing.T, m *golden.Manifest) {
	s := NewBatchStats[float32](4)
	m.Param(t, "momentum", &s.Momentum)
	gamma, beta := Const(tensor.New[float32](4)), Const(tensor.New[float32](4))
	New[float32](nil).BatchNorm(Const(golden.NpyOf[float32](t, m.InputFile(t, "x"))), gamma, beta, s, true)
	compare(t, m, "running_mean", s.Mean)
	compare(t, m, "running_var", s.Var)
}

func compare(t *testing.T, m *golden.Manifest, name string, got tensor.Any) {
	t.Helper()
	if err := golden.Close(got, m.Want(t, name), m.Tol(t, "rtol"), m.Tol(t, "atol")); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

func checkFakeQuant(t *testing.T, m *golden.Manifest) {
	var g Grid
	m.Param(t, "qmin", &g.QMin)
	m.Param(t, "qmax", &g.QMax)
	m.Param(t, "symmetric", &g.Symmetric)
	load := func(path string) *Value[float32] { return Param(golden.NpyOf[float32](t, path)) }
	cotangent := golden.NpyOf[float32](t, m.InputFile(t, "cotangent"))

	tp := New[float32](nil)
	x, lo, hi := load(m.InputFile(t, "x")), load(m.WantFile(t, "param_min")), load(m.WantFile(t, "param_max"))
	y := tp.FakeQuantize(x, lo, hi, g)
	compare(t, m, "y", y.X)
	tp.Backward(y, cotangent)
	compare(t, m, "grad_x", x.Grad)
	compare(t, m, "grad_min", lo.Grad)
	compare(t, m, "grad_max", hi.Grad)

	// The grid itself as leaves.
	scale, offset := tp.GridOf(lo, hi, g)
	compare(t, m, "scale", scale.X)
	compare(t, m, "offset", offset.X)
	s, o := Param(scale.X.Clone()), Param(offset.X.Clone())
	y = tp.QuantDequant(Const(x.X), s, o, g)
	compare(t, m, "y", y.X)
	tp.Backward(y, cotangent)
	compare(t, m, "grad_scale", s.Grad)
	compare(t, m, "grad_offset", o.Grad)
}

func checkOptimiser(t *testing.T, m *golden.Manifest) {
	var p struct {
		LR, Momentum float64
		Nesterov     bool
		Betas        [2]float64
		Eps          float64
		WeightDecay  float64 `json:"weight_decay"`
	}
	raw, err := json.Marshal(m.Params)
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	w := Param(golden.NpyOf[float32](t, m.InputFile(t, "w0")).Clone())
	grads := golden.NpyOf[float32](t, m.InputFile(t, "grads"))
	var step func()
	if strings.HasPrefix(m.Case, "sgd") {
		o := &SGD[float32]{Params: []*Value[float32]{w}, LR: p.LR, Momentum: p.Momentum, Nesterov: p.Nesterov, WeightDecay: p.WeightDecay}
		step = o.Step
	} else {
		o := &Adam[float32]{Params: []*Value[float32]{w}, LR: p.LR, Beta1: p.Betas[0], Beta2: p.Betas[1], Eps: p.Eps,
			WeightDecay: p.WeightDecay, Decoupled: m.Case == "adamw"}
		step = o.Step
	}
	n := w.X.Len()
	got := tensor.New[float32](grads.Shape()...)
	for i := range grads.Shape()[0] {
		w.Grad = tensor.From(append([]float32(nil), grads.Data()[i*n:(i+1)*n]...), w.Shape()...)
		step()
		copy(got.Data()[i*n:], w.X.Data())
	}
	compare(t, m, "w", got)
}
