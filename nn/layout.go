package nn

// Layout is the order of the elements in a buffer of a compiled program.
type Layout uint8

// Layouts. Shapes are always the logical ones (NCHW for images).
const (
	RowMajor Layout = iota // the logical order: NCHW for images
	NHWC                   // images with the channels innermost; only for rank 4
)

// String returns "row-major" or "NHWC".
func (l Layout) String() string {
	if l == NHWC {
		return "NHWC"
	}
	return "row-major"
}

// ToNCHW writes the images src, [n, h*w, c] in memory, to dst as [n, c, h*w]. The slices must not overlap.
func ToNCHW(dst, src []float32, n, c, hw int) {
	for i := range n {
		transpose(dst[i*c*hw:][:c*hw], hw, src[i*c*hw:][:c*hw], c, hw, c)
	}
}

// ToNHWC writes the images src, [n, c, h*w] in memory, to dst as [n, h*w, c]. The slices must not overlap.
func ToNHWC(dst, src []float32, n, c, hw int) {
	for i := range n {
		transpose(dst[i*c*hw:][:c*hw], c, src[i*c*hw:][:c*hw], hw, c, hw)
	}
}

// transpose sets dst[j*ldd+i] = src[i*lds+j] for i < rows and j < cols.
func transpose(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	switch {
	case rows == 3 && ldd == 3:
		a, b, c := src[:cols], src[lds:][:cols], src[2*lds:][:cols]
		for j := range a {
			d := dst[3*j:][:3]
			d[0], d[1], d[2] = a[j], b[j], c[j]
		}
		return
	case cols == 3 && lds == 3:
		a, b, c := dst[:rows], dst[ldd:][:rows], dst[2*ldd:][:rows]
		for i := range a {
			s := src[3*i:][:3]
			a[i], b[i], c[i] = s[0], s[1], s[2]
		}
		return
	}
	// Blocks keep the lines of both sides in the first-level cache.
	const block = 16
	for i0 := 0; i0 < rows; i0 += block {
		for j0 := 0; j0 < cols; j0 += block {
			transposeBlock(dst[j0*ldd+i0:], ldd, src[i0*lds+j0:], lds, min(block, rows-i0), min(block, cols-j0))
		}
	}
}

func transposeBlock(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	i := 0
	for ; i+4 <= rows; i += 4 {
		a, b := src[i*lds:][:cols], src[(i+1)*lds:][:cols]
		c, d := src[(i+2)*lds:][:cols], src[(i+3)*lds:][:cols]
		for j := range a {
			q := dst[j*ldd+i:][:4]
			q[0], q[1], q[2], q[3] = a[j], b[j], c[j], d[j]
		}
	}
	for ; i < rows; i++ {
		for j, v := range src[i*lds:][:cols] {
			dst[j*ldd+i] = v
		}
	}
}
