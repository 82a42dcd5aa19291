// Command interrupt measures how long a run of roundel goes on after SIGINT: it starts the command it is given, interrupts
// it after a random time, notes when it says that it has stopped, when the process is gone (its memory is given back
// between these), and what it was doing, continues it with --resume, and so on until a run has come to its end.
package main

import (
	"bufio"
	"cmp"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"time"
)

func main() {
	bin := flag.String("bin", "bin/roundel", "the roundel binary")
	every := flag.Duration("every", 4*time.Second, "mean time from a start to its interruption")
	limit := flag.Duration("for", time.Hour, "starts no run after this time")
	seed := flag.Uint64("seed", 1, "of the moments")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: interrupt [flags] quantize MODEL --calib FOLDER -o OUT ...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*bin, append(flag.Args(), "--resume", "--progress", "plain"), *every, *limit, rand.New(rand.NewPCG(*seed, 0))); err != nil {
		fmt.Fprintln(os.Stderr, "interrupt:", err)
		os.Exit(1)
	}
}

// stop is one interruption.
type stop struct {
	late time.Duration // until the last line, which says that the work has stopped
	gone time.Duration // until the end of the process
	at   string        // the last line before it
}

func run(bin string, args []string, every, limit time.Duration, r *rand.Rand) error {
	var stops []stop
	ended := false
	for start := time.Now(); !ended && time.Since(start) < limit; {
		s, last, err := interrupted(bin, args, time.Duration(r.ExpFloat64()*float64(every)))
		if err != nil {
			return fmt.Errorf("after %d interruptions: %w", len(stops), err)
		}
		if ended = last; !ended {
			stops = append(stops, s)
		}
	}
	if len(stops) == 0 {
		return fmt.Errorf("the run ended before it was interrupted; use a smaller --every")
	}
	slices.SortFunc(stops, func(a, b stop) int { return cmp.Compare(a.late, b.late) })
	n := len(stops)
	ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	if ended {
		fmt.Println("the last run came to its end")
	}
	fmt.Printf("%d interruptions; from SIGINT to the message that work has stopped: median %v, 99 %% %v, at most %v\n",
		n, ms(stops[n/2].late), ms(stops[n*99/100].late), ms(stops[n-1].late))
	for _, s := range stops[max(0, n-5):] {
		fmt.Printf("  %v (the process was gone after %v), interrupted after %q\n", ms(s.late), ms(s.gone), s.at)
	}
	return nil
}

// interrupted runs the command and interrupts it after a time.
func interrupted(bin string, args []string, after time.Duration) (s stop, ended bool, err error) {
	cmd := exec.Command(bin, args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return s, false, err
	}
	if err := cmd.Start(); err != nil {
		return s, false, err
	}
	var last atomic.Value
	var heard atomic.Int64 // when the last line came
	last.Store("")
	read := make(chan struct{})
	go func() {
		defer close(read)
		in := bufio.NewScanner(stderr)
		for in.Scan() {
			last.Store(in.Text())
			heard.Store(time.Now().UnixNano())
		}
		io.Copy(io.Discard, stderr)
	}()
	var sent atomic.Int64
	timer := time.AfterFunc(after, func() {
		s.at = last.Load().(string)
		sent.Store(time.Now().UnixNano())
		cmd.Process.Signal(os.Interrupt)
	})
	<-read
	err = cmd.Wait()
	gone := time.Now()
	timer.Stop()
	if err == nil {
		return s, true, nil
	}
	if sent.Load() == 0 {
		return s, false, fmt.Errorf("%v failed by itself: %w: %s", args, err, last.Load())
	}
	s.late, s.gone = time.Duration(heard.Load()-sent.Load()), gone.Sub(time.Unix(0, sent.Load()))
	return s, false, nil
}
