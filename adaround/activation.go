package adaround

import (
	"fmt"
	"math"

	"roundel/asm"
)

// ActKind names the activation that follows a layer.
type ActKind uint8

// The activations that can take part in the loss.
const (
	ActIdentity ActKind = iota
	ActClamp            // min(max(z, Lo), Hi): ReLU is [0, +Inf), ReLU6 is [0, 6]
	ActPRelu            // z for z ≥ 0, Slope·z below; LeakyRelu has one slope
	ActSigmoid
	ActTanh
	ActHardSwish // z·min(max(z/6+1/2, 0), 1)
	ActSiLU      // z·σ(z)
	ActGELU      // z·(1+erf(z/√2))/2
	ActGELUTanh  // z·(1+tanh(√(2/π)(z+0.044715z³)))/2
)

var actNames = [...]string{"identity", "clamp", "prelu", "sigmoid", "tanh", "hardswish", "silu", "gelu", "gelu_tanh"}

// String returns the lower-case name.
func (k ActKind) String() string {
	if int(k) < len(actNames) {
		return actNames[k]
	}
	return fmt.Sprintf("activation(%d)", uint8(k))
}

// Activation is the function applied to prediction and target before they are compared.
type Activation struct {
	Kind   ActKind
	Lo, Hi float32   // ActClamp; Lo < Hi
	Slope  []float32 // ActPRelu: one value, or one per output
}

func (a Activation) validate(outputs int) error {
	switch {
	case int(a.Kind) >= len(actNames):
		return fmt.Errorf("unknown %v", a.Kind)
	case a.Kind == ActClamp && !(a.Lo < a.Hi):
		return fmt.Errorf("clamp [%g, %g] is empty", a.Lo, a.Hi)
	case a.Kind == ActPRelu && len(a.Slope) != 1 && len(a.Slope) != outputs:
		return fmt.Errorf("prelu has %d slopes for %d outputs", len(a.Slope), outputs)
	}
	return nil
}

// scalar is an activation bound to one output: all that an inner loop needs.
type scalar struct {
	kind   ActKind
	lo, hi float32
	slope  float32
}

// of binds the activation to output o.
func (a Activation) of(o int) scalar {
	s := scalar{kind: a.Kind, lo: a.Lo, hi: a.Hi}
	if a.Kind == ActPRelu {
		s.slope = a.Slope[0]
		if len(a.Slope) > 1 {
			s.slope = a.Slope[o]
		}
	}
	if a.Kind == ActIdentity {
		s.lo, s.hi = float32(math.Inf(-1)), float32(math.Inf(1))
	}
	return s
}

// isClamp reports whether f is min(max(z, lo), hi), the identity included.
func (s scalar) isClamp() bool { return s.kind == ActClamp || s.kind == ActIdentity }

// value returns f(z).
func (s scalar) value(z float32) float32 {
	if s.kind == ActIdentity {
		return z
	}
	if s.kind == ActClamp {
		return s.clamp(z)
	}
	f, _ := s.both(z)
	return f
}

func (s scalar) clamp(z float32) float32 {
	if z < s.lo {
		return s.lo
	}
	if z > s.hi {
		return s.hi
	}
	return z
}

// both returns f(z) and f'(z). At a kink it is the derivative of the flatter side.
func (s scalar) both(z float32) (f, df float32) {
	switch s.kind {
	case ActClamp:
		return s.clampBoth(z)
	case ActPRelu:
		if z > 0 {
			return z, 1
		}
		return float32(s.slope * z), s.slope
	case ActSigmoid:
		y := asm.Sigmoid(z)
		return y, y * (1 - y)
	case ActTanh:
		y := float32(2*asm.Sigmoid(2*z)) - 1
		return y, 1 - float32(y*y)
	case ActHardSwish:
		if z <= -3 {
			return 0, 0
		}
		if z >= 3 {
			return z, 1
		}
		return z * (float32(z/6) + 0.5), float32(z/3) + 0.5
	case ActSiLU:
		y := asm.Sigmoid(z)
		return z * y, y * (1 + float32(z*(1-y)))
	case ActGELU:
		phi := float32(0.5 * (1 + erf32(z*(math.Sqrt2/2))))
		const norm = 0.3989422804014327 // 1/√(2π)
		return z * phi, phi + float32(float32(z*norm)*asm.Exp(float32(-0.5*float32(z*z))))
	case ActGELUTanh:
		const c = 0.7978845608028654 // √(2/π)
		z2 := float32(z * z)
		y := asm.Sigmoid(2 * c * (z + float32(float32(0.044715*z)*z2)))
		return z * y, y + float32(float32(float32(z*y)*(1-y))*float32(2*c*(1+float32(3*0.044715*z2))))
	}
	return z, 1
}

// clampBoth has derivative 0 at the bounds.
func (s scalar) clampBoth(z float32) (f, df float32) {
	switch {
	case z <= s.lo:
		return s.lo, 0
	case z >= s.hi:
		return s.hi, 0
	}
	return z, 1
}

// apply sets dst[i] = f(z[i]); dst may be z.
func (s scalar) apply(dst, z []float32) {
	switch s.kind {
	case ActIdentity:
		copy(dst, z)
	case ActClamp:
		for i, v := range z {
			dst[i] = s.clamp(v)
		}
	default:
		for i, v := range z {
			dst[i], _ = s.both(v)
		}
	}
}

// curvature is a bound L on half the second derivative of (f(z)-y)² that the
// majorising steps divide by: 1 for 1-Lipschitz activations, a little more for
// those that overshoot, less for the saturating ones.
func (s scalar) curvature() float32 {
	switch s.kind {
	case ActPRelu:
		return max(1, float32(s.slope*s.slope))
	case ActSigmoid:
		return 0.1
	case ActHardSwish, ActSiLU, ActGELU, ActGELUTanh:
		return 1.3
	}
	return 1
}
