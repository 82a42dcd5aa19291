package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"

	"roundel/asm"
	"roundel/autograd"
	"roundel/internal/golden"
	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/tensor"
)

// noise returns n labelled images without meaning.
func noise(n int) *images {
	rng := rand.New(rand.NewPCG(5, 6))
	s := &images{values: make([]float32, n*pixels), labels: make([]int, n)}
	for i := range s.values {
		s.values[i] = 4*rng.Float32() - 2
	}
	for i := range s.labels {
		s.labels[i] = rng.IntN(classes)
	}
	return s
}

// trained returns a network after three steps on noise.
func trained(workers int, k asm.Kernels) (*net, *tape) {
	c := config{seed: 1, epochs: 1, batch: 10, lr: 0.1, decay: 1e-4, smooth: 0.1}
	n := newNet(rand.New(rand.NewPCG(c.seed, 1)))
	t := autograd.New[float32](tensor.NewPool(workers, k))
	fit(c, n, t, noise(30))
	return n, t
}

// TestSameBytes trains with every kernel table and two worker counts: the file must be the same on every CPU.
func TestSameBytes(t *testing.T) {
	const want = "0868e71a9af73103"
	for _, k := range asm.Available() {
		for _, workers := range []int{1, 2} {
			n, _ := trained(workers, k)
			b, err := export(n)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%x", sha256.Sum256(b))[:16]; got != want {
				t.Errorf("%s, %d workers: file %s, want %s", k.ISA, workers, got, want)
			}
		}
	}
}

// TestFoldAndExport compares the folded network and the exported file with the
// network itself, run with its running statistics.
func TestFoldAndExport(t *testing.T) {
	n, tp := trained(1, asm.Kernels{})
	x := noise(7).batch(0, 7)
	eval := n.forward(tp, autograd.Const(x), n.fcW, func(l *layer, x *value) *value {
		return tp.BatchNorm(tp.Conv2d(x, l.w, nil, l.conv()), l.gamma, l.beta, l.stats, false)
	})
	if err := golden.Close(n.fold().logits(tp, autograd.Const(x)).X, eval.X, 1e-4, 1e-4); err != nil {
		t.Errorf("folded: %v", err)
	}
	b, err := export(n)
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	g, err := convert.ToGraph(m)
	if err != nil {
		t.Fatal(err)
	}
	p, err := nn.Compile(t.Context(), g, nn.CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(context.Background(), map[string]tensor.Any{"input": x})
	if err != nil {
		t.Fatal(err)
	}
	if err := golden.Close(out["logits"], eval.X, 1e-4, 1e-4); err != nil {
		t.Errorf("exported: %v", err)
	}
}

// TestNearest checks that coarser grids are further away.
func TestNearest(t *testing.T) {
	n, tp := trained(1, asm.Kernels{})
	f, x := n.fold(), autograd.Const(noise(20).batch(0, 20))
	want := f.logits(tp, x)
	last := 0.0
	for _, bits := range []int{12, 8, 4} {
		q, err := f.nearest(bits)
		if err != nil {
			t.Fatal(err)
		}
		d := float64(tp.MSE(q.logits(tp, x), want).X.Data()[0])
		if d <= 4*last {
			t.Errorf("%d bits: squared error %g, with more bits %g", bits, d, last)
		}
		last = d
	}
}
