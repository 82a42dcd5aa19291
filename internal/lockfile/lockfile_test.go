package lockfile

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestSecondIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, err := Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Acquire(path)
	var held *HeldError
	if !errors.As(err, &held) || held.PID != os.Getpid() || held.Path != path {
		t.Fatalf("second lock: %v, want held by process %d", err, os.Getpid())
	}
	if err := a.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file stays: %v", err)
	}
	b, err := Acquire(path)
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	if err := b.Release(); err != nil {
		t.Error(err)
	}
}

// TestLeftBehind kills a process that has the lock.
func TestLeftBehind(t *testing.T) {
	if path := os.Getenv("LOCKFILE_TEST_PATH"); path != "" {
		if _, err := Acquire(path); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("locked\n")
		select {} // until killed
	}
	path := filepath.Join(t.TempDir(), "lock")
	cmd := exec.Command(os.Args[0], "-test.run=^TestLeftBehind$")
	cmd.Env = append(os.Environ(), "LOCKFILE_TEST_PATH="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	var held *HeldError
	if _, err := Acquire(path); !errors.As(err, &held) || held.PID != cmd.Process.Pid {
		t.Errorf("while process %d lives: %v", cmd.Process.Pid, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // reports the kill
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the killed process left no file: %v", err)
	}
	l, err := Acquire(path)
	if err != nil {
		t.Fatalf("a stale lock blocks: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
}

// TestOneAtATime lets many goroutines take, hold and remove the lock: two must never have it.
func TestOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var holders, taken atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 300 {
				l, err := Acquire(path)
				if errors.As(err, new(*HeldError)) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d holders", n)
				}
				taken.Add(1)
				holders.Add(-1)
				if err := l.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if taken.Load() == 0 {
		t.Error("nobody ever got the lock")
	}
}

func TestUnwritable(t *testing.T) {
	if _, err := Acquire(filepath.Join(t.TempDir(), "absent", "lock")); err == nil {
		t.Error("locked in a folder that does not exist")
	}
}
