package asm

import "math"

// Tile sizes of the generic table. They are as large as the machine ISAs' so that
// drivers are exercised alike, and any split is allowed.
const (
	genericMR    = 8
	genericNR    = 16
	genericLanes = 8
)

func genericTable() Kernels {
	k := Kernels{
		ISA: "generic", MR: genericMR, NR: genericNR, Lanes: genericLanes, MP: genericMR, MW: genericMR,
		addClamp: addClampGeneric,
		larger:   largerGeneric,
		clamp:    clampGeneric,
		axpy:     axpyGeneric,
		qdq:      qdqGeneric,
		minMax:   minMaxGeneric,
		peak:     peakGeneric,
		peakOps:  8 * 2,

		winogradIn:  winogradInGeneric,
		winogradOut: winogradOutGeneric,
	}
	for range genericNR / genericLanes {
		nn, tn := make([]tileFunc, genericMR), make([]tileFunc, genericMR)
		for i := range nn {
			nn[i], tn[i] = gemmGeneric, gemmTNGeneric
		}
		k.gemm, k.gemmTN = append(k.gemm, nn), append(k.gemmTN, tn)
	}
	for range k.MP {
		k.dw = append(k.dw, dwGeneric)
	}
	for _, w := range rowWindows {
		f := func(t *DwTile) { dwRowGeneric(t, w.width, w.stride) }
		var fs []dwFunc
		for range k.MW {
			fs = append(fs, f)
		}
		k.dwRow = append(k.dwRow, fs)
	}
	return k
}

// FMA returns a*b + c rounded once to float32.
func FMA(a, b, c float32) float32 {
	s := float64(a)*float64(b) + float64(c)
	if unsure(s) {
		return fmaOdd(a, b, c)
	}
	return float32(s)
}

// unsure reports whether rounding s = a*b + c to float32 might differ from rounding
// the exact sum. The product of two float32 is exact in float64, so s was rounded
// once, to 53 bits. Rounding that to 24 bits is wrong only if s sits exactly between
// two float32 (its low 29 bits are a one and zeros), or if the result is subnormal.
// A compiler that fuses the product and the sum computes the same s.
func unsure(s float64) bool {
	u := math.Float64bits(s)
	return u&(1<<29-1) == 1<<28 || u<<1-1 < minNormal<<1-1
}

// minNormal holds the bits, as a float64, of the smallest normal float32.
const minNormal = (1023 - 126) << 52

// fmaOdd is FMA by way of a sum rounded to odd: of the two neighbours of an inexact
// sum it takes the one whose last bit is set, so the second rounding sees on which
// side of a midpoint the exact sum lies (Boldo and Melquiond 2008).
func fmaOdd(a, b, c float32) float32 {
	p, d := float64(a)*float64(b), float64(c)
	s := p + d
	t := s - p
	e := (p - (s - t)) + (d - t) // two-sum: p + d = s + e exactly
	if u := math.Float64bits(s); e != 0 && u&1 == 0 {
		if (e > 0) == (s > 0) {
			u++
		} else {
			u--
		}
		s = math.Float64frombits(u)
	}
	return float32(s)
}

// fmaRow sets acc[j] = FMA(a, b[j], acc[j]).
func fmaRow(acc, b []float32, a float32) {
	b = b[:len(acc)]
	for j, c := range acc {
		s := float64(a)*float64(b[j]) + float64(c)
		if unsure(s) {
			acc[j] = fmaOdd(a, b[j], c)
			continue
		}
		acc[j] = float32(s)
	}
}

// fmaRows sets acc[j] = FMA(a[j], b[j], acc[j]).
func fmaRows(acc, a, b []float32) {
	a, b = a[:len(acc)], b[:len(acc)]
	for j, c := range acc {
		s := float64(a[j])*float64(b[j]) + float64(c)
		if unsure(s) {
			acc[j] = fmaOdd(a[j], b[j], c)
			continue
		}
		acc[j] = float32(s)
	}
}

func clamp1(x, lo, hi float32) float32 {
	if x < lo {
		x = lo
	}
	if x > hi {
		x = hi
	}
	return x
}

// finish stores one row of a tile.
func finish(dst, acc, bias []float32, lo, hi float32) {
	for j, s := range acc {
		if bias != nil {
			s += bias[j]
		}
		dst[j] = clamp1(s, lo, hi)
	}
}

func gemmGeneric(t *Tile) {
	var buf [genericNR]float32
	for r := range t.Rows {
		c, acc := t.C[r*t.LDC:][:t.Cols], buf[:t.Cols]
		clear(acc)
		if t.Acc == 1 {
			copy(acc, c)
		}
		row := r * t.LDA
		if r >= t.Split {
			row += t.Skip
		}
		for i, tap := range t.Taps {
			if t.K <= 0 {
				break
			}
			for k, a := range t.A[tap+row:][:t.K] {
				fmaRow(acc, t.B[(i*t.K+k)*t.LDB:], a)
			}
		}
		finish(c, acc, t.Bias, t.Lo, t.Hi)
	}
}

func gemmTNGeneric(t *Tile) {
	var buf [genericNR]float32
	for r := range t.Rows {
		c, acc := t.C[r*t.LDC:][:t.Cols], buf[:t.Cols]
		clear(acc)
		if t.Acc == 1 {
			copy(acc, c)
		}
		for k := range t.K {
			fmaRow(acc, t.B[k*t.LDB:], t.A[k*t.LDA+r])
		}
		copy(c, acc)
	}
}

// dwGeneric sums in a buffer, so that Dst may be Src when there is one tap, as in the other tables.
func dwGeneric(t *DwTile) {
	var buf [genericNR]float32
	for p := range t.Pix {
		for j := 0; j < t.N; j += genericNR {
			dst := t.Dst[p*t.LDD+j:][:min(genericNR, t.N-j)]
			acc := buf[:len(dst)]
			clear(acc)
			for i := 0; i+1 < len(t.Taps); i += 2 {
				fmaRows(acc, t.Src[t.Off+t.Taps[i]+p*t.LDS+j:], t.W[t.Taps[i+1]+j:])
			}
			var bias []float32
			if t.Bias != nil {
				bias = t.Bias[j:]
			}
			finish(dst, acc, bias, t.Lo, t.Hi)
		}
	}
}

func dwRowGeneric(t *DwTile, width, stride int) {
	for p := range t.Pix {
		dst := t.Dst[p*t.LDD:][:t.N]
		clear(dst)
		for i := 0; i+1 < len(t.Taps); i += 2 {
			for x := range width {
				if at := p*stride + x; t.First <= at && at < t.Last {
					fmaRows(dst, t.Src[t.Off+t.Taps[i]+at*t.LDS:], t.W[t.Taps[i+1]+x*t.LDW:])
				}
			}
		}
		finish(dst, dst, t.Bias, t.Lo, t.Hi)
	}
}

func addClampGeneric(dst, a, b []float32, lo, hi float32) {
	for i := range dst {
		dst[i] = clamp1(a[i]+b[i], lo, hi)
	}
}

func largerGeneric(dst, a, b []float32) {
	for i, x := range b[:len(dst)] {
		if y := a[i]; x > y {
			dst[i] = x
		} else {
			dst[i] = y
		}
	}
}

func clampGeneric(dst, src []float32, lo, hi float32) {
	for i := range dst {
		dst[i] = clamp1(src[i], lo, hi)
	}
}

func axpyGeneric(dst, x []float32, alpha float32) {
	fmaRow(dst, x, alpha)
}

func qdqGeneric(dst, src []float32, scale, zero, lo, hi float32) {
	for i := range dst {
		q := float32(math.RoundToEven(float64(src[i] / scale)))
		dst[i] = (clamp1(q+zero, lo, hi) - zero) * scale
	}
}

func minMaxGeneric(src []float32) (lo, hi float32) {
	lo, hi = float32(math.Inf(1)), float32(math.Inf(-1))
	for _, x := range src {
		if x < lo {
			lo = x
		}
		if x > hi {
			hi = x
		}
	}
	return lo, hi
}

func peakGeneric(n int) {
	var acc [8]float32
	for range n {
		for i, s := range acc {
			acc[i] = FMA(0.5, 1, s)
		}
	}
	if acc[0] < 0 {
		panic("unreachable")
	}
}
