package quantsim

import (
	"fmt"
	"math"

	"roundel/quantsim/encoding"
)

// EncodingsOptions say what Encodings adds to the enabled quantizers.
type EncodingsOptions struct {
	// Bias adds int32 encodings of biases at the scale of their accumulators.
	Bias bool
	// Copies adds the encodings of tensors that only move quantized data.
	Copies bool
}

// OptionsFor returns what AIMET 2.42 writes for a version of the format.
func OptionsFor(version string) EncodingsOptions {
	second := version == "2.0.0"
	return EncodingsOptions{Bias: second, Copies: second}
}

// Encodings returns the encodings of all enabled quantizers, parameters first, each
// group in the order of creation. It is an error if one of them has none yet. Producer
// and version of the result are empty.
func (s *Sim) Encodings(o EncodingsOptions) (*encoding.File, error) {
	if missing := s.uncalibrated(); len(missing) > 0 {
		return nil, fmt.Errorf("quantsim: no encoding yet for %s; call ComputeEncodings first", list(missing))
	}
	f := &encoding.File{Args: s.args(), Excluded: s.excluded}
	for _, name := range s.order {
		q := s.quant[name]
		e := q.enc
		switch {
		case q.enabled && e == nil:
			e = &encoding.Encoding{Grid: q.grid} // a float type
		case q.enabled:
		case o.Bias && q.kind == encoding.Param:
			e = s.biasEncoding(name)
		default:
			e = nil
		}
		if e != nil {
			f.Entries = append(f.Entries, s.entry(name, q.kind, e))
		}
	}
	if o.Copies {
		s.addCopies(f)
	}
	return f, nil
}

func (s *Sim) entry(name string, k encoding.Kind, e *encoding.Encoding) encoding.Entry {
	en := encoding.Entry{Name: name, Kind: k, Encoding: e}
	if c := s.g.Consts[name]; c != nil {
		en.Shape = c.Shape()
	}
	return en
}

func (s *Sim) args() *encoding.Args {
	a := &encoding.Args{ActivationBits: s.cfg.OutputBits, ParamBits: s.cfg.ParamBits, DataType: "int",
		Symmetric: s.rules.ParamsSymmetric, PerChannel: s.rules.PerChannel, Scheme: s.cfg.Method.Scheme.String()}
	if s.cfg.ParamType != encoding.Int {
		a.DataType = "float"
	}
	for _, r := range s.rules.OpTypes {
		a.PerChannel = a.PerChannel || isTrue(r.PerChannel)
	}
	switch s.cfg.Method.Scheme {
	case encoding.SchemeTF, encoding.SchemeLearnTF:
		a.Scheme = "min_max" // what 2.42 writes
	case encoding.SchemeLearnTFEnhanced:
		a.Scheme = encoding.SchemeTFEnhanced.String()
	}
	return a
}

// leastBias is the least scale of a 32-bit bias.
const leastBias = 0.01 / (1<<32 - 1)

// biasEncoding returns the int32 encoding of a bias that is not simulated: the scale of
// the accumulator, input scale times weight scale per channel, or for operators without
// one (normalisations, recurrent ones) what its own range needs. Nil if the input or the
// weight has no integer encoding, or name is not a bias.
func (s *Sim) biasEncoding(name string) *encoding.Encoding {
	o := s.owner(name)
	if o == nil || o.param("bias") != name {
		return nil
	}
	e := &encoding.Encoding{Grid: encoding.Grid{Bits: 32, Symmetric: true, Axis: encoding.PerTensor}}
	switch o.typ {
	case "Conv", "ConvTranspose", "Gemm", "MatMul":
		w := s.quant[o.param("weight")]
		if w == nil || !w.ready() || len(o.inputs) == 0 {
			return nil
		}
		in := s.sourceEncoding(o.inputs[0])
		if in == nil {
			return nil
		}
		for _, sw := range channelScales(w.enc, s.g.Consts[o.param("weight")].Shape()) {
			// AIMET multiplies in float32.
			e.Scale = append(e.Scale, float64(float32(in.Scale[0])*float32(sw)))
		}
	default:
		most := 0.0
		for _, v := range s.biasOf(o) {
			most = max(most, math.Abs(float64(v)))
		}
		e.Scale = []float64{max(most/(1<<31), leastBias)}
	}
	if len(e.Scale) > 1 {
		e.Axis = 0
	}
	for range e.Scale {
		e.Offset = append(e.Offset, -1<<31)
	}
	return e
}

// channelScales returns one scale per channel, for blocks the largest of the channel.
func channelScales(e *encoding.Encoding, shape []int) []float64 {
	if e.BlockSize == 0 {
		return e.Scale
	}
	out, at := make([]float64, shape[e.Axis]), e.ScaleShape(shape)
	for i, v := range e.Scale {
		c := i / at[e.Axis+1:].Len() % at[e.Axis]
		out[c] = max(out[c], v)
	}
	return out
}

// addCopies appends the encodings of tensors that hold values of a quantized tensor,
// moved about, and of what a Clip alone reads, which saturates like its output. Moved
// constants are left out: AIMET 2.42 writes them and then refuses the file.
func (s *Sim) addCopies(f *encoding.File) {
	have := map[string]*encoding.Encoding{}
	for _, e := range f.Entries {
		if e.Type == encoding.Int && s.g.Consts[e.Name] == nil {
			have[e.Name] = e.Encoding
		}
	}
	add := func(name string, e *encoding.Encoding) {
		if e != nil && len(e.Scale) == 1 && s.floats[name] && have[name] == nil && s.g.Consts[name] == nil {
			have[name] = e
			f.Entries = append(f.Entries, encoding.Entry{Name: name, Kind: encoding.Activation, Encoding: e})
		}
	}
	for _, o := range s.ops {
		switch {
		case len(o.inputs) == 0:
		case keepsGrid[o.typ]:
			for _, out := range o.outputs {
				add(out, have[o.inputs[0]])
			}
		case o.typ == "Clip" && len(s.consumers[o.inputs[0]]) == 1 && !s.g.IsOutput(o.inputs[0]):
			add(o.inputs[0], have[o.outputs[0]])
		}
	}
}
