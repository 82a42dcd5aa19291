package tensor

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"roundel/asm"
)

func TestPool(t *testing.T) {
	for _, workers := range []int{1, 2, 5} {
		p := NewPool(workers, asm.Kernels{})
		for _, n := range []int{0, 1, 2, 100} {
			counts, busy := make([]atomic.Int32, n), make([]atomic.Int32, workers)
			p.For(n, func(w, i int) {
				if busy[w].Add(1) != 1 {
					t.Errorf("worker %d runs two chunks at once", w)
				}
				p.For(3, func(w, j int) {
					if w != 0 && n > 1 {
						t.Errorf("nested For ran as worker %d", w)
					}
				})
				counts[i].Add(1)
				busy[w].Add(-1)
			})
			for i := range counts {
				if c := counts[i].Load(); c != 1 {
					t.Errorf("workers=%d n=%d: chunk %d ran %d times", workers, n, i, c)
				}
			}
		}
	}
}

// TestPoolLingers calls For at intervals around the time that helpers linger, so that
// they are called, about to end, or gone; and waits for the last one to end.
func TestPoolLingers(t *testing.T) {
	before := runtime.NumGoroutine()
	p := NewPool(2, asm.Kernels{})
	for i := range 200 {
		var sum atomic.Int64
		p.For(16, func(_, c int) { sum.Add(int64(c)) })
		if sum.Load() != 120 {
			t.Fatalf("call %d: chunks add up to %d, want 120", i, sum.Load())
		}
		for end := time.Now().Add(linger * time.Duration(i%11) / 8); time.Now().Before(end); {
			runtime.Gosched()
		}
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		time.Sleep(linger)
	}
}

func TestPoolScratch(t *testing.T) {
	p := NewPool(2, asm.Kernels{})
	a := p.borrow(1000)
	p.giveBack(a)
	if b := p.borrow(900); &a[0] != &b[0] {
		t.Error("scratch given back was not reused")
	}
	if c := p.borrow(10); &c[0] == &a[0] {
		t.Error("scratch handed out twice")
	}
}

// TestPoolUntil counts the chunks that are begun after a cancellation: none but those that other workers were about to begin.
func TestPoolUntil(t *testing.T) {
	for _, workers := range []int{1, 2, 5} {
		p := NewPool(workers, asm.Kernels{})
		ctx, cancel := context.WithCancel(context.Background())
		restore := p.Until(ctx)
		var begun, after atomic.Int64
		p.For(10_000, func(_, i int) {
			if p.stopped.Load() {
				after.Add(1)
			}
			if begun.Add(1) >= 50 {
				cancel()
				for !p.stopped.Load() { // AfterFunc runs by itself
					runtime.Gosched()
				}
			}
		})
		if n := begun.Load(); n == 10_000 || after.Load() > int64(workers) {
			t.Errorf("%d workers: %d chunks were begun, %d of them after the cancellation", workers, n, after.Load())
		}
		p.For(10, func(_, _ int) { t.Error("a chunk was begun in a later loop") })
		restore()
		ran := false
		p.For(1, func(_, _ int) { ran = true })
		if !ran {
			t.Error("nothing runs after restore")
		}
	}
}

// TestPoolUntilDone: a context that ends while it is forgotten leaves a pool that works.
func TestPoolUntilDone(t *testing.T) {
	p := NewPool(2, asm.Kernels{})
	for range 2000 {
		ctx, cancel := context.WithCancel(context.Background())
		restore := p.Until(ctx)
		go cancel()
		restore()
		if p.stopped.Load() {
			t.Fatal("stopped after restore")
		}
	}
}
