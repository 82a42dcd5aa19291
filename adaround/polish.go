package adaround

import (
	"context"

	"roundel/asm"
)

// lanes is the number of partial sums of a true-loss difference, added at the end
// in a fixed order: wide enough for any vector unit.
const lanes = 16

// polish flips single weights while that lowers the true loss on the samples.
// columns is [K][P]. A flip is evaluated exactly if half the gradient of the true
// loss, with the share of active positions as its curvature, does not rule it out.
func (b *fastBlock) polish(ctx context.Context, m *gram, near *neighbourhood, columns []float32) {
	positions := b.p.Solve.P
	b.predict(func(r *row) []float32 { return r.x })
	rows := make([]polishRow, b.outs)
	for j := range rows {
		rows[j] = newPolishRow(b, j, positions)
	}
	for range polishSweeps {
		b.slopes(rows)
		b.gradients(nil)
		flips := 0
		for j := range rows {
			if ctx.Err() != nil {
				return
			}
			if !rows[j].done {
				n := b.polishRow(&rows[j], j, m, near, columns)
				rows[j].done = n == 0
				flips += n
			}
		}
		if flips == 0 {
			break
		}
	}
}

// polishRow is one output's predictions during the polish.
type polishRow struct {
	act    scalar
	z      []float32 // [P]
	fy     []float32 // [P] activated targets
	e      []float32 // [P] f(z) − f(y)
	active float32   // mean of f'(z)²
	done   bool
}

func newPolishRow(b *fastBlock, j, positions int) polishRow {
	r := polishRow{act: b.act[j]}
	r.z, r.fy, r.e = make([]float32, positions), make([]float32, positions), make([]float32, positions)
	for q := range positions {
		r.z[q] = b.z[q*b.n+j]
		r.fy[q] = r.act.value(b.y[q*b.n+j])
	}
	r.refresh()
	return r
}

// refresh sets the errors to those of the predictions.
func (r *polishRow) refresh() {
	for q, z := range r.z {
		r.e[q] = r.act.value(z) - r.fy[q]
	}
}

// slopes sets z to half the derivative of the true loss by the prediction, e·f'(z).
func (b *fastBlock) slopes(rows []polishRow) {
	for j := range rows {
		r := &rows[j]
		var active float32
		for q, z := range r.z {
			_, df := r.act.both(z)
			b.z[q*b.n+j] = r.e[q] * df
			active += float32(df * df)
		}
		r.active = active / float32(len(r.z))
	}
}

// candidateShare of the estimated curvature must be outweighed by the slope before
// a flip is tried exactly: less than one, as the estimate is only local.
const candidateShare = 0.5

// polishRow tries the promising flips of row j in column order, pairs when no
// single one helps any more, and returns how many it made. Half the gradient is
// kept up to date with the estimated curvature.
func (b *fastBlock) polishRow(r *polishRow, j int, m *gram, near *neighbourhood, columns []float32) int {
	t := polishTry{polishRow: r, state: &b.rows[j], m: m, columns: columns, res: b.res[j*b.k : (j+1)*b.k], kernels: &b.kernels}
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
	kernels *asm.Kernels
}

// estimate is the change of the loss by a flip of column c with a share of the local curvature.
func (t *polishTry) estimate(c int, share float32) float32 {
	return gain(t.state.step(c), t.res[c], share*t.active*t.m.g[c*t.m.k+c])
}

// partner returns the column whose flip together with that of c promises most, or -1.
func (t *polishTry) partner(c int, near *neighbourhood) int {
	d := t.state.step(c)
	own := t.estimate(c, 1)
	if d == 0 || own >= 2*t.active*float32(d*d)*near.largest[c] {
		return -1
	}
	best, partner := float32(0), -1
	for _, j := range near.of(c) {
		e := t.state.step(int(j))
		if e == 0 {
			continue
		}
		both := own + t.estimate(int(j), 1) + float32(2*t.active*float32(d*e)*t.m.g[c*t.m.k+int(j)])
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
		ridge += gain(t.state.step(c), t.m.ridge*(t.state.x[c]-t.state.weight[c]), t.m.ridge)
	}
	if t.change(a, d)+float32(ridge*float32(positions)) >= 0 {
		return false
	}
	t.move(a, d)
	for _, c := range cols {
		t.kernels.Axpy(t.res, t.m.g[c*t.m.k:(c+1)*t.m.k], t.state.step(c)*t.active)
		t.state.set(c, !t.state.up[c])
	}
	return true
}

// change returns the change of the true loss, summed over the positions, when z moves by d·a:
//
//	Σ_p (f(z_p + d·a_p) − fy_p)² − e_p²,  as (e' − e)(e' + e)
func (r *polishRow) change(a []float32, d float32) float32 {
	var sum [lanes]float32
	z, fy, e := r.z[:len(a)], r.fy[:len(a)], r.e[:len(a)]
	act := r.act
	if act.isClamp() {
		lo, hi := act.lo, act.hi
		for q, v := range a {
			t := z[q] + float32(d*v)
			if t < lo {
				t = lo
			}
			if t > hi {
				t = hi
			}
			t -= fy[q]
			sum[q%lanes] += float32((t - e[q]) * (t + e[q]))
		}
	} else {
		for q, v := range a {
			t := act.value(z[q]+float32(d*v)) - fy[q]
			sum[q%lanes] += float32((t - e[q]) * (t + e[q]))
		}
	}
	for w := lanes / 2; w > 0; w /= 2 {
		for i := range w {
			sum[i] += sum[i+w]
		}
	}
	return sum[0]
}

// move adds d·a to the predictions.
func (r *polishRow) move(a []float32, d float32) {
	for q, v := range a {
		r.z[q] += float32(d * v)
	}
	r.refresh()
}
