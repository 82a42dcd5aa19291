package data

import "math"

// pixels is an image of 8-bit samples: h rows of w pixels of c channels each, channels fastest.
type pixels struct {
	w, h, c int
	pix     []uint8
}

func newPixels(w, h, c int) pixels { return pixels{w, h, c, make([]uint8, w*h*c)} }

// weightBits is the number of fraction bits of a resampling weight: 32 bits, less 8 of the
// sample, less 2 for weights outside [0, 1]. It is Pillow's choice.
const weightBits = 32 - 8 - 2

// taps says which input samples make one output sample, and with which weights.
type taps struct {
	first  int
	weight []int32 // scaled by 1<<weightBits
}

// resampling returns the taps for going from in samples to out with a triangle filter, which is widened by the
// scale when shrinking (antialiasing). The arithmetic is that of Pillow's Resample.c, so that results are equal to
// the bit: weights in float64, normalised to sum 1, then rounded half away from zero.
func resampling(in, out int) []taps {
	scale := float64(in) / float64(out)
	support := max(scale, 1)
	all := make([]taps, out)
	for i := range all {
		centre := float64((float64(i) + 0.5) * scale)
		lo := max(int(centre-support+0.5), 0)
		hi := min(int(centre+support+0.5), in)
		w := make([]float64, hi-lo)
		sum := 0.0
		for j := range w {
			w[j] = max(1-math.Abs((float64(j+lo)-centre+0.5)*(1/support)), 0)
			sum += w[j]
		}
		all[i] = taps{lo, make([]int32, len(w))}
		for j := range w {
			v := w[j]
			if sum != 0 {
				v /= sum
			}
			all[i].weight[j] = int32(float64(v*(1<<weightBits)) + 0.5)
		}
	}
	return all
}

// resize returns m at w×h pixels by bilinear interpolation with antialiasing: first along rows,
// then along columns, rounding to 8 bits after each. A pass that changes nothing is left out.
func (m pixels) resize(w, h int) pixels {
	if w != m.w {
		m = m.resizeRows(resampling(m.w, w))
	}
	if h != m.h {
		m = m.resizeColumns(resampling(m.h, h))
	}
	return m
}

func (m pixels) resizeRows(all []taps) pixels {
	out := newPixels(len(all), m.h, m.c)
	for y := range m.h {
		src, dst := m.pix[y*m.w*m.c:], out.pix[y*out.w*m.c:]
		for x, t := range all {
			for c := range m.c {
				sum := int32(1 << (weightBits - 1))
				for j, w := range t.weight {
					sum += int32(src[(t.first+j)*m.c+c]) * w
				}
				dst[x*m.c+c] = clamp8(sum >> weightBits)
			}
		}
	}
	return out
}

func (m pixels) resizeColumns(all []taps) pixels {
	out := newPixels(m.w, len(all), m.c)
	row := m.w * m.c
	sums := make([]int32, row)
	for y, t := range all {
		for i := range sums {
			sums[i] = 1 << (weightBits - 1)
		}
		for j, w := range t.weight {
			for i, v := range m.pix[(t.first+j)*row:][:row] {
				sums[i] += int32(v) * w
			}
		}
		for i, s := range sums {
			out.pix[y*row+i] = clamp8(s >> weightBits)
		}
	}
	return out
}

func clamp8(v int32) uint8 { return uint8(min(max(v, 0), 255)) }

// shortSide returns the size at which the shorter side of w×h is size and the other keeps the
// proportion, rounded down, as torchvision's Resize does.
func shortSide(w, h, size int) (int, int) {
	if w <= h {
		return size, size * h / w
	}
	return size * w / h, size
}

// crop returns the w×h pixels in the middle of m; what lies outside of m is black. An odd margin is halved
// with ties to even and, when padding, the smaller half comes first, as torchvision's CenterCrop does.
func (m pixels) crop(w, h int) pixels {
	x0, y0 := cropStart(m.w, w), cropStart(m.h, h)
	out := newPixels(w, h, m.c)
	for y := max(0, -y0); y < h && y+y0 < m.h; y++ {
		x := max(0, -x0)
		n := min(w, m.w-x0) - x
		copy(out.pix[(y*w+x)*m.c:][:n*m.c], m.pix[((y+y0)*m.w+x+x0)*m.c:])
	}
	return out
}

// cropStart returns where a window of the given size begins; negative when it is larger than the image.
func cropStart(have, want int) int {
	if want > have {
		return -((want - have) / 2)
	}
	return int(math.RoundToEven(float64(have-want) / 2))
}
