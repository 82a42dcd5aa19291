package adaround

// Rounding with error feedback (Babai's nearest plane, the order of GPTQ): with
// x = w + e the quadratic surrogate is e'He + 2r'e = ‖L'e + u‖² + const for
// H = LL' and u = L⁻¹r, where r is half its gradient at the float weight. L' is
// upper triangular, so columns are decided from the last to the first, each
// cancelling what the decisions before it and u leave in its own row:
//
//	e_i = −(u_i + Σ_{j>i} L_ji e_j)/L_ii, rounded to one of the two neighbours.

// rest sets u to L⁻¹r for all rows of the block. r and u are [outs][K].
func (b *fastBlock) rest(f *factor, u, r []float32) {
	k := b.k
	coef := make([]float32, b.outs*panelWidth)
	for o := range b.outs {
		for i, c := range f.order {
			u[o*k+i] = r[o*k+c]
		}
	}
	for j := 0; j < k && !b.pool.Stopped(); j += panelWidth {
		w := min(panelWidth, k-j)
		for o := range b.outs {
			substitute(f, u[o*k:(o+1)*k], coef[o*panelWidth:], j, w)
		}
		f.spread(u, coef, b.outs, j, w, j+w, k, &b.kernels)
	}
}

// feedback chooses codes for all rows of the block and returns the values that the
// surrogate takes there, up to a constant of each row. u is what rest gives, and is overwritten.
func (b *fastBlock) feedback(f *factor, u []float32) []float64 {
	k := b.k
	loss := make([]float64, b.outs)
	coef := make([]float32, b.outs*panelWidth)
	for j := (k - 1) / panelWidth * panelWidth; j >= 0 && !b.pool.Stopped(); j -= panelWidth {
		w := min(panelWidth, k-j)
		for o := range b.outs {
			loss[o] += b.decide(f, o, u[o*k:(o+1)*k], coef[o*panelWidth:], j, w)
		}
		f.spread(u, coef, b.outs, j, w, 0, j, &b.kernels)
	}
	return loss
}

// substitute solves the w×w triangle at (j, j) for one row and leaves −u in coef.
func substitute(f *factor, acc, coef []float32, j, w int) {
	for i := j; i < j+w; i++ {
		s := acc[i]
		for t, v := range f.l[i*f.k+j : i*f.k+i] {
			s -= float32(v * acc[j+t])
		}
		acc[i] = s / f.l[i*f.k+i]
		coef[i-j] = -acc[i]
	}
}

// decide rounds the columns [j, j+w) of row o from the last to the first, leaves e
// in coef, and returns the sum of the squares (L'e + u)_i.
func (b *fastBlock) decide(f *factor, o int, acc, coef []float32, j, w int) (loss float64) {
	row := &b.rows[o]
	for i := j + w - 1; i >= j; i-- {
		c := f.order[i]
		s := acc[i]
		left := coef[i+1-j : w]
		for t, v := range f.l[i*f.k+i+1:][:len(left)] { // of L', which lies above the diagonal
			s += float32(v * left[t])
		}
		diag := f.l[i*f.k+i]
		row.choose(c, row.weight[c]-s/diag)
		coef[i-j] = row.x[c] - row.weight[c]
		rest := s + float32(diag*coef[i-j])
		loss += float64(float32(rest * rest))
	}
	return loss
}
