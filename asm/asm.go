package asm

import (
	"fmt"
	"os"
	"sync"
)

// Tile describes one call of a GEMM kernel: at most MR output rows by NR output
// columns. The assembly reads the fields by offset (see layout_test.go), so their
// order is fixed. All lengths, strides and offsets count elements.
type Tile struct {
	C    []float32 // output, row r at C[r*LDC:]
	A    []float32 // left operand
	B    []float32 // right operand
	Bias []float32 // Cols values added after the chain, or nil
	Taps []int     // offsets into A, ascending; GemmTN ignores them
	LDC  int
	LDA  int
	LDB  int
	K    int // steps per tap
	Rows int
	Cols int
	// Rows Split and above read A at a further offset of Skip, so that a tile may
	// cross the end of an image row. Without a split they are Rows and 0.
	Split int
	Skip  int
	Acc   int     // 1: the chain starts at C, 0: at zero
	Lo    float32 // the finished value is clamped to [Lo, Hi] (see Clamp)
	Hi    float32
	Ahead int // a hint for Gemm: step k prefetches B[Ahead+k*AheadStep:], which need not exist
}

// AheadStep is how many elements of the right operand of a later tile each step prefetches.
const AheadStep = 16

// DwTile describes one call of a depthwise kernel: Pix output pixels by N channels.
// The assembly reads the fields by offset.
type DwTile struct {
	Dst  []float32 // pixel p at Dst[p*LDD:]
	Src  []float32
	W    []float32
	Bias []float32 // N values or nil
	Taps []int     // pairs: offset into Src (after Off), offset into W
	LDD  int
	LDS  int // Depthwise: distance in Src between neighbouring output pixels; DepthwiseRow: input pixels
	Off  int // start in Src of output pixel 0; may be negative if nothing reads there
	N    int
	Pix  int
	Lo   float32
	Hi   float32
	// DepthwiseRow only.
	LDW   int // distance in W between neighbouring weights of a kernel row
	First int // input pixels [First, Last) of the window lie inside the image
	Last  int
}

type (
	tileFunc func(*Tile)
	dwFunc   func(*DwTile)
)

// Kernels is the table of one instruction set. The zero value is not usable; get
// one from Best, ByName or Available.
type Kernels struct {
	ISA   string // "generic", "avx2", "avx512", "neon"
	MR    int    // most rows of a GEMM tile
	NR    int    // most columns of a GEMM tile; the width of a full weight panel
	Lanes int    // panels are multiples of Lanes columns wide
	MP    int    // most pixels of a Depthwise tile
	MW    int    // most pixels of a DepthwiseRow tile
	// WideNR is the width of a wide panel, which takes the place of a full one and a
	// narrow one at the end; 0 if these kernels have none. Gemm multiplies it in tiles
	// of at most WideMR rows, GemmTN does not.
	WideNR, WideMR int
	// RowPanels is how many panels GemmRow multiplies by; 0 if these kernels have none.
	RowPanels int
	// SplitAt is the only row at which a tile may be split, or 0 if any will do.
	SplitAt int

	gemm   [][]tileFunc // [vectors-1][rows-1], the last may be for wide panels
	gemmTN [][]tileFunc
	// gemmPair, if any, is for tiles of more than Lanes and at most 1.5*Lanes columns.
	gemmPair []tileFunc // [rows-1]
	gemmRow  tileFunc
	dw       []dwFunc   // [pixels-1]
	dwRow    [][]dwFunc // [window][pixels-1], windows as in rowWindows
	dwMin    int        // fewest channels that dw and dwRow take; the generic ones do less

	winogradIn, winogradOut winogradFunc // see winograd.go

	addClamp func(dst, a, b []float32, lo, hi float32)
	larger   func(dst, a, b []float32)
	clamp    func(dst, src []float32, lo, hi float32)
	axpy     func(dst, x []float32, alpha float32)
	qdq      func(dst, src []float32, scale, zero, lo, hi float32)
	minMax   func(src []float32) (lo, hi float32)
	peak     func(n int)

	clampGain gainFunc // see rounding.go
	clampGrad func(z, y []float32, lo, hi, scale float32)
	roundStep stepFunc
	math      mathFuncs // see vecmath.go
	peakOps   int       // floating-point operations per round of peak
}

// Gemm computes one tile, for r < t.Rows and c < t.Cols:
//
//	s := 0, or C[r*LDC+c] if t.Acc == 1
//	for i, tap := range t.Taps { for k := range t.K {
//		s = fma(A[tap+r*LDA+skip(r)+k], B[(i*K+k)*LDB+c], s)
//	}}
//	C[r*LDC+c] = clamp(s+Bias[c], Lo, Hi)
//
// with skip(r) = Skip for r >= Split, else 0. Rows of B are read up to the next
// multiple of k.Lanes columns. It panics if an operand is too short.
func (k *Kernels) Gemm(t *Tile) {
	n, v := len(t.Taps), (t.Cols+k.Lanes-1)/k.Lanes
	if t.K <= 0 || n == 0 {
		gemmGeneric(t)
		return
	}
	last := t.Taps[n-1] + (t.Rows-1)*t.LDA + t.K
	if t.Split < t.Rows {
		last += t.Skip
		if k.SplitAt != 0 && t.Split != k.SplitAt {
			panic("asm: Gemm: these kernels cannot split there")
		}
	} else if t.Skip != 0 {
		panic("asm: Gemm: Skip without Split")
	}
	if t.Taps[0] < 0 || last > len(t.A) || (n*t.K-1)*t.LDB+v*k.Lanes > len(t.B) || !t.outputFits() {
		panic("asm: Gemm: operand too short")
	}
	if v == 2 && 2*t.Cols <= 3*k.Lanes && k.gemmPair != nil {
		k.gemmPair[t.Rows-1](t)
		return
	}
	k.gemm[v-1][t.Rows-1](t)
}

// GemmTN computes one tile of the product of two operands that both have k as the
// slow axis, for r < t.Rows and c < t.Cols:
//
//	s := 0, or C[r*LDC+c] if t.Acc == 1
//	for k := range t.K { s = fma(A[k*LDA+r], B[k*LDB+c], s) }
//	C[r*LDC+c] = s
//
// Rows of B are read up to the next multiple of k.Lanes columns. Bias, Taps, Split
// and the clamp are ignored. It panics if an operand is too short.
func (k *Kernels) GemmTN(t *Tile) {
	v := (t.Cols + k.Lanes - 1) / k.Lanes
	if t.K <= 0 {
		gemmTNGeneric(t)
		return
	}
	if (t.K-1)*t.LDA+t.Rows > len(t.A) || (t.K-1)*t.LDB+v*k.Lanes > len(t.B) || !t.outputFits() {
		panic("asm: GemmTN: operand too short")
	}
	k.gemmTN[v-1][t.Rows-1](t)
}

// GemmRow computes one row of RowPanels full panels, which begin LDA apart in B, for
// c < Cols = RowPanels*NR, p = c/NR:
//
//	s := 0, or C[c] if t.Acc == 1
//	for k := range t.K { s = fma(A[k], B[p*LDA+k*LDB+c%NR], s) }
//	C[c] = clamp(s+Bias[c], Lo, Hi)
//
// It is what Gemm does panel by panel, and faster, as there are enough chains to keep
// the units busy. K is at least 1; Rows, Taps and Split are ignored. It panics if an
// operand is too short.
func (k *Kernels) GemmRow(t *Tile) {
	if t.Cols != k.RowPanels*k.NR || t.K < 1 || t.K > len(t.A) || len(t.C) < t.Cols || t.Bias != nil && len(t.Bias) < t.Cols ||
		t.LDA < 0 || (k.RowPanels-1)*t.LDA+(t.K-1)*t.LDB+k.NR > len(t.B) {
		panic("asm: GemmRow: operand too short")
	}
	k.gemmRow(t)
}

func (t *Tile) outputFits() bool {
	return (t.Rows-1)*t.LDC+t.Cols <= len(t.C) && (t.Bias == nil || len(t.Bias) >= t.Cols)
}

// Depthwise computes one tile, for p < t.Pix and c < t.N:
//
//	s := 0
//	for (o, w) in Taps { s = fma(Src[Off+o+p*LDS+c], W[w+c], s) }
//	Dst[p*LDD+c] = clamp(s+Bias[c], Lo, Hi)
//
// Dst may be Src or W only if there is one tap, {0, 0}, with Off = 0 and LDS = LDD, and
// N is a multiple of 8: otherwise kernels without lane masks compute the last channels
// in two vectors that overlap, the second from what the first has written.
// It panics if an operand is too short.
func (k *Kernels) Depthwise(t *DwTile) {
	if t.N <= 0 {
		return
	}
	end := t.Off + (t.Pix-1)*t.LDS + t.N
	for i := 0; i+1 < len(t.Taps); i += 2 {
		if t.Off+t.Taps[i] < 0 || end+t.Taps[i] > len(t.Src) || t.Taps[i+1] < 0 || t.Taps[i+1]+t.N > len(t.W) {
			panic("asm: Depthwise: operand too short")
		}
	}
	if (t.Pix-1)*t.LDD+t.N > len(t.Dst) || (t.Bias != nil && len(t.Bias) < t.N) {
		panic("asm: Depthwise: operand too short")
	}
	if t.N < k.dwMin {
		dwGeneric(t)
		return
	}
	k.dw[t.Pix-1](t)
}

// rowWindows lists the kernel widths and strides of DepthwiseRow.
var rowWindows = [...]struct{ width, stride int }{{3, 1}, {3, 2}, {5, 1}, {5, 2}}

// HasRow reports whether DepthwiseRow knows a kernel width and stride.
func HasRow(width, stride int) bool { return rowWindow(width, stride) >= 0 }

func rowWindow(width, stride int) int {
	for i, w := range rowWindows {
		if w.width == width && w.stride == stride {
			return i
		}
	}
	return -1
}

// DepthwiseRow computes neighbouring pixels of one output row for a kernel of the
// given width (3 or 5) and column stride (1 or 2), for p < t.Pix and c < t.N:
//
//	s := 0
//	for (o, w) in Taps { for x := range width {
//		if i := p*stride+x; First <= i && i < Last {
//			s = fma(Src[Off+o+i*LDS+c], W[w+x*LDW+c], s)
//		}
//	}}
//	Dst[p*LDD+c] = clamp(s+Bias[c], Lo, Hi)
//
// Each input is loaded once per kernel row and used for all pixels it reaches. At most
// width-1 inputs may be outside on either side. It panics if not, or if an operand is
// too short.
func (k *Kernels) DepthwiseRow(t *DwTile, width, stride int) {
	if t.N <= 0 {
		return
	}
	inputs := (t.Pix-1)*stride + width
	if t.First < 0 || t.First > width-1 || t.Last > inputs || t.Last < inputs-width+1 || t.First >= t.Last {
		panic("asm: DepthwiseRow: too many inputs outside the image")
	}
	from, to := t.Off+t.First*t.LDS, t.Off+(t.Last-1)*t.LDS+t.N
	for i := 0; i+1 < len(t.Taps); i += 2 {
		if from+t.Taps[i] < 0 || to+t.Taps[i] > len(t.Src) || t.Taps[i+1] < 0 || t.Taps[i+1]+(width-1)*t.LDW+t.N > len(t.W) {
			panic("asm: DepthwiseRow: operand too short")
		}
	}
	if (t.Pix-1)*t.LDD+t.N > len(t.Dst) || (t.Bias != nil && len(t.Bias) < t.N) {
		panic("asm: DepthwiseRow: operand too short")
	}
	if t.N < k.dwMin {
		dwRowGeneric(t, width, stride)
		return
	}
	k.dwRow[rowWindow(width, stride)][t.Pix-1](t)
}

// AddClamp sets dst[i] = clamp(a[i]+b[i], lo, hi). dst may be a or b. It panics if
// a or b is shorter than dst.
func (k *Kernels) AddClamp(dst, a, b []float32, lo, hi float32) {
	k.addClamp(dst, a[:len(dst)], b[:len(dst)], lo, hi)
}

// Max sets dst[i] = b[i] if b[i] > a[i], else a[i]: a NaN in b is skipped, one in a
// stays. dst may be a or b. It panics if a or b is shorter than dst.
func (k *Kernels) Max(dst, a, b []float32) {
	k.larger(dst, a[:len(dst)], b[:len(dst)])
}

// Clamp sets dst[i] = lo if src[i] < lo, hi if src[i] > hi, else src[i]: a NaN and
// the sign of zero pass through. dst may be src. It panics if src is shorter than dst.
func (k *Kernels) Clamp(dst, src []float32, lo, hi float32) {
	k.clamp(dst, src[:len(dst)], lo, hi)
}

// Axpy sets dst[i] = fma(alpha, x[i], dst[i]), rounded once. It panics if x is
// shorter than dst.
func (k *Kernels) Axpy(dst, x []float32, alpha float32) {
	k.axpy(dst, x[:len(dst)], alpha)
}

// QuantDequant sets dst[i] = (clamp(rne(src[i]/scale)+zero, lo, hi) - zero) * scale,
// each operation rounded to float32, rne to the nearest integer with halves to even.
// A NaN stays a NaN. dst may be src. It panics if src is shorter than dst.
func (k *Kernels) QuantDequant(dst, src []float32, scale, zero, lo, hi float32) {
	k.qdq(dst, src[:len(dst)], scale, zero, lo, hi)
}

// MinMax returns the smallest and the largest value of src, skipping NaNs; zeros
// are reported as +0. Without any number it returns (+Inf, -Inf).
func (k *Kernels) MinMax(src []float32) (lo, hi float32) {
	lo, hi = k.minMax(src)
	return lo + 0, hi + 0 // -0 + 0 = +0: which zero came first must not show
}

// Peak runs n rounds of independent fused multiply-adds on registers alone and
// returns their number of floating-point operations: the ceiling of this table.
func (k *Kernels) Peak(n int) (flops float64) {
	k.peak(n)
	return float64(n) * float64(k.peakOps)
}

// Available returns all tables this machine can run, generic first, best last.
func Available() []Kernels { return withMath(withRounding(available())) }

// ByName returns the table of the named instruction set, or an error that lists
// those this machine can run.
func ByName(isa string) (Kernels, error) {
	var names []string
	for _, k := range Available() {
		if k.ISA == isa {
			return k, nil
		}
		names = append(names, k.ISA)
	}
	return Kernels{}, fmt.Errorf("asm: no instruction set %q on this machine; have %v", isa, names)
}

// Best returns the best table of this machine, or the one that ROUNDEL_ISA names;
// a name that is not available is ignored (ByName reports it).
func Best() Kernels { return best() }

var best = sync.OnceValue(func() Kernels {
	if k, err := ByName(os.Getenv("ROUNDEL_ISA")); err == nil {
		return k
	}
	all := Available()
	return all[len(all)-1]
})
