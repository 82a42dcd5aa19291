package integer

import (
	"testing"

	"roundel/tensor"
)

// TestSplit checks the proof that sums stay exact: 520 products of 255*127 do not, and are cut in two.
func TestSplit(t *testing.T) {
	for _, c := range []struct{ products, parts int }{{8, 1}, {518, 1}, {519, 2}, {1036, 2}, {1038, 0}} {
		w := &weights{codes: make([]float32, c.products), shape: tensor.Shape{1, c.products}}
		for i := range w.codes {
			w.codes[i] = 127
		}
		parts := w.split(grid{lo: 0, hi: 255}, []float32{1000})
		if len(parts) != c.parts {
			t.Errorf("%d products: %d parts, want %d", c.products, len(parts), c.parts)
			continue
		}
		total := float32(0)
		for _, p := range parts {
			for _, v := range p {
				total += v
			}
		}
		if c.parts > 0 && total != float32(127*c.products) {
			t.Errorf("%d products: the parts sum to %v", c.products, total)
		}
	}
}
