package nn

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"roundel/asm"
	"roundel/tensor"
)

// winogradNet is a residual block whose 3x3 convolutions are computed by Winograd's algorithm.
func winogradNet(size int) (s *sketch, weight, inner, out string) {
	s = newSketch(21, tensor.Shape{1, 32, size, size})
	a := s.node("Relu", nil, s.conv("x0", 64, 3, 1, 1, 1, 1, true))
	weight = fmt.Sprint("c", len(s.g.Consts))
	b := s.conv(a, 32, 3, 1, 1, 1, 1, true)
	out = s.node("Relu", nil, s.node("Add", nil, b, "x0"))
	s.output(out)
	return s, weight, a, out
}

// TestProgramWinograd: with fused residual, activation and quantizer the result is near the reference, and has the same
// bits for every instruction set, number of workers and batch; other weights are packed anew.
func TestProgramWinograd(t *testing.T) {
	for _, size := range []int{5, 8} {
		s, weight, inner, out := winogradNet(size)
		if p := (tensor.ConvParams{InC: 32, OutC: 64, KH: 3, KW: 3, StrideH: 1, StrideW: 1, PadT: 1, PadL: 1, PadB: 1, PadR: 1, DilH: 1, DilW: 1,
			Groups: 1}); !p.Winograd(size, size) {
			t.Fatal("this network would not be computed by Winograd's algorithm")
		}
		feeds := s.feeds(3)
		ref, err := Eval(context.Background(), s.g, feeds)
		if err != nil {
			t.Fatal(err)
		}
		compareNear(t, "float", mustRun(t, s.g, CompileOptions{}, feeds)[out], ref[out], 2e-6)
		q := map[string]tensor.FakeQuant{inner: {Scale: 0.02, QMax: 255}, out: {Scale: 0.05, ZeroPoint: 3, QMax: 255}}
		for _, fq := range []map[string]tensor.FakeQuant{nil, q} {
			want := mustRun(t, s.g, CompileOptions{Kernels: asm.Available()[0], FakeQuant: fq}, feeds)[out]
			for _, k := range asm.Available() {
				for workers := 1; workers <= 2; workers++ {
					for n := 1; n <= 3; n += 2 {
						part := map[string]tensor.Any{"x0": head(feeds["x0"], n)}
						got := mustRun(t, s.g, CompileOptions{Kernels: k, Pool: tensor.NewPool(workers, k), FakeQuant: fq}, part)[out]
						compareBits(t, fmt.Sprintf("%s, %d workers, %d images", k.ISA, workers, n), got, head(want, n))
					}
				}
			}
		}
		cache := NewWeightCache()
		mustRun(t, s.g, CompileOptions{Weights: cache}, feeds)
		before := cache.Bytes()
		if least := int64(4 * 16 * 2 * 32 * 64); before < least {
			t.Errorf("%d bytes of packed weights, the terms alone are %d", before, least)
		}
		other := map[string]tensor.Any{weight: s.random(32, 64, 3, 3)}
		got := mustRun(t, s.g, CompileOptions{Weights: cache, Consts: other}, feeds)[out]
		changed := s.g.Clone()
		changed.Consts[weight] = other[weight]
		ref, err = Eval(context.Background(), changed, feeds)
		if err != nil {
			t.Fatal(err)
		}
		compareNear(t, "other weights", got, ref[out], 2e-6)
		if cache.Forget(other[weight]); cache.Bytes() != before {
			t.Errorf("%d bytes of packed weights after Forget, %d before", cache.Bytes(), before)
		}
	}
}

// TestPeakBytes compares what a program says it needs with what the heap holds once it has run, packed weights apart.
func TestPeakBytes(t *testing.T) {
	win, _, _, _ := winogradNet(56)
	first := newSketch(22, tensor.Shape{1, 3, 96, 96})
	first.output(first.node("Sigmoid", nil, first.conv("x0", 20, 7, 2, 3, 1, 1, true)))
	wide := newSketch(23, tensor.Shape{1, 64, 1024})
	wide.output(wide.node("MatMul", nil, "x0", wide.weight(1024, 1024, 256)))
	product := newSketch(24, tensor.Shape{1, 256, 300}, tensor.Shape{1, 300, 400})
	product.output(product.node("MatMul", nil, "x0", "x1"))
	const slack = 96 << 10 // plans, states of drivers, goroutines
	for name, s := range map[string]*sketch{"winograd": win, "first layer": first, "wide rows": wide, "product": product} {
		for workers := 1; workers <= 2; workers++ {
			feeds, out := s.feeds(2*workers+1), s.g.Outputs[0].Name
			shape := s.shape[out].Clone()
			shape[0] = 2*workers + 1
			into := map[string]*tensor.Dense[float32]{out: tensor.New[float32](shape...)}
			cache := NewWeightCache()
			before := heapNow()
			p, err := Compile(t.Context(), s.g, CompileOptions{Pool: tensor.NewPool(workers, asm.Kernels{}), Weights: cache})
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if err := p.RunInto(context.Background(), feeds, into); err != nil {
					t.Fatal(err)
				}
			}
			held, peak := heapNow()-before-cache.Bytes(), p.PeakBytes()
			t.Logf("%s, %d workers: %d bytes held, %d promised", name, workers, held, peak)
			if held > peak+slack {
				t.Errorf("%s, %d workers: %d bytes are held, PeakBytes is %d", name, workers, held, peak)
			}
			if held < peak/3-slack {
				t.Errorf("%s, %d workers: only %d bytes are held, PeakBytes is %d", name, workers, held, peak)
			}
			runtime.KeepAlive(p)
			runtime.KeepAlive(feeds)
			runtime.KeepAlive(into)
			runtime.KeepAlive(s)
		}
	}
}

func heapNow() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
