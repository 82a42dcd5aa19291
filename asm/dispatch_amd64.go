//go:build !purego

package asm

import "golang.org/x/sys/cpu"

// available lists the tables of this machine. Package cpu reports a feature only if
// the operating system saves the registers it needs.
func available() []Kernels {
	all := []Kernels{genericTable()}
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		k := tableAVX2()
		k.dwMin = k.Lanes // without lane masks the last vector overlaps the one before
		all = append(all, k)
	}
	if x := cpu.X86; x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL {
		k := tableAVX512()
		k.SplitAt = 7 // see rowAddr in _gen/gemm.go
		all = append(all, k)
	}
	return all
}
