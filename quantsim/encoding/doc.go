// Package encoding holds quantization grids and what chooses, applies and stores them.
//
// An Encoding says on which grid a tensor lies. The convention is AIMET's: with
// scale s > 0 and additive offset o <= 0, an element is a code c in [0, 2^b - 1] and
//
//	x~ = s * (c + o)
//
// so the zero point of ONNX (unsigned) is z = -o. The sum k = c + o is called the
// grid index: x~ = s * k. Zero is always on the grid.
//
// Rounding is half-to-even on x/s, as in ONNX QuantizeLinear and torch:
// k = clamp(rne(x/s), lo, hi). The native simulator of AIMET rounds exact ties
// towards +Inf instead (RATIONALE.md says why we do not).
//
// Grids are chosen by an Analyzer, which sees the data batch by batch in bounded
// memory, or by Compute, which sees all of a weight at once. File is the content
// of an encodings JSON file in any of the three versions.
//
// The package imports tensor only; nothing here depends on the number of workers.
package encoding
