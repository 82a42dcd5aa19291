package nn

import (
	"slices"
	"strings"

	"roundel/asm"
	"roundel/tensor"
)

// recurrent is a step that walks an LSTM or GRU: the products with all inputs at once,
// then one product with the state per time.
type recurrent struct {
	k                    asm.Kernels
	lstm                 bool
	t, n, in, hid, gates int
	dirs                 []direction
	src, y, h, c         *buffer // [T, N, I], [T, D, N, H], [D, N, H] twice
	h0, c0               *buffer // start, nil for zeros
	xw, rh               *buffer // products: [T, N, gates·H] and [N, gates·H]
}

// direction has the weights of one direction; the biases are nil for none.
type direction struct {
	w, r         *tensor.PackedGemm
	wBias, rBias []float32
	reverse      bool
}

// lowerRecurrent lowers LSTM and GRU with constant weights, the usual activations and
// sequences of full length. The reference computes in float64, this in float32.
func lowerRecurrent(b *builder, g *group) (bool, error) {
	n := g.head
	x := b.floatValue(n.In(0))
	w, r, bias := b.p.floatConst(b.r, n.In(1)), b.p.floatConst(b.r, n.In(2)), b.p.floatConst(b.r, n.In(3))
	lstm := n.Op == "LSTM"
	usual := []string{"sigmoid", "tanh"}
	if lstm {
		usual = append(usual, "tanh")
	}
	if x == nil || w == nil || r == nil || n.In(3) != "" && bias == nil || n.In(4) != "" || n.In(7) != "" || x.shape.Len() == 0 ||
		n.Int("layout", 0) != 0 || n.Float("clip", 0) != 0 || n.Int("input_forget", 0) != 0 || !lstm && n.Int("linear_before_reset", 0) == 0 {
		return false, nil
	}
	nd, reverse, err := b.inferCtx(n).directions()
	for i, a := range n.Attrs["activations"].Strings {
		if strings.ToLower(a) != usual[i%len(usual)] {
			return false, err
		}
	}
	if err != nil {
		return false, err
	}
	l := &recurrent{k: b.p.k, lstm: lstm, t: x.shape[0], n: x.shape[1], in: x.shape[2], hid: r.Shape()[2], gates: 3, src: b.inRowMajor(x)}
	if lstm {
		l.gates = 4
	}
	for d := range nd {
		dir, err := b.recurrentWeights(l, n, w, r, bias, d)
		if err != nil {
			return false, err
		}
		dir.reverse = reverse || d == 1
		l.dirs = append(l.dirs, dir)
	}
	return true, b.addRecurrent(l, n)
}

// recurrentWeights packs the part of direction d. The biases of an LSTM are added up.
func (b *builder) recurrentWeights(l *recurrent, n *Node, w, r, bias *tensor.Dense[float32], d int) (dir direction, err error) {
	rows := l.gates * l.hid
	parts, err := b.p.cache.fold(n, []string{"forward", "backward"}[d], []tensor.Any{w, r}, func() ([]tensor.Any, error) {
		return []tensor.Any{tensor.From(w.Data()[d*rows*l.in:][:rows*l.in], rows, l.in), tensor.From(r.Data()[d*rows*l.hid:][:rows*l.hid], rows, l.hid)}, nil
	})
	if err != nil {
		return dir, err
	}
	dir.w = b.p.cache.packGemm(b.p.k, parts[0].(*tensor.Dense[float32]), true)
	dir.r = b.p.cache.packGemm(b.p.k, parts[1].(*tensor.Dense[float32]), true)
	if bias == nil {
		return dir, nil
	}
	both := bias.Data()[d*2*rows:][:2*rows]
	dir.wBias, dir.rBias = slices.Clone(both[:rows]), both[rows:]
	if l.lstm {
		addTo(dir.wBias, dir.rBias)
		dir.rBias = nil
	}
	return dir, nil
}

// addRecurrent adds the step and defines its outputs.
func (b *builder) addRecurrent(l *recurrent, n *Node) error {
	state := len(l.dirs) * l.n * l.hid
	reads := []*buffer{l.src}
	for i, p := range []**buffer{&l.h0, &l.c0} {
		if v := b.floatValue(n.In(5 + i)); v != nil {
			*p = b.inRowMajor(v)
			reads = append(reads, *p)
		}
	}
	l.y, l.h, l.c = b.newBuf(l.t*state), b.newBuf(state), b.newBuf(state)
	l.xw, l.rh = b.newBuf(l.t*l.n*l.gates*l.hid), b.newBuf(l.n*l.gates*l.hid)
	borrows := max(l.dirs[0].w.ScratchLen(l.t*l.n, l.in), l.dirs[0].r.ScratchLen(l.n, l.hid))
	b.add(&step{node: n, reads: reads, writes: []*buffer{l.y, l.h, l.c}, scratch: []*buffer{l.xw, l.rh}, borrows: borrows, run: l.run})
	for i, buf := range []*buffer{l.y, l.h, l.c} {
		if name := n.Out(i); name != "" && !b.p.isFeed(name) {
			b.define(name, RowMajor, buf)
			if i == 0 { // produced by the caller
				continue
			}
			if err := b.produced(name, false); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *recurrent) run(m *machine) error {
	start := func(dst, from *buffer) {
		d := m.f32(dst)
		clear(d)
		if from != nil {
			copy(d, m.f32(from))
		}
	}
	start(l.h, l.h0)
	start(l.c, l.c0)
	cols, state := l.gates*l.hid, l.n*l.hid
	xw, rh := m.f32(l.xw), m.f32(l.rh)
	for i := range l.dirs {
		d := &l.dirs[i]
		d.w.Run(xw, cols, m.f32(l.src), l.in, l.t*l.n, tensor.Epilogue{Bias: d.wBias}, m.pool)
		h, c := m.f32(l.h)[i*state:][:state], m.f32(l.c)[i*state:][:state]
		for s := range l.t {
			t := s
			if d.reverse {
				t = l.t - 1 - s
			}
			x := xw[t*l.n*cols:][:l.n*cols]
			ep := tensor.Epilogue{Bias: d.rBias}
			if l.lstm {
				ep.Residual = x
			}
			d.r.Run(rh, cols, h, l.hid, l.n, ep, m.pool)
			for j := range l.n {
				at := j * l.hid
				if l.lstm {
					l.lstmCell(rh[j*cols:][:cols], h[at:][:l.hid], c[at:][:l.hid])
				} else {
					l.gruCell(rh[j*cols:][:cols], x[j*cols:][:cols], h[at:][:l.hid])
				}
			}
			copy(m.f32(l.y)[(t*len(l.dirs)+i)*state:], h)
		}
	}
	return nil
}

// lstmCell: c = σ(f)·c + σ(i)·tanh(g), h = σ(o)·tanh(c), with the gates in the order i, o, f, g.
func (l *recurrent) lstmCell(gates, h, c []float32) {
	n, k := l.hid, &l.k
	in, out, forget, cand := gates[:n], gates[n:2*n], gates[2*n:3*n], gates[3*n:]
	k.Sigmoid(gates[:3*n], gates[:3*n])
	k.Tanh(cand, cand)
	k.Multiply(in, in, cand)
	k.Multiply(forget, forget, c)
	k.AddClamp(c, forget, in, negInf, posInf)
	k.Tanh(cand, c)
	k.Multiply(h, out, cand)
}

// gruCell: n = tanh(x_n + σ(r)·rh_n), h = (1-z)·n + z·h, with the gates in the order z, r, n.
func (l *recurrent) gruCell(rh, x, h []float32) {
	n, k := l.hid, &l.k
	both, cand := rh[:2*n], rh[2*n:]
	k.AddClamp(both, both, x[:2*n], negInf, posInf)
	k.Sigmoid(both, both)
	k.Multiply(cand, cand, both[n:])
	k.AddClamp(cand, cand, x[2*n:], negInf, posInf)
	k.Tanh(cand, cand)
	for i, z := range both[:n] {
		h[i] = float32((1-z)*cand[i]) + float32(z*h[i])
	}
}
