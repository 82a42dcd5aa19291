package regular

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("hello"), 0o666); err != nil {
		t.Fatal(err)
	}
	if b, err := ReadFile(path, 5); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := ReadFile(path, 4); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a file above the limit: %v", err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err == nil {
		if b, err := ReadFile(link, 5); err != nil || string(b) != "hello" {
			t.Errorf("through a link: %q, %v", b, err)
		}
	}
	if _, err := ReadFile(filepath.Join(dir, "absent"), 5); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	for _, special := range append([]string{dir}, specials(t, dir)...) {
		if _, err := ReadFile(special, 1<<20); !errors.Is(err, ErrNotRegular) || !strings.Contains(err.Error(), special) {
			t.Errorf("%s: %v", special, err)
		}
	}
}
