package prepare

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"roundel/nn"
	"roundel/tensor"
)

const correctBias = "correct bias"

// BiasOptions says how CorrectBias works.
type BiasOptions struct {
	// Moments of layer outputs, from Report. When given, a layer whose input distribution they tell is corrected
	// without running the samples through the network.
	Moments map[string]Moments
	Skip    []string                            // names of layers to leave alone
	Pool    *tensor.Pool                        // does the work; nil means one worker
	Step    func(layer string, done, total int) // called before each layer; nil for no news
}

// CorrectBias changes the bias of each layer so that, over the samples, every output channel keeps the mean it
// has in float when the weights are replaced by quantized ones (the weights of the result stay in float).
//
// quantized has the dequantized weights by constant name; layers without an entry are not corrected. Layers are done in
// execution order, and each sees the corrected layers before it: b −= mean(y_q − y) over samples and positions. With
// Moments, b −= Σ (W_q − W)·E[x] instead, where x is the known normal distribution after its activation (Nagel
// et al. 2019, section 4.2 and appendix C). Memory: one sample's activations. Time: half a pass per layer.
//
// samples is gone through several times and must give the same feeds, with batches of any size, each time.
func CorrectBias(ctx context.Context, g *nn.Graph, quantized map[string]tensor.Any, samples iter.Seq2[map[string]tensor.Any, error], o BiasOptions) (*nn.Graph, *Report, error) {
	report := &Report{Moments: o.Moments}
	out := g.Clone()
	if err := nn.Infer(out); err != nil {
		return nil, nil, fmt.Errorf("prepare: %w", err)
	}
	e := edit(out, report)
	layers, err := e.correctable(quantized, o.Skip)
	if err != nil {
		return nil, nil, err
	}
	if len(layers) == 0 {
		return out, report, nil
	}
	c := &correction{e: e, quantized: quantized, samples: samples, o: o, cache: nn.NewWeightCache()}
	var measured []string // outputs of the layers that need the samples
	for _, l := range layers {
		if c.inputMean(l) == nil {
			measured = append(measured, l.node.Out(0))
		}
	}
	want, err := c.means(ctx, measured, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("prepare: %w", err)
	}
	for i, l := range layers {
		if o.Step != nil {
			o.Step(l.node.Name, i, len(layers))
		}
		if err := c.correct(ctx, l, want[l.node.Out(0)]); err != nil {
			return nil, nil, fmt.Errorf("prepare: correcting %s, layer %d of %d: %w", l.node.Name, i+1, len(layers), err)
		}
	}
	if err := nn.Verify(out); err != nil {
		return nil, nil, fmt.Errorf("prepare: the corrected graph is not valid: %w", err)
	}
	return out, report, nil
}

// correctable lists the layers with quantized weights and makes sure that each has a bias.
func (e *editor) correctable(quantized map[string]tensor.Any, skip []string) ([]*layer, error) {
	var layers []*layer
	for _, n := range e.g.Nodes {
		if !isLayer(n.Op) || quantized[n.In(1)] == nil || slices.Contains(skip, n.Name) {
			continue
		}
		if q := quantized[n.In(1)]; q.DType() != tensor.Float32 || !q.Shape().Equal(e.g.Consts[n.In(1)].Shape()) {
			return nil, fmt.Errorf("prepare: quantized weight %q is %v%v, the weight has shape %v", n.In(1), q.DType(), q.Shape(), e.g.Consts[n.In(1)].Shape())
		}
		l, err := e.layerOf(n)
		if err == nil && n.Op == "Gemm" && (n.Float("alpha", 1) != 1 || n.Float("beta", 1) != 1) {
			err = errors.New("its factors alpha and beta are not folded; run Apply first")
		}
		if err == nil {
			err = l.toGemm(e)
		}
		if err != nil {
			e.report.skip(correctBias, n.Name, "left as it is: %v", err)
			continue
		}
		if l.bias == nil {
			l.store(e, nil, make([]float64, l.out))
		}
		layers = append(layers, l)
	}
	return layers, nil
}

// correction is the state of CorrectBias.
type correction struct {
	e         *editor
	quantized map[string]tensor.Any
	samples   iter.Seq2[map[string]tensor.Any, error]
	o         BiasOptions
	cache     *nn.WeightCache
}

// correct changes the bias of one layer, whose output has the mean want in float.
func (c *correction) correct(ctx context.Context, l *layer, want []float64) error {
	b := slices.Clone(l.bias)
	how := "over the samples"
	if x := c.inputMean(l); x != nil {
		how = "from the batch norm before it"
		q := *l
		q.w = c.quantized[l.node.In(1)].(*tensor.Dense[float32])
		shift, have := l.sumTimes(x), q.sumTimes(x)
		for i := range b {
			b[i] -= have[i] - shift[i]
		}
	} else {
		have, err := c.means(ctx, []string{l.node.Out(0)}, c.quantized)
		if err != nil {
			return err
		}
		for i := range b {
			b[i] -= have[l.node.Out(0)][i] - want[i]
		}
	}
	largest := 0.0
	for i := range b {
		largest = max(largest, math.Abs(b[i]-l.bias[i]))
	}
	l.store(c.e, nil, b)
	c.e.report.done(correctBias, l.node.Name, "by up to %.3g, %s", largest, how)
	return nil
}

// means runs the samples and returns the mean of each channel of the named values, summed in float64 in
// the order of the samples.
func (c *correction) means(ctx context.Context, names []string, consts map[string]tensor.Any) (map[string][]float64, error) {
	sums, counts := map[string][]float64{}, map[string]int{}
	if len(names) == 0 {
		return sums, nil
	}
	p, err := nn.Compile(ctx, c.e.g, nn.CompileOptions{Pool: c.o.Pool, Fetches: names, Consts: consts, Weights: c.cache})
	if err != nil {
		return nil, err
	}
	n := 0
	for feeds, err := range c.samples {
		if err == nil {
			var res map[string]tensor.Any
			if res, err = p.Run(ctx, feeds); err == nil {
				err = addMeans(sums, counts, res)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("at batch %d: %w", n, err)
		}
		n++
	}
	if n == 0 {
		return nil, errors.New("there are no samples")
	}
	for name, s := range sums {
		for i := range s {
			s[i] /= float64(counts[name])
		}
	}
	return sums, nil
}

// addMeans adds up each channel, which is dimension 1 of every layer's output.
func addMeans(sums map[string][]float64, counts map[string]int, res map[string]tensor.Any) error {
	for name, v := range res {
		t, err := tensor.As[float32](v)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s := t.Shape()
		if len(s) < 2 {
			return fmt.Errorf("%s has shape %v, which has no channels", name, s)
		}
		if sums[name] == nil {
			sums[name] = make([]float64, s[1])
		}
		inner := s[2:].Len()
		for i := range s[0] * s[1] {
			sum := 0.0
			for _, x := range t.Data()[i*inner:][:inner] {
				sum += float64(x)
			}
			sums[name][i%s[1]] += sum
		}
		counts[name] += s[0] * inner
	}
	return nil
}

// inputMean returns E[x] of each input channel of l when x is the output of a layer with known moments, possibly
// after a Relu or a Clip from 0; nil when it is not known.
func (c *correction) inputMean(l *layer) []float64 {
	lo, hi := math.Inf(-1), math.Inf(1)
	from := c.e.producer[l.node.In(0)]
	if from != nil && (from.Op == "Relu" || from.Op == "Clip") {
		lo = 0
		if from.Op == "Clip" {
			a, b := c.e.g.ConstF32(from.In(1)), c.e.g.ConstF32(from.In(2))
			if a == nil || b == nil || a.Len() != 1 || b.Len() != 1 || a.Data()[0] != 0 || b.Data()[0] <= 0 {
				return nil
			}
			hi = float64(b.Data()[0])
		}
		from = c.e.producer[from.In(0)]
	}
	if from == nil {
		return nil
	}
	m, ok := c.o.Moments[from.Name]
	if !ok || len(m.Mean) != l.in {
		return nil
	}
	x := make([]float64, l.in)
	for i := range x {
		x[i] = clippedMean(m.Mean[i], m.Std[i], lo, hi)
	}
	return x
}

// clippedMean returns the mean of min(max(x, lo), hi) for normally distributed x; lo is 0 or −∞, hi positive or +∞.
func clippedMean(mean, std, lo, hi float64) float64 {
	if std == 0 || math.IsInf(lo, -1) && math.IsInf(hi, 1) {
		return min(max(mean, lo), hi)
	}
	a, b := (lo-mean)/std, (hi-mean)/std
	// E = σ(φ(a) − φ(b)) + μ(Φ(b) − Φ(a)) + hi(1 − Φ(b)), with lo = 0.
	e := float64(std*(density(a)-density(b))) + float64(mean*(cumulative(b)-cumulative(a)))
	if !math.IsInf(hi, 1) {
		e += float64(hi * cumulative(-b))
	}
	return e
}

// density is φ(x) = exp(−x²/2)/√(2π).
func density(x float64) float64 { return tensor.Exp(-x*x/2) / math.Sqrt(2*math.Pi) }

// cumulative is Φ(x), the share of a standard normal distribution below x.
func cumulative(x float64) float64 { return float64(0.5*tensor.Erf(x/math.Sqrt2)) + 0.5 }
