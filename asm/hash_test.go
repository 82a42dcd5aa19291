package asm

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"testing"
)

// wantHash is the digest of the outputs of all kernels on fixed inputs. It must come
// out on every CPU and with every table: it is what makes results reproducible
// across machines. It changes only if the order of operations of a kernel does.
const wantHash = 0xc7e220723b2f8236

func TestSameBitsEverywhere(t *testing.T) {
	forEachISA(t, func(t *testing.T, k *Kernels) {
		if got := digest(k); got != wantHash {
			t.Errorf("digest %#x, want %#x", got, uint64(wantHash))
		}
	})
}

// digest runs shapes that every table can (at most 6 rows and 8 columns, padded to
// 16) and hashes the bits of the outputs.
func digest(k *Kernels) uint64 {
	r := rand.New(rand.NewPCG(8, 8))
	h := fnv.New64a()
	add := func(s []float32) {
		for _, x := range s {
			b := math.Float32bits(x)
			h.Write([]byte{byte(b), byte(b >> 8), byte(b >> 16), byte(b >> 24)})
		}
	}
	scaled := func(n int) []float32 { // magnitudes from 2^-40 to 2^40, so that roundings matter
		s := values(r, n, 0)
		for i := range s {
			s[i] *= float32(math.Ldexp(1, r.IntN(80)-40))
		}
		return s
	}
	for rows := 1; rows <= 6; rows++ {
		for cols := 1; cols <= 8; cols++ {
			depth := 1 + r.IntN(40)
			t := Tile{A: scaled(2*depth + 6*depth), B: scaled(2 * depth * 16), C: scaled(rows * cols), Bias: scaled(cols),
				Taps: []int{0, depth}, LDC: cols, LDA: depth, LDB: 16, K: depth, Rows: rows, Cols: cols, Split: rows,
				Acc: rows % 2, Lo: -1e6, Hi: 1e6}
			k.Gemm(&t)
			add(t.C)
			t.Taps, t.LDA = nil, rows
			k.GemmTN(&t)
			add(t.C)
			d := DwTile{Dst: make([]float32, 4*50), Src: scaled(9*60 + 4*50), W: scaled(9 * 50), LDD: 50, LDS: 50, N: 42 + cols,
				Pix: min(rows, 4), Lo: -100, Hi: 100}
			for i := range 9 {
				d.Taps = append(d.Taps, i*60, i*50)
			}
			k.Depthwise(&d)
			add(d.Dst)
		}
	}
	a, b, dst := scaled(1000), scaled(1000), scaled(1000)
	k.Axpy(dst, a, 0.7)
	add(dst)
	k.AddClamp(dst, dst, b, -1e9, 1e9)
	add(dst)
	k.QuantDequant(dst, dst, 0.123, 7, -500, 500)
	add(dst)
	k.Clamp(dst, dst, -30, 30)
	add(dst)
	lo, hi := k.MinMax(a)
	add([]float32{lo, hi})
	return h.Sum64()
}
