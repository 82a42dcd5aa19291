package tensor

import "math"

// Normalisations, in float64.

// BatchNorm returns (x - mean)/√(variance+eps)·scale + bias with one value of each
// for every channel, axis 1 of x.
func BatchNorm(x *Dense[float64], scale, bias, mean, variance []float64, eps float64) *Dense[float64] {
	y := New[float64](x.shape...)
	inner := Shape(x.shape[min(2, len(x.shape)):]).Len()
	for i, v := range x.data {
		c := i / max(inner, 1) % len(scale)
		y.data[i] = float64((v-mean[c])/math.Sqrt(variance[c]+eps)*scale[c]) + bias[c]
	}
	return y
}

// Standardize replaces every line of x along axes by (v - mean)/√(variance+eps). It
// also returns the means and 1/√(variance+eps), with extent one along axes.
func Standardize(x *Dense[float64], axes []int, eps float64) (y, mean, inv *Dense[float64]) {
	var means, invs []float64
	y = MapLines(x, axes, func(l []float64) {
		m, v := Variance(l)
		s := 1 / math.Sqrt(v+eps)
		means, invs = append(means, m), append(invs, s)
		for i := range l {
			l[i] = (l[i] - m) * s
		}
	})
	shape := ReducedShape(x.shape, axes, true)
	return y, From(means, shape...), From(invs, shape...)
}

// RMSNorm replaces every line of x along axes by v/√(mean of squares + eps).
func RMSNorm(x *Dense[float64], axes []int, eps float64) *Dense[float64] {
	return MapLines(x, axes, func(l []float64) {
		s := math.Sqrt(SumSquares(l)/float64(len(l)) + eps)
		for i := range l {
			l[i] /= s
		}
	})
}

// LpNormalize replaces every line of x along axis by v/(Σ |v|ᵖ)^(1/p); a line of zeros stays.
func LpNormalize(x *Dense[float64], axis int, p float64) *Dense[float64] {
	return MapLines(x, []int{axis}, func(l []float64) {
		n := LpNorm(l, p)
		for i := range l {
			if n != 0 {
				l[i] /= n
			}
		}
	})
}

// LRN is local response normalisation across channels, axis 1 of x:
//
//	y[c] = x[c] / (bias + alpha/size · Σ x[j]²)^beta,  j = c-⌊(size-1)/2⌋ … c+⌈(size-1)/2⌉
func LRN(x *Dense[float64], size int, alpha, beta, bias float64) *Dense[float64] {
	before, after := (size-1)/2, size/2
	var buf []float64
	return MapLines(x, []int{1}, func(l []float64) {
		buf = append(buf[:0], l...)
		for c := range l {
			s := SumSquares(buf[max(0, c-before):min(len(buf), c+after+1)])
			l[c] /= Pow(bias+float64(alpha/float64(size)*s), beta)
		}
	})
}
