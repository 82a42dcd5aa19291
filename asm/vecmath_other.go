//go:build purego || !(amd64 || arm64)

package asm

// withMath adds the elementary functions to the tables.
func withMath(all []Kernels) []Kernels {
	for i := range all {
		all[i].math = genericMath()
	}
	return all
}
