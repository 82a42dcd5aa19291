//go:build !purego

package asm

// histogram counts whole rounds and returns how many elements these are. The kernels are called by name, not by a
// table: so the compiler sees that they do not keep counts, and the caller's may lie on the stack.
func histogram(isa string, counts []uint32, src []float32, width float32, first int32, last uint32) int {
	n := len(src) / histogramStep * histogramStep
	one := len(counts) == HistogramSize
	switch {
	case isa == "neon" && one:
		histogramOneF32_neon(counts, src[:n], width, first, last)
	case isa == "neon":
		histogramF32_neon(counts, src[:n], width, first, last)
	default:
		return 0
	}
	return n
}
