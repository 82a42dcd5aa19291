package encoding_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// TestSameBitsEverywhere pins the bits of encodings and quantized values of every
// scheme: they must be the same on every architecture and with every tag.
func TestSameBitsEverywhere(t *testing.T) {
	h := sha256.New()
	shape := tensor.Shape{3, 50, 7}
	x := make([]float32, shape.Len())
	state := uint64(1)
	for i := range x {
		sum := 0.0
		for range 4 { // roughly normal, from integers
			state = state*6364136223846793005 + 1442695040888963407
			sum += float64(state>>40) / (1 << 24)
		}
		x[i] = float32(sum - 2)
	}
	for _, m := range allMethods() {
		for _, bits := range []int{2, 4, 8, 16} {
			for _, g := range []encoding.Grid{{Axis: encoding.PerTensor}, {Axis: 0, Symmetric: true}, {Axis: 2, Symmetric: true, Strict: true}} {
				g.Bits = bits
				e, err := encoding.Compute(t.Context(), "x", x, shape, g, m)
				if err != nil {
					t.Fatal(err)
				}
				q := make([]float32, len(x))
				if err := e.QuantizeDequantize(q, x, shape); err != nil {
					t.Fatal(err)
				}
				for i, s := range e.Scale {
					_ = binary.Write(h, binary.LittleEndian, []uint64{math.Float64bits(s), math.Float64bits(e.Offset[i])})
				}
				_ = binary.Write(h, binary.LittleEndian, q)
			}
		}
	}
	const want = "6c943c76f69dfe24"
	if got := fmt.Sprintf("%x", h.Sum(nil)[:8]); got != want {
		t.Errorf("the bits changed: hash %s, committed %s", got, want)
	}
}
