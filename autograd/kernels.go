package autograd

import "roundel/tensor"

// This file is the only one that knows that float32 has kernels and float64, which only tests need, has plain loops.

// gemm is dst [m, n] = a·b, or dst += a·b if acc. a is [m, k], or [k, m] if transA; b is [k, n], or [n, k] if transB.
func (t *Tape[T]) gemm(dst, a, b []T, m, n, k int, transA, transB, acc bool) {
	lda, ldb := k, n
	if transA {
		lda = m
	}
	if transB {
		ldb = k
	}
	if d, ok := any(dst).([]float32); ok {
		tensor.Gemm(d, n, any(a).([]float32), lda, any(b).([]float32), ldb, m, n, k, transA, transB, acc, t.pool)
		return
	}
	ai, ak, bk, bj := lda, 1, ldb, 1
	if transA {
		ai, ak = 1, lda
	}
	if transB {
		bk, bj = 1, ldb
	}
	for i := range m {
		for j := range n {
			var s T
			for l := range k {
				s += T(a[i*ai+l*ak] * b[l*bk+j*bj])
			}
			if acc {
				s += dst[i*n+j]
			}
			dst[i*n+j] = s
		}
	}
}

// clamp is dst[i] = min(max(src[i], lo), hi); a NaN stays one.
func (t *Tape[T]) clamp(dst, src []T, lo, hi T) {
	if d, ok := any(dst).([]float32); ok {
		k := t.pool.Kernels()
		k.Clamp(d, any(src).([]float32), float32(lo), float32(hi))
		return
	}
	for i, v := range src {
		dst[i] = min(max(v, lo), hi)
	}
}
