package main

import (
	"fmt"

	"roundel/tensor"
)

// shapes returns all contenders for one pool.
func shapes(p *tensor.Pool) []*contender {
	var all []*contender
	// out channels x pixels x K, as in the layers of ResNet-18 and MobileNetV2
	for _, s := range [][3]int{
		{256, 256, 256}, {512, 512, 512}, {1024, 1024, 1024}, {2048, 2048, 2048},
		{64, 12544, 147}, {64, 3136, 576}, {128, 784, 1152}, {256, 196, 2304}, {512, 49, 4608},
		{32, 12544, 27}, {96, 12544, 16}, {24, 3136, 96}, {144, 3136, 24}, {32, 784, 144}, {192, 784, 32},
		{64, 196, 384}, {384, 196, 64}, {320, 49, 960}, {1280, 49, 320}, {1000, 1, 1280}} {
		all = append(all, packed(p, s[0], s[1], s[2]))
	}
	for _, s := range [][3]int{{64, 64, 25088}, {128, 128, 6272}, {256, 256, 1568}, {512, 512, 392}, {96, 24, 25088}, {1280, 320, 392}, {576, 576, 4096}} {
		all = append(all, weightGradient(p, s[0], s[1], s[2]))
	}
	for _, s := range [][3]int{{512, 512, 512}, {64, 784, 128}} {
		all = append(all, general(p, s[0], s[1], s[2], false, true), general(p, s[0], s[1], s[2], false, false))
	}
	for _, c := range []struct{ in, out, size, kernel, stride, groups int }{
		{3, 32, 224, 3, 2, 1}, {3, 64, 224, 7, 2, 1}, {64, 64, 56, 3, 1, 1}, {64, 128, 56, 3, 2, 1}, {128, 128, 28, 3, 1, 1},
		{256, 256, 14, 3, 1, 1}, {512, 512, 7, 3, 1, 1}, {64, 128, 56, 1, 2, 1},
		{32, 32, 112, 3, 1, 32}, {96, 96, 112, 3, 2, 96}, {144, 144, 56, 3, 1, 144}, {192, 192, 28, 3, 1, 192},
		{384, 384, 14, 3, 1, 384}, {576, 576, 14, 3, 2, 576}, {960, 960, 7, 3, 1, 960}, {240, 240, 28, 5, 1, 240}} {
		all = append(all, conv(p, c.in, c.out, c.size, c.kernel, c.stride, c.groups)...)
	}
	return append(all, elementwise(p)...)
}

func packed(p *tensor.Pool, n, m, depth int) *contender {
	a, dst, bias := random(m*depth), make([]float32, m*n), random(n)
	g := tensor.PackGemm(p.Kernels(), random(n*depth), depth, n, true)
	ep := tensor.Epilogue{Bias: bias, Act: tensor.ActClamp, Lo: 0, Hi: 6}
	return &contender{
		name:  fmt.Sprintf("gemm %dx%dx%d", n, m, depth),
		flops: 2 * float64(m) * float64(n) * float64(depth),
		bytes: 4 * (float64(m*depth) + float64(m*n) + float64(n*depth)),
		run:   func() { g.Run(dst, n, a, depth, m, ep, p) },
	}
}

func weightGradient(p *tensor.Pool, m, n, depth int) *contender {
	a, b, dst := random(m*depth), random(n*depth), make([]float32, m*n)
	return &contender{
		name:  fmt.Sprintf("gemmTN %dx%dx%d", m, n, depth),
		flops: 2 * float64(m) * float64(n) * float64(depth),
		bytes: 4 * (float64(m*depth) + float64(m*n) + float64(n*depth)),
		run:   func() { tensor.GemmTN(dst, n, a, m, b, n, m, n, depth, false, p) },
	}
}

func general(p *tensor.Pool, n, m, depth int, transA, transB bool) *contender {
	a, b, dst := random(m*depth), random(n*depth), make([]float32, m*n)
	ldb := n
	if transB {
		ldb = depth
	}
	return &contender{
		name:  fmt.Sprintf("gemm unpacked transB=%v %dx%dx%d", transB, n, m, depth),
		flops: 2 * float64(m) * float64(n) * float64(depth),
		bytes: 4 * (float64(m*depth) + float64(m*n) + float64(n*depth)),
		run:   func() { tensor.Gemm(dst, n, a, depth, b, ldb, m, n, depth, transA, transB, false, p) },
	}
}

// conv returns a convolution, and the same one computed directly if Winograd's algorithm computes it.
func conv(p *tensor.Pool, in, out, size, kernel, stride, groups int) (all []*contender) {
	pad := kernel / 2
	cp := tensor.ConvParams{InC: in, OutC: out, KH: kernel, KW: kernel, StrideH: stride, StrideW: stride,
		PadT: pad, PadL: pad, PadB: pad, PadR: pad, DilH: 1, DilW: 1, Groups: groups}
	oh, ow := cp.OutSize(size, size)
	src, dst, bias := random(size*size*in), make([]float32, oh*ow*out), random(out)
	w := random(out * in / groups * kernel * kernel)
	ep := tensor.Epilogue{Bias: bias, Act: tensor.ActClamp, Lo: 0, Hi: 6}
	add := func(kind string, c *tensor.PackedConv) {
		all = append(all, &contender{
			name:  fmt.Sprintf("%s %dx%d s%d %d->%d @%d", kind, kernel, kernel, stride, in, out, size),
			flops: 2 * float64(oh*ow*out) * float64(in/groups*kernel*kernel),
			bytes: 4 * float64(len(src)+len(dst)),
			run:   func() { c.Run(dst, src, size, size, ep, p) },
		})
	}
	kind := "conv"
	if groups > 1 {
		kind = "dw"
	}
	add(kind, tensor.PackConv(p.Kernels(), cp, w))
	if cp.Winograd(size, size) {
		add("winograd", tensor.PackWinograd(p.Kernels(), cp, w))
	}
	return all
}

func elementwise(p *tensor.Pool) []*contender {
	const n = 1 << 16
	k := p.Kernels()
	a, b, dst := random(n), random(n), make([]float32, n)
	weights := random(1000 * 1280)
	q := tensor.FakeQuant{Scale: 0.01, ZeroPoint: 128, QMin: 0, QMax: 255}
	return []*contender{
		{name: "elem qdq", bytes: 8 * n, run: func() { tensor.QuantDequant(dst, a, q, k) }},
		{name: "elem addClamp", bytes: 12 * n, run: func() { k.AddClamp(dst, a, b, 0, 6) }},
		{name: "elem clamp", bytes: 8 * n, run: func() { k.Clamp(dst, a, 0, 6) }},
		{name: "elem axpy", bytes: 12 * n, run: func() { k.Axpy(dst, a, 0.5) }},
		{name: "elem minMax", bytes: 4 * n, run: func() { k.MinMax(a) }},
		// what reading the weights of the product 1000x1x1280 costs
		{name: "read 5 MB", bytes: 4 * 1000 * 1280, run: func() { k.MinMax(weights) }},
	}
}
