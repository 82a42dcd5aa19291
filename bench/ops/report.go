package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// report collects one line per shape and number of threads. Ratios are medians over the rounds, the best ones in parentheses.
type report struct {
	o    *options
	isa  string
	all  []*contender
	rows map[int][][]string // by threads
	peak map[int][]float64  // GFLOP/s of the loop, by threads, one per shape
}

func (r *report) find(name string, threads int) *contender {
	for _, c := range r.all {
		if c.name == name && c.threads == threads {
			return c
		}
	}
	return nil
}

// peers returns the names of the peers that have a column for this number of threads.
func (r *report) peers(threads int) (names []string) {
	for _, c := range r.all {
		if c.threads == threads && c.name != "ours" && c.name != "peak" {
			names = append(names, c.name)
		}
	}
	return names
}

func (r *report) header(t int) []string {
	h := []string{"shape", "MFLOP", "ours µs", "GFLOP/s", "of peak"}
	for _, name := range r.peers(t) {
		h = append(h, name+"/ours")
		if name == "ort" && t == 1 {
			h = append(h, "ort op/ours")
		}
	}
	if t != r.o.threads[0] {
		h = append(h, fmt.Sprintf("speed-up over %d", r.o.threads[0]))
	}
	return h
}

// add turns the times of one shape into a line for each number of threads. A peer's column is its time divided by ours: above 1 we are faster.
func (r *report) add(s shape) {
	if r.peak == nil {
		r.peak, r.rows = map[int][]float64{}, map[int][][]string{}
	}
	for _, t := range r.o.threads {
		ours, top := r.find("ours", t), r.find("peak", t)
		r.peak[t] = append(r.peak[t], 1e-9/best(top.times))
		row := []string{s.String(), fmt.Sprintf("%.1f", s.flops()/1e6),
			fmt.Sprintf("%.1f (%.1f)", 1e6*median(ours.times), 1e6*best(ours.times)), fmt.Sprintf("%.0f", s.flops()/median(ours.times)/1e9),
			fmt.Sprintf("%.2f (%.2f)", s.flops()/median(ours.times)*median(top.times), s.flops()/best(ours.times)*best(top.times))}
		for _, name := range r.peers(t) {
			p := r.find(name, t)
			row = append(row, ratio(p.times, ours.times))
			if name == "ort" && t == 1 {
				row = append(row, ratio(p.inner, ours.times))
			}
		}
		if t != r.o.threads[0] {
			row = append(row, ratio(r.find("ours", r.o.threads[0]).times, ours.times))
		}
		r.rows[t] = append(r.rows[t], row)
	}
}

func ratio(a, b []float64) string {
	if len(a) == 0 || len(b) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f (%.2f)", median(a)/median(b), best(a)/best(b))
}

func (r *report) print(w io.Writer) {
	for _, t := range r.o.threads {
		fmt.Fprintf(w, "\n%d thread(s), kernels %s, register-only peak %.0f GFLOP/s, %d rounds of %v turns:\n\n", t, r.isa, slices.Max(r.peak[t]), r.o.rounds, r.o.turn)
		h := r.header(t)
		fmt.Fprintf(w, "| %s |\n|%s\n", strings.Join(h, " | "), strings.Repeat("---|", len(h)))
		for _, row := range r.rows[t] {
			fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
		}
	}
}
