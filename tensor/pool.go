package tensor

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"roundel/asm"
)

// linger is how long a worker without work, or a caller without chunks, looks out
// for some before it ends or blocks. Waking a thread takes about 50 us on a virtual
// machine, as long as a layer; the layers of a network follow each other closer than this.
const linger = 200 * time.Microsecond

// Pool runs chunks of work on a fixed number of workers. Workers claim chunks from
// a counter until none is left; the caller is one of them. Nobody spins for long: a
// worker without work lingers a moment for the next For and then ends.
//
// A Pool has nothing to close: soon after a For there are no goroutines.
type Pool struct {
	k       asm.Kernels
	workers int

	busy    atomic.Bool // a For with several workers is under way
	stopped atomic.Bool // For begins no more chunks: see Until
	f       func(worker, i int)
	n       int64
	next    atomic.Int64 // chunks claimed so far
	id      atomic.Int64 // workers started so far
	wg      sync.WaitGroup

	help         func() // p.helper, bound once so that starting it allocates nothing
	called, done func() bool
	lingers      bool // there is a processor for each worker

	idle     atomic.Int64 // lingering helpers that no For has called
	calls    atomic.Int64 // called ones that have not noticed yet
	engaged  int64        // helpers of all calls of For so far
	finished atomic.Int64 // and those of them that are done

	mu    sync.Mutex
	free  [][]float32 // scratch given back
	gemms []*gemmJob  // drivers' states, kept for reuse
	convs []*convJob
}

// NewPool returns a pool of the given number of workers (at least 1) whose drivers
// use the kernels k; the zero Kernels stands for asm.Best().
func NewPool(workers int, k asm.Kernels) *Pool {
	if k.ISA == "" {
		k = asm.Best()
	}
	p := &Pool{k: k, workers: max(workers, 1)}
	p.lingers = p.workers <= runtime.GOMAXPROCS(0)
	p.help, p.called, p.done = p.helper, func() bool { return take(&p.calls) }, func() bool { return p.finished.Load() == p.engaged }
	return p
}

// Workers returns the number of workers.
func (p *Pool) Workers() int { return p.workers }

// Kernels returns the kernel table that the pool's owner chose.
func (p *Pool) Kernels() asm.Kernels { return p.k }

// For calls f(worker, i) once for each i in [0, n) and returns when all calls have.
// Two calls that run at the same time have different workers in [0, Workers()).
//
// While a For with several chunks is under way, another one (inside f, or from
// another goroutine) runs inline, in ascending order, as worker 0: its f must not use
// scratch that it shares with the outer one by worker number.
func (p *Pool) For(n int, f func(worker, i int)) {
	if p.workers == 1 || n < 2 || !p.busy.CompareAndSwap(false, true) {
		for i := range n {
			if p.stopped.Load() {
				break
			}
			f(0, i)
		}
		return
	}
	p.f, p.n = f, int64(n)
	p.next.Store(0)
	p.id.Store(0)
	helpers := min(p.workers, n) - 1
	p.wg.Add(helpers)
	p.engaged += int64(helpers)
	for range helpers {
		if take(&p.idle) {
			p.calls.Add(1)
		} else {
			go p.help()
		}
	}
	p.claim(0)
	p.await(p.done)
	p.wg.Wait()
	p.f = nil
	p.busy.Store(false)
}

// Until makes For leave out the chunks that it has not begun when ctx is done, until restore is called: long work then ends
// within a chunk, wherever it is. Whoever uses p meanwhile looks at ctx before it believes a result.
func (p *Pool) Until(ctx context.Context) (restore func()) {
	stopped := make(chan struct{})
	forget := context.AfterFunc(ctx, func() {
		p.stopped.Store(true)
		close(stopped)
	})
	return func() {
		if !forget() {
			<-stopped // it has begun and must not come after us
		}
		p.stopped.Store(false)
	}
}

// Stopped reports whether the context of Until is done, for chunks that take long themselves.
func (p *Pool) Stopped() bool { return p.stopped.Load() }

// helper works for one For, and for those that follow soon.
func (p *Pool) helper() {
	for {
		p.claim(int(p.id.Add(1)))
		p.idle.Add(1) // before Done, so that the next For finds it
		p.wg.Done()
		p.finished.Add(1)
		if !p.await(p.called) {
			if take(&p.idle) {
				return
			}
			for !p.called() { // a For counts on it
				runtime.Gosched()
			}
		}
	}
}

// take lowers a counter by one unless it is zero.
func take(c *atomic.Int64) bool {
	for n := c.Load(); n > 0; n = c.Load() {
		if c.CompareAndSwap(n, n-1) {
			return true
		}
	}
	return false
}

// await reports whether something came true while the pool lingered.
func (p *Pool) await(what func() bool) bool {
	if !p.lingers {
		return what()
	}
	for start := time.Now(); time.Since(start) < linger; {
		for range 16 {
			if what() {
				return true
			}
		}
	}
	return false
}

func (p *Pool) claim(worker int) {
	for i := p.next.Add(1) - 1; i < p.n && !p.stopped.Load(); i = p.next.Add(1) - 1 {
		p.f(worker, int(i))
	}
}

// borrow returns n floats of scratch with arbitrary contents, aligned to a cache
// line. In the steady state it allocates nothing.
func (p *Pool) borrow(n int) []float32 {
	p.mu.Lock()
	best := -1
	for i, s := range p.free {
		if cap(s) >= n && (best < 0 || cap(s) < cap(p.free[best])) {
			best = i
		}
	}
	if best < 0 {
		p.dropLargest() // one that grows instead of one more, so that a pool holds what is borrowed at a time
		p.mu.Unlock()
		return aligned(n)
	}
	s, last := p.free[best], len(p.free)-1
	p.free[best] = p.free[last]
	p.free[last] = nil
	p.free = p.free[:last]
	p.mu.Unlock()
	return s[:n]
}

// dropLargest forgets the largest buffer that was given back.
func (p *Pool) dropLargest() {
	large := -1
	for i := range p.free {
		if large < 0 || cap(p.free[i]) > cap(p.free[large]) {
			large = i
		}
	}
	if large >= 0 {
		p.free = slices.Delete(p.free, large, large+1)
	}
}

// giveBack returns scratch to the pool. The pool keeps a few buffers per worker and
// lets the smallest go, so that it holds what the largest layers need. It keeps none
// that is so large that making it anew costs little beside what was computed with it.
func (p *Pool) giveBack(s []float32) {
	const most = 4 << 20 // elements
	if cap(s) > most {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) < 4*p.workers {
		p.free = append(p.free, s)
		return
	}
	small := 0
	for i := range p.free {
		if cap(p.free[i]) < cap(p.free[small]) {
			small = i
		}
	}
	if cap(p.free[small]) < cap(s) {
		p.free[small] = s
	}
}

// reuse takes the last element of a list that p.mu guards, or returns nil.
func reuse[T any](p *Pool, list *[]*T) *T {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(*list) - 1
	if n < 0 {
		return nil
	}
	j := (*list)[n]
	*list = (*list)[:n]
	return j
}

// keep puts an element on a list that p.mu guards.
func keep[T any](p *Pool, list *[]*T, j *T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*list = append(*list, j)
}

// aligned returns n zeroed floats that start on a cache line. Go aligns an
// allocation of at least 1 KiB without pointers to 64 bytes, as all its size classes
// from there on are multiples of it (a test watches this; it matters for speed only).
func aligned(n int) []float32 { return make([]float32, (max(n, 256)+15)&^15)[:n] }
