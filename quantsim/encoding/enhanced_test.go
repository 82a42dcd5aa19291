package encoding

import (
	"math"
	"math/rand/v2"
	"testing"
)

// plainCost is cost by its definition, over all bins.
func plainCost(h *histogram, p params, bits int) float64 {
	d, o := p.scale, p.offset
	first, last := h.binOf(float32(d*o)), h.binOf(float32(d*(o+math.Ldexp(1, bits)-1)))
	sum := 0.0
	for i, share := range h.pdf {
		mid := h.mid(i)
		switch e := 0.0; {
		case share == 0:
		case i < first || i >= last:
			if e = mid - h.mid(first); i >= last {
				e = mid - h.mid(last)
			}
			sum += float64(3 * float64(share*float64(e*e)))
		default:
			e = mid - float64(d*(roundAway(mid/d-o)+o))
			sum += float64(share * float64(e*e))
		}
	}
	return sum
}

// TestEnhancedFindsTheFirstLeast compares the search, which gives up early, with one that does not.
func TestEnhancedFindsTheFirstLeast(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for round := range 60 {
		x := make([]float32, []int{1, 9, 200, 5000}[round%4])
		for i := range x {
			v := r.NormFloat64()
			switch round / 4 % 3 {
			case 0:
				v *= v * v
			case 1:
				v = max(v, 0)
			}
			x[i] = float32(v)
		}
		for _, bits := range []int{2, 4, 8, 16} {
			for _, g := range []Grid{{Bits: bits, Symmetric: true}, {Bits: bits, Symmetric: true, Strict: true}, {Bits: bits, Symmetric: true, Unsigned: true}, {Bits: bits}} {
				h := &histogram{}
				p := h.part()
				p.addRange(x)
				h.fix(p)
				for range 2 { // the second batch has other data, some of it outside of the bins
					p.add(x)
					h.commit(p)
					for i := range x {
						x[i] *= 1.5
					}
				}
				got := h.enhanced(g)
				var want params
				least := math.Inf(1)
				for _, c := range h.grids {
					if cost := plainCost(h, c, bits); cost < least {
						want, least = c, cost
					}
				}
				if got != want && !h.empty() {
					t.Fatalf("round %d, %+v: %v, want %v", round, g, got, want)
				}
				for i := range x {
					x[i] /= 1.5 * 1.5
				}
			}
		}
	}
}
