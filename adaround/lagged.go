package adaround

import (
	"cmp"
	"math"
	"slices"

	"roundel/tensor"
)

// lagged gives a block the gradient over all positions at a fraction of its cost.
// It is computed exactly every few iterations, when the weights are X₀, and
// continued from there by the second derivative of the reconstruction loss,
//
//	∂L/∂W̃ ≈ g₀ + 2·D·G·D·(W̃ − X₀),
//
// where G = A'A/P is the second moment of the columns and D is diagonal, for each
// output: D² is the share of G's diagonal that f'(z)² leaves. Without activation D is
// the identity and this is exact. With one, it stands in for a matrix of each output,
// and exact gradients are so frequent that V hardly moves meanwhile.
//
// A weight changes by at most scale/4 per unit of V, so a gradient also serves for a few iterations as it is.
type lagged struct {
	g      []float32 // G: [K][K] of the group, or depthwise [K][K][n]
	slope  []float32 // [K][n] √2·D
	x0, g0 []float32 // [K][n]
	moved  *linear   // its weights are √2·D·(W̃ − X₀)
	add    []float32 // [K][n]
	every  int       // iterations from one exact gradient to the next
	renew  int       // and from one continuation to the next
}

// An exact gradient serves until V may have moved by lagReach, and at most lagMost
// iterations; a continued one until V may have moved by lagStep.
const (
	lagReach = 0.2
	lagMost  = 250
	lagStep  = 0.01
)

// lagColumns is the largest number of columns for which the product with G is no dearer than a batch of positions.
const lagColumns = 2048

// largeLayerBatch is the number of positions in an iteration of layers with more columns.
const largeLayerBatch = 1024

// grams returns the second moments of the groups' columns, nil if batches are to be
// used. Layers with outputs that have columns of their own make theirs block by block.
func (s SolverAdam) grams(p *Problem, pool *tensor.Pool) [][]float32 {
	if s.BatchSize > 0 || p.K > lagColumns {
		return nil
	}
	grams := make([][]float32, p.Groups)
	for g := range grams {
		if !p.depthwise() {
			grams[g] = newGram(p.Solve.cols(g, p.K), p.K, false, pool).g
		}
	}
	return grams
}

func newLagged(b *adamBlock, g []float32) *lagged {
	l := &lagged{g: g, slope: slices.Repeat([]float32{math.Sqrt2}, b.k*b.n), every: min(lagMost, max(1, int(lagReach/b.cfg.LearningRate))),
		renew: max(1, int(lagStep/b.cfg.LearningRate))}
	switch {
	case 2*len(b.fy)/b.n <= b.k:
		l.every = l.renew // so few positions are cheaper than G
	case b.act[0].kind == ActIdentity:
		l.every = b.cfg.Iterations // one is enough
	}
	for _, f := range []*[]float32{&l.x0, &l.g0, &l.add} {
		*f = make([]float32, b.k*b.n)
	}
	moved := *b.linear
	moved.w, moved.bias, moved.act = make([]float32, b.k*b.n), make([]float32, b.n), nil
	l.moved = &moved
	if b.depthwise {
		l.g = b.ownGrams()
	}
	return l
}

// ownGrams returns the second moments [K][K][n] of outputs with columns of their own.
func (b *adamBlock) ownGrams() []float32 {
	g := make([]float32, b.k*b.k*b.n)
	column := make([]float32, evalRows*b.n)
	positions := len(b.fy) / b.n
	for from := 0; from < positions; from += evalRows {
		rows := min(evalRows, positions-from)
		a := b.a[from*b.step:][:rows*b.step]
		for c := range b.k {
			for q := range rows {
				copy(column[q*b.n:(q+1)*b.n], a[q*b.step+c*b.n:])
			}
			b.backward(g[c*b.k*b.n:(c+1)*b.k*b.n], a, column[:rows*b.n])
		}
	}
	scale := 1 / float32(positions)
	for i := range g {
		g[i] *= scale
	}
	return g
}

// gradient sets the block's gradient of iteration i.
func (l *lagged) gradient(b *adamBlock, i int) {
	if i%l.every == 0 {
		l.exact(b, i == 0)
		return
	}
	if i%l.every%l.renew != 0 {
		return // V has hardly moved
	}
	for i, w := range b.w {
		l.moved.w[i] = l.slope[i] * (w - l.x0[i])
	}
	l.moved.forward(l.add, l.g)
	for i, v := range l.add {
		b.grad[i] = l.g0[i] + float32(l.slope[i]*v)
	}
}

// exact computes the gradient over all positions, and the first time the slopes.
func (l *lagged) exact(b *adamBlock, first bool) {
	positions := len(b.fy) / b.n
	b.begin()
	for from := 0; from < positions; from += evalRows {
		to := min(from+evalRows, positions)
		b.batch(b.a[from*b.step:to*b.step], b.fy[from*b.n:to*b.n], positions)
	}
	copy(l.x0, b.w)
	copy(l.g0, b.grad)
	if first && b.act[0].kind != ActIdentity {
		l.slopes(b)
	}
}

// slopes sets √2·D: D² = Σ_p a_pk²·f'(z_p)² / Σ_p a_pk².
func (l *lagged) slopes(b *adamBlock) {
	positions := len(b.fy) / b.n
	left, all := make([]float32, b.k*b.n), make([]float32, b.k*b.n)
	squares, z := make([]float32, evalRows*b.step), make([]float32, evalRows*b.n)
	ones := slices.Repeat([]float32{1}, len(z))
	for from := 0; from < positions; from += evalRows {
		rows := min(evalRows, positions-from)
		a := b.a[from*b.step:][:rows*b.step]
		z := z[:rows*b.n]
		b.forward(z, a)
		for i, v := range a {
			squares[i] = v * v
		}
		for i, v := range z {
			if j := i % b.n; j < b.outs {
				_, df := b.act[j].both(v)
				z[i] = df * df
			}
		}
		b.backward(left, squares[:len(a)], z)
		b.backward(all, squares[:len(a)], ones[:len(z)])
	}
	for i, v := range all {
		l.slope[i] = 0
		if v > 0 {
			l.slope[i] = float32(math.Sqrt(2 * float64(left[i]) / float64(v)))
		}
	}
}

// decidedAt is how near to 0 or 1 h counts as decided.
const decidedAt = 0.05

// decide rounds what the iterations left between down and up, one weight of an output
// after the other, the most decided first, to the side that raises the reconstruction
// loss less given the choices before it. codes are those of the signs of V.
func (l *lagged) decide(b *adamBlock, codes, to []int32) {
	copy(to[b.from*b.k:(b.from+b.outs)*b.k], codes[b.from*b.k:])
	open := make([][]int, b.outs) // columns of the undecided weights
	for i := range b.w {
		j := i % b.n
		if j >= b.outs {
			continue
		}
		h, _ := rectify(b.alpha[i], b.sigma[i])
		if h > decidedAt && h < 1-decidedAt && b.base[i] >= b.lo[j] && b.base[i] < b.hi[j] {
			open[j] = append(open[j], i/b.n)
		} else {
			b.w[i] = float32(b.scale[j] * float32(codes[(b.from+j)*b.k+i/b.n]))
		}
	}
	l.exact(b, false)
	for j, cols := range open {
		slices.SortStableFunc(cols, func(c, d int) int {
			return -cmp.Compare(b.doubt(c, j), b.doubt(d, j))
		})
		for at, c := range cols {
			i := c*b.n + j
			down := float32(b.scale[j]*b.base[i]) - b.w[i]
			up := down + b.scale[j]
			// g·d + H_cc·d²/2
			curve := l.second(b, c, c, j) / 2
			d, v := down, b.base[i]
			if up*(b.grad[i]+float32(curve*up)) < down*(b.grad[i]+float32(curve*down)) {
				d, v = up, v+1
			}
			to[(b.from+j)*b.k+c] = int32(v)
			for _, e := range cols[at+1:] {
				b.grad[e*b.n+j] += float32(d * l.second(b, c, e, j))
			}
		}
	}
}

// doubt is |2h−1| of column c and output j.
func (b *adamBlock) doubt(c, j int) float32 {
	h, _ := rectify(b.alpha[c*b.n+j], b.sigma[c*b.n+j])
	return max(2*h-1, 1-2*h)
}

// second is the second derivative by the weights c and e of output j.
func (l *lagged) second(b *adamBlock, c, e, j int) float32 {
	i := c*b.k + e
	if b.depthwise {
		i = i*b.n + j
	}
	return l.g[i] * float32(l.slope[c*b.n+j]*l.slope[e*b.n+j])
}
