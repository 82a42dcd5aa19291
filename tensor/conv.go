package tensor

import (
	"fmt"

	"roundel/asm"
)

// ConvParams describes a 2-D convolution. Weights are OIHW with I = InC/Groups.
type ConvParams struct {
	InC, OutC              int
	KH, KW                 int
	StrideH, StrideW       int
	PadT, PadL, PadB, PadR int // zeros around the image
	DilH, DilW             int
	Groups                 int
}

// OutSize returns the height and width of the output for an input of h x w; both
// are 0 if the dilated kernel does not fit.
func (p ConvParams) OutSize(h, w int) (oh, ow int) {
	eh := h + p.PadT + p.PadB - (p.KH-1)*p.DilH
	ew := w + p.PadL + p.PadR - (p.KW-1)*p.DilW
	if eh <= 0 || ew <= 0 {
		return 0, 0
	}
	return (eh-1)/p.StrideH + 1, (ew-1)/p.StrideW + 1
}

func (p ConvParams) padded() bool { return p.PadT|p.PadL|p.PadB|p.PadR != 0 }

func (p ConvParams) depthwise() bool {
	return p.Groups == p.InC && p.Groups == p.OutC && p.InC > 1
}

func (p ConvParams) pointwise() bool {
	return p.KH == 1 && p.KW == 1 && p.StrideH == 1 && p.StrideW == 1 && p.Groups == 1 && !p.padded()
}

// PackedConv is a convolution whose weights are laid out once for one kernel table.
//
// The dense and grouped paths are batch-reduce GEMMs: a tile keeps its accumulators
// over all taps and reads the image in place through strides and tap offsets, or,
// if there is padding, a strip of padded rows that its worker copies into scratch.
// Where pixels of a kernel row are neighbours in memory (one group, no dilation) the
// KW*C values of that row are one tap; so the first layer needs no im2col either.
// Convolutions packed by PackWinograd take the path of winograd.go.
type PackedConv struct {
	p      ConvParams
	k      asm.Kernels
	gemm   *PackedGemm // pointwise
	dw     []float32   // depthwise: [KH*KW][C]
	taps   int         // others: number of taps
	depth  int         // and steps per tap
	panels []panel     // of all groups, by output channel

	winograd bool // the panels hold the terms of Winograd's algorithm instead of taps
}

// PackConv packs the weights w (OIHW) of a convolution. It keeps no reference to w.
// It panics if w is too short or the parameters are inconsistent.
func PackConv(k asm.Kernels, p ConvParams, w []float32) *PackedConv {
	if p.Groups < 1 || p.InC%p.Groups != 0 || p.OutC%p.Groups != 0 || p.StrideH < 1 || p.StrideW < 1 || p.DilH < 1 || p.DilW < 1 {
		panic(fmt.Sprintf("tensor: PackConv: inconsistent parameters %+v", p))
	}
	in, area := p.InC/p.Groups, p.KH*p.KW
	if len(w) < p.OutC*in*area {
		panic(fmt.Sprintf("tensor: PackConv: %d weights for %+v", len(w), p))
	}
	c := &PackedConv{p: p, k: k}
	switch {
	case p.pointwise():
		c.gemm = PackGemm(k, w, p.InC, p.OutC, true)
	case p.depthwise():
		c.dw = aligned(area * p.InC)
		for ch := range p.InC {
			for t := range area {
				c.dw[t*p.InC+ch] = w[ch*area+t]
			}
		}
	default:
		c.taps, c.depth = area, in
		if p.Groups == 1 && p.DilW == 1 {
			c.taps, c.depth = p.KH, p.KW*in
		}
		c.packPanels(area, func(o int) []float32 { return w[o*in*area:] })
	}
	return c
}

// packPanels packs each group's output channels; rows run over taps, then channels.
// weights returns those of an output channel by channel, then tap.
func (c *PackedConv) packPanels(taps int, weights func(out int) []float32) {
	p := c.p
	in, out := p.InC/p.Groups, p.OutC/p.Groups
	size := packedLen(&c.k, taps*in, out)
	buf := aligned(p.Groups * size)
	for g := range p.Groups {
		c.panels = appendPanels(c.panels, &c.k, buf[g*size:(g+1)*size], taps*in, out, g*out)
	}
	for _, pn := range c.panels {
		for j := range pn.cols {
			src := weights(pn.col + j)
			for t := range taps {
				for i := range in {
					pn.b[(t*in+i)*pn.ld+j] = src[i*taps+t]
				}
			}
		}
	}
}

// Params returns the parameters the weights were packed for.
func (c *PackedConv) Params() ConvParams { return c.p }

// Bytes returns the memory the packed weights take.
func (c *PackedConv) Bytes() int64 {
	if c.gemm != nil {
		return c.gemm.Bytes()
	}
	n := len(c.dw)
	for _, pn := range c.panels {
		n += len(pn.b)
	}
	return 4 * int64(n)
}

// ScratchLen returns how many floats of scratch each worker of a pool needs at most to run an h x w image.
func (c *PackedConv) ScratchLen(h, w int) int {
	p := &c.p
	oh, ow := p.OutSize(h, w)
	j := convJob{c: c, p: &Pool{workers: 1}, h: h, w: w, oh: oh, ow: ow, pitch: (w + p.PadL + p.PadR) * p.InC}
	switch {
	case oh == 0 || ow == 0 || c.dw != nil:
		return 0
	case c.gemm != nil:
		return c.gemm.ScratchLen(h*w, p.InC)
	case c.winograd:
		return c.winogradPlan(&j).scratch()
	case !p.padded() || c.skipsPadding(h, w):
		return 0
	}
	j.plan()
	return ((j.rowsPer-1)*p.StrideH + (p.KH-1)*p.DilH + 1) * j.pitch
}

// Run convolves one image. src: [h, w, InC], dst: [oh, ow, OutC] (NHWC), oh and ow
// from OutSize. Each output is one chain of fused multiply-adds over kernel rows,
// kernel columns, then channels in ascending order, and then the epilogue. A padded
// position contributes 0*w on the dense path and nothing on the depthwise one and
// where a wide dilation reads much padding. With Winograd's algorithm each output is a
// sum of nine such chains over the channels, in the order of asm.WinogradTiles: an input
// that is not finite makes all four outputs of a tile that reads it so, often NaN.
// dst must not overlap src. It panics if an operand is too short.
func (c *PackedConv) Run(dst, src []float32, h, w int, ep Epilogue, p *Pool) {
	oh, ow := c.p.OutSize(h, w)
	if oh == 0 || ow == 0 || c.p.OutC == 0 {
		return
	}
	if len(src) < h*w*c.p.InC || len(dst) < oh*ow*c.p.OutC {
		panic(fmt.Sprintf("tensor: PackedConv: buffers of %d and %d elements for a %dx%d image, %+v", len(src), len(dst), h, w, c.p))
	}
	switch {
	case c.gemm != nil:
		c.gemm.Run(dst, c.p.OutC, src, c.p.InC, h*w, ep, p)
	case c.dw != nil:
		c.runDepthwise(dst, src, h, w, ep, p)
	case c.winograd:
		c.runWinograd(dst, src, h, w, ep, p)
	case c.skipsPadding(h, w):
		c.runReached(dst, src, h, w, ep, p)
	default:
		c.runTaps(dst, src, h, w, ep, p)
	}
}
