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

// groupFloats bounds the input that a block of channels needs at a time, so that the
// rows shared by neighbouring output rows stay in L1.
const (
	groupFloats = 9 << 10
	groupLeast  = 128
	slabFloats  = 48 << 10 // input of the rows that are done before the next channels (192 KiB)
)

// dwChunk computes one block of output rows, some channels at a time.
func (j *convJob) dwChunk(worker, i int) {
	p, k := &j.c.p, &j.c.k
	r0 := i * j.rowsPer
	r1 := min(r0+j.rowsPer, j.oh)
	t := &j.dws[worker]
	t.LDD, t.LDW = p.OutC, p.InC
	t.Lo, t.Hi = j.ep.kernelBounds()
	group := max(groupFloats/((p.KH+1)*j.w)/k.Lanes*k.Lanes, groupLeast)
	if groups := (p.InC + group - 1) / group; groups > 0 {
		group = panelWidth(k, (p.InC+groups-1)/groups)
	}
	sliding := p.DilW == 1 && asm.HasRow(p.KW, p.StrideW) && p.PadL < p.KW && p.PadR < p.KW
	slab := max(slabFloats/(p.StrideH*j.w*p.InC), 1)
	for ; r0 < r1; r0 += slab {
		end := min(r0+slab, r1)
		for c := 0; c < p.InC; c += group {
			t.N = min(group, p.InC-c)
			t.W, t.Bias = j.c.dw[c:], j.ep.bias(c, t.N)
			for y := r0; y < end; y++ {
				if sliding {
					j.dwRow(t, worker, y, c)
				} else {
					j.dwTaps(t, worker, y, c)
				}
			}
		}
		j.ep.rest(k, j.dst, p.OutC, r0*j.ow, (end-r0)*j.ow, 0, p.OutC)
	}
}

// rowTaps collects the kernel rows inside the image at output row y, as offsets into
// the image and the weights.
func (j *convJob) rowTaps(worker, y int) []int {
	p := &j.c.p
	taps := j.taps[worker][:0]
	for ky := range p.KH {
		if row := y*p.StrideH - p.PadT + ky*p.DilH; row >= 0 && row < j.h {
			taps = append(taps, row*j.w*p.InC, ky*p.KW*p.InC)
		}
	}
	j.taps[worker] = taps
	return taps
}

// dwRow computes channels [c, c+t.N) of output row y with the kernels that slide a
// window along the row.
func (j *convJob) dwRow(t *asm.DwTile, worker, y, c int) {
	p, k := &j.c.p, &j.c.k
	t.Src, t.LDS, t.Taps = j.src, p.InC, j.rowTaps(worker, y)
	for x := 0; x < j.ow; x += t.Pix {
		t.Pix = tileRows(j.ow-x, k.MW)
		ix := x*p.StrideW - p.PadL
		t.First = max(0, -ix)
		t.Last = min((t.Pix-1)*p.StrideW+p.KW, j.w-ix)
		t.Off = ix*p.InC + c
		t.Dst = j.dst[(y*j.ow+x)*p.OutC+c:]
		k.DepthwiseRow(t, p.KW, p.StrideW)
	}
}

// dwTaps computes channels [c, c+t.N) of output row y for any kernel. Pixels with all
// their taps inside the image are done several at a time, the others one by one.
func (j *convJob) dwTaps(t *asm.DwTile, worker, y, c int) {
	p := &j.c.p
	t.LDS = p.StrideW * p.InC
	x0 := min((p.PadL+p.StrideW-1)/p.StrideW, j.ow)
	x1 := x0
	if room := j.w + p.PadL - (p.KW-1)*p.DilW - 1; room >= 0 {
		x1 = max(min(room/p.StrideW+1, j.ow), x0)
	}
	for x, n := 0, 1; x < j.ow; x += n {
		n = 1
		if x0 <= x && x < x1 {
			n = tileRows(x1-x, j.c.k.MP)
		}
		j.dwTile(t, worker, y, x, c, n)
	}
}

// dwTile computes n neighbouring pixels that have the same taps inside the image.
func (j *convJob) dwTile(t *asm.DwTile, worker, y, x, c, n int) {
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
	t.Src, t.Off = j.src, (iy*j.w+ix)*p.InC+c
	t.Dst = j.dst[(y*j.ow+x)*p.OutC+c:]
	j.c.k.Depthwise(t)
}
