package tensor

import "roundel/asm"

const (
	// Rows this many floats (4 KiB) apart fall into the same set of the L1 cache,
	// which then holds only a few of them.
	setStride = 1024
	stripPad  = 16 // added to the rows of a copy so that they do not
	// A right operand is read in place if a tile's columns use at most this share of
	// the time: packing costs more than it gains when there are few rows.
	inPlaceTiles = 16
)

// bindB makes panels of a right operand that is not packed: in place if packing would
// cost more than it gains, otherwise in scratch.
func (j *gemmJob) bindB(b []float32, ldb int, trans bool) {
	if !trans && ldb%(setStride/4) != 0 && j.m <= inPlaceTiles*j.k.MR {
		j.bindInPlace(b, ldb)
		return
	}
	j.scratch = j.p.borrow(packedLen(&j.k, j.depth, j.n))
	if j.tn {
		j.k.WideNR = 0
	}
	j.panels = appendPanels(j.panels, &j.k, j.scratch, j.depth, j.n, 0)
	for _, pn := range j.panels {
		if trans {
			packCols(pn, b, ldb, pn.col, j.depth)
		} else {
			packRows(pn, b, ldb, pn.col, j.depth)
		}
	}
}

// bindInPlace makes panels that read b where it is. The columns that pad the last one
// come from whatever follows them; the kernels do not store what they yield.
func (j *gemmJob) bindInPlace(b []float32, ldb int) {
	for c := 0; c < j.n; c += j.k.NR {
		pn := panel{b: b[min(c, len(b)):], ld: ldb, col: c, cols: min(j.k.NR, j.n-c)}
		width := panelWidth(&j.k, pn.cols)
		if over := (j.depth-1)*ldb + c + width - len(b); over > 0 && j.depth > 0 {
			pn.last, pn.endLD = min((over+ldb-1)/ldb, j.depth), width
			j.scratch = j.p.borrow(pn.last * width) // only the last panel comes here
			pn.end = j.scratch
			tail := panel{b: pn.end, ld: width, cols: pn.cols}
			packRows(tail, b[(j.depth-pn.last)*ldb:], ldb, c, pn.last)
		}
		j.panels = append(j.panels, pn)
	}
}

// collides reports whether rows of the left operand fall into the same cache set.
func (j *gemmJob) collides() bool { return j.lda%setStride == 0 && j.m > 1 }

// stripLen returns the length of the copy of a block of rows, 0 where they are read in place.
func (j *gemmJob) stripLen() int {
	if !j.collides() || len(j.panels) < 2 {
		return 0
	}
	return (j.rowsPer + 2*stripPad) * (j.depthPer + 2*stripPad)
}

// left points t at rows [row, end) and steps [k0, k1) of the left operand, which it
// copies into strip if there is one.
func (j *gemmJob) left(t *asm.Tile, strip []float32, row, end, k0, k1 int) []float32 {
	t.LDA = j.lda
	if j.depth == 0 {
		return nil
	}
	from, lines, width := row*j.lda+k0, end-row, k1-k0
	if j.tn {
		from, lines, width = k0*j.lda+row, k1-k0, end-row
	}
	if strip == nil {
		return j.a[from:]
	}
	t.LDA = width + stripPad
	if t.LDA%setStride == 0 {
		t.LDA += stripPad
	}
	for i := range lines {
		copy(strip[i*t.LDA:][:width], j.a[from+i*j.lda:])
	}
	return strip
}
