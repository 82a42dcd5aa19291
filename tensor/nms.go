package tensor

import "slices"

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
	for _, i := range order {
		if len(keep) >= limit {
			break
		}
		b := corners(boxes[i*4:], centre)
		if !slices.ContainsFunc(keep, func(j int) bool { return overlap(b, corners(boxes[j*4:], centre)) > maxIoU }) {
			keep = append(keep, i)
		}
	}
	return keep
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
