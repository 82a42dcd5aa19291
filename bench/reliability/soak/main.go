// Command soak does mixed jobs in one process for a long time and looks whether memory and goroutines grow. It also says how
// long work goes on after it was cancelled.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"time"
)

func main() {
	minutes := flag.Float64("minutes", 30, "how long to work")
	threads := flag.Int("threads", 1, "of every job")
	seed := flag.Uint64("seed", 1, "of the choice of jobs")
	only := flag.String("only", "", "do jobs of this kind only")
	flag.Parse()
	if err := run(time.Duration(*minutes*float64(time.Minute)), *threads, *seed, *only); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// mark is the state of the process after a job, when garbage is collected.
type mark struct {
	at         time.Duration
	heap, sys  uint64
	goroutines int
}

func look(start time.Time) mark {
	// Workers of a pool stay for a moment after their last loop, and finalisers need a second collection.
	time.Sleep(50 * time.Millisecond)
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return mark{time.Since(start), m.HeapAlloc, m.Sys, runtime.NumGoroutine()}
}

func run(length time.Duration, threads int, seed uint64, only string) error {
	dir, err := os.MkdirTemp("", "roundel-soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w, err := newWorker(dir, threads, seed)
	if err != nil {
		return err
	}
	kinds := w.kinds()
	names := slices.Sorted(maps.Keys(kinds))
	if only != "" {
		if kinds[only] == nil {
			return fmt.Errorf("-only %q: want one of %q", only, names)
		}
		names = []string{only}
	}
	count := map[string]int{}
	var marks []mark
	ctx := context.Background()
	for start := time.Now(); time.Since(start) < length; {
		name := names[w.rand.IntN(len(names))]
		if err := kinds[name](ctx); err != nil {
			return fmt.Errorf("job %d, %s: %w", len(marks)+1, name, err)
		}
		count[name]++
		marks = append(marks, look(start))
	}
	report(count, marks)
	w.latencies()
	return nil
}

// report prints counts, and the extremes of each third of the time: memory that leaks grows from the second to the last.
func report(count map[string]int, marks []mark) {
	fmt.Printf("%d jobs in %s:", len(marks), marks[len(marks)-1].at.Round(time.Second))
	for _, name := range slices.Sorted(maps.Keys(count)) {
		fmt.Printf(" %d %s;", count[name], name)
	}
	fmt.Println()
	end := marks[len(marks)-1].at
	for third := range 3 {
		part := slices.Collect(func(yield func(mark) bool) {
			for _, m := range marks {
				if int(min(2, 3*m.at/max(end, 1))) == third && !yield(m) {
					return
				}
			}
		})
		if len(part) == 0 {
			continue
		}
		heap := func(a, b mark) int { return cmp.Compare(a.heap, b.heap) }
		routines := func(a, b mark) int { return cmp.Compare(a.goroutines, b.goroutines) }
		slices.SortFunc(part, heap)
		fmt.Printf("third %d: %5d jobs, live heap min %.2f median %.2f max %.2f MiB, from the system %.0f MiB, goroutines %d to %d\n", third+1, len(part),
			mib(part[0].heap), mib(part[len(part)/2].heap), mib(part[len(part)-1].heap), mib(part[len(part)-1].sys),
			slices.MinFunc(part, routines).goroutines, slices.MaxFunc(part, routines).goroutines)
	}
}

func mib(n uint64) float64 { return float64(n) / (1 << 20) }

// latencies prints how long cancelled work went on.
func (w *worker) latencies() {
	if n := len(w.late); n > 0 {
		slices.Sort(w.late)
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		fmt.Printf("%d cancellations: returned after median %.1f, 99 %% %.1f, max %.1f ms\n", n, ms(w.late[n/2]), ms(w.late[n*99/100]), ms(w.late[n-1]))
	}
}

// random returns a whole number in [lo, hi].
func random(r *rand.Rand, lo, hi int) int { return lo + r.IntN(hi-lo+1) }
