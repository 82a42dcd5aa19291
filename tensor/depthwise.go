package tensor

import "roundel/asm"

// runDepthwise convolves each channel with its own kernel. Nothing is copied to pad:
// taps that fall outside the image are left out of the chain.
func (c *PackedConv) runDepthwise(dst, src []float32, h, w int, ep Epilogue, p *Pool) {
	j := getConvJob(c, p)
	j.bind(dst, src, h, w, ep)
	chunks := 1
	if 2*j.oh*j.ow*c.p.OutC*c.p.KH*c.p.KW >= inlineFlops && p.workers > 1 {
		chunks = min(chunksEach*p.workers, j.oh)
	}
	j.rowsPer = (j.oh + chunks - 1) / chunks
	if n := (j.oh + j.rowsPer - 1) / j.rowsPer; n == 1 {
		j.dwChunk(0, 0)
	} else {
		p.For(n, j.dwFn)
	}
	j.release()
}

// dwChunk computes one block of output rows.
func (j *convJob) dwChunk(worker, i int) {
	p := &j.c.p
	r0 := i * j.rowsPer
	r1 := min(r0+j.rowsPer, j.oh)
	t := &j.dws[worker]
	t.Src, t.W, t.N = j.src, j.c.dw, p.InC
	t.Bias = j.ep.bias(0, p.OutC)
	t.LDD, t.LDS = p.OutC, p.StrideW*p.InC
	t.Lo, t.Hi = j.ep.kernelBounds()
	// Output columns [x0, x1) have all their taps inside the image.
	x0 := min((p.PadL+p.StrideW-1)/p.StrideW, j.ow)
	x1 := x0
	if room := j.w + p.PadL - (p.KW-1)*p.DilW - 1; room >= 0 {
		x1 = max(min(room/p.StrideW+1, j.ow), x0)
	}
	for y := r0; y < r1; y++ {
		for x := range x0 {
			j.dwRun(t, worker, y, x, 1)
		}
		for x := x0; x < x1; {
			n := tileRows(x1-x, j.c.k.MP)
			j.dwRun(t, worker, y, x, n)
			x += n
		}
		for x := x1; x < j.ow; x++ {
			j.dwRun(t, worker, y, x, 1)
		}
		j.ep.rest(&j.c.k, j.dst, p.OutC, y*j.ow, j.ow, 0, p.OutC)
	}
}

// dwRun computes n neighbouring pixels that have the same taps inside the image.
func (j *convJob) dwRun(t *asm.DwTile, worker, y, x, n int) {
	p := &j.c.p
	taps := j.taps[worker][:0]
	iy, ix := y*p.StrideH-p.PadT, x*p.StrideW-p.PadL
	for ky := range p.KH {
		if row := iy + ky*p.DilH; row < 0 || row >= j.h {
			continue
		}
		for kx := range p.KW {
			if col := ix + kx*p.DilW; col < 0 || col >= j.w {
				continue
			}
			taps = append(taps, (ky*p.DilH*j.w+kx*p.DilW)*p.InC, (ky*p.KW+kx)*p.InC)
		}
	}
	j.taps[worker] = taps
	t.Taps, t.Pix = taps, n
	t.Off = (iy*j.w + ix) * p.InC
	t.Dst = j.dst[(y*j.ow+x)*p.OutC:]
	j.c.k.Depthwise(t)
}
