package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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
