package adaround

import (
	"fmt"
	"math"
	"testing"

	"roundel/asm"
	"roundel/internal/golden"
	"roundel/nn"
	"roundel/tensor"
)

// goldenCase is one layer of the fixtures as a Problem over all positions of all rows, rows in order.
type goldenCase struct {
	*golden.Manifest
	geo     *geometry
	shape   tensor.Shape // of the weight
	problem *Problem
	perRow  int       // positions of one row of x
	batches [][]int64 // rows of x that each iteration uses
	solver  SolverAdam
	scales  []float64
}

func loadGolden(t *testing.T, m *golden.Manifest) *goldenCase {
	t.Helper()
	c := &goldenCase{Manifest: m}
	f32 := func(a tensor.Any) *tensor.Dense[float32] {
		d, err := tensor.As[float32](a)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	w, x, y := f32(m.Input(t, "weight")), f32(m.Input(t, "x_quant")), f32(m.Input(t, "target"))
	c.shape = w.Shape()
	var err error
	if c.geo, err = newGeometry(goldenNode(t, m), w.Shape(), 1); err != nil {
		t.Fatal(err)
	}
	p := &Problem{Groups: c.geo.groups, K: c.geo.k, O: c.geo.groups * c.geo.outs, Weight: c.geo.rows(w.Data())}
	if _, ok := m.Inputs["bias"]; ok {
		p.Bias = f32(m.Input(t, "bias")).Data()
	}
	c.grid(t, p)
	c.activation(t, p)
	c.perRow = readAll(t, c.geo, p, x, y)
	idx, err := tensor.As[int64](m.Input(t, "batch_indices"))
	if err != nil {
		t.Fatal(err)
	}
	n := idx.Shape()[1]
	for i := range idx.Shape()[0] {
		c.batches = append(c.batches, idx.Data()[i*n:(i+1)*n])
	}
	c.solver = SolverAdam{BatchSize: 1}
	m.Param(t, "num_iterations", &c.solver.Iterations)
	m.Param(t, "lr", &c.solver.LearningRate)
	m.Param(t, "reg_param", &c.solver.RegParam)
	m.Param(t, "beta_range", &c.solver.BetaRange)
	m.Param(t, "warm_start", &c.solver.WarmStart)
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	c.problem = p
	return c
}

func goldenNode(t *testing.T, m *golden.Manifest) *nn.Node {
	node := &nn.Node{Name: m.Case, Attrs: map[string]nn.Attr{}}
	var attrs map[string]any
	m.Param(t, "op_type", &node.Op)
	m.Param(t, "attributes", &attrs)
	for name, v := range attrs {
		switch v := v.(type) {
		case float64:
			node.Attrs[name] = nn.Attr{Kind: nn.AttrInt, I: int64(v)}
		case []any:
			a := nn.Attr{Kind: nn.AttrInts}
			for _, e := range v {
				a.Ints = append(a.Ints, int64(e.(float64)))
			}
			node.Attrs[name] = a
		}
	}
	return node
}

// grid spreads the encodings over the outputs.
func (c *goldenCase) grid(t *testing.T, p *Problem) {
	var scale, offset []float64
	var bits int
	c.Param(t, "scale", &scale)
	c.Param(t, "offset", &offset)
	c.Param(t, "bitwidth", &bits)
	c.scales = scale
	for o := range p.O {
		i := o % len(scale)
		p.Scale = append(p.Scale, float32(scale[i]))
		lo := int32(offset[i])
		p.Lo, p.Hi = append(p.Lo, lo), append(p.Hi, lo+1<<bits-1)
	}
}

func (c *goldenCase) activation(t *testing.T, p *Problem) {
	var name string
	c.Param(t, "activation", &name)
	switch name {
	case "relu":
		p.Act = Activation{Kind: ActClamp, Hi: float32(math.Inf(1))}
	case "relu6":
		p.Act = Activation{Kind: ActClamp, Hi: 6}
	}
}

// readAll fills p.Solve with every position of x and returns the number of positions per row of x.
func readAll(t *testing.T, geo *geometry, p *Problem, x, y *tensor.Dense[float32]) int {
	r, err := geo.bind(x.Shape(), nn.RowMajor)
	if err != nil {
		t.Fatal(err)
	}
	s := Samples{P: r.batch * r.positions}
	s.A, s.Y = make([]float32, p.Groups*s.P*p.K), make([]float32, s.P*p.O)
	for at := range s.P {
		n, pos := at/r.positions, at%r.positions
		r.read(s.A[at*p.K:], s.P*p.K, x.Data(), n, pos)
		for o := range p.O {
			from := at*p.O + o // a product: [rows][O]
			if r.in != nil {
				from = (n*p.O+o)*r.positions + pos
			}
			s.Y[(o/p.outs()*s.P+at)*p.outs()+o%p.outs()] = y.Data()[from]
		}
	}
	p.Solve = s
	return s.P / x.Shape()[0]
}

// block returns the solver's state for all outputs at once, or one block per group.
func (c *goldenCase) blocks(k asm.Kernels) []*adamBlock {
	var blocks []*adamBlock
	for _, r := range outputBlocks(c.problem, adamBlockOuts) {
		b := newAdamBlock(c.solver, c.problem, r[0], r[1], k)
		b.trace = true
		c.floorOfReference(b)
		blocks = append(blocks, b)
	}
	return blocks
}

// floorOfReference repeats a quirk of the reference, which starts V from W/s in
// float32 but takes the floor of W/s with s in float64, rounded to float32 after:
// where that is an integer and the float32 quotient just below it, ⌊W/s⌋ is one
// more than V assumes (it happens to one weight of the fixtures).
func (c *goldenCase) floorOfReference(b *adamBlock) {
	for j := range b.outs {
		o := b.from + j
		scale := c.scales[o%len(c.scales)]
		for k := range b.k {
			b.base[k*b.n+j] = float32(math.Floor(float64(float32(float64(c.problem.Weight[o*b.k+k]) / scale))))
		}
	}
	b.soften()
}

// run does the fixture's iterations on its batches and calls before and after around each step of Adam.
func (c *goldenCase) run(blocks []*adamBlock, before, after func(i int)) {
	sched := anneal{c.solver.Iterations, c.solver.WarmStart, c.solver.BetaRange[0], c.solver.BetaRange[1]}
	for i, rows := range c.batches {
		for _, b := range blocks {
			b.begin()
			for _, row := range rows {
				from, to := int(row)*c.perRow, int(row+1)*c.perRow
				b.batch(b.a[from*b.step:to*b.step], b.fy[from*b.n:to*b.n], len(rows)*c.perRow)
			}
		}
		before(i)
		beta, reg := sched.at(i)
		for _, b := range blocks {
			b.update(i, float32(beta), reg)
		}
		after(i)
	}
}

// gather returns one of the blocks' weight arrays in the stored order of the weight.
func (c *goldenCase) gather(blocks []*adamBlock, f func(b *adamBlock, i int) float32) tensor.Any {
	rows := make([]float32, c.problem.O*c.problem.K)
	for _, b := range blocks {
		for k := range b.k {
			for j := range b.outs {
				rows[(b.from+j)*b.k+k] = f(b, k*b.n+j)
			}
		}
	}
	return tensor.From(c.geo.store(rows), c.shape...)
}

func TestAdamGolden(t *testing.T) {
	for _, k := range asm.Available() {
		t.Run("isa="+k.ISA, func(t *testing.T) {
			golden.Each(t, "adaround", func(t *testing.T, m *golden.Manifest) {
				if m.Case != "formulas" {
					loadGolden(t, m).check(t, k)
				}
			})
		})
	}
}

type traceRow struct {
	Iteration int
	Recon     float64  `json:"recon_loss"`
	Round     float64  `json:"round_loss"`
	Total     float64  `json:"total_loss"`
	Beta      *float64 `json:"beta"`
}

func (c *goldenCase) check(t *testing.T, k asm.Kernels) {
	blocks := c.blocks(k)
	near := func(what string, got tensor.Any, name string, rtol, atol float64) {
		t.Helper()
		if err := golden.Close(got, c.Want(t, name), rtol, atol); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	maxScale := float64(0)
	for _, s := range c.problem.Scale {
		maxScale = max(maxScale, float64(s))
	}
	alpha := func(b *adamBlock, i int) float32 { return b.alpha[i] }
	soft := func(b *adamBlock, i int) float32 { return b.w[i] }
	near("alpha", c.gather(blocks, alpha), "alpha_init", 0, c.Tol(t, "alpha_init_atol"))
	near("h", c.gather(blocks, func(b *adamBlock, i int) float32 {
		h, _ := rectify(b.alpha[i], b.sigma[i])
		return h
	}), "h_alpha_init", 0, 1e-5)
	near("soft weight", c.gather(blocks, soft), "soft_weight_init", 0, 3e-5*maxScale)
	near("hard weight", c.hard(blocks), "hard_weight_init", 0, 1e-5*maxScale)
	near("nearest weight", c.weights(c.problem.nearestCodes(c.problem.Scale)), "nearest_weight", 0, 1e-5*maxScale)

	var trace []traceRow
	c.WantValue(t, "trace", &trace)
	var recon, penalty []float64
	c.run(blocks, func(i int) {
		var sum float64
		for _, b := range blocks {
			sum += b.recon
		}
		recon = append(recon, sum)
		name := fmt.Sprintf("grad_alpha_iter%d", i)
		if _, ok := c.Expected[name]; ok {
			beta, reg := (anneal{c.solver.Iterations, c.solver.WarmStart, c.solver.BetaRange[0], c.solver.BetaRange[1]}).at(i)
			g := c.gather(blocks, func(b *adamBlock, i int) float32 {
				lambda := float32(0)
				if reg {
					lambda = float32(c.solver.RegParam)
				}
				s, _ := b.slope(i, lambda, float32(beta))
				return s
			})
			near(name, g, name, c.Tol(t, "grad_rtol"), c.Tol(t, "grad_atol"))
		}
	}, func(i int) {
		var sum float64
		for _, b := range blocks {
			sum += b.penalty
		}
		penalty = append(penalty, sum)
		name := fmt.Sprintf("alpha_after_%d", i+1)
		if _, ok := c.Expected[name]; ok {
			tol := c.Tol(t, "alpha_after_1_to_61_atol")
			if i > 61 {
				tol = c.Tol(t, "alpha_after_300_atol")
			}
			near(name, c.gather(blocks, alpha), name, 0, tol)
		}
	})
	rtol, atol := c.Tol(t, "loss_rtol"), c.Tol(t, "loss_atol")
	for _, row := range trace {
		closeTo(t, fmt.Sprint("recon loss of iteration ", row.Iteration), recon[row.Iteration], row.Recon, rtol, atol)
		closeTo(t, fmt.Sprint("round loss of iteration ", row.Iteration), penalty[row.Iteration], row.Round, rtol, atol)
	}
	near("final soft weight", c.gather(blocks, soft), "soft_weight_final", 0, (1e-5+c.Tol(t, "alpha_after_300_atol"))*maxScale)
	c.checkFinal(t, blocks, maxScale)
}

// checkFinal compares the hard weights, except where V ended beside zero, and the losses over the whole set.
func (c *goldenCase) checkFinal(t *testing.T, blocks []*adamBlock, maxScale float64) {
	mask, err := tensor.As[uint8](c.Want(t, "alpha_near_zero_mask"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := tensor.As[float32](c.Want(t, "hard_weight_final"))
	if err != nil {
		t.Fatal(err)
	}
	got := c.hard(blocks).(*tensor.Dense[float32])
	undecided := 0
	for i, v := range got.Data() {
		if mask.Data()[i] != 0 {
			undecided++
		} else if math.Abs(float64(v-want.Data()[i])) > 1e-5*maxScale {
			t.Errorf("hard weight %d: got %v, want %v", i, v, want.Data()[i])
		}
	}
	var full struct {
		Nearest float64 `json:"nearest"`
		Hard    float64 `json:"adaround_hard"`
	}
	c.WantValue(t, "full_set_recon", &full)
	pool := tensor.NewPool(1, blocks[0].kernels)
	p := c.problem
	loss := func(codes []int32) float64 {
		return total(p.losses(candidate{codes, p.Scale, p.Bias}, &p.Solve, pool), p.Solve.P)
	}
	closeTo(t, "nearest loss", loss(p.nearestCodes(p.Scale)), full.Nearest, 1e-4, 1e-6)
	if undecided == 0 {
		closeTo(t, "hard loss", loss(c.codes(blocks)), full.Hard, 1e-4, 1e-6)
	}
}

func (c *goldenCase) codes(blocks []*adamBlock) []int32 {
	codes := make([]int32, c.problem.O*c.problem.K)
	for _, b := range blocks {
		b.harden(codes)
	}
	return codes
}

func (c *goldenCase) hard(blocks []*adamBlock) tensor.Any { return c.weights(c.codes(blocks)) }

func (c *goldenCase) weights(codes []int32) tensor.Any {
	return tensor.From(c.geo.store(c.problem.dequantize(codes, c.problem.Scale)), c.shape...)
}

func closeTo(t *testing.T, what string, got, want, rtol, atol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= atol+rtol*math.Abs(want)) {
		t.Errorf("%s: got %g, want %g", what, got, want)
	}
}

func TestFormulasGolden(t *testing.T) {
	m := golden.Load(t, "adaround", "formulas")
	in, err := tensor.As[float32](m.Input(t, "alpha"))
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Rows []struct {
			Iterations int            `json:"num_iterations"`
			Iteration  int            `json:"iteration"`
			Beta       *float64       `json:"beta"`
			Round      float64        `json:"round_loss"`
			Grad       []golden.Float `json:"grad_alpha"`
		}
	}
	m.WantValue(t, "rows", &want.Rows)
	rtol, atol := m.Tol(t, "rtol"), m.Tol(t, "atol")
	for _, row := range want.Rows {
		t.Run(fmt.Sprintf("T=%d/i=%d", row.Iterations, row.Iteration), func(t *testing.T) {
			beta, ok := anneal{row.Iterations, 0.2, 20, 2}.at(row.Iteration)
			if ok != (row.Beta != nil) {
				t.Fatalf("regulariser %v", ok)
			}
			if !ok {
				return
			}
			closeTo(t, "beta", beta, *row.Beta, 1e-12, 0)
			var sum float64
			for i, v := range in.Data() {
				h, dh := rectify(v, asm.Sigmoid(v))
				f, df := regularizer(h, float32(beta))
				sum += float64(float32(0.01 * f))
				closeTo(t, fmt.Sprint("gradient ", i), float64(0.01*df*dh), float64(row.Grad[i]), rtol, atol)
			}
			closeTo(t, "round loss", sum, row.Round, rtol, atol)
		})
	}
}

// TestReconstructionGolden compares the reconstruction loss on fixed errors: the sum over axis 1, the mean over the rest.
func TestReconstructionGolden(t *testing.T) {
	m := golden.Load(t, "adaround", "formulas")
	var rows []struct {
		Shape              []int
		Prediction, Target []float32
		Loss               float64 `json:"recon_loss"`
	}
	m.WantValue(t, "recon", &rows)
	for _, row := range rows {
		t.Run(fmt.Sprint(row.Shape), func(t *testing.T) {
			outs, inner := row.Shape[1], tensor.Shape(row.Shape[2:]).Len()
			z, y := make([]float32, len(row.Target)), make([]float32, len(row.Target))
			for i := range z { // [N][outs][inner] to [positions][outs]
				at := (i/(outs*inner)*inner+i%inner)*outs + i/inner%outs
				z[at], y[at] = row.Prediction[i], row.Target[i]
			}
			positions := len(z) / outs
			loss := reconstruction(z, y, outs, make([]scalar, outs), 1/float32(positions)) / float64(positions)
			closeTo(t, "reconstruction loss", loss, row.Loss, m.Tol(t, "rtol"), m.Tol(t, "atol"))
		})
	}
}
