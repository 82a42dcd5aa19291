package asm

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// forEachISA runs body once for each kernel table of this machine.
func forEachISA(t *testing.T, body func(t *testing.T, k *Kernels)) {
	t.Helper()
	for _, k := range Available() {
		t.Run("isa="+k.ISA, func(t *testing.T) { body(t, &k) })
	}
}

// TestRequiredISA fails on a machine that lacks what ROUNDEL_REQUIRE_ISA lists, so
// that a capable CI machine cannot skip silently.
func TestRequiredISA(t *testing.T) {
	for _, isa := range strings.FieldsFunc(os.Getenv("ROUNDEL_REQUIRE_ISA"), func(r rune) bool { return r == ',' }) {
		if _, err := ByName(isa); err != nil {
			t.Error(err)
		}
	}
}

func TestByName(t *testing.T) {
	if k, err := ByName("generic"); err != nil || k.ISA != "generic" {
		t.Errorf("ByName(generic) = %q, %v", k.ISA, err)
	}
	if _, err := ByName("abacus"); err == nil || !strings.Contains(err.Error(), "generic") {
		t.Errorf("ByName(abacus): error %v does not list what there is", err)
	}
	if want := os.Getenv("ROUNDEL_ISA"); want != "" {
		if _, err := ByName(want); err == nil && Best().ISA != want {
			t.Errorf("ROUNDEL_ISA=%s, but Best is %s", want, Best().ISA)
		}
	}
}

// specials are the values at which kernels go wrong first.
var specials = []float32{0, float32(math.Copysign(0, -1)), 1, -1, 0.5, -0.5, 1.5, 2.5, -3.5,
	math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32,
	0x1p-126, 0x1p-127, 0x1.fffffep-127, 0x1.fffffep-1, 8388607.5, 1 << 23, 1<<24 + 2,
	float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN())}

// values returns n numbers; about one in odds of them is special (never if 0).
func values(r *rand.Rand, n, odds int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(r.NormFloat64())
		if odds > 0 && r.IntN(odds) == 0 {
			s[i] = specials[r.IntN(len(specials))]
		}
	}
	return s
}

// equal reports whether a and b have the same bits or are both NaN.
func equal(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

func compare(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if !equal(got[i], want[i]) {
			t.Fatalf("%s: element %d is %v (%08x), want %v (%08x)", what, i, got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

// TestFMA compares with exact arithmetic, most of all near midpoints and in the
// subnormal range, where rounding twice would show.
func TestFMA(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	check := func(a, b, c float32) {
		t.Helper()
		exact := new(big.Float).SetPrec(2000).Mul(big.NewFloat(float64(a)), big.NewFloat(float64(b)))
		exact.SetPrec(2000).Add(exact, big.NewFloat(float64(c)))
		want, _ := exact.Float32()
		if want == 0 && exact.Sign() == 0 {
			return // the sign of an exact zero is not big.Float's business
		}
		if got := FMA(a, b, c); !equal(got, want) {
			t.Fatalf("FMA(%x, %x, %x) = %x, want %x", a, b, c, got, want)
		}
	}
	for range 100000 {
		bits := func() float32 {
			for {
				if x := math.Float32frombits(r.Uint32()); !math.IsNaN(float64(x)) && !math.IsInf(float64(x), 0) {
					return x
				}
			}
		}
		check(bits(), bits(), bits())
		// A product that is a few units beyond the midpoint of two neighbours of c.
		c := float32(1 + r.Float64())
		half := float32(0x1p-24)
		check(half, 1, c)
		check(half*(1+0x1p-23*float32(r.IntN(4))), 1-0x1p-24*float32(r.IntN(4)), c)
		check(half, -1+0x1p-24*float32(r.IntN(3)), c)
		check(0x1p-75*float32(1+r.IntN(1<<23)), 0x1p-75*float32(1+r.IntN(1<<23)), 0x1p-149*float32(r.IntN(100)))
		check(bits()*0x1p-100, 0x1p-30, math.Float32frombits(r.Uint32()&0x007fffff))
	}
	for _, a := range specials {
		for _, b := range specials {
			for _, c := range specials {
				// In float64 these have no rounding error that matters unless finite,
				// which the loop above covers.
				x := float64(a)*float64(b) + float64(c)
				if (math.IsNaN(x) || math.IsInf(x, 0)) && !equal(FMA(a, b, c), float32(x)) {
					t.Errorf("FMA(%v, %v, %v) = %v, want %v", a, b, c, FMA(a, b, c), x)
				}
			}
		}
	}
}

// gemmCase is a random tile with guards around its output.
type gemmCase struct {
	Tile
	buf  []float32
	pad  int
	want []float32
	name string
}

const guardZone = 33

func newGemmCase(r *rand.Rand, k *Kernels, rows, cols, depth, odds int, tn bool) *gemmCase {
	g := &gemmCase{name: fmt.Sprintf("rows=%d cols=%d k=%d", rows, cols, depth)}
	width := (cols + k.Lanes - 1) / k.Lanes * k.Lanes
	taps := 1 + r.IntN(3)
	g.Rows, g.Cols, g.K, g.Split = rows, cols, depth, rows
	g.LDC, g.LDA, g.LDB = cols+r.IntN(3), depth+r.IntN(5), width+r.IntN(2)*k.Lanes
	g.Acc = r.IntN(2)
	g.Lo, g.Hi = float32(math.Inf(-1)), float32(math.Inf(1))
	if tn {
		taps, g.LDA = 1, rows+r.IntN(5)
		g.A = values(r, depth*g.LDA+rows, odds)
	} else {
		if at := k.SplitAt; r.IntN(2) == 0 && at < rows {
			if at == 0 && rows > 1 {
				at = 1 + r.IntN(rows-1)
			}
			if at > 0 {
				g.Split, g.Skip = at, r.IntN(50)-min(10, at*g.LDA)
			}
		}
		end := 0
		for range taps {
			g.Taps = append(g.Taps, end+r.IntN(9))
			end = g.Taps[len(g.Taps)-1]
		}
		g.A = values(r, end+rows*g.LDA+max(g.Skip, 0)+depth, odds)
		if r.IntN(2) == 0 {
			g.Bias = values(r, cols, odds)
		}
		if r.IntN(2) == 0 {
			g.Lo, g.Hi = 0, 6
		}
	}
	g.B = values(r, taps*depth*g.LDB, odds)
	g.buf = values(r, guardZone+rows*g.LDC+guardZone, odds)
	g.want = slices.Clone(g.buf)
	g.C = g.buf[guardZone : guardZone+rows*g.LDC]
	g.reference(tn)
	return g
}

// reference applies the loops of the documentation of Gemm and GemmTN to want.
func (g *gemmCase) reference(tn bool) {
	for r := range g.Rows {
		for c := range g.Cols {
			out := &g.want[guardZone+r*g.LDC+c]
			var s float32
			if g.Acc == 1 {
				s = *out
			}
			if tn {
				for k := range g.K {
					s = FMA(g.A[k*g.LDA+r], g.B[k*g.LDB+c], s)
				}
				*out = s
				continue
			}
			row := r * g.LDA
			if r >= g.Split {
				row += g.Skip
			}
			for i, tap := range g.Taps {
				for k := range g.K {
					s = FMA(g.A[tap+row+k], g.B[(i*g.K+k)*g.LDB+c], s)
				}
			}
			*out = finishRef(s, g.Bias, c, g.Lo, g.Hi)
		}
	}
}

func finishRef(s float32, bias []float32, c int, lo, hi float32) float32 {
	if bias != nil {
		s += bias[c]
	}
	switch {
	case s < lo:
		return lo
	case s > hi:
		return hi
	}
	return s
}

func (g *gemmCase) run(t *testing.T, k *Kernels, tn bool) {
	t.Helper()
	if tn {
		k.GemmTN(&g.Tile)
	} else {
		k.Gemm(&g.Tile)
	}
	compare(t, g.name, g.buf, g.want) // guards and gaps between rows included
}

func testGemm(t *testing.T, tn bool) {
	forEachISA(t, func(t *testing.T, k *Kernels) {
		r := rand.New(rand.NewPCG(2, 2))
		for rows := 1; rows <= k.MR; rows++ {
			for cols := 1; cols <= k.NR; cols++ {
				for _, depth := range []int{1, 2, 3, 4, 5, 7, 8, 13, 1 + r.IntN(70)} {
					newGemmCase(r, k, rows, cols, depth, 0, tn).run(t, k, tn)
				}
				newGemmCase(r, k, rows, cols, 1+r.IntN(12), 20, tn).run(t, k, tn)
			}
		}
		for depth := 1; depth <= 70; depth++ {
			newGemmCase(r, k, k.MR, k.NR, depth, 0, tn).run(t, k, tn)
			for cols := k.NR + 1; cols <= k.WideNR && !tn; cols++ {
				newGemmCase(r, k, 1+depth%k.WideMR, cols, depth, depth%3*10, tn).run(t, k, tn)
			}
		}
	})
}

func TestGemm(t *testing.T)   { testGemm(t, false) }
func TestGemmTN(t *testing.T) { testGemm(t, true) }

func TestGemmPanicsOnShortOperands(t *testing.T) {
	forEachISA(t, func(t *testing.T, k *Kernels) {
		for name, cut := range map[string]func(*Tile){
			"A":    func(t *Tile) { t.A = t.A[:t.Taps[len(t.Taps)-1]+(t.Rows-1)*t.LDA+t.K-1] },
			"B":    func(t *Tile) { t.B = t.B[:len(t.Taps)*t.K*t.LDB-t.LDB] },
			"C":    func(t *Tile) { t.C = t.C[:(t.Rows-1)*t.LDC+t.Cols-1] },
			"Bias": func(t *Tile) { t.Bias = make([]float32, t.Cols-1) },
			"Skip": func(t *Tile) { t.Skip = 1 },
		} {
			g := newGemmCase(rand.New(rand.NewPCG(3, 3)), k, 2, 3, 4, 0, false)
			g.Split, g.Skip = g.Rows, 0
			cut(&g.Tile)
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s too short: no panic", name)
					}
				}()
				k.Gemm(&g.Tile)
			}()
		}
	})
}

func TestDepthwise(t *testing.T) {
	forEachISA(t, func(t *testing.T, k *Kernels) {
		r := rand.New(rand.NewPCG(4, 4))
		for pix := 1; pix <= k.MP; pix++ {
			for n := 1; n <= 4*k.Lanes+3; n++ {
				testDepthwise(t, r, k, pix, n, r.IntN(2)*20)
			}
		}
	})
}

func testDepthwise(t *testing.T, r *rand.Rand, k *Kernels, pix, n, odds int) {
	t.Helper()
	d := DwTile{N: n, Pix: pix, LDD: n + r.IntN(3), LDS: n * (1 + r.IntN(2)), Lo: float32(math.Inf(-1)), Hi: float32(math.Inf(1))}
	taps := r.IntN(10)
	d.W = values(r, max(taps, 1)*n, odds)
	d.Off = -r.IntN(20)
	for i := range taps {
		d.Taps = append(d.Taps, -d.Off+r.IntN(100), i*n)
	}
	d.Src = values(r, 120+pix*d.LDS+n, odds)
	if r.IntN(2) == 0 {
		d.Bias = values(r, n, odds)
	}
	if r.IntN(2) == 0 {
		d.Lo, d.Hi = -1, 1
	}
	buf := values(r, guardZone+pix*d.LDD+guardZone, 0)
	want := slices.Clone(buf)
	d.Dst = buf[guardZone : guardZone+pix*d.LDD]
	for p := range pix {
		for c := range n {
			var s float32
			for i := 0; i < len(d.Taps); i += 2 {
				s = FMA(d.Src[d.Off+d.Taps[i]+p*d.LDS+c], d.W[d.Taps[i+1]+c], s)
			}
			want[guardZone+p*d.LDD+c] = finishRef(s, d.Bias, c, d.Lo, d.Hi)
		}
	}
	k.Depthwise(&d)
	compare(t, fmt.Sprintf("pix=%d n=%d taps=%d", pix, n, taps), buf, want)
}

func TestDepthwiseRow(t *testing.T) {
	forEachISA(t, func(t *testing.T, k *Kernels) {
		r := rand.New(rand.NewPCG(14, 4))
		for _, w := range rowWindows {
			for pix := 1; pix <= k.MW; pix++ {
				for n := 1; n <= 3*k.Lanes+1; n++ {
					testDepthwiseRow(t, r, k, w.width, w.stride, pix, n, r.IntN(2)*20)
				}
			}
		}
		if HasRow(4, 1) || HasRow(3, 3) || !HasRow(5, 2) {
			t.Error("HasRow is wrong")
		}
	})
}

func testDepthwiseRow(t *testing.T, r *rand.Rand, k *Kernels, width, stride, pix, n, odds int) {
	t.Helper()
	inputs := (pix-1)*stride + width
	d := DwTile{N: n, Pix: pix, LDD: n + r.IntN(3), LDS: n + r.IntN(3), LDW: n + r.IntN(2),
		First: r.IntN(width), Last: inputs - r.IntN(width), Lo: float32(math.Inf(-1)), Hi: float32(math.Inf(1))}
	if d.First >= d.Last {
		d.First = d.Last - 1
	}
	rows := r.IntN(6)
	d.W = values(r, max(rows, 1)*width*d.LDW+n, odds)
	d.Off = -d.First * d.LDS
	step := inputs*d.LDS + r.IntN(9)
	for i := range rows {
		d.Taps = append(d.Taps, i*step, i*width*d.LDW)
	}
	d.Src = values(r, max(rows, 1)*step+n, odds)
	if r.IntN(2) == 0 {
		d.Bias = values(r, n, odds)
	}
	if r.IntN(2) == 0 {
		d.Lo, d.Hi = -1, 1
	}
	buf := values(r, guardZone+pix*d.LDD+guardZone, 0)
	want := slices.Clone(buf)
	d.Dst = buf[guardZone : guardZone+pix*d.LDD]
	for p := range pix {
		for c := range n {
			var s float32
			for i := 0; i < len(d.Taps); i += 2 {
				for x := range width {
					if at := p*stride + x; at >= d.First && at < d.Last {
						s = FMA(d.Src[d.Off+d.Taps[i]+at*d.LDS+c], d.W[d.Taps[i+1]+x*d.LDW+c], s)
					}
				}
			}
			want[guardZone+p*d.LDD+c] = finishRef(s, d.Bias, c, d.Lo, d.Hi)
		}
	}
	k.DepthwiseRow(&d, width, stride)
	compare(t, fmt.Sprintf("%dx%d stride=%d pix=%d n=%d rows=%d first=%d last=%d", width, width, stride, pix, n, rows, d.First, d.Last), buf, want)
}
