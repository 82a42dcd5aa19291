package main

import (
	"context"
	"flag"
	"fmt"

	"roundel/adaround"
	"roundel/nn"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/tensor"
)

// activations rounds a network with float and with quantized activations in the
// layers' inputs, and scores both with float and with quantized activations.
func activations(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("activations", flag.ExitOnError)
	model := fs.String("model", "", "folded model")
	calib := fs.String("calib", "", ".npy to calibrate and round with")
	eval := fs.String("eval", "", ".npy to score on")
	a := activationRun{}
	fs.IntVar(&a.bits, "bits", 4, "of weights")
	fs.IntVar(&a.acts, "acts", 8, "of activations")
	_ = fs.Parse(args)
	var err error
	a.pool = newPool(2)
	if _, a.g, err = openGraph(ctx, *model, false); err != nil {
		return err
	}
	if a.calib, err = readArray(*calib); err != nil {
		return err
	}
	if err := a.readEval(ctx, *eval); err != nil {
		return err
	}
	quant, err := a.quantizers(ctx)
	if err != nil {
		return err
	}
	for _, in := range []map[string]tensor.FakeQuant{nil, quant} {
		cfg := adaround.DefaultConfig()
		cfg.DataLoader, cfg.ParamBits, cfg.Workers, cfg.Activations = arrayLoader{a.g.Inputs[0].Name, a.calib}, a.bits, a.pool.Workers(), in
		res, err := adaround.Apply(ctx, a.g, cfg)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%d inputs quantized, ", len(in))
		consts := map[string]tensor.Any{}
		for c, t := range res.Graph.Consts {
			if t != a.g.Consts[c] {
				consts[c] = t
			}
		}
		if err := a.score(ctx, name+"float", consts, 0, 0, nil); err != nil {
			return err
		}
		s, err := a.sim(ctx, res.Graph)
		if err != nil {
			return err
		}
		y, err := s.Forward(ctx, map[string]tensor.Any{a.g.Inputs[0].Name: a.eval})
		if err != nil {
			return err
		}
		out, err := tensor.As[float32](y[a.g.Outputs[0].Name])
		if err != nil {
			return err
		}
		a.scoreOutput(fmt.Sprintf("%sA%d", name, a.acts), out, 0, 0, nil)
	}
	return nil
}

type activationRun struct {
	networkRun
	bits, acts int
}

// simSamples is how many samples choose the activations' ranges.
const simSamples = 128

// sim returns a simulation of g with calibrated activations and weights as they are.
func (a *activationRun) sim(ctx context.Context, g *nn.Graph) (*quantsim.Sim, error) {
	c := quantsim.DefaultConfig()
	c.ParamBits, c.OutputBits, c.Workers = a.bits, a.acts, a.pool.Workers()
	s, err := quantsim.New(g, c)
	if err != nil {
		return nil, err
	}
	for _, t := range s.Tensors() {
		if st, _ := s.State(t); st.Kind == encoding.Param {
			if err := s.SetEnabled(false, t); err != nil { // rounded already, or to stay float
				return nil, err
			}
		}
	}
	return s, s.ComputeEncodings(ctx, func(run func(map[string]tensor.Any) error) error {
		loader := arrayLoader{g.Inputs[0].Name, a.calib}
		for i := range min(loader.Len(), simSamples) {
			batch, err := loader.Sample(ctx, i)
			if err == nil {
				err = run(batch)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// quantizers returns the activation quantizers of the float network.
func (a *activationRun) quantizers(ctx context.Context) (map[string]tensor.FakeQuant, error) {
	s, err := a.sim(ctx, a.g)
	if err != nil {
		return nil, err
	}
	quant := map[string]tensor.FakeQuant{}
	for _, t := range s.Tensors() {
		st, _ := s.State(t)
		if st.Kind == encoding.Param || !st.Enabled || st.Encoding == nil {
			continue
		}
		if quant[t], err = st.Encoding.FakeQuant(); err != nil {
			return nil, err
		}
	}
	return quant, nil
}
