package asm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestGemmRow compares GemmRow with Gemm panel by panel, guards included.
func TestGemmRow(t *testing.T) {
	forEachISA(t, func(t *testing.T, k *Kernels) {
		if k.RowPanels == 0 {
			t.Skip("these kernels have no GemmRow")
		}
		r := rand.New(rand.NewPCG(8, 8))
		for depth := 1; depth <= 40; depth++ {
			cols := k.RowPanels * k.NR
			x := Tile{A: values(r, depth, 30), Bias: values(r, cols, 30), Taps: []int{0}, LDA: depth*k.NR + r.IntN(3), LDB: k.NR, K: depth,
				Cols: cols, Acc: depth % 2, Lo: float32(depth%3) - 2, Hi: 2}
			x.B = values(r, k.RowPanels*x.LDA, 30)
			if depth%4 == 0 {
				x.Bias, x.Lo, x.Hi = nil, float32(math.Inf(-1)), float32(math.Inf(1))
			}
			got := values(r, cols+guardZone, 30)
			want := slices.Clone(got)
			for p := range k.RowPanels {
				y := x
				y.Rows, y.Split, y.Cols, y.B, y.C = 1, 1, k.NR, x.B[p*x.LDA:], want[p*k.NR:]
				if y.Bias != nil {
					y.Bias = x.Bias[p*k.NR:]
				}
				k.Gemm(&y)
			}
			x.C = got
			k.GemmRow(&x)
			compare(t, fmt.Sprint("k=", depth), got, want)
		}
	})
}
