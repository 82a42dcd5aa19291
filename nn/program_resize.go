package nn

import (
	"roundel/asm"
	"roundel/tensor"
)

// resize is a step over output rows of NHWC images: each is a mix of input rows, and
// each pixel of it a mix of pixels of that.
type resize struct {
	k        asm.Kernels
	h, w, c  int
	oh, ow   int
	rows     tensor.ResizeTaps
	cols     tensor.ResizeTaps
	src, mix *buffer // mix: a mixed row for each worker
}

// lowerResize lowers the resizing of height and width of images by constant factors or
// sizes. The reference computes in float64; here every tap is one fused multiply-add.
func lowerResize(b *builder, g *group) (bool, error) {
	n, out := g.head, b.shapeOf(g.out)
	x := b.floatValue(n.In(0))
	if x == nil || len(x.shape) != 4 || len(out) != 4 || out.Len() == 0 || !b.isFloat(g.out) {
		return false, nil
	}
	ctx := b.inferCtx(n)
	mode, err := ctx.resizeMode()
	if err != nil || mode.Coordinates == "tf_crop_and_resize" {
		return false, err
	}
	plan, err := ctx.resizePlan(ctx.in[0].Dims)
	if err != nil {
		return false, err
	}
	for i, a := range plan {
		if a.Out != out[i] || i < 2 && (a.Out != x.shape[i] || a.Scale != 1) {
			return false, nil
		}
	}
	r := &resize{k: b.p.k, h: x.shape[2], w: x.shape[3], c: x.shape[1], oh: out[2], ow: out[3]}
	r.rows, r.cols = mode.Taps(r.h, plan[2]), mode.Taps(r.w, plan[3])
	r.src, r.mix = b.inNHWC(x), b.newBuf(b.p.pool.Workers()*r.w*r.c)
	unit := r.ow * r.c
	b.emit(g, &elementwise{unit: unit, scratch: []*buffer{r.mix}, f: func(m *machine, worker int, d []float32, from, to int) {
		for y := from / unit; y < to/unit; y++ {
			r.row(m, worker, d[(y*unit - from):][:unit], y)
		}
	}}, NHWC, []*buffer{r.src}, nil)
	return true, nil
}

// row makes output row y, counted over all images.
func (r *resize) row(m *machine, worker int, dst []float32, y int) {
	pitch := r.w * r.c
	image := m.f32(r.src)[y/r.oh*r.h*pitch:][:r.h*pitch]
	idx, w := r.rows.At(y % r.oh)
	row := m.f32(r.mix)[worker*pitch:][:pitch]
	if len(idx) == 1 && w[0] == 1 {
		row = image[idx[0]*pitch:][:pitch]
	} else {
		clear(row)
		for i, j := range idx {
			r.k.Axpy(row, image[j*pitch:][:pitch], w[i])
		}
	}
	for x := range r.ow {
		idx, w := r.cols.At(x)
		d := dst[x*r.c:][:r.c]
		switch {
		case len(idx) == 1 && w[0] == 1:
			copy(d, row[idx[0]*r.c:])
		case r.c < 8: // too short for a call
			for c := range d {
				s := float32(0)
				for i, j := range idx {
					s = asm.FMA(w[i], row[j*r.c+c], s)
				}
				d[c] = s
			}
		default:
			clear(d)
			for i, j := range idx {
				r.k.Axpy(d, row[j*r.c:][:r.c], w[i])
			}
		}
	}
}
