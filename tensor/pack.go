package tensor

import "roundel/asm"

// panel is a strip of columns of the right operand, at most NR or WideNR of them, the
// unit that a GEMM kernel multiplies by. Row k of it starts at b[k*ld].
//
// A panel that is read in place may end closer to the end of the operand than a
// kernel reads: then its last rows have a copy at end.
type panel struct {
	b         []float32
	ld        int
	col, cols int // the output columns it makes
	last      int // number of rows at end
	end       []float32
	endLD     int
	next      int // distance to the next panel in the same buffer, 0 for none
}

// ahead returns what t should prefetch when it is one of the given number of tiles
// against the panel, with left of them to come: the last ones share the next panel
// among them, so that it comes from L3 at an even pace.
func (pn *panel) ahead(t *asm.Tile, left, tiles int) int {
	need := (pn.ld + asm.AheadStep - 1) / asm.AheadStep
	part := min(tiles, need) - 1 - left
	if part < 0 || pn.next == 0 {
		return 0
	}
	return pn.next + part*t.K*len(t.Taps)*asm.AheadStep
}

// rows returns the most rows of a tile against the panel.
func (pn *panel) rows(k *asm.Kernels) int {
	if pn.cols > k.NR {
		return k.WideMR
	}
	return k.MR
}

// panelWidth returns cols rounded up to the lanes of k: the width a panel is stored in.
func panelWidth(k *asm.Kernels, cols int) int {
	return (cols + k.Lanes - 1) / k.Lanes * k.Lanes
}

// packedLen returns the floats that n columns of depth rows take when packed.
func packedLen(k *asm.Kernels, depth, n int) int {
	full, tail := n/k.NR, n%k.NR
	return depth * (full*k.NR + panelWidth(k, tail))
}

// appendPanels lays n columns of the given depth out in buf, which has packedLen
// elements, as full panels and a narrower or wider last one. It fills nothing in.
func appendPanels(ps []panel, k *asm.Kernels, buf []float32, depth, n, col int) []panel {
	for c, cols := 0, 0; c < n; c += cols {
		cols = min(k.NR, n-c)
		if n-c <= k.WideNR {
			cols = n - c
		}
		w := panelWidth(k, cols)
		ps = append(ps, panel{b: buf[:depth*w], ld: w, col: col + c, cols: cols, next: depth * w})
		buf = buf[depth*w:]
	}
	return ps
}

// packRows copies columns [col, col+cols) of b, rows ldb apart, into pn and zeroes
// the columns that pad it.
func packRows(pn panel, b []float32, ldb, col, depth int) {
	for k := range depth {
		row := pn.b[k*pn.ld:][:pn.ld]
		copy(row, b[k*ldb+col:][:pn.cols])
		clear(row[pn.cols:])
	}
}

// packCols fills pn with the transpose of rows [col, col+cols) of b: column j of the
// panel is row col+j of b.
func packCols(pn panel, b []float32, ldb, col, depth int) {
	j := 0
	for ; j+4 <= pn.cols; j += 4 {
		r0, r1 := b[(col+j)*ldb:][:depth], b[(col+j+1)*ldb:][:depth]
		r2, r3 := b[(col+j+2)*ldb:][:depth], b[(col+j+3)*ldb:][:depth]
		for k, v := range r0 {
			d := pn.b[k*pn.ld+j:][:4]
			d[0], d[1], d[2], d[3] = v, r1[k], r2[k], r3[k]
		}
	}
	for ; j < pn.cols; j++ {
		for k, v := range b[(col+j)*ldb:][:depth] {
			pn.b[k*pn.ld+j] = v
		}
	}
	if pn.cols < pn.ld {
		for k := range depth {
			clear(pn.b[k*pn.ld+pn.cols:][:pn.ld-pn.cols])
		}
	}
}
