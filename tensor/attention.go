package tensor

import "math"

// The stages of attention scores that Attention can return.
const (
	RawScores     = iota // scale·q·k
	CappedScores         // after the soft cap
	BiasedScores         // plus the bias
	Probabilities        // after softmax
)

// Attention is scaled dot-product attention in float64:
//
//	q: [B, H, S, D]   k: [B, K, T, D]   v: [B, K, T, E]   bias: [B, H, S, T]   result: [B, H, S, E] and [B, H, S, T]
//	y = softmax(cap·tanh(scale·q·kᵀ/cap) + bias)·v
//
// where H is a multiple of K and query head h uses key head h·K/H. Without a cap (0)
// the scores are not limited. A row whose bias is -∞ throughout gives zeros. The
// second result holds the scores at the given stage.
func Attention(q, k, v, bias *Dense[float64], scale, softcap float64, stage int) (y, scores *Dense[float64]) {
	b, h, s, d := q.shape[0], q.shape[1], q.shape[2], q.shape[3]
	heads, t, e := k.shape[1], k.shape[2], v.shape[3]
	y, scores = New[float64](b, h, s, e), New[float64](b, h, s, t)
	row := make([]float64, t)
	for r := range b * h * s {
		kv := r / (h * s) * heads
		kv += r / s % h * heads / h
		add := bias.data[r*t : (r+1)*t]
		for j := range row {
			dot := 0.0
			for c, x := range q.data[r*d : (r+1)*d] {
				dot += float64(x * k.data[(kv*t+j)*d+c])
			}
			row[j] = scale * dot
		}
		out := scores.data[r*t : (r+1)*t]
		keep := func(at int) {
			if at == stage {
				copy(out, row)
			}
		}
		keep(RawScores)
		for j := range row {
			if softcap > 0 {
				row[j] = softcap * Tanh(row[j]/softcap)
			}
		}
		keep(CappedScores)
		open := false
		for j, m := range add {
			row[j] += m
			open = open || !math.IsInf(m, -1)
		}
		keep(BiasedScores)
		if open {
			Softmax(row)
		} else {
			clear(row)
		}
		keep(Probabilities)
		for j, p := range row {
			for c := range e {
				y.data[r*e+c] += float64(p * v.data[(kv*t+j)*e+c])
			}
		}
	}
	return y, scores
}

// RotaryEmbedding rotates pairs of the first dim elements of every head of x: [B, S, H, D]
// by the angles whose cosines and sines, [B, S, dim/2], are given: pairs (2i, 2i+1)
// if interleaved, otherwise (i, i+dim/2).
func RotaryEmbedding(x, cos, sin *Dense[float64], dim int, interleaved bool) *Dense[float64] {
	y := x.Clone()
	h, d, half := x.shape[2], x.shape[3], dim/2
	for r := range x.shape[0] * x.shape[1] * h {
		for i := range half {
			p, q := r*d+i, r*d+i+half
			if interleaved {
				p, q = r*d+2*i, r*d+2*i+1
			}
			c, s := cos.data[r/h*half+i], sin.data[r/h*half+i]
			y.data[p] = float64(c*x.data[p]) - float64(s*x.data[q])
			y.data[q] = float64(s*x.data[p]) + float64(c*x.data[q])
		}
	}
	return y
}
