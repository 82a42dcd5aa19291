package progress

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a clock that stands still and a writer that remembers.
type fake struct {
	strings.Builder
	at time.Time
}

func (f *fake) now() time.Time { return f.at }

func (f *fake) wait(d time.Duration) { f.at = f.at.Add(d) }

// take returns what was written since the last call.
func (f *fake) take() string {
	s := f.String()
	f.Reset()
	return s
}

func check(t *testing.T, f *fake, want string) {
	t.Helper()
	if got := f.take(); got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

func TestPlain(t *testing.T) {
	f := &fake{at: time.Unix(0, 0)}
	s := New(f, Plain, nil, f.now).Stage("rounding", 1000, 0)
	check(t, f, "rounding   0%\n")
	s.Set(10, "conv1")
	check(t, f, "") // too soon
	f.wait(5 * time.Second)
	s.Set(9, "conv1")
	check(t, f, "") // less than a percent
	s.Set(100, "conv2")
	check(t, f, "rounding  10%  45s left  conv2\n")
	f.wait(4 * time.Second)
	s.Set(900, "conv3")
	check(t, f, "")
	f.wait(time.Second)
	s.End("12 layers")
	check(t, f, "rounding 100%  in 10s  12 layers\n")
}

func TestTerminal(t *testing.T) {
	f := &fake{at: time.Unix(0, 0)}
	r := New(f, Terminal, func() int { return 24 }, f.now)
	s := r.Stage("calibrating", 4, 0)
	check(t, f, "\r\x1b[Kcalibrating   0%")
	f.wait(50 * time.Millisecond)
	s.Set(1, "")
	check(t, f, "")
	f.wait(2950 * time.Millisecond)
	s.Set(1, "")
	check(t, f, "\r\x1b[Kcalibrating  25%  9.0s…")
	r.Message("careful: %s", "\x1b[2Jconv")
	check(t, f, "\r\x1b[Kcareful: ?[2Jconv\n\r\x1b[Kcalibrating  25%  9.0s…")
	s.End("")
	check(t, f, "\r\x1b[Kcalibrating 100%  in 3…\n")
	r.Message("done")
	check(t, f, "done\n")
}

func TestJSON(t *testing.T) {
	f := &fake{at: time.Unix(0, 0)}
	r := New(f, JSON, nil, f.now)
	s := r.Stage("evaluating", 8, 4)
	check(t, f, `{"done":4,"elapsed":0,"stage":"evaluating","total":8}`+"\n")
	f.wait(2 * time.Second)
	s.Set(6, "a\n\"b\"")
	line := f.take()
	var v struct {
		Done, Total        int
		Elapsed, Remaining float64
		Note               string
	}
	if err := json.Unmarshal([]byte(line), &v); err != nil || strings.Count(line, "\n") != 1 {
		t.Fatalf("%q: %v", line, err)
	}
	// Two units in two seconds, two to go; the four of an earlier run do not count as speed.
	if v.Done != 6 || v.Remaining != 2 || v.Elapsed != 2 || v.Note != "a\n\"b\"" {
		t.Errorf("got %+v", v)
	}
	f.wait(time.Second / 2)
	s.Set(7, "")
	check(t, f, "")
	r.Message("x")
	check(t, f, "{\"message\":\"x\"}\n")
}

func TestOff(t *testing.T) {
	f := &fake{}
	r := New(f, Off, nil, f.now)
	s := r.Stage("x", 0, 0)
	s.Set(5, "beyond")
	s.End("")
	check(t, f, "")
	r.Message("still said")
	check(t, f, "still said\n")
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0s", 449 * time.Millisecond: "0.4s", 9949 * time.Millisecond: "9.9s", 9960 * time.Millisecond: "10s", 59600 * time.Millisecond: "1m00s",
		185 * time.Second: "3m05s", 7620 * time.Second: "2h07m", 99 * time.Hour: "4d03h",
	} {
		if got := Short(d); got != want {
			t.Errorf("Short(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestDetect(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if Detect(f) != Plain || Width(f) != 80 {
		t.Errorf("a file is %v of width %d", Detect(f), Width(f))
	}
}

// TestConcurrent is for the race detector.
func TestConcurrent(t *testing.T) {
	r := New(&strings.Builder{}, Terminal, nil, nil)
	s := r.Stage("x", 100, 0)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 100 {
				s.Set(int64(i), "n")
				r.Message("m")
			}
		})
	}
	wg.Wait()
	s.End("")
}

// TestSkip: work of an earlier run counts as done, and not for the speed.
func TestSkip(t *testing.T) {
	f := &fake{at: time.Unix(1000, 0)}
	s := New(f, JSON, nil, f.now).Stage("rounding", 100, 0)
	s.Skip(50)
	f.wait(10 * time.Second)
	s.Set(60, "") // ten units in ten seconds: forty more are left
	if !strings.Contains(f.String(), `"remaining":40`) {
		t.Error(f.String())
	}
	s.Skip(20) // no way back
	f.wait(10 * time.Second)
	s.Set(70, "")
	if !strings.Contains(f.String(), `"remaining":30`) {
		t.Error(f.String())
	}
}
