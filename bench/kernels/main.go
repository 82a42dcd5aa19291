// Command kernels measures the kernel drivers as a fraction of a one-thread
// register-only multiply-add loop run in the same minute.
//
// The shapes of one group and the peak loop take turns, so that a busy neighbour
// slows all of them down alike; best and median of the rounds are printed.
//
//	go run ./bench/kernels [-isa avx2,avx512] [-workers 1] [-rounds 15] [-run regexp]
package main

import (
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"roundel/asm"
	"roundel/tensor"
)

// contender is one thing to time.
type contender struct {
	name  string
	flops float64 // floating-point operations, 0 to report bytes
	bytes float64
	run   func()
	times []time.Duration // of one run, by round
}

func main() {
	isas := flag.String("isa", "", "comma-separated instruction sets; empty: all but generic")
	workers := flag.Int("workers", 1, "workers of the pool; the peak is always that of one thread")
	rounds := flag.Int("rounds", 15, "rounds of taking turns")
	filter := flag.String("run", "", "regular expression that selects shapes")
	flag.Parse()
	re, err := regexp.Compile(*filter)
	if err != nil {
		log.Fatal("kernels: -run: ", err)
	}
	for _, k := range asm.Available() {
		if *isas == "" && k.ISA == "generic" || *isas != "" && !slices.Contains(strings.Split(*isas, ","), k.ISA) {
			continue
		}
		if err := measure(k, re, *workers, *rounds); err != nil {
			log.Fatal("kernels: ", err)
		}
	}
}

// measure times all shapes that match on one kernel table and prints them.
func measure(k asm.Kernels, re *regexp.Regexp, workers, rounds int) error {
	p := tensor.NewPool(workers, k)
	var all []*contender
	for _, c := range shapes(p) {
		if re.MatchString(c.name) {
			all = append(all, c)
		}
	}
	const peakRounds = 20000
	peak := &contender{name: "peak", run: func() { k.Peak(peakRounds) }}
	peak.flops = k.Peak(peakRounds)
	for range rounds {
		for _, c := range all {
			c.time()
			peak.time()
		}
	}
	top := peak.flops / quantile(peak.times, 0).Seconds() / 1e9
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Printf("isa %s: peak %.0f GFLOP/s (median %.0f)\n", k.ISA, top, peak.flops/quantile(peak.times, 0.5).Seconds()/1e9)
	fmt.Fprintln(w, "shape\tbest us\tGFLOP/s\tof peak\tmedian of peak\tGB/s\t")
	for _, c := range all {
		best, median := quantile(c.times, 0).Seconds(), quantile(c.times, 0.5).Seconds()
		peakMedian := quantile(peak.times, 0.5).Seconds()
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.2f\t%.2f\t%.1f\t\n", c.name, best*1e6, c.flops/best/1e9, c.flops/best/1e9/top,
			c.flops/median/(peak.flops/peakMedian), c.bytes/best/1e9)
	}
	return w.Flush()
}

// time runs the contender for about 5 ms and notes the time of one run.
func (c *contender) time() {
	n := 1
	if len(c.times) > 0 {
		n = max(1, int(5*time.Millisecond/max(c.times[0], 1)))
	} else {
		c.run() // warm up: pages, caches, scratch
	}
	start := time.Now()
	for range n {
		c.run()
	}
	c.times = append(c.times, time.Since(start)/time.Duration(n))
}

func quantile(d []time.Duration, q float64) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[int(q*float64(len(s)-1))]
}

func random(n int) []float32 {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(r.NormFloat64())
	}
	return s
}
