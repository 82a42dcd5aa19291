// Command gen writes the assembly kernels of package asm: amd64 with avo, arm64 with
// the encoders of package neon. Run it through go generate in package asm.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	name := flag.String("isa", "", "instruction set to generate: avx2, avx512, neon, rounding-avx2, rounding-avx512, math-avx2, math-avx512, math-neon, histogram-avx2, histogram-avx512, histogram-neon")
	dir := flag.String("dir", "..", "directory of package asm")
	flag.Parse()
	files, err := generate(*name)
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(*dir, f.name), f.text, 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

// file is a generated file.
type file struct {
	name string
	text []byte
}

// generate returns the files of an instruction set.
func generate(name string) ([]file, error) {
	if a, ok := isas[name]; ok {
		return generateAMD64(a)
	}
	if a, ok := isas[strings.TrimPrefix(name, "rounding-")]; ok {
		return generateRounding(a)
	}
	if a, ok := isas[strings.TrimPrefix(name, "math-")]; ok {
		return generateMath(a)
	}
	if a, ok := isas[strings.TrimPrefix(name, "histogram-")]; ok {
		return generateHistogram(a)
	}
	if name == "histogram-neon" {
		return generateHistogramNEON()
	}
	if name == "math-neon" {
		return generateMathNEON()
	}
	if name == "neon" {
		return generateNEON()
	}
	return nil, fmt.Errorf("gen: unknown instruction set %q", name)
}
