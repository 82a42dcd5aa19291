package main

import (
	"fmt"
	"math/rand/v2"

	"roundel/tensor"
)

// shape is one operator to time.
type shape struct {
	m, n, k int // product: m pixels, n output channels
	// convolution, square, padded by half the kernel, when size > 0
	in, out, size, kernel, stride, groups int
}

// gemmShapes are out-channels x pixels x K of ResNet-18 and MobileNetV2 layers at 224x224, after four squares.
var gemmShapes = [][3]int{
	{256, 256, 256}, {512, 512, 512}, {1024, 1024, 1024}, {2048, 2048, 2048},
	{64, 12544, 147}, {64, 3136, 576}, {128, 784, 1152}, {256, 196, 2304}, {512, 49, 4608},
	{32, 12544, 27}, {96, 12544, 16}, {24, 3136, 96}, {144, 3136, 24}, {192, 784, 32}, {384, 196, 64},
	{320, 49, 960}, {1280, 49, 320}, {1000, 1, 1280},
}

// convShapes are in, out, size, kernel, stride, groups of their convolutions.
var convShapes = [][6]int{
	{3, 32, 224, 3, 2, 1}, {3, 64, 224, 7, 2, 1}, {64, 64, 56, 3, 1, 1}, {64, 128, 56, 3, 2, 1}, {128, 128, 28, 3, 1, 1},
	{256, 256, 14, 3, 1, 1}, {512, 512, 7, 3, 1, 1}, {64, 128, 56, 1, 2, 1}, {96, 24, 56, 1, 1, 1}, {64, 384, 14, 1, 1, 1}, {960, 160, 7, 1, 1, 1},
	{32, 32, 112, 3, 1, 32}, {96, 96, 112, 3, 2, 96}, {144, 144, 56, 3, 1, 144}, {192, 192, 28, 3, 1, 192},
	{384, 384, 14, 3, 1, 384}, {576, 576, 14, 3, 2, 576}, {960, 960, 7, 3, 1, 960}, {240, 240, 28, 5, 1, 240},
}

func shapesOf(kind string) (all []shape) {
	if kind == "conv" {
		for _, c := range convShapes {
			all = append(all, shape{in: c[0], out: c[1], size: c[2], kernel: c[3], stride: c[4], groups: c[5]})
		}
		return all
	}
	for _, s := range gemmShapes {
		all = append(all, shape{n: s[0], m: s[1], k: s[2]})
	}
	return all
}

// String is "out x pixels x K", or "kernel, stride, channels, size".
func (s shape) String() string {
	if s.size == 0 {
		return fmt.Sprintf("%d x %d x %d", s.n, s.m, s.k)
	}
	kind := ""
	if s.groups > 1 {
		kind = "depthwise "
	}
	return fmt.Sprintf("%s%dx%d s%d %d→%d @%d", kind, s.kernel, s.kernel, s.stride, s.in, s.out, s.size)
}

func (s shape) request() map[string]any {
	if s.size == 0 {
		return map[string]any{"op": "gemm", "m": s.m, "n": s.n, "k": s.k}
	}
	return map[string]any{"op": "conv", "in": s.in, "out": s.out, "size": s.size, "kernel": s.kernel, "stride": s.stride, "groups": s.groups}
}

func (s shape) params() tensor.ConvParams {
	pad := s.kernel / 2
	return tensor.ConvParams{InC: s.in, OutC: s.out, KH: s.kernel, KW: s.kernel, StrideH: s.stride, StrideW: s.stride,
		PadT: pad, PadL: pad, PadB: pad, PadR: pad, DilH: 1, DilW: 1, Groups: s.groups}
}

// flops counts a multiplication and an addition as two.
func (s shape) flops() float64 {
	if s.size == 0 {
		return 2 * float64(s.m) * float64(s.n) * float64(s.k)
	}
	oh, ow := s.params().OutSize(s.size, s.size)
	return 2 * float64(oh*ow*s.out) * float64(s.in/s.groups*s.kernel*s.kernel)
}

// ours prepares the operator, with packed weights; convolutions with bias and clamp, as the peer's.
func (s shape) ours(p *tensor.Pool) func() {
	if s.size == 0 {
		a, dst := random(s.m*s.k), make([]float32, s.m*s.n)
		g := tensor.PackGemm(p.Kernels(), random(s.n*s.k), s.k, s.n, true)
		return func() { g.Run(dst, s.n, a, s.k, s.m, tensor.Epilogue{}, p) }
	}
	cp := s.params()
	oh, ow := cp.OutSize(s.size, s.size)
	src, dst := random(s.size*s.size*s.in), make([]float32, oh*ow*s.out)
	pack := tensor.PackConv
	if cp.Winograd(s.size, s.size) {
		pack = tensor.PackWinograd
	}
	c := pack(p.Kernels(), cp, random(s.out*s.in/s.groups*s.kernel*s.kernel))
	ep := tensor.Epilogue{Bias: random(s.out), Act: tensor.ActClamp, Lo: 0, Hi: 6}
	return func() { c.Run(dst, src, s.size, s.size, ep, p) }
}

func random(n int) []float32 {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(r.NormFloat64())
	}
	return s
}
