//go:build !purego

package asm

func available() []Kernels { return []Kernels{genericTable()} }
