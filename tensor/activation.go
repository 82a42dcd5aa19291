package tensor

import "math"

// Activation functions of one element, in float64. Parameters that ONNX calls
// alpha, beta, gamma are arguments in the order of its documentation.

// Relu returns max(x, 0); NaN stays NaN.
func Relu(x float64) float64 { return max(x, 0) }

// LeakyRelu returns x for x ≥ 0 and alpha·x below.
func LeakyRelu(x, alpha float64) float64 {
	if x < 0 {
		return alpha * x
	}
	return x
}

// Elu returns x for x ≥ 0 and alpha·(eˣ-1) below.
func Elu(x, alpha float64) float64 {
	if x < 0 {
		return alpha * Expm1(x)
	}
	return x
}

// Celu returns max(0, x) + min(0, alpha·(e^(x/alpha)-1)).
func Celu(x, alpha float64) float64 {
	return max(0, x) + min(0, float64(alpha*Expm1(x/alpha)))
}

// Selu returns gamma·x for x > 0 and gamma·alpha·(eˣ-1) otherwise.
func Selu(x, alpha, gamma float64) float64 { return gamma * Elu(x, alpha) }

// ThresholdedRelu returns x above alpha and 0 otherwise.
func ThresholdedRelu(x, alpha float64) float64 {
	if x > alpha {
		return x
	}
	return 0
}

// HardSigmoid returns alpha·x + beta limited to [0, 1].
func HardSigmoid(x, alpha, beta float64) float64 {
	return max(0, min(1, float64(alpha*x)+beta))
}

// HardSwish returns x·HardSigmoid(x, 1/6, 1/2).
func HardSwish(x float64) float64 { return x * HardSigmoid(x, 1.0/6, 0.5) }

// Softsign returns x/(1+|x|).
func Softsign(x float64) float64 { return x / (1 + math.Abs(x)) }

// Mish returns x·tanh(log(1+eˣ)).
func Mish(x float64) float64 { return x * Tanh(Softplus(x)) }

// Swish returns x·Sigmoid(alpha·x); alpha = 1 is SiLU.
func Swish(x, alpha float64) float64 {
	if math.IsInf(x, -1) && alpha > 0 {
		return 0
	}
	return x * Sigmoid(float64(alpha*x))
}

// Gelu returns x·Φ(x) = x/2·(1+erf(x/√2)).
func Gelu(x float64) float64 {
	return float64(0.5*x) * (1 + Erf(x*(1/math.Sqrt2)))
}

// GeluTanh returns the approximation x/2·(1+tanh(√(2/π)·(x+0.044715·x³))).
func GeluTanh(x float64) float64 {
	const c = 0.7978845608028654 // √(2/π)
	return float64(0.5*x) * (1 + Tanh(float64(c*(x+float64(0.044715*float64(x*float64(x*x)))))))
}

// Shrink moves x towards zero: x+bias below -lambd, x-bias above lambd, 0 between.
func Shrink(x, lambd, bias float64) float64 {
	switch {
	case x < -lambd:
		return x + bias
	case x > lambd:
		return x - bias
	}
	return 0
}

// Softmax replaces a line by e^(xᵢ-max) / Σ e^(xⱼ-max).
func Softmax(line []float64) {
	sum := expShifted(line)
	for i := range line {
		line[i] /= sum
	}
}

// LogSoftmax replaces a line by xᵢ - max - log Σ e^(xⱼ-max).
func LogSoftmax(line []float64) {
	if len(line) == 0 {
		return
	}
	m, sum := lineMax(line), 0.0
	for _, v := range line {
		sum += Exp(v - m)
	}
	l := Log(sum)
	for i := range line {
		line[i] = line[i] - m - l
	}
}

// Hardmax replaces a line by 1 at its first largest element and 0 elsewhere.
func Hardmax(line []float64) {
	best := 0
	for i, v := range line {
		if v > line[best] {
			best = i
		}
	}
	for i := range line {
		line[i] = 0
		if i == best {
			line[i] = 1
		}
	}
}

// expShifted replaces a line by e^(xᵢ-max) and returns the sum.
func expShifted(line []float64) (sum float64) {
	if len(line) == 0 {
		return 0
	}
	m := lineMax(line)
	for i, v := range line {
		line[i] = Exp(v - m)
		sum += line[i]
	}
	return sum
}

func lineMax(line []float64) float64 {
	m := line[0]
	for _, v := range line[1:] {
		m = max(m, v)
	}
	return m
}
