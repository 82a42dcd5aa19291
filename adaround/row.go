package adaround

import (
	"math/bits"

	"roundel/asm"
	"roundel/tensor"
)

// row is the state of one output while it is being rounded.
type row struct {
	weight []float32 // [K] float weights
	scale  float32
	down   []int32   // [K] lower admissible code
	free   []bool    // [K] whether the upper one, down+1, is admissible too
	up     []bool    // [K] whether it is chosen
	x      []float32 // [K] scale·code
	loss   float64   // true loss of the codes in best, a sum over positions
	best   []bool    // [K] choice with the lowest true loss so far
	done   bool

	bestBias float32 // bias that goes with best
}

func newRow(p *Problem, o int, scale float32) row {
	w := p.Weight[o*p.K : (o+1)*p.K]
	r := row{weight: w, scale: scale, down: make([]int32, p.K), free: make([]bool, p.K),
		up: make([]bool, p.K), best: make([]bool, p.K), x: make([]float32, p.K)}
	for k, v := range w {
		down, up := p.neighbours(v, scale, o)
		r.down[k], r.free[k] = down, up != down
		r.set(k, r.free[k] && p.nearest(v, scale, o) == up)
	}
	return r
}

// set chooses the upper or lower code of column k.
func (r *row) set(k int, up bool) {
	r.up[k] = up
	v := r.down[k]
	if up {
		v++
	}
	r.x[k] = r.scale * float32(v)
}

// choose sets column k to the admissible value nearer to target.
func (r *row) choose(k int, target float32) {
	middle := r.scale * (float32(r.down[k]) + 0.5)
	r.set(k, r.free[k] && target > middle)
}

// step returns the change of x_k by a flip: ±scale, or 0 when there is no choice.
func (r *row) step(k int) float32 {
	switch {
	case !r.free[k]:
		return 0
	case r.up[k]:
		return -r.scale
	}
	return r.scale
}

func (r *row) code(k int) int32 {
	if r.up[k] {
		return r.down[k] + 1
	}
	return r.down[k]
}

// keep remembers the present choice if its true loss is the lowest so far, and reports whether it is.
func (r *row) keep(loss float64, first bool) bool {
	if !first && !(loss < r.loss) {
		return false
	}
	r.loss = loss
	copy(r.best, r.up)
	return true
}

// restore returns to the best choice.
func (r *row) restore() {
	for k, up := range r.best {
		if up != r.up[k] {
			r.set(k, up)
		}
	}
}

// gain is the change of the quadratic surrogate when x_k moves by d and half its gradient is res.
func gain(d, res, diag float32) float32 {
	return float32(d * (float32(float32(res)*2) + float32(d*diag)))
}

const (
	maxSweeps    = 50
	maxPairRound = 20
)

// minimize lowers the surrogate: to its minimum over all choices when few weights
// have one, else by descent. res is half the gradient at x, G(x − x0); descent keeps
// it up to date. It reports whether anything changed.
func (r *row) minimize(m *gram, near *neighbourhood, res []float32, k *asm.Kernels) bool {
	if len(r.x) > enumerateUpTo {
		return r.descend(m, near, res, k)
	}
	var free []int
	for i, f := range r.free {
		if f {
			free = append(free, i)
		}
	}
	best := r.enumerate(m, res, free)
	for i, k := range free {
		if best>>i&1 == 1 {
			r.set(k, !r.up[k])
		}
	}
	return best != 0
}

// enumerate visits all choices of the free columns in Gray-code order, one flip
// apart, and returns the set of flips that lowers the surrogate most.
func (r *row) enumerate(m *gram, res []float32, free []int) (best int) {
	n := len(free)
	grad, step, g := make([]float64, n), make([]float64, n), make([]float64, n*n)
	for i, k := range free {
		grad[i], step[i] = float64(res[k]), float64(r.step(k))
		for j, l := range free {
			g[i*n+j] = float64(m.g[k*m.k+l])
		}
	}
	flips, value, lowest := 0, 0.0, 0.0
	for i := 1; i < 1<<n; i++ {
		bit := bits.TrailingZeros(uint(i))
		d := step[bit]
		value += float64(d * (float64(2*grad[bit]) + float64(d*g[bit*n+bit])))
		for j, v := range g[bit*n : (bit+1)*n] {
			grad[j] += float64(d * v)
		}
		step[bit] = -d
		flips ^= 1 << bit
		if value < lowest-float64(float64(1e-9*float64(d*d))*g[bit*n+bit]) {
			lowest, best = value, flips
		}
	}
	return best
}

// descend lowers the surrogate by flips and pairs of flips until none helps. res is
// half the gradient at x, G(x − x0); it is kept up to date. It reports whether anything changed.
func (r *row) descend(m *gram, near *neighbourhood, res []float32, k *asm.Kernels) bool {
	changed := false
	for range maxPairRound {
		if r.sweep(m, res, k) {
			changed = true
		}
		if near == nil || !r.pairs(m, near, res, k) {
			break
		}
		changed = true
	}
	return changed
}

// sweep flips single weights in column order while that lowers the surrogate.
func (r *row) sweep(m *gram, res []float32, k *asm.Kernels) bool {
	changed := false
	for range maxSweeps {
		flips := 0
		for i := range r.x {
			d := r.step(i)
			diag := m.diag[i]
			if d != 0 && gain(d, res[i], diag) < -1e-6*float32(d*d)*diag {
				r.flip(i, d, m, res, k)
				flips++
			}
		}
		if flips == 0 {
			break
		}
		changed = true
	}
	return changed
}

// flip moves x_i by d and updates res.
func (r *row) flip(i int, d float32, m *gram, res []float32, k *asm.Kernels) {
	k.Axpy(res, m.g[i*m.k:(i+1)*m.k], d)
	r.set(i, !r.up[i])
}

// pairs flips two weights at once where that helps though neither flip does alone:
// gain_i + gain_j + 2·G_ij·d_i·d_j < 0. Partners are the most correlated columns.
// All steps of a row have the same size, and |G_ij| falls along the partners, so that the
// least gain of all columns bounds what the rest of them can give; rounding is monotonic, and the bound is exact.
func (r *row) pairs(m *gram, near *neighbourhood, res []float32, k *asm.Kernels) bool {
	changed := false
	gains := make([]float32, len(r.x))
	least := r.gains(gains, m, res)
	for i := range r.x {
		d := r.step(i)
		if d == 0 {
			continue
		}
		own, square := gains[i], 2*float32(d*d)
		if own >= square*near.largest[i] {
			continue // no partner can make up for it: every other gain is at least zero
		}
		bestGain, partner := -1e-6*float32(d*d)*m.diag[i], -1
		values := near.values[i*near.count:][:near.count]
		for at, j := range near.of(i) {
			g := values[at]
			if !(own+least-float32(square*max(g, -g)) < bestGain) {
				break
			}
			both := own + gains[j] + float32(2*float32(d*r.step(int(j)))*g)
			if both < bestGain {
				bestGain, partner = both, int(j)
			}
		}
		if partner >= 0 {
			e := r.step(partner)
			r.flip(i, d, m, res, k)
			r.flip(partner, e, m, res, k)
			least = r.gains(gains, m, res)
			changed = true
		}
	}
	return changed
}

// gains sets dst to the gain of every flip, +Inf where there is no choice, and returns the least.
func (r *row) gains(dst []float32, m *gram, res []float32) float32 {
	least := posInf
	for i := range dst {
		dst[i] = posInf
		if d := r.step(i); d != 0 {
			dst[i] = gain(d, res[i], m.diag[i])
			least = min(least, dst[i])
		}
	}
	return least
}

// neighbourhood lists, for every column, the columns that correlate most with it.
type neighbourhood struct {
	count   int
	index   []int32   // [K][count]
	values  []float32 // [K][count] G_ij of these
	largest []float32 // [K] largest |G_ij|, j ≠ i
}

// pairPartners is how many partners of a column a pair move tries.
const pairPartners = 64

func newNeighbourhood(m *gram, pool *tensor.Pool) *neighbourhood {
	n := &neighbourhood{count: min(pairPartners, m.k-1), largest: make([]float32, m.k)}
	n.index, n.values = make([]int32, m.k*n.count), make([]float32, m.k*n.count)
	const chunk = 16
	pool.For((m.k+chunk-1)/chunk, func(_, c int) {
		for i := c * chunk; i < min((c+1)*chunk, m.k); i++ {
			n.fill(m, i)
		}
	})
	return n
}

// fill finds the partners of column i, by falling |G_ij|, equal ones in column order.
func (n *neighbourhood) fill(m *gram, i int) {
	if n.count == 0 {
		return
	}
	list, size := n.of(i), 0
	values := make([]float32, n.count)
	for j, g := range m.g[i*m.k : (i+1)*m.k] {
		g = max(g, -g)
		if j == i || size == n.count && g <= values[size-1] {
			continue
		}
		size = min(size+1, n.count)
		at := size - 1
		for ; at > 0 && values[at-1] < g; at-- {
			values[at], list[at] = values[at-1], list[at-1]
		}
		values[at], list[at] = g, int32(j)
	}
	n.largest[i] = values[0]
	for at, j := range list {
		n.values[i*n.count+at] = m.g[i*m.k+int(j)]
	}
}

func (n *neighbourhood) of(i int) []int32 { return n.index[i*n.count : (i+1)*n.count] }
