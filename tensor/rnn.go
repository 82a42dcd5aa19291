package tensor

import "math"

// Recurrent is one direction of an ONNX recurrent layer, in float64. The weights
// are matrices in rows of gates·Hidden as ONNX orders them: i, o, f, c for LSTM,
// z, r, h for GRU and one gate for RNN.
type Recurrent struct {
	Kind              string    // "RNN", "GRU" or "LSTM"
	Inputs, Hidden    int       // lengths of x and h
	W, R, B           []float64 // [G·H, I], [G·H, H], [2·G·H] (input and recurrent biases) or nil
	P                 []float64 // peepholes of LSTM, [3·H] for i, o, f, or nil
	Act               []func(float64) float64
	Clip              float64 // limits the arguments of Act to ±Clip if it is above 0
	LinearBeforeReset bool    // GRU: reset after the recurrent product
	InputForget       bool    // LSTM: the forget gate is one minus the input gate
	Reverse           bool    // from the last step to the first
}

// gates returns the number of gates.
func (r *Recurrent) gates() int { return map[string]int{"RNN": 1, "GRU": 3, "LSTM": 4}[r.Kind] }

// Run walks one sequence x: [T, I] from the state h, and c for LSTM, which are
// changed to the final ones. emit is called after each step with its time and h.
func (r *Recurrent) Run(x []float64, h, c []float64, emit func(t int, h []float64)) {
	steps := len(x) / max(r.Inputs, 1)
	g := r.gates() * r.Hidden
	wx, rh := make([]float64, g), make([]float64, g)
	for s := range steps {
		t := s
		if r.Reverse {
			t = steps - 1 - s
		}
		r.affine(wx, r.W, x[t*r.Inputs:(t+1)*r.Inputs], 0)
		r.affine(rh, r.R, h, g)
		switch r.Kind {
		case "LSTM":
			r.lstm(wx, rh, h, c)
		case "GRU":
			r.gru(wx, rh, h)
		default:
			for i := range h {
				h[i] = r.act(0, wx[i]+rh[i])
			}
		}
		emit(t, h)
	}
}

// affine sets y = m·v + the part of the bias that begins at from.
func (r *Recurrent) affine(y, m, v []float64, from int) {
	for i := range y {
		s := 0.0
		for j, x := range v {
			s += float64(m[i*len(v)+j] * x)
		}
		if r.B != nil {
			s += r.B[from+i]
		}
		y[i] = s
	}
}

// act applies activation i to a limited argument.
func (r *Recurrent) act(i int, v float64) float64 {
	if r.Clip > 0 {
		v = min(max(v, -r.Clip), r.Clip)
	}
	return r.Act[i](v)
}

// peep returns peephole k of cell i times c.
func (r *Recurrent) peep(k, i int, c float64) float64 {
	if r.P == nil {
		return 0
	}
	return r.P[k*r.Hidden+i] * c
}

// lstm: i = f(Wᵢx+Rᵢh+pᵢc), f likewise, C = f·c + i·g(W_c x+R_c h), o = f(…+pₒC), h = o·h(C).
func (r *Recurrent) lstm(wx, rh, h, c []float64) {
	n := r.Hidden
	for j := range n {
		in := r.act(0, wx[j]+rh[j]+float64(r.peep(0, j, c[j])))
		forget := 1 - in
		if !r.InputForget {
			forget = r.act(0, wx[2*n+j]+rh[2*n+j]+float64(r.peep(2, j, c[j])))
		}
		cell := r.act(1, wx[3*n+j]+rh[3*n+j])
		c[j] = float64(forget*c[j]) + float64(in*cell)
		out := r.act(0, wx[n+j]+rh[n+j]+float64(r.peep(1, j, c[j])))
		h[j] = out * r.Act[2](c[j])
	}
}

// gru: z = f(W_z x+R_z h), r likewise, n = g(W_h x + R_h(r·h)) or g(W_h x + r·(R_h h)), h = (1-z)·n + z·h.
func (r *Recurrent) gru(wx, rh, h []float64) {
	n := r.Hidden
	z, reset, cand := make([]float64, n), make([]float64, n), make([]float64, n)
	for j := range n {
		z[j] = r.act(0, wx[j]+rh[j])
		reset[j] = r.act(0, wx[n+j]+rh[n+j])
	}
	for j := range n {
		if r.LinearBeforeReset {
			cand[j] = float64(reset[j] * rh[2*n+j])
			continue
		}
		for k, v := range h {
			cand[j] += float64(r.R[(2*n+j)*n+k] * float64(reset[k]*v))
		}
		if r.B != nil {
			cand[j] += r.B[5*n+j]
		}
	}
	for j := range n {
		v := r.act(1, wx[2*n+j]+cand[j])
		h[j] = float64((1-z[j])*v) + float64(z[j]*h[j])
	}
}

// ActivationByName returns an activation of recurrent layers with its parameters,
// NaN for those that are not given, and how many of alpha and beta it takes; nil
// if the name, in lower case, is not known.
func ActivationByName(name string, alpha, beta float64) (f func(float64) float64, useAlpha, useBeta bool) {
	def := func(p *float64, v float64) {
		if math.IsNaN(*p) {
			*p = v
		}
	}
	switch name {
	case "relu":
		return Relu, false, false
	case "tanh":
		return Tanh, false, false
	case "sigmoid":
		return Sigmoid, false, false
	case "softsign":
		return Softsign, false, false
	case "softplus":
		return Softplus, false, false
	case "affine":
		def(&alpha, 1)
		def(&beta, 0)
		return func(x float64) float64 { return float64(alpha*x) + beta }, true, true
	case "leakyrelu":
		def(&alpha, 0.01)
		return func(x float64) float64 { return LeakyRelu(x, alpha) }, true, false
	case "thresholdedrelu":
		def(&alpha, 1)
		return func(x float64) float64 { return ThresholdedRelu(x, alpha) }, true, false
	case "scaledtanh":
		def(&alpha, 1)
		def(&beta, 1)
		return func(x float64) float64 { return alpha * Tanh(float64(beta*x)) }, true, true
	case "hardsigmoid":
		def(&alpha, 0.2)
		def(&beta, 0.5)
		return func(x float64) float64 { return HardSigmoid(x, alpha, beta) }, true, true
	case "elu":
		def(&alpha, 1)
		return func(x float64) float64 { return Elu(x, alpha) }, true, false
	}
	return nil, false, false
}
