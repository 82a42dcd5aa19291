package nn

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"roundel/tensor"
)

// rnnOps are the recurrent layers. They are evaluated in float64.
func rnnOps() []OpDef {
	return []OpDef{
		{Name: "RNN", Sig: "f f= f= f=? i? f=?", Infer: inferRNN, Eval: evalRNN},
		{Name: "GRU", Sig: "f f= f= f=? i? f=?", Infer: inferRNN, Eval: evalRNN},
		{Name: "LSTM", Sig: "f f= f= f=? i? f=? f=? f=?", Infer: inferRNN, Eval: evalRNN},
	}
}

// rnnGates is the number of gates of each layer.
var rnnGates = map[string]int{"RNN": 1, "GRU": 3, "LSTM": 4}

// directions returns the number of directions and whether the first one is backwards.
func (c *InferCtx) directions() (n int, reverse bool, err error) {
	switch d := c.node.Str("direction", "forward"); d {
	case "forward":
		return 1, false, nil
	case "reverse":
		return 1, true, nil
	case "bidirectional":
		return 2, false, nil
	default:
		return 0, false, fmt.Errorf("direction is %q", d)
	}
}

// inferRNN checks all shapes. Layout 0 is [T, N, I] with states [D, N, H], layout 1 [N, T, I] with [N, D, H].
func inferRNN(c *InferCtx) error {
	nd, _, err := c.directions()
	if err != nil {
		return err
	}
	if _, err := c.rnnActivations(nd); err != nil {
		return err
	}
	for i := range min(len(c.out), map[string]int{"RNN": 2, "GRU": 2, "LSTM": 3}[c.node.Op]) {
		c.setUnranked(i, c.in[0].DType)
	}
	x, ok0 := c.dims(0)
	w, ok1 := c.dims(1)
	r, ok2 := c.dims(2)
	if !ok0 || !ok1 || !ok2 {
		return nil
	}
	if len(x) != 3 || len(w) != 3 || len(r) != 3 {
		return fmt.Errorf("X %v, W %v and R %v have to have 3 dimensions", c.in[0], c.in[1], c.in[2])
	}
	hidden := r[2]
	if h := c.node.Int("hidden_size", -1); h >= 0 {
		if hidden.IsKnown() && hidden.Size != int(h) {
			return fmt.Errorf("hidden_size is %d, R is %v", h, c.in[2])
		}
		hidden = dimExpr(Known(int(min(h, maxDim)))).dim()
	}
	t, n, in := x[0], x[1], x[2]
	layout := c.node.Int("layout", 0) != 0
	if layout {
		t, n = n, t
	}
	g := number(int64(rnnGates[c.node.Op]))
	rows := dimExpr(hidden).times(g)
	want := [][]Dim{1: {Known(nd), rows.dim(), in}, {Known(nd), rows.dim(), hidden}, {Known(nd), rows.times(number(2)).dim()}, {n}}
	state := []Dim{Known(nd), n, hidden}
	y := []Dim{t, Known(nd), n, hidden}
	if layout {
		state, y = []Dim{n, Known(nd), hidden}, []Dim{n, t, Known(nd), hidden}
	}
	want = append(want, state, state, []Dim{Known(nd), dimExpr(hidden).times(number(3)).dim()})
	for i := 1; i < len(c.in); i++ {
		if err := c.checkDims(i, want[i]); err != nil {
			return err
		}
	}
	c.set(0, c.in[0].DType, y)
	c.set(1, c.in[0].DType, state)
	if c.node.Op == "LSTM" {
		c.set(2, c.in[0].DType, state)
	}
	return nil
}

// checkDims checks that input i, if its rank is known, can have the dimensions want.
func (c *InferCtx) checkDims(i int, want []Dim) error {
	d, ok := c.dims(i)
	if !ok {
		return nil
	}
	bad := len(d) != len(want)
	for j := 0; !bad && j < len(d); j++ {
		_, ok := sameDim(d[j], want[j])
		bad = !ok
	}
	if bad {
		return fmt.Errorf("input %d is %v; it has to be %v", i, c.in[i], want)
	}
	return nil
}

// rnnActivations returns the functions of each direction, with the parameters in the order the functions take them.
func (c *InferCtx) rnnActivations(nd int) ([][]func(float64) float64, error) {
	def := map[string][]string{"RNN": {"Tanh"}, "GRU": {"Sigmoid", "Tanh"}, "LSTM": {"Sigmoid", "Tanh", "Tanh"}}[c.node.Op]
	names := c.node.Attrs["activations"].Strings
	if len(names) == 0 {
		names = slices.Repeat(def, nd)
	}
	if len(names) != nd*len(def) {
		return nil, fmt.Errorf("%d activations for %d directions of %s", len(names), nd, c.node.Op)
	}
	alpha, beta := c.node.Attrs["activation_alpha"].Floats, c.node.Attrs["activation_beta"].Floats
	take := func(l *[]float32) float64 {
		if len(*l) == 0 {
			return math.NaN()
		}
		v := (*l)[0]
		*l = (*l)[1:]
		return float64(v)
	}
	out := make([][]func(float64) float64, nd)
	for i, name := range names {
		name = strings.ToLower(name)
		f, a, b := tensor.ActivationByName(name, 0, 0)
		if f == nil {
			return nil, fmt.Errorf("activation %q is not known", names[i])
		}
		pa, pb := math.NaN(), math.NaN()
		if a {
			pa = take(&alpha)
		}
		if b {
			pb = take(&beta)
		}
		f, _, _ = tensor.ActivationByName(name, pa, pb)
		out[i/len(def)] = append(out[i/len(def)], f)
	}
	return out, nil
}

// rnnState is what the evaluation of a recurrent layer works on, in layout 0.
type rnnState struct {
	steps, batch, hidden, nd int
	lens                     []int64
	x, y, h, c               *tensor.Dense[float64] // [T, N, I], [T, D, N, H], [D, N, H] twice
}

func evalRNN(c *EvalCtx) error {
	nd, reverse, err := c.directions()
	if err != nil {
		return err
	}
	acts, err := c.rnnActivations(nd)
	if err != nil {
		return err
	}
	s, err := c.rnnInputs(nd)
	if err != nil {
		return err
	}
	part := func(i, d int) []float64 { // the part of input i for direction d
		if i >= len(c.arg) || c.arg[i] == nil {
			return nil
		}
		v := tensor.Float64s(c.arg[i])
		n := len(v) / nd
		return v[d*n : (d+1)*n]
	}
	for d := range nd {
		r := &tensor.Recurrent{Kind: c.node.Op, Inputs: s.x.Shape()[2], Hidden: s.hidden, W: part(1, d), R: part(2, d), B: part(3, d), P: part(7, d),
			Act: acts[d], Clip: float64(c.node.Float("clip", 0)), LinearBeforeReset: c.node.Int("linear_before_reset", 0) != 0,
			InputForget: c.node.Int("input_forget", 0) != 0, Reverse: reverse || d == 1}
		for b := range s.batch {
			s.run(r, d, b)
		}
	}
	outs := []*tensor.Dense[float64]{s.y, s.h, s.c}
	perms := [][]int{{2, 0, 1, 3}, {1, 0, 2}, {1, 0, 2}}
	for i, t := range outs[:min(3, len(c.res))] {
		var y tensor.Any = t
		if c.node.Int("layout", 0) != 0 {
			y = tensor.Transpose(y, perms[i])
		}
		c.put(i, y)
	}
	return nil
}

// rnnInputs brings the inputs to layout 0.
func (c *EvalCtx) rnnInputs(nd int) (*rnnState, error) {
	swap := func(i int) *tensor.Dense[float64] {
		t := tensor.Cast(c.arg[i], tensor.Float64)
		if c.node.Int("layout", 0) != 0 {
			t = tensor.Transpose(t, []int{1, 0, 2})
		}
		return t.(*tensor.Dense[float64])
	}
	s := &rnnState{x: swap(0), nd: nd, hidden: c.arg[2].Shape()[2]}
	s.steps, s.batch = s.x.Shape()[0], s.x.Shape()[1]
	if s.x.Shape()[2] == 0 {
		return nil, fmt.Errorf("input %v is empty", c.in[0])
	}
	s.y = tensor.New[float64](s.steps, nd, s.batch, s.hidden)
	s.h, s.c = tensor.New[float64](nd, s.batch, s.hidden), tensor.New[float64](nd, s.batch, s.hidden)
	if c.has(5) {
		s.h = swap(5).Clone()
	}
	if c.has(6) {
		s.c = swap(6).Clone()
	}
	s.lens = slices.Repeat([]int64{int64(s.steps)}, s.batch)
	if c.has(4) {
		s.lens = tensor.Int64s(c.arg[4])
	}
	for _, n := range s.lens {
		if n < 0 || n > int64(s.steps) {
			return nil, fmt.Errorf("sequence length %d for %d steps", n, s.steps)
		}
	}
	return s, nil
}

// run walks direction d of image b; steps behind the end of its sequence give zeros.
func (s *rnnState) run(r *tensor.Recurrent, d, b int) {
	var x []float64
	for t := range int(s.lens[b]) {
		x = append(x, s.x.Data()[(t*s.batch+b)*r.Inputs:][:r.Inputs]...)
	}
	at := (d*s.batch + b) * s.hidden
	r.Run(x, s.h.Data()[at:at+s.hidden], s.c.Data()[at:at+s.hidden], func(t int, h []float64) {
		copy(s.y.Data()[((t*s.nd+d)*s.batch+b)*s.hidden:], h)
	})
}
