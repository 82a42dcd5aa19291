//go:build unix

package regular

import (
	"path/filepath"
	"syscall"
	"testing"
)

// specials are a device that never ends and a pipe that nobody writes to.
func specials(t *testing.T, dir string) []string {
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o666); err != nil {
		t.Fatal(err)
	}
	return []string{"/dev/zero", pipe}
}
