package adaround

import (
	"cmp"
	"math"
	"slices"

	"roundel/asm"
	"roundel/tensor"
)

// gram is the second-moment matrix of one group's columns, shared by its outputs:
// without activation, the loss of an output is x'Gx − 2c'x + const.
type gram struct {
	k     int
	g     []float32 // [K][K] G = A'A/P + ridge·I
	diag  []float32 // [K] its diagonal, beside each other
	means []float32 // [K] of the columns, when they are taken out
	mean  float32   // of the diagonal, without the ridge
	ridge float32   // pull towards the float weight
}

// dampingShare is added to the diagonal of the factor that orders the start, as a share of the mean diagonal of G.
const dampingShare = 1e-2

// newGram accumulates the columns a, [P][K]; center takes their means out, which
// is what remains of the loss when the bias is free.
func newGram(a []float32, k int, center bool, pool *tensor.Pool) *gram {
	m := &gram{k: k, g: make([]float32, k*k)}
	rows := len(a) / k
	tensor.Gram(m.g, k, a, k, k, rows, false, pool)
	if center {
		m.means = columnMeans(a, k, pool)
	}
	scale := 1 / float32(rows)
	pool.For(k, func(_, i int) {
		row := m.g[i*k:][:k]
		for j := range row {
			row[j] *= scale
		}
		if center {
			for j, mean := range m.means {
				row[j] -= float32(m.means[i] * mean)
			}
		}
	})
	m.measure()
	return m
}

// columnMeans returns the mean of each column of a, [P][K].
func columnMeans(a []float32, k int, pool *tensor.Pool) []float32 {
	const chunk = 64
	mean := make([]float32, k)
	pool.For((k+chunk-1)/chunk, func(_, i int) {
		var sum [chunk]float64
		from, to := i*chunk, min((i+1)*chunk, k)
		for rows := a; len(rows) > 0; rows = rows[k:] {
			for c, v := range rows[from:to] {
				sum[c] += float64(v)
			}
		}
		for c := from; c < to; c++ {
			mean[c] = float32(sum[c-from] / float64(len(a)/k))
		}
	})
	return mean
}

// measure sets the mean of the diagonal.
func (m *gram) measure() {
	var trace float64
	m.diag = make([]float32, m.k)
	for i := range m.k {
		m.diag[i] = m.g[i*m.k+i]
		trace += float64(m.diag[i])
	}
	m.mean = float32(trace / float64(m.k))
}

// setRidge changes the ridge to a share of the mean diagonal. When no column is ever
// used any rounding is as good: then it rounds to nearest.
func (m *gram) setRidge(share float32) {
	ridge := share * m.mean
	if m.mean == 0 {
		ridge = 1
	}
	for i := range m.k {
		m.diag[i] += ridge - m.ridge
		m.g[i*m.k+i] = m.diag[i]
	}
	m.ridge = ridge
}

// factor is the Cholesky factor of the damped Gram matrix in an order of its own.
type factor struct {
	k     int
	order []int     // position -> column, by rising G_kk: the start decides from the last to the first
	l     []float32 // [K][K] L below and on the diagonal, L' above; a few elements longer
}

// panelWidth is how many columns the factorisation and the substitutions treat at a time.
const panelWidth = 64

// newFactor orders and factors m: H = G + damping·I = LL'.
func newFactor(m *gram, pool *tensor.Pool) *factor {
	k := m.k
	kernels := pool.Kernels()
	f := &factor{k: k, order: byDiagonal(m), l: make([]float32, k*k+kernels.NR)}
	damping := float32(dampingShare*m.mean) + float32(1e-6*m.ridge)
	pool.For(k, func(_, i int) {
		row := m.g[f.order[i]*k:][:k]
		for j, c := range f.order[:i+1] {
			f.l[i*k+j] = row[c]
		}
		f.l[i*k+i] += damping
	})
	for j := 0; j < k && !pool.Stopped(); j += panelWidth {
		w := min(panelWidth, k-j)
		f.factorDiagonal(j, w, damping)
		f.solvePanel(j, w, pool)
		f.updateTrailing(j, w, pool)
	}
	pool.For(k, func(_, i int) {
		for j := i + 1; j < k; j++ {
			f.l[i*k+j] = f.l[j*k+i]
		}
	})
	return f
}

// byDiagonal returns the columns by rising diagonal of G, equal ones in reverse order.
func byDiagonal(m *gram) []int {
	order := make([]int, m.k)
	for i := range order {
		order[i] = m.k - 1 - i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(m.g[a*m.k+a], m.g[b*m.k+b]) })
	return order
}

// factorDiagonal factors the w×w block at (j, j).
func (f *factor) factorDiagonal(j, w int, floor float32) {
	for c := j; c < j+w; c++ {
		row := f.l[c*f.k+j : c*f.k+c]
		d := f.l[c*f.k+c]
		for _, v := range row {
			d -= float32(v * v)
		}
		if !(d > floor*1e-3) { // rounding noise on columns that depend on others
			d = floor
		}
		pivot := float32(math.Sqrt(float64(d)))
		f.l[c*f.k+c] = pivot
		for i := c + 1; i < j+w; i++ {
			below := f.l[i*f.k+j : i*f.k+c+1]
			s := below[len(row)]
			for t, v := range row {
				s -= float32(v * below[t])
			}
			below[len(row)] = s / pivot
		}
	}
}

// solvePanel finishes the rows below the diagonal block: L_i = H_i·L_jj^-T.
func (f *factor) solvePanel(j, w int, pool *tensor.Pool) {
	const chunk = 32
	first := j + w
	pool.For((f.k-first+chunk-1)/chunk, func(_, n int) {
		for i := first + n*chunk; i < min(first+(n+1)*chunk, f.k); i++ {
			row := f.l[i*f.k+j:][:w]
			for c := range w {
				diag := f.l[(j+c)*f.k+j:][:c+1]
				s := row[c]
				for t, v := range diag[:c] {
					s -= float32(v * row[t])
				}
				row[c] = s / diag[c]
			}
		}
	})
}

// updateTrailing subtracts the panel's outer product from the columns to its right.
func (f *factor) updateTrailing(j, w int, pool *tensor.Pool) {
	const tile = 256
	first := j + w
	if first >= f.k {
		return
	}
	minus := make([]float32, (f.k-first)*w)
	for i := first; i < f.k; i++ {
		for t, v := range f.l[i*f.k+j:][:w] {
			minus[(i-first)*w+t] = -v
		}
	}
	for c := first; c < f.k; c += tile {
		n := min(tile, f.k-c)
		tensor.Gemm(f.l[c*f.k+c:], f.k, minus[(c-first)*w:], w, f.l[c*f.k+j:], f.k, f.k-c, n, w, false, true, true, pool)
	}
}

// spread adds coef[r][t]·M[j+t][c] to acc[r][c] for the w rows of L (or of L', above
// the diagonal) from j on and the columns [from, to). acc has rows of K elements, coef of panelWidth.
func (f *factor) spread(acc, coef []float32, rows, j, w, from, to int, kernels *asm.Kernels) {
	t := asm.Tile{LDC: f.k, LDA: panelWidth, LDB: f.k, Taps: zeroTap, K: w, Acc: 1, Lo: negInf, Hi: posInf}
	for c := from; c < to; c += kernels.NR {
		t.Cols, t.B = min(kernels.NR, to-c), f.l[j*f.k+c:]
		for r := 0; r < rows; r += kernels.MR {
			t.Rows = min(kernels.MR, rows-r)
			t.Split = t.Rows
			t.C, t.A = acc[r*f.k+c:], coef[r*panelWidth:]
			kernels.Gemm(&t)
		}
	}
}
