package quantsim

import (
	"fmt"
	"math"
	"testing"

	"roundel/quantsim/encoding"
)

// TestBlocksLikeAIMET compares block-wise encodings of every kind of layer with AIMET's files, which bench/interop/placement.py
// writes, and loads those files.
func TestBlocksLikeAIMET(t *testing.T) {
	scales, tensors := 0, map[string]bool{}
	for _, size := range []int{2, 3, 5, 7} {
		for _, version := range []string{"1.0.0", "2.0.0"} {
			f, err := encoding.ReadFile(fmt.Sprintf("testdata/placement/blocks%d_%s.encodings", size, version))
			if err != nil {
				t.Fatal(err)
			}
			cfg := DefaultConfig()
			cfg.ParamBits = 4
			ours, theirs := smallSim(t, "orientations", cfg, nil), smallSim(t, "orientations", cfg, nil)
			if err := theirs.LoadEncodings(f, LoadOptions{Reconfigure: true}); err != nil {
				t.Fatal(err)
			}
			for _, e := range f.Entries {
				if e.BlockSize == 0 {
					continue
				}
				if err := ours.SetBlocks(size, e.Name); err != nil {
					t.Fatal(err)
				}
				if err := ours.computeConsts(t.Context()); err != nil {
					t.Fatal(err)
				}
				a, _ := ours.State(e.Name)
				b, _ := theirs.State(e.Name)
				tensors[e.Name] = true
				if a.Encoding.Grid != b.Encoding.Grid || len(a.Encoding.Scale) != len(b.Encoding.Scale) {
					t.Errorf("%s, blocks of %d, %s: %+v, AIMET has %+v", e.Name, size, version, a.Encoding.Grid, b.Encoding.Grid)
					continue
				}
				for i, s := range b.Encoding.Scale {
					if math.Abs(a.Encoding.Scale[i]-s) > 1e-6*s || a.Encoding.Offset[i] != b.Encoding.Offset[i] {
						t.Errorf("%s, blocks of %d, %s: scale %d is %v, AIMET has %v", e.Name, size, version, i, a.Encoding.Scale[i], s)
						break
					}
					scales++
				}
			}
		}
	}
	t.Logf("%d scales of %d weights", scales, len(tensors))
	if len(tensors) < 6 {
		t.Errorf("blocks only of %v", tensors)
	}
}
