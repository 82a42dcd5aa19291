package tensor

import (
	"math"
	"testing"
)

func TestMinMaxAndNonFinite(t *testing.T) {
	for n := 1; n < 40; n++ {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32((i*7)%11) - 5
		}
		lo, hi := x[0], x[0]
		for _, v := range x {
			lo, hi = min(lo, v), max(hi, v)
		}
		if a, b := MinMax(x); a != lo || b != hi {
			t.Errorf("%d elements: %v, %v, want %v, %v", n, a, b, lo, hi)
		}
		if i := FirstNonFinite(x); i != -1 {
			t.Errorf("%d finite elements: index %d", n, i)
		}
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			for at := range x {
				y := append([]float32(nil), x...)
				y[at] = float32(bad)
				if i := FirstNonFinite(y); i != at {
					t.Errorf("%v at %d of %d: index %d", bad, at, n, i)
				}
			}
		}
	}
	big := make([]float32, 10000)
	big[9001] = float32(math.NaN())
	if i := FirstNonFinite(big); i != 9001 {
		t.Errorf("index %d", i)
	}
	if i := FirstNonFinite([]float32{math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, 0}); i != -1 {
		t.Errorf("extreme finite numbers: index %d", i)
	}
}
