package adaround

import (
	"context"

	"roundel/asm"
)

// polish flips single weights, then pairs, while that lowers the true loss on the
// samples. columns is [K][P], rows padded to whole sums. A flip is evaluated exactly
// only if half the gradient of the true loss, with the share of active positions
// as its curvature, does not rule it out.
func (b *fastBlock) polish(ctx context.Context, g group, columns []float32) {
	b.predict(func(r *row) []float32 { return r.x })
	rows := make([]polishRow, b.outs)
	for j := range rows {
		rows[j] = newPolishRow(b.act[j], &b.kernels, b.p.Solve.P)
		for q := range b.p.Solve.P {
			rows[j].z[q] = b.z[q*b.n+j]
			rows[j].target(q, b.y[q*b.n+j])
		}
	}
	ones := make([]float32, padded(b.p.Solve.P))
	for q := range b.p.Solve.P {
		ones[q] = 1
	}
	for range polishSweeps {
		for j := range rows {
			if rows[j].done {
				continue
			}
			rows[j].slopes(b.z[j:], b.n)
			if b.center && rows[j].recenter(ones, &b.bias[j]) {
				rows[j].slopes(b.z[j:], b.n)
			}
		}
		b.gradients(nil)
		flips := 0
		for j := range rows {
			if ctx.Err() != nil {
				return
			}
			if !rows[j].done {
				n := b.polishRow(&rows[j], j, g.m, g.near, columns)
				rows[j].done = n == 0
				flips += n
			}
		}
		if flips == 0 {
			break
		}
	}
}

// padded is the length of an array over n positions that the sums of the kernels divide.
func padded(n int) int { return (n + asm.SumLanes - 1) / asm.SumLanes * asm.SumLanes }

// polishRow is one output's predictions during the polish. Arrays are padded with
// zeros, at which nothing changes.
type polishRow struct {
	act     scalar
	kernels *asm.Kernels
	count   int       // positions
	z       []float32 // predictions
	fy, fy2 []float32 // activated targets, and twice them
	grad    []float32 // half the derivative of the loss by z
	active  float32   // mean of f'(z)²
	done    bool
}

func newPolishRow(act scalar, kernels *asm.Kernels, positions int) polishRow {
	n := padded(positions)
	return polishRow{act: act, kernels: kernels, count: positions, z: make([]float32, n), fy: make([]float32, n),
		fy2: make([]float32, n), grad: make([]float32, n)}
}

func (r *polishRow) target(q int, y float32) {
	r.fy[q] = r.act.value(y)
	r.fy2[q] = 2 * r.fy[q]
}

// slopes sets half the derivative of the true loss by the prediction, (f(z) − f(y))·f'(z),
// and writes it to every stride-th element of dst.
func (r *polishRow) slopes(dst []float32, stride int) {
	var active float32
	if r.act.isClamp() {
		copy(r.grad, r.z)
		r.kernels.ClampGrad(r.grad, r.fy, r.act.lo, r.act.hi, 1)
		for _, z := range r.z[:r.count] {
			if z > r.act.lo && z < r.act.hi {
				active++
			}
		}
	} else {
		for q, z := range r.z[:r.count] {
			f, df := r.act.both(z)
			r.grad[q] = (f - r.fy[q]) * df
			active += float32(df * df)
		}
	}
	r.active = active / float32(r.count)
	if dst != nil {
		for q, g := range r.grad[:r.count] {
			dst[q*stride] = g
		}
	}
}

// recenter moves the bias by a step of Newton's method if that lowers the true loss.
func (r *polishRow) recenter(ones []float32, bias *float32) bool {
	if r.active == 0 {
		return false
	}
	var sum float64
	for _, g := range r.grad[:r.count] {
		sum += float64(g)
	}
	step := float32(-sum / (float64(r.count) * float64(r.active)))
	if !(r.change(ones, step) < 0) {
		return false
	}
	r.kernels.Axpy(r.z, ones, step)
	*bias += step
	return true
}

// change returns the change of the true loss, summed over the positions, when z moves by d·a.
func (r *polishRow) change(a []float32, d float32) float32 {
	if r.act.isClamp() {
		return r.kernels.ClampGain(r.z, r.fy2, a, d, r.act.lo, r.act.hi)
	}
	var sum float64
	for q, v := range a[:r.count] {
		if v != 0 {
			f0, f1 := r.act.value(r.z[q]), r.act.value(r.z[q]+float32(d*v))
			sum += float64(float32((f1 - f0) * ((f1 + f0) - r.fy2[q])))
		}
	}
	return float32(sum)
}

// loss returns the true loss, summed over the positions.
func (r *polishRow) loss() float64 {
	var sum float64
	for q, z := range r.z[:r.count] {
		e := r.act.value(z) - r.fy[q]
		sum += float64(float32(e * e))
	}
	return sum
}

// candidateShare of the estimated curvature must be outweighed by the slope before
// a flip is tried exactly: less than one, as the estimate is only local.
const candidateShare = 0.5

// polishRow tries the promising flips of row j in column order, pairs when no
// single one helps any more, and returns how many it made. Half the gradient is
// kept up to date with the estimated curvature.
func (b *fastBlock) polishRow(r *polishRow, j int, m *gram, near *neighbourhood, columns []float32) int {
	t := polishTry{polishRow: r, state: &b.rows[j], m: m, columns: columns, res: b.res[j*b.k : (j+1)*b.k]}
	flips := 0
	for c := range t.res {
		if t.estimate(c, candidateShare) < 0 && t.flip(c) {
			flips++
		}
	}
	if flips > 0 || near == nil {
		return flips
	}
	for c := range t.res {
		if partner := t.partner(c, near); partner >= 0 && t.flip(c, partner) {
			flips++
		}
	}
	return flips
}

// polishTry is the search for flips of one row.
type polishTry struct {
	*polishRow
	state   *row
	m       *gram
	columns []float32 // [K][P]
	res     []float32 // [K] half the gradient of the true loss, as a mean over positions
	sum     []float32 // [P] scratch
}

// estimate is the change of the loss by a flip of column c with a share of the local curvature.
func (t *polishTry) estimate(c int, share float32) float32 {
	return gain(t.state.step(c), t.res[c], share*t.active*t.m.diag[c])
}

// partner returns the column whose flip together with that of c promises most, or -1.
func (t *polishTry) partner(c int, near *neighbourhood) int {
	d := t.state.step(c)
	own := t.estimate(c, 1)
	if d == 0 || own >= 2*t.active*float32(d*d)*near.largest[c] {
		return -1
	}
	best, partner := float32(0), -1
	values := near.values[c*near.count:][:near.count]
	for at, j := range near.of(c) {
		e := t.state.step(int(j))
		if e == 0 {
			continue
		}
		both := own + t.estimate(int(j), 1) + float32(2*t.active*float32(d*e)*values[at])
		if both < best {
			best, partner = both, int(j)
		}
	}
	return partner
}

// flip flips the given columns together if that lowers the true loss.
func (t *polishTry) flip(cols ...int) bool {
	positions := len(t.z)
	a := t.columns[cols[0]*positions:][:positions]
	d := t.state.step(cols[0])
	if d == 0 {
		return false
	}
	if len(cols) > 1 {
		t.sum = append(t.sum[:0], a...)
		for _, c := range cols[1:] {
			t.kernels.Axpy(t.sum, t.columns[c*positions:][:positions], t.state.step(c)/d) // a factor of ±1
		}
		a = t.sum
	}
	var ridge float32
	for _, c := range cols {
		ridge += gain(t.state.step(c), float32(t.m.ridge*(t.state.x[c]-t.state.weight[c])), t.m.ridge)
	}
	if t.change(a, d)+float32(ridge*float32(t.count)) >= 0 {
		return false
	}
	t.kernels.Axpy(t.z, a, d)
	for _, c := range cols {
		t.kernels.Axpy(t.res, t.m.g[c*t.m.k:(c+1)*t.m.k], t.state.step(c)*t.active)
		t.state.set(c, !t.state.up[c])
	}
	return true
}
