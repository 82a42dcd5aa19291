package asm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestDepthwiseInPlace holds Depthwise to its promise: with one tap and a multiple of
// eight channels its output may be its input, or its weights.
func TestDepthwiseInPlace(t *testing.T) {
	forEachISA(t, func(t *testing.T, k *Kernels) {
		r := rand.New(rand.NewPCG(15, 4))
		for n := 8; n <= 72; n += 8 {
			for pix := 1; pix <= k.MP; pix++ {
				d := DwTile{N: n, Pix: pix, LDD: n, LDS: n, W: values(r, n, 0), Taps: []int{0, 0}, Src: values(r, pix*n, 0), Bias: values(r, n, 0), Lo: -1, Hi: 1}
				want := make([]float32, pix*n)
				d.Dst = want
				k.Depthwise(&d)
				src := d.Src
				d.Src = slices.Clone(src)
				d.Dst = d.Src
				k.Depthwise(&d)
				compare(t, fmt.Sprintf("over its input, n=%d pix=%d", n, pix), d.Dst, want)
				if pix == 1 {
					d.Src = src
					d.Dst = d.W
					k.Depthwise(&d)
					compare(t, fmt.Sprintf("over its weights, n=%d", n), d.Dst, want)
				}
			}
		}
	})
}
