package asm

import "math"

// The kernels of adaptive rounding. Unlike those of the matrix products they round
// every product before it is added, and sums run over SumLanes partial sums.

// SumLanes is the number of partial sums of ClampGain: element i is added to sum
// i mod SumLanes, and the sums are folded in halves.
const SumLanes = 16

// RoundStep describes one step of Adam on the rounding variables of rows of N
// weights. The assembly reads the fields by offset.
type RoundStep struct {
	V      []float32 // rounding variable
	Sigma  []float32 // σ(V)
	M, S   []float32 // first and second moment
	Grad   []float32 // of the loss by W
	Base   []float32 // ⌊W/s⌋ of the float weight
	W      []float32 // soft weight, written
	Scale  []float32 // [N]
	Lo, Hi []float32 // [N] range of the codes
	Rows   int
	N      int     // a multiple of Lanes
	Step   float32 // learning rate over 1 - β₁ᵗ
	Root   float32 // 1/√(1 - β₂ᵗ)
	Lambda float32 // weight of the regulariser; 0 leaves it out
	Beta   float32 // its exponent
}

type (
	gainFunc func(sums *[SumLanes]float32, z, y2, a []float32, d, lo, hi float32)
	stepFunc func(*RoundStep)
)

// ClampGain returns by how much the sum of (clamp(z) - y2/2)² changes when z moves by d·a:
//
//	Σ_i (f1-f0)·((f1+f0)-y2[i]),  f0 = clamp(z[i]), f1 = clamp(z[i]+d·a[i])
//
// The slices have the length of a, a multiple of SumLanes.
func (k *Kernels) ClampGain(z, y2, a []float32, d, lo, hi float32) float32 {
	var s [SumLanes]float32
	if len(a)%SumLanes != 0 {
		panic("asm: ClampGain: length is not a multiple of SumLanes")
	}
	k.clampGain(&s, z[:len(a)], y2[:len(a)], a, d, lo, hi)
	for n := SumLanes / 2; n > 0; n /= 2 {
		for i := range n {
			s[i] += s[i+n]
		}
	}
	return s[0]
}

// ClampGrad replaces predictions by half the gradient of (clamp(z) - y)² times scale:
// z[i] = (z[i]-y[i])·scale where lo < z[i] < hi, else 0. It panics if y is shorter than z.
func (k *Kernels) ClampGrad(z, y []float32, lo, hi, scale float32) {
	k.clampGrad(z, y[:len(z)], lo, hi, scale)
}

// RoundStep does one step; see Rectify, Regularizer and AdamBeta1 for what is computed.
// It panics if a slice is too short or N is not a multiple of Lanes.
func (k *Kernels) RoundStep(t *RoundStep) {
	n := t.Rows * t.N
	for _, s := range [][]float32{t.V, t.Sigma, t.M, t.S, t.Grad, t.Base, t.W} {
		if len(s) < n {
			panic("asm: RoundStep: operand too short")
		}
	}
	if len(t.Scale) < t.N || len(t.Lo) < t.N || len(t.Hi) < t.N || t.N%k.Lanes != 0 {
		panic("asm: RoundStep: bad row")
	}
	if n > 0 {
		k.roundStep(t)
	}
}

func clampGainGeneric(s *[SumLanes]float32, z, y2, a []float32, d, lo, hi float32) {
	z, y2 = z[:len(a)], y2[:len(a)]
	for i, v := range a {
		f0 := clamp1(z[i], lo, hi)
		f1 := clamp1(z[i]+float32(d*v), lo, hi)
		s[i%SumLanes] += float32((f1 - f0) * ((f1 + f0) - y2[i]))
	}
}

func clampGradGeneric(z, y []float32, lo, hi, scale float32) {
	for i, v := range z {
		if v > lo && v < hi {
			z[i] = (v - y[i]) * scale
		} else {
			z[i] = 0
		}
	}
}

// Stretch of the rectified sigmoid and the point where its clip sets in, ln 11.
const (
	Zeta       = 1.1
	Gamma      = -0.1
	Saturation = 2.3978952727983707
)

// Constants of Adam.
const (
	AdamBeta1 = 0.9
	AdamBeta2 = 0.999
	AdamEps   = 1e-8
)

// Rectify returns h = clip(σ·(ζ-γ)+γ, 0, 1) and dh/dV for σ = σ(V). The clip is
// decided on V, so that rounding noise in σ cannot open it at V = ±ln 11.
func Rectify(v, sigma float32) (h, dh float32) {
	switch {
	case v <= -Saturation:
		return 0, 0
	case v >= Saturation:
		return 1, 0
	}
	h = float32(sigma*(Zeta-Gamma)) + Gamma
	return clamp1(h, 0, 1), (Zeta - Gamma) * float32(sigma*(1-sigma))
}

// Regularizer returns 1 - |2h-1|^β and its derivative by h, -2β·|2h-1|^(β-1)·sign(2h-1).
func Regularizer(h, beta float32) (f, df float32) {
	t := float32(2*h) - 1
	u := max(t, -t, 1e-30)
	q := Exp(float32((beta - 1) * Log(u)))
	return 1 - float32(q*u), float32(math.Copysign(float64(float32(-2*beta)*q), float64(-t)))
}

// Gradients and moments that small change nothing any more; as subnormal numbers
// they would cost a hundred times the arithmetic on most CPUs.
const (
	tinyGrad   = 1e-15
	tinyMoment = 1e-30
	tinySquare = 1e-36
)

// flush returns 0 for |x| ≤ tiny, else x.
func flush(x, tiny float32) float32 {
	if max(x, -x) > tiny {
		return x
	}
	return 0
}

func roundStepGeneric(t *RoundStep) {
	for i := range t.Rows * t.N {
		j := i % t.N
		h, dh := Rectify(t.V[i], t.Sigma[i])
		var g float32
		if code := t.Base[i] + h; code >= t.Lo[j] && code <= t.Hi[j] {
			g = t.Scale[j] * t.Grad[i]
		}
		if t.Lambda != 0 {
			_, df := Regularizer(h, t.Beta)
			g += float32(t.Lambda * df)
		}
		g = flush(float32(g*dh), tinyGrad)
		m := flush(t.M[i]+float32((g-t.M[i])*(1-AdamBeta1)), tinyMoment)
		s := flush(float32(t.S[i]*AdamBeta2)+float32(float32(g*g)*(1-AdamBeta2)), tinySquare)
		t.M[i], t.S[i] = m, s
		denom := float32(float32(math.Sqrt(float64(s)))*t.Root) + AdamEps
		v := t.V[i] - float32(t.Step*m)/denom
		t.V[i] = v
		t.Sigma[i] = Sigmoid(v)
		h, _ = Rectify(v, t.Sigma[i])
		t.W[i] = t.Scale[j] * clamp1(t.Base[i]+h, t.Lo[j], t.Hi[j])
	}
}

// Sigmoid returns 1/(1+e^-x), with the operations of the kernels.
func Sigmoid(x float32) float32 { return 1 / (1 + Exp(-x)) }

// Polynomials of Exp and Log, highest power first.
var (
	expPoly = [...]float32{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1}
	logPoly = [...]float32{7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
		-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1}
)

const (
	roundMagic = 3 << 22        // adding it rounds to an integer, half to even
	ln2High    = 0.693359375    // ln 2 in few bits, so that small multiples are exact
	ln2Low     = -2.12194440e-4 // the rest of it
	sqrtHalf   = 0x3f3504f3     // bits of √½
)

// Exp returns e^x with a relative error below 2e-7; x is clamped to [-80, 80].
func Exp(x float32) float32 {
	if !(x > -80) { // also NaN
		x = -80
	} else if x > 80 {
		x = 80
	}
	n := float32(float32(x*math.Log2E)+roundMagic) - roundMagic
	r := x - float32(n*ln2High)
	r -= float32(n * ln2Low)
	p := expPoly[0]
	for _, c := range expPoly[1:] {
		p = float32(p*r) + c
	}
	p = float32(float32(p*r)*r) + r + 1
	return p * math.Float32frombits(uint32(int32(n)+127)<<23)
}

// Log returns ln x for normal x > 0 with a relative error below 2e-7 away from 1.
func Log(x float32) float32 {
	bits := int32(math.Float32bits(x))
	e := (bits - sqrtHalf) >> 23
	m := math.Float32frombits(uint32(bits-e<<23)) - 1 // from √½-1 to √2-1
	f, q := float32(e), float32(m*m)
	p := logPoly[0]
	for _, c := range logPoly[1:] {
		p = float32(p*m) + c
	}
	y := float32(float32(p*m)*q) + float32(f*ln2Low)
	y -= float32(0.5 * q)
	return m + y + float32(f*ln2High)
}
