package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFullDisk works in a small file system of its own, where the system lets us make one.
func TestFullDisk(t *testing.T) {
	dir := files(t)
	args := quantizeArgs(dir)
	want := undisturbed(t, dir, args)
	out := filepath.Join(dir, "out")
	for _, kib := range []int{16, 64, 256, 400} {
		t.Run(fmt.Sprint(kib, " KiB"), func(t *testing.T) {
			if err := os.Mkdir(out, 0o777); err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(out)
			if err := syscall.Mount("tmpfs", out, "tmpfs", 0, fmt.Sprintf("size=%dk", kib)); err != nil {
				t.Skipf("cannot mount a file system: %v; TestFileSizeLimit covers the same paths", err)
			}
			mounted := true
			defer func() {
				if mounted {
					syscall.Unmount(out, 0)
				}
			}()
			args := append(args, "--progress", "off")
			text := fail(t, args, "no space left on device")
			if have := visible(t, out); len(have) > 0 {
				t.Errorf("partial results: %d files", len(have))
			}
			// More space, the same files.
			if err := syscall.Mount("tmpfs", out, "tmpfs", syscall.MS_REMOUNT, "size=4m"); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(out, checkpointName, "layer-0000.json")); err == nil {
				stoppedThenResumed(t, dir, args, text, want)
			}
			mounted = false
			if err := syscall.Unmount(out, 0); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func fail(t *testing.T, args []string, says string) string {
	t.Helper()
	code, _, stderr := cli(t, args...)
	if code != exitFailure || !strings.Contains(stderr, says) {
		t.Errorf("code %d, %q", code, stderr)
	}
	return stderr
}

var raceDetector bool // set where tests are built with -race

// TestMemoryPromise asks for far too little memory, gives what the refusal says is enough, and looks what is used then:
// that must stay below, and change no result.
func TestMemoryPromise(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector takes memory of its own, several times what the program does")
	}
	dir := files(t)
	args := append(quantizeArgs(dir), "--positions", "8192", "--threads", "2")
	want := undisturbed(t, dir, args)
	code, _, stderr := cli(t, append(args, "--mem", "10M")...)
	_, rest, _ := strings.Cut(stderr, "--mem ")
	var enough int64
	if n, err := fmt.Sscanf(rest, "%dM,", &enough); code != exitFailure || n != 1 {
		t.Fatalf("code %d, %v, %q", code, err, stderr)
	}
	if have := visible(t, filepath.Join(dir, "out")); len(have) > 0 {
		t.Errorf("work was begun: %d results", len(have))
	}
	cmd := roundel(t, nil, append(args, "--mem", fmt.Sprint(enough, "M"))...)
	var text strings.Builder
	cmd.Stderr = &text
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var peak int64
	for running := true; running; {
		select {
		case err := <-done:
			running = false
			if err != nil {
				t.Fatalf("%v, %s", err, text.String())
			}
		case <-time.After(2 * time.Millisecond):
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
			if _, rest, ok := strings.Cut(string(b), "VmHWM:"); err == nil && ok {
				fmt.Sscan(rest, &peak)
			}
		}
	}
	t.Logf("--mem %dM, %d KiB used", enough, peak)
	if peak == 0 || peak > enough<<10 {
		t.Errorf("%d KiB resident with --mem %dM", peak, enough)
	}
	for name, content := range visible(t, filepath.Join(dir, "out")) {
		if content != want[name] {
			t.Errorf("%s differs when memory is short", name)
		}
	}
}
