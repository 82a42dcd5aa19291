package nn

import "roundel/tensor"

// lowerAnyConv lowers convolutions of images, and those along one axis.
func lowerAnyConv(b *builder, g *group) (bool, error) {
	if done, err := lowerConv(b, g); done || err != nil {
		return done, err
	}
	return lowerConv1D(b, g)
}

// lowerConv1D lowers a convolution of [N, C, L] as one of images of height 1, between two transpositions.
func lowerConv1D(b *builder, g *group) (bool, error) {
	n, out := g.head, b.shapeOf(g.out)
	x, w := b.floatValue(n.In(0)), b.p.floatConst(b.r, n.In(1))
	if x == nil || w == nil || len(x.shape) != 3 || len(w.Shape()) != 3 || len(out) != 3 || x.shape.Len() == 0 || out.Len() == 0 ||
		!b.constOrAbsent(n.In(2)) {
		return false, nil
	}
	s, err := (&InferCtx{node: n}).spatial(1, []int{w.Shape()[2]})
	if err != nil {
		return false, err
	}
	before, after := s.pads(0, x.shape[2])
	p := tensor.ConvParams{InC: x.shape[1], OutC: out[1], KH: 1, KW: w.Shape()[2], StrideH: 1, StrideW: s.stride[0], PadL: before, PadR: after,
		DilH: 1, DilW: s.dilation[0], Groups: int(n.Int("group", 1))}
	if _, ow := p.OutSize(1, x.shape[2]); ow != out[2] {
		return false, nil
	}
	var ep tensor.Epilogue
	if c := b.p.floatConst(b.r, n.In(2)); c != nil {
		ep.Bias = c.Data()
	}
	packed := b.p.cache.packConv(b.p.k, p, w, false)
	images, wide, length := x.shape[0], x.shape[2], out[2]
	rows, src := b.inRowMajor(x), b.newBuf(x.shape.Len())
	b.add(&step{node: n, reads: []*buffer{rows}, writes: []*buffer{src}, run: newTransposeStep(rows, src, images, p.InC, wide, NHWC)})
	made, dst := b.newBuf(out.Len()), b.newBuf(out.Len())
	b.add(&step{node: n, reads: []*buffer{src}, writes: []*buffer{made}, borrows: packed.ScratchLen(1, wide), run: func(m *machine) error {
		d, x := m.f32(made), m.f32(src)
		for i := range images {
			packed.Run(d[i*length*p.OutC:][:length*p.OutC], x[i*wide*p.InC:][:wide*p.InC], 1, wide, ep, m.pool)
		}
		return nil
	}})
	b.add(&step{node: n, reads: []*buffer{made}, writes: []*buffer{dst}, run: newTransposeStep(made, dst, images, p.OutC, length, RowMajor)})
	b.define(g.out, RowMajor, dst)
	return true, nil
}
