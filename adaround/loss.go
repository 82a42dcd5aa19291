package adaround

import (
	"math"

	"roundel/asm"
	"roundel/tensor"
)

// This file is the paper: M. Nagel, R. A. Amjad, M. van Baalen, C. Louizos,
// T. Blankevoort, "Up or Down? Adaptive Rounding for Post-Training
// Quantization", ICML 2020 (arXiv:2004.10568v2), whose equation numbers are used.
//
//	(21)  min_V ‖Wx − W̃x‖² + λ·f_reg(V)
//	(22)  W̃ = s·clip(⌊W/s⌋ + h(V), n, p)
//	(23)  h(V) = clip(σ(V)(ζ − γ) + γ, 0, 1),  ζ = 1.1, γ = −0.1
//	(24)  f_reg(V) = Σ_ij 1 − |2h(V_ij) − 1|^β
//	(25)  min_V ‖f_a(Wx) − f_a(W̃x̂)‖² + λ·f_reg(V),  x̂ from the network rounded so far

// Stretch of the rectified sigmoid, eq. (23).
const (
	zeta  = asm.Zeta
	gamma = asm.Gamma
)

// saturation is where the clip of eq. (23) sets in: σ(±ln 11)(ζ − γ) + γ is 1 and 0.
// The clip is decided on V, so that rounding noise in σ cannot open it for the
// weights that start at V = −ln 11, those that lie on the grid.
const saturation = asm.Saturation

// rectify returns h and dh/dV of eq. (23) from V and σ = σ(V). The derivative is zero where the clip is active.
func rectify(v, sigma float32) (h, dh float32) {
	switch {
	case v <= -saturation:
		return 0, 0
	case v >= saturation:
		return 1, 0
	}
	h = float32(sigma*(zeta-gamma)) + gamma
	return min(max(h, 0), 1), (zeta - gamma) * float32(sigma*(1-sigma))
}

// initialV inverts eq. (23): h(initialV(r)) = r for r = W/s − ⌊W/s⌋ in [0, 1), so
// that the search starts at the float weight. V = −ln((ζ−γ)/(r−γ) − 1).
func initialV(r float32) float32 {
	return float32(-tensor.Log((zeta-gamma)/(float64(r)-gamma) - 1))
}

// regularizer returns 1 − |2h−1|^β of eq. (24) and its derivative by h, −2β·|2h−1|^(β−1)·sign(2h−1).
func regularizer(h, beta float32) (f, df float32) {
	t := float32(2*h) - 1
	u := max(t, -t, 1e-30)
	q := asm.Exp(float32((beta - 1) * asm.Log(u))) // u^(β−1)
	f = 1 - float32(q*u)
	df = float32(-2*beta) * q
	if t < 0 {
		df = -df
	}
	return f, df
}

// anneal is the schedule of β: absent during the warm start, then a half cosine from Start to End.
//
//	t = (i − w·T)/(T − w·T),  β = End + (Start − End)(1 + cos πt)/2
type anneal struct {
	iterations int
	warmStart  float64 // share of the iterations without regulariser
	start, end float64
}

// at returns β of iteration i, and false during the warm start.
func (a anneal) at(i int) (beta float64, ok bool) {
	warm := float64(a.warmStart * float64(a.iterations))
	if float64(i) < warm {
		return 0, false
	}
	t := (float64(i) - warm) / (float64(a.iterations) - warm)
	return a.end + float64(float64(0.5*(a.start-a.end))*(1+tensor.Cos(math.Pi*t))), true
}

// reconstruction returns Σ_po (f(z_po) − f(y_po))² of eq. (25) and replaces z by its
// gradient 2·(f(z) − f(y))·f'(z)·weight. fy holds f(y). Rows of z and fy have n
// elements, of which the first len(act) count. Divide by the number of positions for the loss.
func reconstruction(z, fy []float32, n int, act []scalar, weight float32) float64 {
	var sum float64
	for p := 0; p < len(z); p += n {
		zp, yp := z[p:p+len(act)], fy[p:p+len(act)]
		var row float32
		for o, a := range act {
			f, df := a.both(zp[o])
			e := f - yp[o]
			row += float32(e * e)
			zp[o] = float32(2*weight) * float32(e*df)
		}
		sum += float64(row)
	}
	return sum
}

// slope returns the gradient of the whole loss by V and the weight's share of the regulariser, from
// the gradient grad of the reconstruction loss by W̃:
//
//	∂L/∂V = (s·∂recon/∂W̃·[n ≤ ⌊W/s⌋+h ≤ p] + λ·∂f_reg/∂h)·∂h/∂V
func slope(v, sigma, base, grad, scale, lo, hi, lambda, beta float32) (g, penalty float32) {
	h, dh := rectify(v, sigma)
	if code := base + h; code >= lo && code <= hi {
		g = scale * grad
	}
	if lambda != 0 {
		f, df := regularizer(h, beta)
		penalty = lambda * f
		g += float32(lambda * df)
	}
	return g * dh, penalty
}

// adamStep moves v by one step of Adam along the gradient g. rate is the learning
// rate over 1−β₁ᵗ, root is 1/√(1−β₂ᵗ).
func adamStep(v, m, s *float32, g, rate, root float32) {
	*m += float32((g - *m) * (1 - asm.AdamBeta1))
	*s = float32(*s*asm.AdamBeta2) + float32(float32(g*g)*(1-asm.AdamBeta2))
	denom := float32(float32(math.Sqrt(float64(*s)))*root) + asm.AdamEps
	*v -= float32(rate**m) / denom
}

// soften returns W̃ of eq. (22).
func soften(v, sigma, base, scale, lo, hi float32) float32 {
	h, _ := rectify(v, sigma)
	return scale * min(max(base+h, lo), hi)
}

// floorAndRest splits w/s into ⌊w/s⌋ and the rest r in [0, 1), both in float32 as the reference does.
func floorAndRest(w, s float32) (f, r float32) {
	q := w / s
	f = float32(math.Floor(float64(q)))
	return f, q - f
}
