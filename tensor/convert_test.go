package tensor

import (
	"math"
	"testing"
)

func TestHalf(t *testing.T) {
	for _, c := range []struct {
		v    float64
		f16  F16
		bf16 BF16
	}{
		{0, 0, 0}, {math.Copysign(0, -1), 0x8000, 0x8000}, {1, 0x3c00, 0x3f80}, {-2, 0xc000, 0xc000},
		{65504, 0x7bff, 0x4780}, {65519.99, 0x7bff, 0x4780}, {65520, 0x7c00, 0x4780}, {-1e30, 0xfc00, 0xf14a},
		{math.Inf(1), 0x7c00, 0x7f80}, {1e39, 0x7c00, 0x7f80},
		{0x1p-24, 1, 0x3380}, {0x1p-25, 0, 0x3300}, {0x1.8p-25, 1, 0x3340}, {0x1p-14, 0x0400, 0x3880}, {0x1.ff8p-15, 0x03ff, 0x3880},
		{1 + 0x1p-11, 0x3c00, 0x3f80}, {1 + 0x3p-11, 0x3c02, 0x3f80}, {1 + 0x1p-8, 0x3c04, 0x3f80}, {1 + 0x3p-8, 0x3c0c, 0x3f82},
		{0x1p-133, 0, 1}, {0x1p-134, 0, 0},
	} {
		if got := ToF16(c.v); got != c.f16 {
			t.Errorf("ToF16(%v) = %#x, want %#x", c.v, got, c.f16)
		}
		if got := ToBF16(c.v); got != c.bf16 {
			t.Errorf("ToBF16(%v) = %#x, want %#x", c.v, got, c.bf16)
		}
	}
	for h := range 1 << 16 { // every value survives the round trip
		f, b := F16(h), BF16(h)
		if v := f.Float64(); v == v && ToF16(v) != f || v != v && ToF16(v)&0x7e00 != 0x7e00 {
			t.Fatalf("F16 %#x -> %v -> %#x", h, v, ToF16(v))
		}
		if v := b.Float64(); v == v && ToBF16(v) != b {
			t.Fatalf("BF16 %#x -> %v -> %#x", h, v, ToBF16(v))
		}
	}
}

func TestCastEdges(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	x := From([]float64{-1.9, 1.9, 300, -300, nan, inf, -inf, 1e20}, 8)
	for _, c := range []struct {
		to   DType
		want []float64
	}{
		{Int8, []float64{-1, 1, 127, -128, 0, 127, -128, 127}},
		{Uint8, []float64{0, 1, 255, 0, 0, 255, 0, 255}},
		{Int64, []float64{-1, 1, 300, -300, 0, math.MaxInt64, math.MinInt64, math.MaxInt64}},
		{Uint64, []float64{0, 1, 300, 0, 0, math.MaxUint64, 0, math.MaxUint64}},
		{Bool, []float64{1, 1, 1, 1, 1, 1, 1, 1}},
	} {
		got := Float64s(Cast(x, c.to))
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%v -> %v = %v, want %v", x.Data()[i], c.to, got[i], c.want[i])
			}
		}
	}
	if got := Cast(From([]int64{-1, 257}, 2), Uint8).(*Dense[uint8]).Data(); got[0] != 255 || got[1] != 1 {
		t.Errorf("integers do not wrap: %v", got)
	}
	for dt := Float32; dt <= Bool; dt++ { // every pair of types keeps 0 and 1
		for to := Float32; to <= Bool; to++ {
			if got := Float64s(Cast(Cast(Cast(From([]float64{0, 1}, 2), dt), to), Float64)); got[0] != 0 || got[1] != 1 {
				t.Errorf("%v -> %v: %v", dt, to, got)
			}
		}
	}
}
