package adaround

import (
	"math"

	"roundel/asm"
)

// linear is the weights of some outputs that run together: outputs of one group,
// or, when every group has a single output, a run of groups. The weights lie as
// the tile kernels want them, so its products pack nothing; each element is one
// chain of fused multiply-adds in ascending order, whatever the blocking.
type linear struct {
	kernels   asm.Kernels
	from      int // first output
	k, outs   int
	n         int       // outs rounded up to whole vectors: the row stride of all arrays
	depthwise bool      // every output has columns of its own
	step      int       // length of one position's columns: K, or depthwise K·n
	w         []float32 // [K][n]
	bias      []float32 // [n]
	act       []scalar  // [outs]
	part      []float32 // scratch
	taps      []int
}

const (
	forwardDepth  = 320 // columns per pass: a panel of weights stays in L1
	backwardDepth = 128 // positions per pass: the columns stay in L2
)

var (
	negInf  = float32(math.Inf(-1))
	posInf  = float32(math.Inf(1))
	zeroTap = []int{0}
)

// newLinear returns the outputs [from, to) of p with zero weights.
func newLinear(p *Problem, from, to int, bias []float32, kernels asm.Kernels) *linear {
	l := &linear{kernels: kernels, from: from, k: p.K, outs: to - from, step: p.K}
	l.n = (l.outs + kernels.Lanes - 1) / kernels.Lanes * kernels.Lanes
	l.w, l.bias = make([]float32, l.k*l.n), make([]float32, l.n)
	if l.depthwise = p.depthwise(); l.depthwise {
		l.step = l.k * l.n
		l.part = make([]float32, kernels.MP*l.n)
	}
	for j := range l.outs {
		l.act = append(l.act, p.Act.of(from+j))
	}
	if bias != nil {
		copy(l.bias, bias[from:to])
	}
	return l
}

// setWeights copies the rows of x, [O][K], that belong to the block.
func (l *linear) setWeights(x []float32) {
	for j := range l.outs {
		for c, v := range x[(l.from+j)*l.k:][:l.k] {
			l.w[c*l.n+j] = v
		}
	}
}

// columns returns the columns of positions [from, to): those of the block's group
// in place, [P][K], or a copy with outputs fastest, [P][K][n].
func (l *linear) columns(p *Problem, s *Samples, from, to int) []float32 {
	if !l.depthwise {
		return s.cols(l.from/p.outs(), l.k)[from*l.k : to*l.k]
	}
	const run = 64 // elements of each output at a time, so that their rows stay in L1
	a := make([]float32, (to-from)*l.step)
	for i0 := from * l.k; i0 < to*l.k; i0 += run {
		for j := range l.outs {
			dst := a[(i0-from*l.k)*l.n+j:]
			for i, v := range s.cols(l.from+j, l.k)[i0:min(i0+run, to*l.k)] {
				dst[i*l.n] = v
			}
		}
	}
	return a
}

// forward sets z[p][j] = Σ_k a[p][k]·w[k][j] + bias_j for j < outs.
func (l *linear) forward(z, a []float32) {
	if l.depthwise {
		l.forwardDepthwise(z, a)
		return
	}
	rows := len(a) / l.k
	t := asm.Tile{LDC: l.n, LDA: l.k, LDB: l.n, Taps: zeroTap, Lo: negInf, Hi: posInf}
	for k0 := 0; k0 < l.k; k0 += forwardDepth {
		t.K = min(forwardDepth, l.k-k0)
		t.Acc = min(k0, 1)
		for j := 0; j < l.outs; j += l.kernels.NR {
			t.Cols = min(l.kernels.NR, l.outs-j)
			t.B, t.Bias = l.w[k0*l.n+j:], nil
			if k0+t.K == l.k {
				t.Bias = l.bias[j:]
			}
			for r := 0; r < rows; r += l.kernels.MR {
				t.Rows = min(l.kernels.MR, rows-r)
				t.Split = t.Rows
				t.C, t.A = z[r*l.n+j:], a[r*l.k+k0:]
				l.kernels.Gemm(&t)
			}
		}
	}
}

// backward adds Σ_p a[p][k]·dz[p][j] to grad[k][j].
func (l *linear) backward(grad, a, dz []float32) {
	if l.depthwise {
		l.backwardDepthwise(grad, a, dz)
		return
	}
	rows := len(a) / l.k
	t := asm.Tile{LDC: l.n, LDA: l.k, LDB: l.n, Acc: 1}
	for r := 0; r < rows; r += backwardDepth {
		t.K = min(backwardDepth, rows-r)
		for j := 0; j < l.outs; j += l.kernels.NR {
			t.Cols, t.B = min(l.kernels.NR, l.outs-j), dz[r*l.n+j:]
			for c := 0; c < l.k; c += l.kernels.MR {
				t.Rows = min(l.kernels.MR, l.k-c)
				t.C, t.A = grad[c*l.n+j:], a[r*l.k+c:]
				l.kernels.GemmTN(&t)
			}
		}
	}
}

// forwardDepthwise is forward when each output has its own columns, a[p][k][j].
func (l *linear) forwardDepthwise(z, a []float32) {
	rows := len(a) / l.step
	t := asm.DwTile{W: l.w, Bias: l.bias, LDD: l.n, LDS: l.step, N: l.n, Lo: negInf, Hi: posInf}
	l.taps = l.taps[:0]
	for k := range l.k {
		l.taps = append(l.taps, k*l.n, k*l.n)
	}
	t.Taps = l.taps
	for r := 0; r < rows; r += l.kernels.MP {
		t.Pix = min(l.kernels.MP, rows-r)
		t.Dst, t.Src = z[r*l.n:], a[r*l.step:]
		l.kernels.Depthwise(&t)
	}
}

// backwardDepthwise adds Σ_p a[p][k][j]·dz[p][j] to grad[k][j]: the depthwise
// kernel with columns for pixels and positions for taps.
func (l *linear) backwardDepthwise(grad, a, dz []float32) {
	rows := len(a) / l.step
	l.taps = l.taps[:0]
	for r := range rows {
		l.taps = append(l.taps, r*l.step, r*l.n)
	}
	t := asm.DwTile{W: dz, Taps: l.taps, LDD: l.n, LDS: l.n, N: l.n, Lo: negInf, Hi: posInf}
	for c := 0; c < l.k; c += l.kernels.MP {
		t.Pix = min(l.kernels.MP, l.k-c)
		t.Dst, t.Src = l.part[:t.Pix*l.n], a[c*l.n:]
		l.kernels.Depthwise(&t)
		l.kernels.AddClamp(grad[c*l.n:][:len(t.Dst)], grad[c*l.n:], t.Dst, negInf, posInf)
	}
}
