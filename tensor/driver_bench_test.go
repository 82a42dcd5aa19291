package tensor

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"roundel/asm"
)

// benchISA runs body as isa=.../name for each vector table of this machine.
func benchISA(b *testing.B, name string, flops float64, body func(b *testing.B, p *Pool) func()) {
	for _, k := range asm.Available()[1:] {
		b.Run("isa="+k.ISA+"/"+name, func(b *testing.B) {
			run := body(b, NewPool(1, k))
			b.ReportAllocs()
			for b.Loop() {
				run()
			}
			if flops > 0 {
				b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			}
		})
	}
}

func benchRand() *rand.Rand { return rand.New(rand.NewPCG(1, 1)) }

func BenchmarkGemmF32(b *testing.B) {
	for _, s := range [][3]int{{3136, 64, 576}, {784, 128, 1152}, {196, 256, 2304}, {49, 512, 4608}, {3136, 24, 96}, {12544, 96, 16}} {
		m, n, k := s[0], s[1], s[2]
		benchISA(b, fmt.Sprintf("m=%d/n=%d/k=%d", m, n, k), 2*float64(m)*float64(n)*float64(k), func(b *testing.B, p *Pool) func() {
			r := benchRand()
			a, dst := randoms(r, m*k), make([]float32, m*n)
			g := PackGemm(p.Kernels(), randoms(r, k*n), k, n, false)
			ep := Epilogue{Bias: randoms(r, n), Act: ActClamp, Hi: 6}
			return func() { g.Run(dst, n, a, k, m, ep, p) }
		})
	}
}

func BenchmarkGemmTNF32(b *testing.B) {
	for _, s := range [][3]int{{64, 64, 25088}, {256, 256, 1568}, {96, 24, 25088}} {
		m, n, k := s[0], s[1], s[2]
		benchISA(b, fmt.Sprintf("m=%d/n=%d/k=%d", m, n, k), 2*float64(m)*float64(n)*float64(k), func(b *testing.B, p *Pool) func() {
			r := benchRand()
			x, y, dst := randoms(r, m*k), randoms(r, n*k), make([]float32, m*n)
			return func() { GemmTN(dst, n, x, m, y, n, m, n, k, false, p) }
		})
	}
}

func BenchmarkConvF32(b *testing.B) {
	for _, c := range []struct{ in, out, size, kernel, stride, groups int }{
		{3, 32, 224, 3, 2, 1}, {64, 64, 56, 3, 1, 1}, {512, 512, 7, 3, 1, 1}, {144, 144, 56, 3, 1, 144}, {384, 384, 14, 3, 1, 384}} {
		pad := c.kernel / 2
		cp := ConvParams{c.in, c.out, c.kernel, c.kernel, c.stride, c.stride, pad, pad, pad, pad, 1, 1, c.groups}
		oh, ow := cp.OutSize(c.size, c.size)
		weights := c.out * c.in / c.groups * c.kernel * c.kernel
		name := fmt.Sprintf("in=%d/out=%d/size=%d/kernel=%d/stride=%d/groups=%d", c.in, c.out, c.size, c.kernel, c.stride, c.groups)
		benchISA(b, name, 2*float64(oh*ow)*float64(weights), func(b *testing.B, p *Pool) func() {
			r := benchRand()
			src, dst := randoms(r, c.size*c.size*c.in), make([]float32, oh*ow*c.out)
			pc := PackConv(p.Kernels(), cp, randoms(r, weights))
			ep := Epilogue{Bias: randoms(r, c.out), Act: ActClamp, Hi: 6}
			return func() { pc.Run(dst, src, c.size, c.size, ep, p) }
		})
	}
}

func BenchmarkQuantDequant(b *testing.B) {
	const n = 1 << 14
	q := FakeQuant{Scale: 0.02, ZeroPoint: 128, QMin: 0, QMax: 255}
	benchISA(b, fmt.Sprintf("n=%d", n), 0, func(b *testing.B, p *Pool) func() {
		src, dst := randoms(benchRand(), n), make([]float32, n)
		k := p.Kernels()
		b.SetBytes(8 * n)
		return func() { QuantDequant(dst, src, q, k) }
	})
}
