package onnx

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shared returns the directory of shared models and goldens, or skips the test.
func shared(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("ROUNDEL_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no shared models: %v (set ROUNDEL_SHARED)", err)
	}
	return dir
}

// onnxFiles returns all ONNX files below dir.
func onnxFiles(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, ".onnx") {
			out = append(out, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Skipf("no .onnx files in %s", dir)
	}
	return out
}

func TestRoundTripIsByteIdentical(t *testing.T) {
	files := append(onnxFiles(t, "testdata"), onnxFiles(t, filepath.Join("convert", "testdata"))...)
	t.Run("committed", func(t *testing.T) { roundTrip(t, files) })
	t.Run("shared", func(t *testing.T) { roundTrip(t, onnxFiles(t, shared(t))) })
}

func roundTrip(t *testing.T, files []string) {
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Decode(b)
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		if got := m.Encode(); !bytes.Equal(got, b) {
			i := 0
			for i < min(len(got), len(b)) && got[i] == b[i] {
				i++
			}
			t.Errorf("%s: %d bytes became %d; they differ from byte %d", f, len(b), len(got), i)
		}
		if m.Size() != len(b) {
			t.Errorf("%s: Size %d, want %d", f, m.Size(), len(b))
		}
	}
}
