//go:build !purego

package asm

import (
	"math"
	"syscall"
	"testing"
	"unsafe"
)

// atPageEnd returns n floats that end where readable memory ends: reading or
// writing one element too many is a fault.
func atPageEnd(t *testing.T, n int) []float32 {
	t.Helper()
	page := syscall.Getpagesize()
	size := (4*n + page - 1) / page * page
	mem, err := syscall.Mmap(-1, 0, size+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Skip("no memory map: ", err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(mem) })
	if err := syscall.Mprotect(mem[size:], syscall.PROT_NONE); err != nil {
		t.Skip("cannot protect memory: ", err)
	}
	all := unsafe.Slice((*float32)(unsafe.Pointer(&mem[0])), size/4)
	return all[size/4-n:]
}

// TestNoOverread runs kernels whose operands end at the end of a page.
func TestNoOverread(t *testing.T) {
	const most = 2000
	a, b, c, bias := atPageEnd(t, most), atPageEnd(t, 4*most), atPageEnd(t, most), atPageEnd(t, most)
	end := func(s []float32, n int) []float32 { return s[len(s)-n:] }
	inf := float32(math.Inf(1))
	forEachISA(t, func(t *testing.T, k *Kernels) {
		for rows := 1; rows <= k.MR; rows++ {
			for cols := 1; cols <= max(k.NR, k.WideNR); cols++ {
				if cols > k.NR && rows > k.WideMR {
					continue
				}
				depth := 1 + (rows+cols)%9
				w := (cols + k.Lanes - 1) / k.Lanes * k.Lanes
				x := Tile{A: end(a, rows*depth), B: end(b, depth*w), C: end(c, rows*cols), Bias: end(bias, cols), Taps: []int{0},
					LDC: cols, LDA: depth, LDB: w, K: depth, Rows: rows, Cols: cols, Split: rows, Acc: cols % 2, Lo: -inf, Hi: inf}
				k.Gemm(&x)
				if x.LDA = rows; cols <= k.NR {
					k.GemmTN(&x)
				}
			}
		}
		for pix := 1; pix <= k.MP; pix++ {
			for n := 1; n <= 2*k.Lanes+1; n++ {
				d := DwTile{Dst: end(c, pix*n), Src: end(a, pix*n+5), W: end(b, 2*n), Bias: end(bias, n), Taps: []int{0, 0, 5, n},
					LDD: n, LDS: n, N: n, Pix: pix, Lo: -1, Hi: 1}
				k.Depthwise(&d)
			}
		}
		for pix := 1; pix <= k.MW; pix++ {
			for n := 1; n <= 2*k.Lanes+1; n++ {
				d := DwTile{Dst: end(c, pix*n), Src: end(a, (pix+2)*n), W: end(b, 3*n), Bias: end(bias, n), Taps: []int{0, 0},
					LDD: n, LDS: n, LDW: n, N: n, Pix: pix, Last: pix + 2, Lo: -1, Hi: 1}
				k.DepthwiseRow(&d, 3, 1)
			}
		}
		for n := range 300 {
			k.AddClamp(end(c, n), end(a, n), end(b, n), 0, 1)
			k.Clamp(end(c, n), end(a, n), 0, 1)
			k.Axpy(end(c, n), end(a, n), 2)
			k.QuantDequant(end(c, n), end(a, n), 1, 0, 0, 1)
			k.MinMax(end(a, n))
			k.Histogram(make([]uint32, HistogramSize), end(a, n), 1, -700, 1536)
			k.Finite(end(a, n))
			k.Sigmoid(end(c, n), end(a, n))
			k.Divide(end(c, n), end(a, n), end(b, n))
		}
	})
}
