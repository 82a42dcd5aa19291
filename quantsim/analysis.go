package quantsim

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"roundel/nn"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// Number is a float64 whose JSON is null when it is not finite.
type Number float64

// MarshalJSON implements json.Marshaler.
func (n Number) MarshalJSON() ([]byte, error) {
	if f := float64(n); math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(n), 'g', -1, 64), nil
}

var _ json.Marshaler = Number(0)

// LayerScore is what quantizing one layer does to a score.
type LayerScore struct {
	Node, Op string
	Alone    Number // only this layer is quantized
	Without  Number // all layers but this one are
}

// Sensitivity is the result of Sim.Sensitivity.
type Sensitivity struct {
	Float, Quantized Number
	Layers           []LayerScore // in execution order
}

// Evaluate scores a compiled model, say by its accuracy or the SQNR of its outputs. Higher is better by convention only.
type Evaluate func(ctx context.Context, p *nn.Program) (float64, error)

// Sensitivity scores the float model, the simulation, and for every layer that has
// enabled quantizers the model with only those, and with all others. A layer is a node
// (or several that are quantized as one) with its parameters and outputs; graph inputs
// and inputs that are constants belong to the layers that read them. The simulation
// must be calibrated; it is not changed. progress may be nil; it is called before each layer.
func (s *Sim) Sensitivity(ctx context.Context, eval Evaluate, progress func(node string, i, n int)) (*Sensitivity, error) {
	cache := map[string]tensor.Any{} // so that equal programs share packed weights
	weights := nn.NewWeightCache()
	score := func(on func(string) bool) (Number, error) {
		p, err := s.compileSubset(ctx, on, cache, weights)
		if err != nil {
			return 0, err
		}
		v, err := eval(ctx, p)
		return Number(v), err
	}
	r := &Sensitivity{}
	var err error
	if r.Float, err = score(func(string) bool { return false }); err != nil {
		return nil, err
	}
	if r.Quantized, err = score(func(string) bool { return true }); err != nil {
		return nil, err
	}
	layers := s.layers()
	for i, l := range layers {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("quantsim: sensitivity stopped after %d of %d layers: %w", i, len(layers), err)
		}
		if progress != nil {
			progress(l.op.node.Name, i, len(layers))
		}
		out := LayerScore{Node: l.op.node.Name, Op: l.op.typ}
		if out.Alone, err = score(func(t string) bool { return l.tensors[t] }); err != nil {
			return nil, err
		}
		if out.Without, err = score(func(t string) bool { return !l.tensors[t] }); err != nil {
			return nil, err
		}
		r.Layers = append(r.Layers, out)
	}
	return r, nil
}

// layer is an operator with the tensors whose quantizers belong to it.
type layer struct {
	op      *op
	tensors map[string]bool
}

func (s *Sim) layers() []layer {
	var out []layer
	for _, o := range s.ops {
		l := layer{o, map[string]bool{}}
		add := func(name string) {
			if q := s.quant[name]; q != nil && q.enabled {
				l.tensors[name] = true
			}
		}
		for _, w := range o.params {
			add(w.tensor)
		}
		for _, v := range o.outputs {
			add(v)
		}
		for _, v := range o.inputs {
			if s.producer[v] == nil {
				add(v)
			}
		}
		if len(l.tensors) > 0 {
			out = append(out, l)
		}
	}
	return out
}

// compileSubset compiles the simulation with only some of the enabled quantizers.
func (s *Sim) compileSubset(ctx context.Context, on func(string) bool, cache map[string]tensor.Any, weights *nn.WeightCache) (*nn.Program, error) {
	c := *s.placement
	c.quant = map[string]*quantizer{}
	for name, q := range s.quant {
		part := *q
		part.enabled = q.enabled && on(name)
		c.quant[name] = &part
	}
	sub := &Sim{placement: &c, pool: s.workers(), consts: cache}
	return sub.Compile(ctx, nn.CompileOptions{Weights: weights})
}

// TensorSQNR compares one tensor of the simulation with the float model, over all batches together.
type TensorSQNR struct {
	Tensor, Node, Op string
	SQNR             Number // dB
	MaxError         Number
	Min, Max         Number // of the float values
	Clipped          Number // share of the float values that lie beyond the grid by more than half a step; 0 without a quantizer

	count, clipped, signal, noise float64
}

// SQNROptions say what SQNR compares.
type SQNROptions struct {
	Float   *nn.Graph // the float model; nil is that of the simulation, which has its weights
	Tensors []string  // nil is every quantized activation and float graph output
}

// SQNR runs both models on batches and returns the signal-to-quantization-noise ratio of tensors,
// in execution order: errors of the layers before are in it. run calls its argument with
// the feeds of each batch; all tensors of a batch are in memory together, twice.
func (s *Sim) SQNR(ctx context.Context, o SQNROptions, batches func(run func(map[string]tensor.Any) error) error) ([]TensorSQNR, error) {
	names, out := o.Tensors, []TensorSQNR{}
	if names == nil {
		names = s.measurable()
	}
	for _, name := range names {
		p := s.g.Producer(name)
		if p == nil || !s.floats[name] {
			return nil, fmt.Errorf("quantsim: SQNR: no node makes a float tensor %q", name)
		}
		out = append(out, TensorSQNR{Tensor: name, Node: p.Name, Op: p.Op, Min: Number(math.Inf(1)), Max: Number(math.Inf(-1))})
	}
	if o.Float == nil {
		o.Float = s.g
	}
	sim, err := s.Compile(ctx, nn.CompileOptions{Fetches: names})
	if err != nil {
		return nil, err
	}
	float, err := nn.Compile(ctx, o.Float, nn.CompileOptions{Fetches: names, Pool: s.workers()})
	if err != nil {
		return nil, err
	}
	err = batches(func(feeds map[string]tensor.Any) error {
		want, err := float.Run(ctx, feeds)
		if err != nil {
			return err
		}
		have, err := sim.Run(ctx, feeds)
		if err != nil {
			return err
		}
		s.workers().For(len(names), func(_, i int) {
			a, b := want[names[i]].(*tensor.Dense[float32]).Data(), have[names[i]].(*tensor.Dense[float32]).Data()
			out[i].add(a, b, s.quant[names[i]])
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("quantsim: SQNR: %w", err)
	}
	for i := range out {
		r := &out[i]
		r.SQNR, r.Clipped = Number(Decibel(r.signal, r.noise)), Number(r.clipped/max(r.count, 1))
	}
	return out, nil
}

// measurable returns the tensors that SQNR compares unless told otherwise.
func (s *Sim) measurable() []string {
	names := []string{}
	for _, name := range s.values() {
		q := s.quant[name]
		if s.producer[name] != nil && s.floats[name] && (q != nil && q.enabled || s.g.IsOutput(name)) {
			names = append(names, name)
		}
	}
	return names
}

// add counts one batch: want is float, have simulated.
func (r *TensorSQNR) add(want, have []float32, q *quantizer) {
	least, most := math.Inf(-1), math.Inf(1)
	if q != nil && q.ready() {
		lo, hi := q.enc.Bounds(0)
		least, most = (lo-0.5)*q.enc.Scale[0], (hi+0.5)*q.enc.Scale[0]
	}
	for j, x := range want {
		v := float64(x)
		d := float64(have[j]) - v
		r.signal += float64(v * v)
		r.noise += float64(d * d)
		r.MaxError = max(r.MaxError, Number(math.Abs(d)))
		if v < least || v > most {
			r.clipped++
		}
	}
	if len(want) > 0 {
		lo, hi := tensor.MinMax(want)
		r.Min, r.Max = min(r.Min, Number(lo)), max(r.Max, Number(hi))
	}
	r.count += float64(len(want))
}

// Decibel returns 10 log10(signal/noise): +Inf without noise, NaN without either.
func Decibel(signal, noise float64) float64 {
	switch {
	case noise == 0 && signal == 0:
		return math.NaN()
	case noise == 0:
		return math.Inf(1)
	case signal == 0:
		return math.Inf(-1)
	}
	return 10 / math.Ln10 * tensor.Log(signal/noise)
}

// RangeStat describes the range of one quantized tensor and what its grid makes of it.
type RangeStat struct {
	Tensor   string
	Kind     string // "param" or "activation"
	Bits     int
	Min, Max Number // of the grid; for constants of their values
	// The rest is for constants only.
	Channels   int    // scales
	ChannelMin Number // smallest and largest width of a channel's range
	ChannelMax Number
	Clipped    Number // share of the elements outside of their range
	SQNR       Number // dB
}

// Ranges returns statistics of every enabled integer quantizer with an encoding, in order of creation.
func (s *Sim) Ranges() ([]RangeStat, error) {
	var out []RangeStat
	for _, name := range s.order {
		q := s.quant[name]
		if !q.ready() {
			continue
		}
		r := RangeStat{Tensor: name, Kind: "activation", Bits: q.enc.Bits, Channels: len(q.enc.Scale)}
		if q.kind == encoding.Param {
			r.Kind = "param"
		}
		c := s.g.Consts[name]
		if c == nil {
			lo, hi := q.enc.Bounds(0)
			r.Min, r.Max = Number(lo*q.enc.Scale[0]), Number(hi*q.enc.Scale[0])
		} else if err := r.constant(q.enc, c); err != nil {
			return nil, fmt.Errorf("quantsim: tensor %q: %w", name, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// constant fills the statistics of a weight.
func (r *RangeStat) constant(e *encoding.Encoding, c tensor.Any) error {
	x, err := tensor.As[float32](c)
	if err != nil || x.Len() == 0 {
		return err
	}
	sim, err := e.QuantizeDequantizeTensor(c)
	if err != nil {
		return err
	}
	lo, hi := tensor.MinMax(x.Data())
	r.Min, r.Max = Number(lo), Number(hi)
	r.ChannelMin, r.ChannelMax = Number(math.Inf(1)), 0
	for g := range e.Scale {
		a, b := e.Bounds(g)
		w := Number((b - a) * e.Scale[g])
		r.ChannelMin, r.ChannelMax = min(r.ChannelMin, w), max(r.ChannelMax, w)
	}
	signal, noise, clipped := 0.0, 0.0, 0
	e.Runs(x.Shape(), func(g, i, j int) {
		a, b := e.Bounds(g)
		// Half a step beyond the ends still rounds onto them.
		least, most := (a-0.5)*e.Scale[g], (b+0.5)*e.Scale[g]
		for ; i < j; i++ {
			v := float64(x.Data()[i])
			d := float64(sim.Data()[i]) - v
			signal += float64(v * v)
			noise += float64(d * d)
			if v < least || v > most {
				clipped++
			}
		}
	})
	r.Clipped = Number(float64(clipped) / float64(x.Len()))
	r.SQNR = Number(Decibel(signal, noise))
	return nil
}
