package quantsim

import (
	"fmt"
	"math"

	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// biasLimit keeps an int32 bias, at the scale of its accumulator, 2^15 below overflow.
const biasLimit = 1<<31 - 1<<15

// outputShare is 2^-23.5.
const outputShare = 0x1p-24 * math.Sqrt2

// adjustWeights raises weight scales where the bias, or the output's offset, would not
// fit an int32 accumulator of scale sx*sw (sx of the input, sw of the weight):
//
//	sw = max(sw, |b| / (limit sx))
//	sw = max(sw, 2^-23.5 sy / sx)                       if the output is quantized
//	a  = rint(b/(sx sw)) + rint(oy sy/(sx sw));  sw = max(sw, |a sx sw| / (limit sx))
//
// Scales are never lowered, and frozen ones only give a warning. They pass through
// float32, as in AIMET 2.42.
func (s *Sim) adjustWeights() {
	for _, o := range s.ops {
		switch o.typ {
		case "Conv", "ConvTranspose", "Gemm", "MatMul":
		default:
			continue
		}
		w := s.quant[o.param("weight")]
		if w == nil || !w.ready() || w.grid.BlockSize > 0 || len(o.inputs) == 0 {
			continue
		}
		in := s.sourceEncoding(o.inputs[0])
		if in == nil || in.Bits > 16 || w.grid.Bits > 16 {
			continue // no int32 holds such products, whatever the scale
		}
		var sy, oy float64
		if out := s.quant[o.outputs[0]]; out != nil && out.ready() {
			sy, oy = out.enc.Scale[0], out.enc.Offset[0]
		}
		raise(s, o, w, in.Scale[0], sy, oy)
	}
}

// ready reports whether q is an enabled integer quantizer with an encoding.
func (q *quantizer) ready() bool { return q.enabled && q.enc != nil && q.enc.Type == encoding.Int }

// sourceEncoding returns the integer encoding of the grid that a value lies on, looking through operators that only move data; nil if there is none.
func (s *Sim) sourceEncoding(name string) *encoding.Encoding {
	src := s.enabledSource(name)
	if src == "" || !s.quant[src].ready() {
		return nil
	}
	return s.quant[src].enc
}

func raise(s *Sim, o *op, w *quantizer, sx, sy, oy float64) {
	bias := s.biasOf(o)
	var copied *encoding.Encoding
	for i, have := range w.enc.Scale {
		b := 0.0
		switch {
		case len(bias) == len(w.enc.Scale):
			b = float64(bias[i])
		case len(w.enc.Scale) == 1:
			for _, v := range bias {
				if math.Abs(float64(v)) > math.Abs(b) {
					b = float64(v)
				}
			}
		}
		sw := raised(have, sx, sy, oy, b)
		if sw <= have {
			continue
		}
		if w.frozen {
			s.warnings = append(s.warnings, fmt.Sprintf("node %q: the frozen scale %v of %q (channel %d) lets an int32 bias overflow; %v would not", o.node.Name, have, o.param("weight"), i, sw))
			return
		}
		if copied == nil {
			copied = w.enc.Clone()
		}
		copied.SetScale(i, sw)
	}
	if copied != nil {
		w.enc = copied
	}
}

// raised returns the least scale from have on that satisfies the three conditions.
func raised(have, sx, sy, oy, b float64) float64 {
	sw := max(have, math.Abs(b)/(biasLimit*sx))
	if sy > 0 {
		sw = max(sw, outputShare*sy/sx)
	}
	a := math.RoundToEven(b/(sx*sw)) + math.RoundToEven(oy*sy/(sx*sw))
	sw = max(sw, math.Abs(a*sx*sw)/(biasLimit*sx))
	if sw == have {
		return have
	}
	return float64(float32(sw))
}

// biasOf returns the constant bias of an operator, or nil.
func (s *Sim) biasOf(o *op) []float32 {
	if t, ok := s.g.Consts[o.param("bias")].(*tensor.Dense[float32]); ok {
		return t.Data()
	}
	return nil
}
