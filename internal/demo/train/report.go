package main

import (
	"context"
	"fmt"

	"roundel/autograd"
	"roundel/quantsim/encoding"
)

// report prints the test accuracy in float and with weights rounded to nearest on per-channel symmetric grids.
func report(n *net, t *tape, test *images) error {
	f := n.fold()
	fmt.Printf("test accuracy: float %.2f %%\n", 100*accuracy(f, t, test))
	for _, bits := range []int{8, 6, 5, 4, 3, 2} {
		q, err := f.nearest(bits)
		if err != nil {
			return err
		}
		fmt.Printf("  nearest %d-bit weights %.2f %%\n", bits, 100*accuracy(q, t, test))
	}
	return nil
}

// accuracy returns the share of test images whose largest logit is their label's.
func accuracy(f *folded, t *tape, test *images) float64 {
	const batch = 100
	right := 0
	for from := 0; from < len(test.labels); from += batch {
		to := min(from+batch, len(test.labels))
		logits := f.logits(t, autograd.Const(test.batch(from, to))).X.Data()
		for i, label := range test.labels[from:to] {
			row := logits[i*classes : (i+1)*classes]
			best := 0
			for k, v := range row {
				if v > row[best] {
					best = k
				}
			}
			if best == label {
				right++
			}
		}
		t.Reset()
	}
	return float64(right) / float64(len(test.labels))
}

// nearest returns f with every weight rounded to nearest on a symmetric per-channel grid.
func (f *folded) nearest(bits int) (*folded, error) {
	q := &folded{f.net, map[*layer]*value{}, f.b, nil}
	round := func(name string, w *value) (*value, error) {
		g := encoding.Grid{Bits: bits, Symmetric: true, Axis: 0}
		e, err := encoding.Compute(context.Background(), name, w.X.Data(), w.Shape(), g, encoding.Method{Scheme: encoding.SchemeTF})
		if err != nil {
			return nil, err
		}
		x, err := e.QuantizeDequantizeTensor(w.X)
		return autograd.Const(x), err
	}
	var err error
	for l, w := range f.w {
		if q.w[l], err = round(l.name, w); err != nil {
			return nil, err
		}
	}
	q.fcW, err = round("classifier", f.fcW)
	return q, err
}
