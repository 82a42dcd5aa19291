package tensor

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// plainNMS is NonMaxSuppression without an index.
func plainNMS(boxes, scores []float64, limit int, maxIoU, minScore float64) (keep []int) {
	order := make([]int, 0, len(scores))
	for i, s := range scores {
		if s > minScore {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return compareNumbers(scores[b], scores[a]) })
	for _, i := range order {
		hit := slices.ContainsFunc(keep, func(j int) bool {
			return overlap(corners(boxes[i*4:], false), corners(boxes[j*4:], false)) > maxIoU
		})
		if !hit && len(keep) < limit {
			keep = append(keep, i)
		}
	}
	return keep
}

// TestNonMaxSuppressionIndex compares with the plain loop over all pairs, on boxes of
// all sizes, groups far apart, points, and coordinates that are not finite.
func TestNonMaxSuppressionIndex(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for round := range 200 {
		n := r.IntN(120)
		boxes, scores := make([]float64, 4*n), make([]float64, n)
		for i := range n {
			far := float64(r.IntN(1+round%7)) * 1000
			for k := range 2 {
				at, size := far+r.Float64()*100, math.Exp(5*r.Float64())*float64(r.IntN(5))
				boxes[4*i+k], boxes[4*i+2+k] = at, at+size
			}
			scores[i] = float64(r.IntN(50))
			if round%20 == 19 && r.IntN(10) == 0 {
				boxes[4*i+r.IntN(4)] = []float64{math.NaN(), math.Inf(1), math.Inf(-1)}[r.IntN(3)]
			}
		}
		for _, iou := range []float64{0, 0.3, 0.7, -1} {
			limit := 1 + r.IntN(n+1)
			if got, want := NonMaxSuppression(boxes, scores, limit, iou, 3, false), plainNMS(boxes, scores, limit, iou, 3); !slices.Equal(got, want) {
				t.Fatalf("round %d, IoU %v: got %v, want %v", round, iou, got, want)
			}
		}
	}
}
