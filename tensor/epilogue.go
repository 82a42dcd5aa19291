package tensor

import (
	"math"

	"roundel/asm"
)

// Act is the activation of an Epilogue.
type Act uint8

// The activations that are applied to an output while it is still in cache.
const (
	ActNone  Act = iota
	ActClamp     // clamp to [Lo, Hi]; Relu is [0, +Inf), Relu6 is [0, 6]
)

// Epilogue is applied to each finished output in this order: +Bias, +Residual, Act, Quant.
type Epilogue struct {
	Bias     []float32  // [OutC] or nil
	Residual []float32  // same layout as the output, or nil
	Act      Act        // ActNone or ActClamp
	Lo, Hi   float32    // bounds of ActClamp
	Quant    *FakeQuant // nil: none
}

var inf = float32(math.Inf(1))

// bounds returns the clamp of the activation; infinite bounds change nothing.
func (e *Epilogue) bounds() (lo, hi float32) {
	if e.Act == ActClamp {
		return e.Lo, e.Hi
	}
	return -inf, inf
}

// kernelBounds returns the clamp that a kernel may apply right after the bias.
func (e *Epilogue) kernelBounds() (lo, hi float32) {
	if e.Residual != nil {
		return -inf, inf
	}
	return e.bounds()
}

// bias returns the bias of output channels [from, from+n), or nil.
func (e *Epilogue) bias(from, n int) []float32 {
	if e.Bias == nil {
		return nil
	}
	return e.Bias[from : from+n]
}

// rest applies what kernels do not do themselves (residual, then activation, then
// fake-quantize) to rows [row, row+rows) and columns [col, col+cols) of dst, whose
// rows are ld apart.
func (e *Epilogue) rest(k *asm.Kernels, dst []float32, ld, row, rows, col, cols int) {
	if e.Residual == nil && e.Quant == nil {
		return
	}
	if cols == ld {
		cols, rows = rows*cols, 1
	}
	lo, hi := e.bounds()
	for r := row; r < row+rows; r++ {
		d := dst[r*ld+col:][:cols]
		if e.Residual != nil {
			k.AddClamp(d, d, e.Residual[r*ld+col:], lo, hi)
		}
		if q := e.Quant; q != nil {
			k.QuantDequant(d, d, q.Scale, q.ZeroPoint, q.QMin, q.QMax)
		}
	}
}
