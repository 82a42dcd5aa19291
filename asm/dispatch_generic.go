//go:build purego || !(amd64 || arm64)

package asm

func available() []Kernels { return []Kernels{genericTable()} }
