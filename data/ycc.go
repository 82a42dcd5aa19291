package data

import "image"

// yccToRGB converts a decoded JPEG as libjpeg does: chroma at half resolution is interpolated
// with a triangle filter ("fancy upsampling"), and the conversion is in 16-bit fixed point. Other tools, and
// so published accuracies, go through libjpeg; image.YCbCr.At repeats samples instead.
func yccToRGB(out pixels, img *image.YCbCr) {
	b := img.Bounds()
	cb, cr := newChroma(img, img.Cb), newChroma(img, img.Cr)
	rowB, rowR := make([]uint8, out.w+1), make([]uint8, out.w+1)
	for y := range out.h {
		luma := img.Y[img.YOffset(b.Min.X, b.Min.Y+y):]
		cb.row(rowB, y)
		cr.row(rowR, y)
		for x := range out.w {
			l, u, v := int32(luma[x]), int32(rowB[x])-128, int32(rowR[x])-128
			p := out.pix[(y*out.w+x)*3:][:3]
			p[0] = clamp8(l + (fix1_402*v+half16)>>16)
			p[1] = clamp8(l + (-fix0_344*u-fix0_714*v+half16)>>16)
			p[2] = clamp8(l + (fix1_772*u+half16)>>16)
		}
	}
}

// The coefficients of R = Y + 1.402·Cr, G = Y − 0.34414·Cb − 0.71414·Cr, B = Y + 1.772·Cb in 16 fraction bits.
const (
	half16   = 1 << 15
	fix1_402 = 91881
	fix0_344 = 22554
	fix0_714 = 46802
	fix1_772 = 116130
)

// chroma is one colour plane at its stored resolution.
type chroma struct {
	pix    []uint8
	stride int
	w, h   int // stored samples that belong to the image
	rx, ry int // pixels per sample
	sums   []int32
}

func newChroma(img *image.YCbCr, plane []uint8) *chroma {
	b := img.Bounds()
	c := &chroma{pix: plane[img.COffset(b.Min.X, b.Min.Y):], stride: img.CStride, rx: 1, ry: 1}
	switch img.SubsampleRatio {
	case image.YCbCrSubsampleRatio422:
		c.rx = 2
	case image.YCbCrSubsampleRatio420:
		c.rx, c.ry = 2, 2
	case image.YCbCrSubsampleRatio440:
		c.ry = 2
	case image.YCbCrSubsampleRatio411:
		c.rx = 4
	case image.YCbCrSubsampleRatio410:
		c.rx, c.ry = 4, 2
	}
	c.w, c.h = (b.Dx()+c.rx-1)/c.rx, (b.Dy()+c.ry-1)/c.ry
	c.sums = make([]int32, c.w)
	return c
}

// row writes row y at full resolution to dst, which has room for one sample more than the image is wide.
// Like libjpeg it repeats samples in images of two columns or less, and at other ratios.
func (c *chroma) row(dst []uint8, y int) {
	near := c.pix[y/c.ry*c.stride:][:c.w]
	switch {
	case c.rx == 2 && c.ry == 1 && c.w > 2:
		for i, v := range near {
			c.sums[i] = int32(v)
		}
		c.spread(dst, 1, 2, 2)
	case c.rx == 2 && c.ry == 2 && c.w > 2:
		far := c.neighbour(y)
		for i, v := range near {
			c.sums[i] = 3*int32(v) + int32(far[i])
		}
		c.spread(dst, 8, 7, 4)
	case c.rx == 1 && c.ry == 2:
		far := c.neighbour(y)
		bias := int32(1 + y%2)
		for i, v := range near {
			dst[i] = uint8((3*int32(v) + int32(far[i]) + bias) >> 2)
		}
	default:
		for x := range dst[:len(dst)-1] {
			dst[x] = near[x/c.rx]
		}
	}
}

// neighbour returns the stored row on the other side of pixel row y from its own: above for even y, below for odd;
// beyond the image it is the row itself.
func (c *chroma) neighbour(y int) []uint8 {
	at := y/2 - 1 + 2*(y%2)
	return c.pix[min(max(at, 0), c.h-1)*c.stride:][:c.w]
}

// spread doubles c.sums along the row: each output is ¾ of the nearer sample and ¼ of the further, rounded with a
// bias that alternates between even and odd columns; the outermost repeat their sample.
func (c *chroma) spread(dst []uint8, even, odd int32, shift uint) {
	s, last := c.sums, len(c.sums)-1
	for i, v := range s {
		before, after := v, v
		if i > 0 {
			before = s[i-1]
		}
		if i < last {
			after = s[i+1]
		}
		if 2*i < len(dst) {
			dst[2*i] = uint8((3*v + before + even) >> shift)
		}
		if 2*i+1 < len(dst) {
			dst[2*i+1] = uint8((3*v + after + odd) >> shift)
		}
	}
}
