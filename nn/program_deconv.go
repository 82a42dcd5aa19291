package nn

import (
	"roundel/tensor"
)

// deconv gathers the output rows of a transposed convolution from the products of
// every input pixel with every tap: [H, W, KH·KW·C].
type deconv struct {
	window
	h, w, oh, ow int
	c            int // output channels
	bias         []float32
	products     *buffer
}

// lowerConvTranspose lowers a ConvTranspose of images with constant weights and one
// group: one matrix product, and a sum over the taps in ascending order.
func lowerConvTranspose(b *builder, g *group) (bool, error) {
	n, out := g.head, b.shapeOf(g.out)
	x, w := b.floatValue(n.In(0)), b.p.floatConst(b.r, n.In(1))
	if x == nil || w == nil || len(x.shape) != 4 || len(out) != 4 || out.Len() == 0 || x.shape.Len() == 0 ||
		!b.isFloat(g.out) || n.Int("group", 1) != 1 || !b.constOrAbsent(n.In(2)) {
		return false, nil
	}
	ws := w.Shape()
	s, err := (&InferCtx{node: n}).spatial(2, []int{ws[2], ws[3]})
	if err != nil {
		return false, err
	}
	_, before, err := s.transposed(n, knownDims(x.shape[2:]))
	if err != nil {
		return false, err
	}
	d := &deconv{window: window{kh: ws[2], kw: ws[3], strideH: s.stride[0], strideW: s.stride[1], dilH: s.dilation[0], dilW: s.dilation[1],
		padT: before[0], padL: before[1]}, h: x.shape[2], w: x.shape[3], oh: out[2], ow: out[3], c: out[1]}
	if bias := b.p.floatConst(b.r, n.In(2)); bias != nil {
		d.bias = bias.Data()
	} else {
		d.bias = make([]float32, d.c)
	}
	if err := b.addProducts(d, n, x, w); err != nil {
		return false, err
	}
	unit := d.ow * d.c
	b.emit(g, &elementwise{unit: unit, f: func(m *machine, _ int, dst []float32, from, to int) {
		for y := from / unit; y < to/unit; y++ {
			d.row(m, dst[y*unit-from:][:unit], y)
		}
	}}, NHWC, []*buffer{d.products}, nil)
	return true, nil
}

// addProducts adds the step that multiplies all input pixels with the weights [C_in, KH·KW·C].
func (b *builder) addProducts(d *deconv, n *Node, x *operand, w *tensor.Dense[float32]) error {
	in, cols := x.shape[1], d.kh*d.kw*d.c
	out, err := b.p.cache.fold(n, "taps", []tensor.Any{w}, func() ([]tensor.Any, error) {
		t := tensor.Transpose(w, []int{0, 2, 3, 1})
		return []tensor.Any{tensor.ReshapeAny(t, tensor.Shape{in, cols})}, nil
	})
	if err != nil {
		return err
	}
	packed := b.p.cache.packGemm(b.p.k, out[0].(*tensor.Dense[float32]), false)
	src, rows := b.inNHWC(x), x.shape[0]*d.h*d.w
	d.products = b.newBuf(rows * cols)
	s := &step{node: n, reads: []*buffer{src}, writes: []*buffer{d.products}, borrows: packed.ScratchLen(rows, in), run: func(m *machine) error {
		packed.Run(m.f32(d.products), cols, m.f32(src), in, rows, tensor.Epilogue{}, m.pool)
		return nil
	}}
	b.add(s)
	return nil
}

// row makes output row y, counted over all images.
func (d *deconv) row(m *machine, dst []float32, y int) {
	all, pixel := m.f32(d.products), d.kh*d.kw*d.c
	image := all[y/d.oh*d.h*d.w*pixel:][:d.h*d.w*pixel]
	y %= d.oh
	for x := range d.ow {
		copy(dst[x*d.c:][:d.c], d.bias)
	}
	for ky := range d.kh {
		t := y + d.padT - ky*d.dilH
		iy := t / d.strideH
		if t < 0 || t%d.strideH != 0 || iy >= d.h {
			continue
		}
		for kx := range d.kw {
			at := (ky*d.kw + kx) * d.c
			for ix := range d.w {
				if x := ix*d.strideW + kx*d.dilW - d.padL; x >= 0 && x < d.ow {
					addTo(dst[x*d.c:][:d.c], image[(iy*d.w+ix)*pixel+at:])
				}
			}
		}
	}
}

func addTo(dst, src []float32) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] += src[i]
	}
}
