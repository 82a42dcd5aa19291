package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestFresh generates all kernels in memory and compares them with the files in the
// tree: stale assembly is a red test. `go generate` in package asm writes them.
func TestFresh(t *testing.T) {
	for _, name := range []string{"avx2", "avx512", "neon", "rounding-avx2", "rounding-avx512", "math-avx2", "math-avx512", "math-neon",
		"histogram-avx2", "histogram-avx512", "histogram-neon"} {
		files, err := generate(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			have, err := os.ReadFile(filepath.Join("..", f.name))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(have, f.text) {
				t.Errorf("%s is not what the generator makes; run go generate in package asm", f.name)
			}
		}
	}
}

func TestUnknownISA(t *testing.T) {
	if _, err := generate("mmx"); err == nil {
		t.Error("generate accepted an unknown instruction set")
	}
}
