package fuzz

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"roundel/asm"
	"roundel/nn"
	"roundel/nn/prepare"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/tensor"
)

// maxValue bounds the elements of a value in the targets that execute models.
const maxValue = 1 << 14

// patience bounds how long a model may run: a Loop can ask for any number of rounds.
const patience = 5 * time.Second

// smallGraph returns the graph of a model, edited when seed > 0, with every input of a known small shape and float or
// integer elements to feed it with; nil when there is none. Everything is inferred to be small.
func smallGraph(b []byte, seed uint64) (*nn.Graph, map[string]tensor.Any, *onnx.Model) {
	if len(b) > maxModel {
		return nil, nil, nil
	}
	m, err := onnx.Decode(b)
	if err != nil || m.Graph == nil {
		return nil, nil, nil
	}
	r := rand.New(rand.NewPCG(seed, 1))
	if seed > 0 {
		edit(m, r)
	}
	g, err := convert.ToGraph(m)
	if err != nil || nn.Verify(g) != nil {
		return nil, nil, nil
	}
	feeds := map[string]tensor.Any{}
	for i, in := range g.Inputs {
		shape := tensor.Shape{}
		n := 1
		for _, d := range in.Type.Dims {
			size := d.Size
			if !d.IsKnown() {
				size = 1 + r.IntN(3)
			}
			if size > maxValue || n*size > maxValue {
				return nil, nil, nil
			}
			shape, n = append(shape, size), n*size
		}
		if !in.Type.Ranked {
			shape, n = tensor.Shape{2}, 2
		}
		x := make([]float64, n)
		for j := range x {
			x[j] = r.Float64()*4 - 1
		}
		dt := in.Type.DType
		if dt == tensor.Invalid {
			dt = tensor.Float32
		}
		feeds[in.Name] = tensor.Cast(tensor.From(x, shape...), dt)
		g.Inputs[i].Type = typeOf(feeds[in.Name])
	}
	if nn.Infer(g) != nil {
		return nil, nil, nil
	}
	for _, t := range g.Types {
		n := 1
		for _, d := range t.Dims {
			if n *= max(d.Size, 1); n > maxValue || d.Size > maxValue {
				return nil, nil, nil
			}
		}
	}
	return g, feeds, m
}

func typeOf(t tensor.Any) nn.Type {
	d := make([]nn.Dim, len(t.Shape()))
	for i, n := range t.Shape() {
		d[i] = nn.Known(n)
	}
	return nn.Type{DType: t.DType(), Dims: d, Ranked: true}
}

func addModels(f *testing.F, seeds int) {
	for _, b := range models(f) {
		for seed := range uint64(seeds) {
			f.Add(b, seed)
		}
	}
}

// FuzzExecute runs models of any content by the reference and by a compiled program: neither panics, and both give
// tensors of the same types where both accept the model.
func FuzzExecute(f *testing.F) {
	addModels(f, 8)
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		g, feeds, _ := smallGraph(b, seed)
		if g == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		want, err := nn.Eval(ctx, g, feeds)
		p, cerr := nn.Compile(t.Context(), g, nn.CompileOptions{Pool: tensor.NewPool(1+int(seed%2), asm.Best())})
		if cerr != nil {
			return
		}
		got, perr := p.Run(ctx, feeds)
		if errors.Is(errors.Join(err, perr), context.DeadlineExceeded) {
			return
		}
		if err == nil && perr != nil {
			t.Fatalf("the reference runs the model, the program says: %v", perr)
		}
		if err != nil || perr != nil {
			return
		}
		for name, w := range want {
			if h := got[name]; h == nil || h.DType() != w.DType() || !h.Shape().Equal(w.Shape()) {
				t.Fatalf("output %q: the reference gives %v%v, the program %v", name, w.DType(), w.Shape(), h)
			}
		}
	})
}

// FuzzPrepare prepares models of any content: the result verifies, runs where the model ran, and gives outputs of the
// same types.
func FuzzPrepare(f *testing.F) {
	addModels(f, 8)
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		g, feeds, _ := smallGraph(b, seed)
		if g == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		want, err := nn.Eval(ctx, g, feeds)
		if err != nil {
			return
		}
		c := prepare.DefaultConfig()
		p, _, err := prepare.Apply(ctx, g, c)
		if err != nil {
			return
		}
		if err := nn.Verify(p); err != nil {
			t.Fatalf("the prepared graph is bad: %v", err)
		}
		got, err := nn.Eval(ctx, p, feeds)
		if errors.Is(err, context.DeadlineExceeded) {
			return
		}
		if err != nil {
			t.Fatalf("the prepared graph does not run: %v", err)
		}
		for name, w := range want {
			if h := got[name]; h == nil || h.DType() != w.DType() || !h.Shape().Equal(w.Shape()) {
				t.Fatalf("output %q: %v%v became %v", name, w.DType(), w.Shape(), h)
			}
		}
	})
}
