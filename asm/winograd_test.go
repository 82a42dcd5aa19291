package asm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestWinograd compares both transforms with the generic loops, which are their definition, for the least and odd
// distances and for those of an image, special values among the operands.
func TestWinograd(t *testing.T) {
	forEachISA(t, func(t *testing.T, k *Kernels) {
		r := rand.New(rand.NewPCG(9, 9))
		for n := k.Lanes; n <= 5*k.Lanes; n += k.Lanes {
			for tiles := 1; tiles <= 4; tiles++ {
				for _, odds := range []int{0, 5} {
					gap := r.IntN(4)
					w := WinogradTiles{N: n, Tiles: tiles, Pixel: n + gap, Row: (2*tiles + 2) * (n + gap), Next: 2 * (n + gap),
						Step: n + r.IntN(3), Term: tiles*(n+3) + r.IntN(3), Lo: -1, Hi: 2}
					image, terms, bias := values(r, 4*w.Row, odds), values(r, 16*w.Term, odds), values(r, n, odds)
					if r.IntN(2) == 0 {
						bias = nil
					}
					w.Bias = bias
					name := fmt.Sprintf("n=%d tiles=%d bias=%v", n, tiles, bias != nil)
					w.Image, w.Terms = image, slices.Clone(terms)
					k.WinogradInput(&w)
					got := w.Terms
					w.Terms = slices.Clone(terms)
					winogradInGeneric(&w)
					compare(t, "input "+name, got, w.Terms)
					w.Image, w.Terms = slices.Clone(image), terms
					k.WinogradOutput(&w)
					got = w.Image
					w.Image = slices.Clone(image)
					winogradOutGeneric(&w)
					compare(t, "output "+name, got, w.Image)
				}
			}
		}
	})
}

// TestWinogradIsConvolution: small whole numbers, where every step is exact, give the convolution itself.
func TestWinogradIsConvolution(t *testing.T) {
	forEachISA(t, func(t *testing.T, k *Kernels) {
		r, n := rand.New(rand.NewPCG(10, 10)), k.Lanes
		image, terms, out := make([]float32, 16*n), make([]float32, 16*n), make([]float32, 4*n)
		for i := range image {
			image[i] = float32(r.IntN(201) - 100)
		}
		var g [3][3]float32
		var u [4][4]float32
		for i := range 9 {
			g[i/3][i%3] = float32(4 * (r.IntN(41) - 20))
		}
		rows := func(a, b, c float32) [4]float32 { return [4]float32{a, (a + b + c) / 2, (a - b + c) / 2, c} }
		for y := range 4 {
			var s [3]float32
			for x := range 3 {
				s[x] = rows(g[0][x], g[1][x], g[2][x])[y]
			}
			u[y] = rows(s[0], s[1], s[2])
		}
		k.WinogradInput(&WinogradTiles{Image: image, Terms: terms, N: n, Tiles: 1, Row: 4 * n, Pixel: n, Term: n})
		for i := range terms {
			terms[i] *= u[i/n/4][i/n%4]
		}
		k.WinogradOutput(&WinogradTiles{Image: out, Terms: terms, N: n, Tiles: 1, Row: 2 * n, Pixel: n, Term: n, Lo: -1e9, Hi: 1e9})
		want := make([]float32, 4*n)
		for i := range want {
			y, x, c := i/n/2, i/n%2, i%n
			for ky := range 3 {
				for kx := range 3 {
					want[i] += image[((y+ky)*4+x+kx)*n+c] * g[ky][kx]
				}
			}
		}
		compare(t, "tile", out, want)
	})
}

func TestWinogradPanicsOnShortOperands(t *testing.T) {
	forEachISA(t, func(t *testing.T, k *Kernels) {
		n := k.Lanes
		whole := WinogradTiles{Image: make([]float32, 24*n), Terms: make([]float32, 32*n), Bias: make([]float32, n), N: n, Tiles: 2,
			Row: 6 * n, Pixel: n, Next: 2 * n, Term: 2 * n, Step: n}
		for what, spoil := range map[string]func(w *WinogradTiles){
			"Image": func(w *WinogradTiles) { w.Image = w.Image[1:] },
			"Terms": func(w *WinogradTiles) { w.Terms = w.Terms[1:] },
			"Bias":  func(w *WinogradTiles) { w.Bias = w.Bias[1:] },
			"N":     func(w *WinogradTiles) { w.N-- },
			"Pixel": func(w *WinogradTiles) { w.Pixel = -1 },
		} {
			for name, f := range map[string]func(*WinogradTiles){"input": k.WinogradInput, "output": k.WinogradOutput} {
				w := whole
				f(&w)
				if name == "output" { // reads fewer pixels
					w.Row = 20 * n
				}
				spoil(&w)
				func() {
					defer func() {
						if recover() == nil && (what != "Bias" || name == "output") {
							t.Errorf("%s: no panic for %s", name, what)
						}
					}()
					f(&w)
				}()
			}
		}
	})
}
