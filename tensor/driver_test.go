package tensor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"roundel/asm"
)

// forEachISA runs body once for each kernel table of this machine.
func forEachISA(t *testing.T, body func(t *testing.T, k asm.Kernels)) {
	t.Helper()
	for _, k := range asm.Available() {
		t.Run("isa="+k.ISA, func(t *testing.T) { body(t, k) })
	}
}

const guard = float32(-12345.5)

// guarded returns n elements set to v with a guard zone after them, and a check.
func guarded(t *testing.T, n int, v float32) ([]float32, func()) {
	t.Helper()
	const zone = 40
	buf := make([]float32, zone+n+zone)
	for i := range buf {
		buf[i] = guard
	}
	s := buf[zone : zone+n]
	for i := range s {
		s[i] = v
	}
	return s, func() {
		t.Helper()
		for i, x := range buf {
			if (i < zone || i >= zone+n) && x != guard {
				t.Fatalf("guard at %d of %d elements overwritten with %v", i-zone, n, x)
			}
		}
	}
}

func randoms(r *rand.Rand, n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(r.NormFloat64())
	}
	return s
}

// sameBits reports the first element where got and want differ in their bits.
func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) && !(got[i] != got[i] && want[i] != want[i]) {
			t.Fatalf("%s: element %d is %v (%08x), want %v (%08x)", what, i, got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

// within checks got against a float64 sum with the bound c*K*eps*sum|a*b|.
func within(t *testing.T, what string, got float32, sum, sumAbs float64, k int) {
	t.Helper()
	if d := math.Abs(float64(got) - sum); d > float64(k+2)*0x1p-24*sumAbs+1e-30 {
		t.Fatalf("%s: %v, want %v (off by %g, terms add up to %g)", what, got, sum, d, sumAbs)
	}
}

func epilogueRef(v float32, c, i int, ep Epilogue) float32 {
	if ep.Bias != nil {
		v += ep.Bias[c]
	}
	if ep.Residual != nil {
		v += ep.Residual[i]
	}
	if ep.Act == ActClamp {
		v = min(max(v, ep.Lo), ep.Hi)
	}
	if q := ep.Quant; q != nil {
		x := float32(math.RoundToEven(float64(v/q.Scale))) + q.ZeroPoint
		v = (min(max(x, q.QMin), q.QMax) - q.ZeroPoint) * q.Scale
	}
	return v
}

func randomEpilogue(r *rand.Rand, n, total int) Epilogue {
	var ep Epilogue
	if r.IntN(2) == 0 {
		ep.Bias = randoms(r, n)
	}
	if r.IntN(3) == 0 {
		ep.Residual = randoms(r, total)
	}
	if r.IntN(2) == 0 {
		ep.Act, ep.Lo, ep.Hi = ActClamp, 0, 3
	}
	if r.IntN(3) == 0 {
		ep.Quant = &FakeQuant{Scale: 0.037, ZeroPoint: 128, QMin: 0, QMax: 255}
	}
	return ep
}

func TestPackedGemm(t *testing.T) {
	forEachISA(t, func(t *testing.T, k asm.Kernels) {
		r := rand.New(rand.NewPCG(1, 2))
		shapes := [][3]int{{1, 1, 1}, {3, 5, 7}, {15, 33, 70}, {29, 40, 16}, {14, 32, 513}, {57, 65, 1030}, {7, 1000, 40}, {200, 24, 96}, {4, 3, 0}, {1, 300, 70}}
		for _, s := range shapes {
			for _, workers := range []int{1, 3} {
				testPackedGemm(t, r, k, s[0], s[1], s[2], workers)
			}
		}
	})
}

func testPackedGemm(t *testing.T, r *rand.Rand, k asm.Kernels, m, n, depth, workers int) {
	name := fmt.Sprintf("m=%d n=%d k=%d workers=%d", m, n, depth, workers)
	lda, ldc := depth+r.IntN(3), n
	if r.IntN(2) == 0 {
		lda = 1024 * ((depth + 1024) / 1024) // rows that collide in the cache
	}
	a, b := randoms(r, m*lda), randoms(r, depth*n)
	trans := r.IntN(2) == 0
	at := func(kk, j int) float32 {
		if trans {
			return b[j*depth+kk]
		}
		return b[kk*n+j]
	}
	ep := randomEpilogue(r, n, m*n)
	want := make([]float32, m*n)
	for i := range m {
		for j := range n {
			var s float32
			var sum, abs float64
			for kk := range depth {
				x, y := a[i*lda+kk], at(kk, j)
				s = asm.FMA(x, y, s)
				sum += float64(x) * float64(y)
				abs += math.Abs(float64(x) * float64(y))
			}
			within(t, name, s, sum, abs, depth)
			want[i*n+j] = epilogueRef(s, j, i*n+j, ep)
		}
	}
	dst, check := guarded(t, m*n, 7)
	PackGemm(k, b, depth, n, trans).Run(dst, ldc, a, lda, m, ep, NewPool(workers, k))
	check()
	sameBits(t, name, dst, want)
}

func TestGemm(t *testing.T) {
	forEachISA(t, func(t *testing.T, k asm.Kernels) {
		r := rand.New(rand.NewPCG(3, 4))
		for _, s := range [][3]int{{1, 1, 1}, {2, 9, 5}, {31, 37, 11}, {14, 32, 600}, {70, 70, 70}, {64, 48, 1100}, {3, 2, 0}, {5, 130, 64}, {96, 17, 300}, {500, 40, 20}} {
			for flags := range 8 {
				testGemm(t, r, k, s[0], s[1], s[2], flags&1 != 0, flags&2 != 0, flags&4 != 0, 1+r.IntN(3))
			}
		}
	})
}

func testGemm(t *testing.T, r *rand.Rand, k asm.Kernels, m, n, depth int, ta, tb, acc bool, workers int) {
	name := fmt.Sprintf("m=%d n=%d k=%d transA=%v transB=%v acc=%v workers=%d", m, n, depth, ta, tb, acc, workers)
	lda, ldb, ldc := depth+2, n+1, n+3
	ra, rb := m, depth
	if ta {
		lda, ra = m+2, depth
	}
	if tb {
		ldb, rb = depth+1, n
	}
	a, b := randoms(r, ra*lda), randoms(r, rb*ldb)
	dst, check := guarded(t, m*ldc, 0.5)
	want := append([]float32(nil), dst...)
	for i := range m {
		for j := range n {
			var s float32
			if acc {
				s = want[i*ldc+j]
			}
			for kk := range depth {
				x, y := a[0:], b[0:]
				if ta {
					x = x[kk*lda+i:]
				} else {
					x = x[i*lda+kk:]
				}
				if tb {
					y = y[j*ldb+kk:]
				} else {
					y = y[kk*ldb+j:]
				}
				s = asm.FMA(x[0], y[0], s)
			}
			want[i*ldc+j] = s
		}
	}
	p := NewPool(workers, k)
	if ta && !tb {
		GemmTN(dst, ldc, a, lda, b, ldb, m, n, depth, acc, p)
	} else {
		Gemm(dst, ldc, a, lda, b, ldb, m, n, depth, ta, tb, acc, p)
	}
	check()
	sameBits(t, name, dst, want)
}

func TestGram(t *testing.T) {
	forEachISA(t, func(t *testing.T, k asm.Kernels) {
		r := rand.New(rand.NewPCG(9, 9))
		for _, s := range []struct{ n, k, lda int }{{1, 5, 1}, {9, 30, 9}, {70, 40, 75}, {33, 600, 1024}, {130, 20, 131}} {
			for _, acc := range []bool{false, true} {
				a, p := randoms(r, s.k*s.lda), NewPool(1+r.IntN(3), k)
				dst, check := guarded(t, s.n*(s.n+1), 0.25)
				want := append([]float32(nil), dst...)
				GemmTN(want, s.n+1, a, s.lda, a, s.lda, s.n, s.n, s.k, acc, p)
				Gram(dst, s.n+1, a, s.lda, s.n, s.k, acc, p)
				check()
				sameBits(t, fmt.Sprintf("%+v acc=%v", s, acc), dst, want)
			}
		}
	})
}

// convRef is the definition: one chain over kernel rows, columns, channels.
func convRef(t *testing.T, name string, p ConvParams, src, w []float32, h, wd int, ep Epilogue) []float32 {
	t.Helper()
	oh, ow := p.OutSize(h, wd)
	in, out := p.InC/p.Groups, p.OutC/p.Groups
	dst := make([]float32, oh*ow*p.OutC)
	for q := range dst {
		o, x, y := q%p.OutC, q/p.OutC%ow, q/p.OutC/ow
		var s float32
		var sum, abs float64
		for ky := range p.KH {
			for kx := range p.KW {
				iy, ix := y*p.StrideH-p.PadT+ky*p.DilH, x*p.StrideW-p.PadL+kx*p.DilW
				if iy < 0 || iy >= h || ix < 0 || ix >= wd {
					continue // adds 0*w, which changes nothing here
				}
				for c := range in {
					a := src[(iy*wd+ix)*p.InC+o/out*in+c]
					b := w[((o*in+c)*p.KH+ky)*p.KW+kx]
					s = asm.FMA(a, b, s)
					sum += float64(a) * float64(b)
					abs += math.Abs(float64(a) * float64(b))
				}
			}
		}
		within(t, name, s, sum, abs, in*p.KH*p.KW)
		dst[q] = epilogueRef(s, o, q, ep)
	}
	return dst
}

var convCases = []struct {
	name string
	p    ConvParams
	h, w int
}{
	{"first", ConvParams{3, 32, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1}, 15, 18},
	{"first7x7", ConvParams{3, 20, 7, 7, 2, 2, 3, 3, 3, 3, 1, 1, 1}, 19, 17},
	{"gray", ConvParams{1, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 9, 28},
	{"1x1", ConvParams{24, 40, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1}, 6, 9},
	{"1x1s2", ConvParams{16, 33, 1, 1, 2, 2, 0, 0, 0, 0, 1, 1, 1}, 9, 14},
	{"1x1pad", ConvParams{5, 4, 1, 1, 1, 2, 1, 0, 0, 2, 1, 1, 1}, 4, 5},
	{"3x3at7", ConvParams{20, 36, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 7, 7},
	{"3x3at14", ConvParams{16, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 14, 14},
	{"3x3s2", ConvParams{16, 17, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1}, 14, 14},
	{"3x3valid", ConvParams{8, 10, 3, 3, 1, 1, 0, 0, 0, 0, 1, 1, 1}, 8, 30},
	{"5x3uneven", ConvParams{7, 9, 5, 3, 1, 2, 2, 0, 1, 3, 1, 1, 1}, 8, 9},
	{"dilated", ConvParams{6, 11, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2, 1}, 9, 9},
	{"grouped", ConvParams{12, 18, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 3}, 8, 8},
	{"grouped1x1", ConvParams{64, 96, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 2}, 7, 7},
	{"multiplier", ConvParams{6, 12, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 6}, 7, 8},
	{"dw3x3", ConvParams{33, 33, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 33}, 9, 20},
	{"dw3x3s2", ConvParams{16, 16, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 16}, 13, 28},
	{"dw3x3at7", ConvParams{70, 70, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 70}, 7, 7},
	{"dw5x5", ConvParams{20, 20, 5, 5, 1, 1, 2, 2, 2, 2, 1, 1, 20}, 8, 8},
	{"dw5x5s2", ConvParams{19, 19, 5, 5, 2, 2, 2, 2, 2, 2, 1, 1, 19}, 8, 11},
	{"dwdilated", ConvParams{5, 5, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2, 5}, 6, 7},
	{"dwwide", ConvParams{4, 4, 3, 3, 1, 1, 3, 3, 3, 3, 1, 1, 4}, 2, 2},
	{"1x1map", ConvParams{30, 50, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 1, 1},
	{"narrow", ConvParams{10, 10, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 12, 3},
}

func TestConv(t *testing.T) {
	forEachISA(t, func(t *testing.T, k asm.Kernels) {
		for i, c := range convCases {
			t.Run(c.name, func(t *testing.T) {
				for n := range 4 {
					r := rand.New(rand.NewPCG(uint64(i), uint64(n)))
					src, w := randoms(r, c.h*c.w*c.p.InC), randoms(r, c.p.OutC*c.p.InC/c.p.Groups*c.p.KH*c.p.KW)
					oh, ow := c.p.OutSize(c.h, c.w)
					ep := randomEpilogue(r, c.p.OutC, oh*ow*c.p.OutC)
					want := convRef(t, c.name, c.p, src, w, c.h, c.w, ep)
					dst, check := guarded(t, len(want), 7)
					pc := PackConv(k, c.p, w)
					pc.Run(dst, src, c.h, c.w, ep, NewPool(1+n, k))
					check()
					sameBits(t, c.name, dst, want)
				}
			})
		}
	})
}

func TestConvOutSize(t *testing.T) {
	p := ConvParams{3, 8, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1}
	for _, c := range [][4]int{{224, 224, 112, 112}, {7, 8, 4, 4}, {1, 1, 1, 1}} {
		if oh, ow := p.OutSize(c[0], c[1]); oh != c[2] || ow != c[3] {
			t.Errorf("OutSize(%d, %d) = %d, %d, want %d, %d", c[0], c[1], oh, ow, c[2], c[3])
		}
	}
	p.DilH, p.DilW = 5, 5
	if oh, ow := p.OutSize(8, 20); oh != 0 || ow != 0 {
		t.Errorf("kernel larger than the image: OutSize = %d, %d, want 0, 0", oh, ow)
	}
}

// TestSteadyStateAllocs runs layers of each path twice: the second time must not allocate.
func TestSteadyStateAllocs(t *testing.T) {
	for _, workers := range []int{1, 2} {
		p := NewPool(workers, asm.Kernels{})
		r := rand.New(rand.NewPCG(5, 6))
		for _, c := range convCases {
			src, w := randoms(r, c.h*c.w*c.p.InC), randoms(r, c.p.OutC*c.p.InC/c.p.Groups*c.p.KH*c.p.KW)
			oh, ow := c.p.OutSize(c.h, c.w)
			dst, pc := make([]float32, oh*ow*c.p.OutC), PackConv(p.Kernels(), c.p, w)
			if n := testing.AllocsPerRun(20, func() { pc.Run(dst, src, c.h, c.w, Epilogue{}, p) }); n > 0 {
				t.Errorf("%s, %d workers: %v allocations per run", c.name, workers, n)
			}
		}
		a := randoms(r, 200*200)
		dst := make([]float32, 200*200)
		if n := testing.AllocsPerRun(20, func() { GemmTN(dst, 200, a, 200, a, 200, 200, 200, 200, false, p) }); n > 0 {
			t.Errorf("GemmTN, %d workers: %v allocations per run", workers, n)
		}
	}
}

func TestQuantDequant(t *testing.T) {
	src := []float32{0, 0.25, 0.75, 1.25, -0.25, -0.75, 1e30, -1e30, float32(math.Inf(1)), 63.5, 64}
	want := []float32{0, 0, 1, 1, 0, -1, 63.5, -64, 63.5, 63.5, 63.5}
	forEachISA(t, func(t *testing.T, k asm.Kernels) {
		dst := make([]float32, len(src))
		QuantDequant(dst, src, FakeQuant{Scale: 0.5, ZeroPoint: 128, QMin: 0, QMax: 255}, k)
		sameBits(t, "qdq", dst, want)
	})
}
