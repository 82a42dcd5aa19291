// Command ops times matrix products and convolutions next to peers, in turns.
//
//	ops -kind gemm -threads 1,2 -python bench/peers/venv/bin/python -peers numpy,torch -gopeers BIN
//	ops -kind conv -threads 1,2 -python bench/peers/venv/bin/python
//
// For each shape every contender, and a loop that does nothing but multiply-add on
// registers, gets a turn of some milliseconds in each round: a busy neighbour slows
// all of them alike. The peers are processes of their own, which answer requests
// (op_server.py, _gopeers); after each turn of several threads there is a pause in
// which those that spin fall asleep. Prints Markdown.
package main

import (
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"roundel/asm"
	"roundel/internal/settle"
	"roundel/tensor"
)

type options struct {
	kind, peers, python, script, gopeers, isa string
	threads                                   []int
	rounds                                    int
	turn                                      time.Duration
	only                                      *regexp.Regexp
}

func main() {
	var o options
	flag.StringVar(&o.kind, "kind", "gemm", "gemm or conv")
	threads := flag.String("threads", "1,2", "comma-separated numbers of threads")
	flag.IntVar(&o.rounds, "rounds", 15, "turns of each contender")
	flag.DurationVar(&o.turn, "turn", 15*time.Millisecond, "length of a turn")
	flag.StringVar(&o.peers, "peers", "numpy,torch", "of gemm: python packages")
	flag.StringVar(&o.python, "python", "", "python with the peers; empty: none")
	flag.StringVar(&o.script, "script", "bench/peers/op_server.py", "server of the python peers")
	flag.StringVar(&o.gopeers, "gopeers", "", "binary of bench/_gopeers; empty: none")
	flag.StringVar(&o.isa, "isa", "", "instruction set of our kernels; empty: the best. avx2 restricts OpenBLAS and torch too")
	only := flag.String("run", "", "regular expression that selects shapes")
	flag.Parse()
	log.SetFlags(0)
	log.SetPrefix("ops: ")
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		log.Fatal("-run: ", err)
	}
	for _, t := range strings.Split(*threads, ",") {
		n, err := strconv.Atoi(t)
		if err != nil || n < 1 {
			log.Fatalf("-threads %q: want numbers", *threads)
		}
		o.threads = append(o.threads, n)
	}
	if err := o.run(); err != nil {
		log.Fatal(err)
	}
}

// contender is ours, the peak loop, or a peer, with some number of threads.
type contender struct {
	name    string
	threads int
	prepare func(shape) error
	turn    func(seconds float64) (float64, error) // seconds of one repetition
	pid     int                                    // of a peer
	finish  func() ([]float64, error)              // nil, or other times of the same turns, which are kept under inner
	times   []float64
	inner   []float64
}

func (o *options) run() error {
	k, err := o.kernels()
	if err != nil {
		return err
	}
	var all []*contender
	for _, t := range o.threads {
		all = append(all, o.ours(k, t), peak(k, t))
	}
	peers, stop, err := o.startPeers()
	defer stop()
	if err != nil {
		return err
	}
	t := &report{o: o, isa: k.ISA, all: append(all, peers...)}
	for _, s := range shapesOf(o.kind) {
		if o.only.MatchString(s.String()) {
			if err := o.measure(s, t.all); err != nil {
				return fmt.Errorf("%v: %w", s, err)
			}
			t.add(s)
		}
	}
	t.print(os.Stdout)
	return nil
}

func (o *options) kernels() (asm.Kernels, error) {
	if o.isa == "" {
		return asm.Best(), nil
	}
	for _, k := range asm.Available() {
		if k.ISA == o.isa {
			return k, nil
		}
	}
	return asm.Kernels{}, fmt.Errorf("-isa %s: not on this machine", o.isa)
}

// A contender whose single repetition takes slowTurn seconds gets slowRounds turns only.
const (
	slowTurn   = 0.5
	slowRounds = 3
)

// measure gives every contender its turns on one shape.
func (o *options) measure(s shape, all []*contender) error {
	for _, c := range all {
		c.times, c.inner = nil, nil
		if err := c.prepare(s); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if _, err := c.turn(o.turn.Seconds() / 4); err != nil { // warm up
			return fmt.Errorf("%s: %w", c.name, err)
		}
		c.settle()
	}
	for round := range o.rounds {
		for _, c := range all {
			if round >= slowRounds && best(c.times) > slowTurn {
				continue
			}
			t, err := c.turn(o.turn.Seconds())
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			c.settle()
			c.times = append(c.times, t)
		}
	}
	for _, c := range all {
		if c.finish == nil {
			continue
		}
		var err error
		if c.inner, err = c.finish(); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		c.inner = c.inner[min(1, len(c.inner)):] // without the warm-up
	}
	return nil
}

func (c *contender) settle() {
	if c.pid != 0 && c.threads > 1 {
		settle.Wait(c.pid)
	}
}

// repeat calls f for about so many seconds and returns those of one call.
func repeat(f func(), seconds float64) float64 {
	start := time.Now()
	for n := 1; ; n++ {
		f()
		if spent := time.Since(start).Seconds(); spent >= seconds {
			return spent / float64(n)
		}
	}
}

func (o *options) ours(k asm.Kernels, threads int) *contender {
	p := tensor.NewPool(threads, k)
	var run func()
	return &contender{name: "ours", threads: threads,
		prepare: func(s shape) error { run = s.ours(p); return nil },
		turn:    func(seconds float64) (float64, error) { return repeat(run, seconds), nil }}
}

// peak multiplies and adds on registers only; a time of it stands for 2^30 operations of each thread.
func peak(k asm.Kernels, threads int) *contender {
	p := tensor.NewPool(threads, k)
	const rounds = 20000 // long next to the time it takes to wake a thread
	flops := k.Peak(rounds) * float64(threads)
	loop := func() { p.For(threads, func(_, _ int) { k.Peak(rounds) }) }
	return &contender{name: "peak", threads: threads,
		prepare: func(shape) error { return nil },
		turn:    func(seconds float64) (float64, error) { return repeat(loop, seconds) / flops, nil }}
}

func (o *options) startPeers() (peers []*contender, stop func(), err error) {
	var servers []*server
	stop = func() {
		for _, s := range servers {
			s.stop()
		}
	}
	type start struct {
		name string
		args []string
	}
	for _, t := range o.threads {
		var starts []start
		names := strings.Split(o.peers, ",")
		if o.kind == "conv" {
			names = []string{"ort"}
		}
		for _, name := range names {
			if o.python != "" && name != "" {
				starts = append(starts, start{name, []string{o.python, o.script, "--peer", name, "--threads", strconv.Itoa(t)}})
			}
		}
		if o.gopeers != "" && o.kind == "gemm" && t == o.threads[0] {
			starts = append(starts, start{"gonum", []string{o.gopeers, "gonum"}}, start{"gomlx", []string{o.gopeers, "gomlx"}})
		}
		for _, st := range starts {
			s, err := startServer(st.args, o.isa == "avx2", t)
			if err != nil {
				return nil, stop, fmt.Errorf("%s: %w", st.name, err)
			}
			servers = append(servers, s)
			peers = append(peers, s.contender(st.name, t, o.kind))
			fmt.Fprintf(os.Stderr, "ops: %s, %d threads: %s\n", st.name, t, s.version)
		}
	}
	return peers, stop, nil
}

func (s *server) contender(name string, threads int, kind string) *contender {
	c := &contender{name: name, threads: threads, pid: s.cmd.Process.Pid,
		prepare: func(sh shape) error { return s.ask(sh.request(), nil) },
		turn: func(seconds float64) (float64, error) {
			var a struct{ Time float64 }
			err := s.ask(map[string]any{"run": seconds}, &a)
			return a.Time, err
		}}
	if kind == "conv" {
		c.finish = func() ([]float64, error) {
			var a struct{ Times []float64 }
			err := s.ask(map[string]any{"finish": 1}, &a)
			return a.Times, err
		}
	}
	return c
}

func median(x []float64) float64 {
	s := slices.Sorted(slices.Values(x))
	if len(s) == 0 {
		return math.NaN()
	}
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}

func best(x []float64) float64 {
	if len(x) == 0 {
		return math.NaN()
	}
	return slices.Min(x)
}
