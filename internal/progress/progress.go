// Package progress shows how far a long run is: one line that is redrawn on a
// terminal, now and then a line elsewhere, or JSON lines for programs.
package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/term"
)

// Format is a way to show progress.
type Format uint8

// The ways to show progress.
const (
	Off      Format = iota // nothing but messages
	Plain                  // a line at the start and end of a stage, and every few seconds when a percent or more was done
	Terminal               // one line, redrawn in place
	JSON                   // an object per line, at most one per second within a stage
)

// The shortest time between two reports of one stage.
var interval = map[Format]time.Duration{Plain: 5 * time.Second, Terminal: 100 * time.Millisecond, JSON: time.Second}

// Detect returns Terminal if f is one that understands cursor movement, otherwise Plain.
func Detect(f *os.File) Format {
	if term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		return Terminal
	}
	return Plain
}

// Width returns the number of columns of f, or 80 when it is not a terminal.
func Width(f *os.File) int {
	if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
		return w
	}
	return 80
}

// Reporter writes the progress of one stage after another. Its methods may be called from several goroutines.
type Reporter struct {
	mu     sync.Mutex
	w      io.Writer
	format Format
	width  func() int
	now    func() time.Time
	drawn  bool   // the terminal line is not empty
	line   string // what it shows
}

// New returns a Reporter that writes to w, whose width is asked for when a terminal line is drawn (nil: 80
// columns), with times from now (nil: time.Now). Errors of w are ignored: progress must not stop the work.
func New(w io.Writer, format Format, width func() int, now func() time.Time) *Reporter {
	if width == nil {
		width = func() int { return 80 }
	}
	if now == nil {
		now = time.Now
	}
	return &Reporter{w: w, format: format, width: width, now: now}
}

// Message writes a line of its own; in JSON format as {"message": ...}.
func (r *Reporter) Message(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	if r.format == JSON {
		r.json(map[string]any{"message": text})
		return
	}
	r.erase()
	fmt.Fprintln(r.w, printable(text))
	r.draw(r.line)
}

// Stage begins a stage of total units of work, of which done were finished in an earlier run: they count, but
// say nothing about the speed. Units should cost about the same; use multiply-adds rather than layers.
func (r *Reporter) Stage(name string, total, done int64) *Stage {
	s := &Stage{r: r, name: name, total: max(total, 1), done: done, before: done}
	s.start = r.now()
	s.report("", true)
	return s
}

// Stage is one part of a run.
type Stage struct {
	r      *Reporter
	name   string
	total  int64
	done   int64
	before int64 // done in an earlier run
	shown  int64 // done when last reported
	start  time.Time
	last   time.Time
}

// Set says that done units are finished in all; note is a few words about the current one.
func (s *Stage) Set(done int64, note string) {
	s.r.mu.Lock()
	s.done = min(max(done, 0), s.total)
	s.r.mu.Unlock()
	s.report(note, false)
}

// Skip says that done units are finished in all, those since the last call in an earlier run.
func (s *Stage) Skip(done int64) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.before += max(done-s.done, 0)
	s.done = max(s.done, min(done, s.total))
}

// End finishes the stage; note sums it up.
func (s *Stage) End(note string) {
	s.r.mu.Lock()
	s.done = s.total
	s.r.mu.Unlock()
	s.report(note, true)
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if s.r.format == Terminal && s.r.drawn {
		fmt.Fprintln(s.r.w)
		s.r.drawn, s.r.line = false, ""
	}
}

// report writes the state if it is time for it, or if force is set.
func (s *Stage) report(note string, force bool) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	now := s.r.now()
	if !force && now.Sub(s.last) < interval[s.r.format] {
		return
	}
	if s.r.format == Plain && !force && (s.done-s.shown)*100 < s.total {
		return
	}
	s.last, s.shown = now, s.done
	elapsed := now.Sub(s.start)
	left, known := s.remaining(elapsed)
	switch s.r.format {
	case JSON:
		v := map[string]any{"stage": s.name, "done": s.done, "total": s.total, "elapsed": elapsed.Seconds()}
		if known {
			v["remaining"] = left.Seconds()
		}
		if note != "" {
			v["note"] = note
		}
		s.r.json(v)
	case Plain:
		fmt.Fprintln(s.r.w, s.text(note, elapsed, left, known))
	case Terminal:
		s.r.draw(s.text(note, elapsed, left, known))
	}
}

// remaining estimates the time left from the speed so far.
func (s *Stage) remaining(elapsed time.Duration) (time.Duration, bool) {
	fresh := s.done - s.before
	if s.done >= s.total {
		return 0, true
	}
	if fresh <= 0 || elapsed < time.Second {
		return 0, false
	}
	return time.Duration(elapsed.Seconds() / float64(fresh) * float64(s.total-s.done) * float64(time.Second)), true
}

// text is the line for people.
func (s *Stage) text(note string, elapsed, left time.Duration, known bool) string {
	words := []string{fmt.Sprintf("%s %3d%%", s.name, s.done*100/s.total)}
	switch {
	case s.done == s.total:
		words = append(words, "in "+Short(elapsed))
	case known:
		words = append(words, Short(left)+" left")
	}
	if note != "" {
		words = append(words, note)
	}
	return printable(strings.Join(words, "  "))
}

// draw replaces the terminal line.
func (r *Reporter) draw(line string) {
	if r.format != Terminal || line == "" {
		return
	}
	runes := []rune(line)
	if w := max(r.width()-1, 1); len(runes) > w { // the last column would wrap
		runes = append(runes[:w-1:w-1], '…')
	}
	fmt.Fprintf(r.w, "\r\x1b[K%s", string(runes))
	r.drawn, r.line = true, line
}

// erase empties the terminal line before something else is written.
func (r *Reporter) erase() {
	if r.drawn {
		fmt.Fprint(r.w, "\r\x1b[K")
		r.drawn = false
	}
}

func (r *Reporter) json(v any) {
	b, err := json.Marshal(v) // maps are written in the order of their keys
	if err != nil {
		return
	}
	r.w.Write(append(b, '\n'))
}

// Short formats a duration in at most two units: 0.4s, 12s, 3m05s, 2h07m, 4d03h.
func Short(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case d < 9950*time.Millisecond:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
}

// printable replaces control characters; names come from model files and could hold terminal commands.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return '?'
		}
		return c
	}, s)
}
