package prepare

import (
	"context"
	"slices"
	"strings"

	"roundel/nn"
	"roundel/tensor"
)

const foldConst = "fold constant"

// maxGrowth is the number of elements up to which a constant may replace smaller ones, such as those of an Expand.
const maxGrowth = 1 << 16

// foldConstants evaluates nodes whose inputs are all constant, so that a weight behind an Identity, a Transpose or a
// Reshape becomes a plain constant, and removes what does nothing: Identity, and Dropout in inference.
func (e *editor) foldConstants(ctx context.Context) error {
	for _, n := range slices.Clone(e.g.Nodes) {
		if e.passes(n) {
			if e.bypass(n, n.In(0)) {
				e.report.done("remove "+n.Op, n.Name, "passed its input on")
			}
			continue
		}
		if !e.foldable(n) {
			continue
		}
		outs, err := e.evaluate(ctx, n)
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			e.report.skip(foldConst, n.Name, "not evaluated: %v", err)
			continue
		}
		if !e.small(n, outs) {
			continue
		}
		e.remove(n)
		for i, o := range n.Outputs {
			if outs[i] != nil && len(e.readers[o]) > 0 {
				e.g.Consts[o] = outs[i]
				e.g.Types[o] = typeOf(outs[i])
			}
		}
		e.report.done(foldConst, n.Name, "%s of constants evaluated", n.Op)
	}
	return nil
}

// passes reports whether n gives its first input unchanged.
func (e *editor) passes(n *nn.Node) bool {
	switch n.Op {
	case "Identity":
		return true
	case "Dropout":
		return (n.Out(1) == "" || len(e.readers[n.Out(1)]) == 0 && !e.pinned[n.Out(1)]) && !e.mayBeTrue(n.In(2))
	}
	return false
}

// mayBeTrue reports whether the optional input name can be a true boolean.
func (e *editor) mayBeTrue(name string) bool {
	if name == "" {
		return false
	}
	b, ok := e.g.Consts[name].(*tensor.Dense[bool])
	return !ok || slices.Contains(b.Data(), true)
}

// foldable reports whether n depends on constants alone and always gives the same. Quantized constants stay
// quantized: their scale and zero point are what later stages want to see.
func (e *editor) foldable(n *nn.Node) bool {
	if len(n.Inputs) == 0 || strings.HasPrefix(n.Op, "Random") || strings.HasSuffix(n.Op, "QuantizeLinear") || strings.HasSuffix(n.Op, "DequantizeLinear") ||
		n.Op == "Bernoulli" || n.Op == "Multinomial" || n.Op == "Dropout" {
		return false
	}
	for _, a := range n.Attrs {
		if a.G != nil {
			return false
		}
	}
	for _, o := range n.Outputs {
		if e.pinned[o] {
			return false
		}
	}
	return !slices.ContainsFunc(n.Inputs, func(in string) bool { return in != "" && e.g.Consts[in] == nil })
}

// evaluate runs n alone and returns a tensor for each named output.
func (e *editor) evaluate(ctx context.Context, n *nn.Node) ([]tensor.Any, error) {
	g := &nn.Graph{Name: n.Name, Nodes: []*nn.Node{n}, Consts: map[string]tensor.Any{}}
	for _, in := range n.Inputs {
		if in != "" {
			g.Consts[in] = e.g.Consts[in]
		}
	}
	for _, o := range n.Outputs {
		if o != "" {
			g.Outputs = append(g.Outputs, nn.ValueInfo{Name: o})
		}
	}
	res, err := nn.Eval(ctx, g, nil)
	if err != nil {
		return nil, err
	}
	outs := make([]tensor.Any, len(n.Outputs))
	for i, o := range n.Outputs {
		outs[i] = res[o]
	}
	return outs, nil
}

// small reports whether the constants outs are no larger than what they replace, or than maxGrowth.
func (e *editor) small(n *nn.Node, outs []tensor.Any) bool {
	have, want := 0, 0
	for _, in := range n.Inputs {
		if c := e.g.Consts[in]; c != nil {
			have += c.Len()
		}
	}
	for _, o := range outs {
		if o != nil {
			want += o.Len()
		}
	}
	return want <= max(have, maxGrowth)
}
