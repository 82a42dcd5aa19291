// Package asm holds the float32 microkernels: one table of functions per
// instruction set, and the portable Go loops that each of them must equal.
//
// Every reduction is one chain per output element: it starts at zero (or at the
// old output when accumulating) and takes one fused multiply-add, rounded once to
// nearest even, per step in ascending order. No kernel keeps partial sums, so all
// tables give the same bits (NaN payloads apart). The transforms of Winograd's algorithm
// (winograd.go) add in one order.
//
// The table is chosen once from the CPU and never changes. The environment
// variable ROUNDEL_ISA may name a lower one.
package asm

//go:generate go -C _gen run . -isa avx2
//go:generate go -C _gen run . -isa avx512
//go:generate go -C _gen run . -isa neon
//go:generate go -C _gen run . -isa rounding-avx2
//go:generate go -C _gen run . -isa rounding-avx512
//go:generate go -C _gen run . -isa math-avx2
//go:generate go -C _gen run . -isa math-avx512
//go:generate go -C _gen run . -isa math-neon
//go:generate go -C _gen run . -isa histogram-avx2
//go:generate go -C _gen run . -isa histogram-avx512
//go:generate go -C _gen run . -isa histogram-neon
