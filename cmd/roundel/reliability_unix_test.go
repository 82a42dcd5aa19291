//go:build unix

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// limitSelf takes limits from the environment before the program starts.
func limitSelf() {
	number := func(name string) (uint64, bool) {
		n, err := strconv.ParseUint(os.Getenv(name), 10, 64)
		return n, err == nil
	}
	if n, ok := number("ROUNDEL_TEST_FSIZE"); ok {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			panic(err)
		}
	}
	if n, ok := number("ROUNDEL_TEST_UID"); ok {
		if err := syscall.Setuid(int(n)); err != nil {
			panic(err)
		}
	}
}

// TestSignals interrupts a run as soon as it has something to keep.
func TestSignals(t *testing.T) {
	dir := files(t)
	args := quantizeArgs(dir)
	want := undisturbed(t, dir, args)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			cmd := roundel(t, nil, args...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			waitForCheckpoint(t, filepath.Join(dir, "out"))
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			err := cmd.Wait()
			text := strings.TrimRight(stderr.String(), "\n")
			if code := cmd.ProcessState.ExitCode(); code != exitFailure || !strings.Contains(text, sig.String()+" signal received; stopped after ") ||
				!strings.Contains(text, " of 18 layers") {
				t.Errorf("%v, code %d, %q", err, code, text)
			}
			stoppedThenResumed(t, dir, args, text, want)
			if err := os.RemoveAll(filepath.Join(dir, "out")); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// waitForCheckpoint returns when the first layer is kept.
func waitForCheckpoint(t *testing.T, out string) {
	t.Helper()
	for range 60_000 {
		if _, err := os.Stat(filepath.Join(out, checkpointName, "layer-0000.json")); err == nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("no checkpoint appears")
}

// TestFileSizeLimit fails writes at different places: ulimit -f stands for a full disk, which reports the same way.
func TestFileSizeLimit(t *testing.T) {
	dir := files(t)
	args := quantizeArgs(dir)
	want := undisturbed(t, dir, args)
	for _, limit := range []int{100, 10_000, 40_000, 100_000} {
		t.Run(strconv.Itoa(limit), func(t *testing.T) {
			fullThenResumed(t, dir, args, []string{"ROUNDEL_TEST_FSIZE=" + strconv.Itoa(limit)}, "file too large", want)
		})
	}
}

// fullThenResumed runs the job where it runs out of space, then again where it does not.
func fullThenResumed(t *testing.T, dir string, args, env []string, says string, want map[string]string) {
	t.Helper()
	out := filepath.Join(dir, "out")
	cmd := roundel(t, env, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	text := strings.TrimRight(stderr.String(), "\n")
	if code := cmd.ProcessState.ExitCode(); code != exitFailure || !strings.Contains(text, says) || !strings.Contains(text, out) {
		t.Fatalf("%v, code %d, %q", err, code, text)
	}
	if _, err := os.Stat(filepath.Join(out, checkpointName, "layer-0000.json")); err == nil {
		stoppedThenResumed(t, dir, args, text, want)
	} else if have := visible(t, out); len(have) > 0 {
		t.Errorf("partial results: %d files", len(have))
	}
	if err := os.RemoveAll(out); err != nil {
		t.Fatal(err)
	}
}

// TestReadOnlyFolder is about a folder that another user owns. The superuser may write anywhere, and becomes nobody here.
func TestReadOnlyFolder(t *testing.T) {
	dir := files(t)
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o555); err != nil {
		t.Fatal(err)
	}
	var env []string
	if os.Getuid() == 0 {
		if runtime.GOOS != "linux" {
			t.Skip("needs to run as a user or on Linux")
		}
		env = []string{"ROUNDEL_TEST_UID=65534"}
		for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := roundel(t, env, quantizeArgs(dir)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	text := strings.TrimRight(stderr.String(), "\n")
	if code := cmd.ProcessState.ExitCode(); code != exitFailure || strings.Count(text, "\n") > 0 || !strings.Contains(text, out) ||
		!strings.Contains(text, "permission denied") {
		t.Errorf("%v, code %d, %q", err, code, text)
	}
	if left, err := os.ReadDir(out); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
