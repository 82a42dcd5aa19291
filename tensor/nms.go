package tensor

import (
	"math"
	"slices"
)

// NonMaxSuppression returns the indices of the boxes to keep, best first: at most
// limit of those with a score above minScore, without any that overlaps a better
// one by more than maxIoU (intersection over union).
//
//	boxes: [B, 4] as two opposite corners (y₁, x₁, y₂, x₂), or as (x, y, width, height) of the
//	centre if centre is set   scores: [B]
func NonMaxSuppression(boxes, scores []float64, limit int, maxIoU, minScore float64, centre bool) []int {
	var order, keep []int
	for i, s := range scores {
		if s > minScore {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return compareNumbers(scores[b], scores[a]) })
	near := newBoxIndex(boxes, order, centre, maxIoU)
	for _, i := range order {
		if len(keep) >= limit {
			break
		}
		b := corners(boxes[i*4:], centre)
		lo, hi := near.bins(b)
		if !slices.ContainsFunc(near.kept[lo:hi+1], func(l [][4]float64) bool {
			return slices.ContainsFunc(l, func(k [4]float64) bool { return overlap(b, k) > maxIoU })
		}) {
			keep = append(keep, i)
			for bin := lo; bin <= hi; bin++ {
				near.kept[bin] = append(near.kept[bin], b)
			}
		}
	}
	return keep
}

// boxIndex sorts kept boxes by the intervals of the first axis that they touch: only
// those that share one with a box can overlap it.
type boxIndex struct {
	from, scale float64
	kept        [][][4]float64
}

// newBoxIndex returns an empty index for the boxes in order. It has one interval where
// boxes without a common point may suppress each other, or coordinates are not finite.
func newBoxIndex(boxes []float64, order []int, centre bool, maxIoU float64) *boxIndex {
	low, high, size := math.Inf(1), math.Inf(-1), 0.0
	for _, i := range order {
		b := corners(boxes[i*4:], centre)
		low, high = min(low, b[0]), max(high, b[2])
		size += (b[2] - b[0]) / float64(len(order))
	}
	n := int(min((high-low)/size, 4096)) // a box of average size touches about two
	if !(maxIoU >= 0) || !(high-low < math.MaxFloat64) || !(size > 0) || n < 1 {
		return &boxIndex{kept: make([][][4]float64, 1)}
	}
	return &boxIndex{from: low, scale: float64(n) / (high - low), kept: make([][][4]float64, n)}
}

// bins returns the first and the last interval that a box touches.
func (x *boxIndex) bins(b [4]float64) (lo, hi int) {
	if len(x.kept) == 1 {
		return 0, 0
	}
	bin := func(v float64) int { return int(min(max((v-x.from)*x.scale, 0), float64(len(x.kept)-1))) }
	lo = bin(b[0])
	return lo, max(lo, bin(b[2]))
}

// corners returns a box as (low, low, high, high).
func corners(b []float64, centre bool) [4]float64 {
	if centre {
		hw, hh := float64(b[2]/2), float64(b[3]/2)
		return [4]float64{b[0] - hw, b[1] - hh, b[0] + hw, b[1] + hh}
	}
	return [4]float64{min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])}
}

// overlap returns the intersection of two boxes over their union.
func overlap(a, b [4]float64) float64 {
	h, w := min(a[2], b[2])-max(a[0], b[0]), min(a[3], b[3])-max(a[1], b[1])
	if h <= 0 || w <= 0 {
		return 0
	}
	both := float64(h * w)
	areaA := float64((a[2] - a[0]) * (a[3] - a[1]))
	areaB := float64((b[2] - b[0]) * (b[3] - b[1]))
	return both / (areaA + areaB - both)
}
