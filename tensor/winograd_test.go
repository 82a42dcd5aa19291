package tensor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"roundel/asm"
)

var winogradCases = []struct {
	p    ConvParams
	h, w int
}{
	{ConvParams{32, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 7, 7},
	{ConvParams{48, 80, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 14, 14},
	{ConvParams{32, 144, 3, 3, 1, 1, 0, 0, 0, 0, 1, 1, 1}, 8, 19},
	{ConvParams{32, 48, 3, 3, 1, 1, 2, 0, 1, 3, 1, 1, 1}, 9, 6},
	{ConvParams{32, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 1, 1},
	{ConvParams{32, 32, 3, 3, 1, 1, 5, 4, 3, 2, 1, 1, 1}, 2, 1},
	{ConvParams{64, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 3, 40},
	{ConvParams{320, 272, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 11, 7},
	{ConvParams{32, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 31, 58},
}

// winogradRef is Winograd's algorithm in its plainest form: each output by itself, its 16 products one chain over the
// input channels, with the order of additions that asm documents. It also compares with the sum in float64.
type winogradRef struct {
	c, n, h, w int
	p          ConvParams
	src        []float32
	u          []float32 // [out][in][16]
}

func newWinogradRef(p ConvParams, src, w []float32, h, wd int) *winogradRef {
	r := &winogradRef{c: p.InC, n: p.OutC, h: h, w: wd, p: p, src: src, u: make([]float32, p.OutC*p.InC*16)}
	half := func(a, b, c float64) [4]float64 { return [4]float64{a, (a + b + c) / 2, (a - b + c) / 2, c} }
	for i := range p.OutC * p.InC {
		g := w[9*i:]
		var s [4][3]float64
		for x := range 3 {
			for y, v := range half(float64(g[x]), float64(g[3+x]), float64(g[6+x])) {
				s[y][x] = v
			}
		}
		for y := range 4 {
			for x, v := range half(s[y][0], s[y][1], s[y][2]) {
				r.u[16*i+4*y+x] = float32(v)
			}
		}
	}
	return r
}

func (r *winogradRef) pixel(y, x, c int) float32 {
	if y < 0 || y >= r.h || x < 0 || x >= r.w {
		return 0
	}
	return r.src[(y*r.w+x)*r.c+c]
}

// tile returns the 2x2 outputs of channel o of the tile at (ty, tx).
func (r *winogradRef) tile(ty, tx, o int) [2][2]float32 {
	in := func(d [4]float32) [4]float32 { return [4]float32{d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]} }
	out := func(m [4]float32) [2]float32 { return [2]float32{(m[0] + m[1]) + m[2], (m[1] - m[2]) - m[3]} }
	var m [4][4]float32
	for c := range r.c {
		var s, v [4][4]float32
		for x := range 4 {
			var d [4]float32
			for y := range 4 {
				d[y] = r.pixel(2*ty+y-r.p.PadT, 2*tx+x-r.p.PadL, c)
			}
			for y, f := range in(d) {
				s[y][x] = f
			}
		}
		for y := range 4 {
			v[y] = in(s[y])
			for x := range 4 {
				m[y][x] = asm.FMA(v[y][x], r.u[(o*r.c+c)*16+4*y+x], m[y][x])
			}
		}
	}
	var s [2][4]float32
	for x := range 4 {
		for y, f := range out([4]float32{m[0][x], m[1][x], m[2][x], m[3][x]}) {
			s[y][x] = f
		}
	}
	return [2][2]float32{out(s[0]), out(s[1])}
}

// TestWinogradConv compares some outputs with the plain algorithm, bit for bit, and with the sum in float64, and all
// outputs of all instruction sets and numbers of workers with each other.
func TestWinogradConv(t *testing.T) {
	for i, c := range winogradCases {
		p, r := c.p, rand.New(rand.NewPCG(uint64(i), 11))
		src, w := randoms(r, c.h*c.w*p.InC), randoms(r, p.OutC*p.InC*9)
		oh, ow := p.OutSize(c.h, c.w)
		ep := randomEpilogue(r, p.OutC, oh*ow*p.OutC)
		var want []float32
		forEachISA(t, func(t *testing.T, k asm.Kernels) {
			for workers := 1; workers <= 3; workers++ {
				dst, check := guarded(t, oh*ow*p.OutC, 7)
				PackWinograd(k, p, w).Run(dst, src, c.h, c.w, ep, NewPool(workers, k))
				check()
				if want == nil {
					want = slices.Clone(dst)
				}
				sameBits(t, fmt.Sprintf("%+v, %d workers", p, workers), dst, want)
			}
		})
		ref := newWinogradRef(p, src, w, c.h, c.w)
		worst := 0.0
		for n := 0; n < 64*256; n += p.InC { // positions and channels of every tile's corner come up
			q := r.IntN(len(want))
			o, x, y := q%p.OutC, q/p.OutC%ow, q/p.OutC/ow
			s := ref.tile(y/2, x/2, o)[y%2][x%2]
			worst = max(worst, winogradError(p, src, w, c.h, c.w, q, s))
			sameBits(t, fmt.Sprintf("%+v: output %d", p, q), want[q:q+1], []float32{epilogueRef(s, o, q, ep)})
		}
		if t.Logf("%+v: error %.2g of the sum of magnitudes", p, worst); worst > 1e-6 {
			t.Errorf("%+v: error %g of the sum of magnitudes", p, worst)
		}
	}
}

// TestWinogradRule: which layers are computed so is part of what makes results the same everywhere.
func TestWinogradRule(t *testing.T) {
	base := ConvParams{64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}
	for _, c := range []struct {
		what   string
		h, w   int
		change func(p *ConvParams)
		want   bool
	}{
		{"as ResNet's", 56, 56, func(p *ConvParams) {}, true},
		{"odd size", 7, 7, func(p *ConvParams) {}, true},
		{"16 to 64 channels", 56, 56, func(p *ConvParams) { p.InC = 16 }, true},
		{"few channels", 56, 56, func(p *ConvParams) { p.InC, p.OutC = 16, 32 }, false},
		{"part of 16 channels", 56, 56, func(p *ConvParams) { p.InC = 72 }, false},
		{"stride 2", 56, 56, func(p *ConvParams) { p.StrideW = 2 }, false},
		{"dilation", 56, 56, func(p *ConvParams) { p.DilH = 2 }, false},
		{"groups", 56, 56, func(p *ConvParams) { p.Groups = 2 }, false},
		{"5x3", 56, 56, func(p *ConvParams) { p.KH = 5 }, false},
		{"one row: half of each tile is lost", 1, 56, func(p *ConvParams) {}, false},
		{"3x3 image", 3, 3, func(p *ConvParams) {}, false},
		{"one tile", 2, 2, func(p *ConvParams) {}, false},
		{"empty", 1, 1, func(p *ConvParams) { p.PadT, p.PadB = 0, 0 }, false},
	} {
		p := base
		c.change(&p)
		if got := p.Winograd(c.h, c.w); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}

// TestWinogradExtremes: weights that are not finite or whose transform would overflow are computed directly; an input
// that is not finite makes every output that reads it so, and none of another tile.
func TestWinogradExtremes(t *testing.T) {
	p := ConvParams{32, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}
	r := rand.New(rand.NewPCG(12, 12))
	k := asm.Best()
	const size = 8
	src, w := randoms(r, size*size*p.InC), randoms(r, p.OutC*p.InC*9)
	for _, odd := range []float32{float32(math.NaN()), inf, -inf, 3e38} {
		w := slices.Clone(w)
		w[1234] = odd
		if PackWinograd(k, p, w).winograd {
			t.Errorf("weight %v: not computed directly", odd)
		}
	}
	for _, odd := range []float32{float32(math.NaN()), inf, -inf} {
		src := slices.Clone(src)
		const at = 3*size + 4
		src[at*p.InC+5] = odd
		dst := make([]float32, size*size*p.OutC)
		PackWinograd(k, p, w).Run(dst, src, size, size, Epilogue{}, NewPool(1, k))
		for q, v := range dst {
			y, x := q/p.OutC/size, q/p.OutC%size
			finite := !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0)
			reads := y >= 2 && y <= 4 && x >= 3 && x <= 5
			tile := y/2 >= 1 && y/2 <= 2 && x/2 >= 1 && x/2 <= 2
			if reads && finite || !tile && !finite {
				t.Fatalf("input %v: output %v at (%d, %d)", odd, v, y, x)
			}
		}
	}
}

// TestWinogradAllocs: the second run allocates nothing.
func TestWinogradAllocs(t *testing.T) {
	p, c := NewPool(1, asm.Kernels{}), winogradCases[1]
	r := rand.New(rand.NewPCG(13, 13))
	src, dst := randoms(r, c.h*c.w*c.p.InC), make([]float32, c.h*c.w*c.p.OutC)
	pc := PackWinograd(p.Kernels(), c.p, randoms(r, c.p.OutC*c.p.InC*9))
	if n := testing.AllocsPerRun(20, func() { pc.Run(dst, src, c.h, c.w, Epilogue{}, p) }); n > 0 {
		t.Errorf("%v allocations per run", n)
	}
}

// winogradError returns the error of output q relative to the sum of magnitudes of its products.
func winogradError(p ConvParams, src, w []float32, h, wd, q int, got float32) float64 {
	_, ow := p.OutSize(h, wd)
	o, x, y := q%p.OutC, q/p.OutC%ow, q/p.OutC/ow
	var sum, abs float64
	for t := range 9 {
		iy, ix := y-p.PadT+t/3, x-p.PadL+t%3
		if iy < 0 || iy >= h || ix < 0 || ix >= wd {
			continue
		}
		for c := range p.InC {
			v := float64(src[(iy*wd+ix)*p.InC+c]) * float64(w[(o*p.InC+c)*9+t])
			sum, abs = sum+v, abs+math.Abs(v)
		}
	}
	if abs == 0 {
		return math.Abs(float64(got))
	}
	return math.Abs(float64(got)-sum) / abs
}
