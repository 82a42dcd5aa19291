package tensor

import "math"

// GridSampler reads between the elements of images at given places; see GridSample.
type GridSampler struct {
	Mode         string // "nearest", "linear" or "cubic"
	Padding      string // "zeros", "border" or "reflection"
	AlignCorners bool
}

// GridSample samples x: [N, C, D₁…Dᵣ] at grid: [N, O₁…Oᵣ, r], whose last axis holds
// coordinates in [-1, 1], that of the last axis of x first. The result is [N, C, O₁…Oᵣ].
func (g GridSampler) GridSample(x, grid *Dense[float64]) *Dense[float64] {
	size := x.shape[2:]
	r := len(size)
	places := grid.shape[1 : 1+r].Len()
	y := New[float64](append(x.shape[:2:2], grid.shape[1:1+r]...)...)
	plane, channels := size.Len(), x.shape[1]
	for n := range x.shape[0] {
		for p := range places {
			idx, w := []int{0}, []float64{1} // the tensor product of the axes
			for a, d := range size {
				c := grid.data[(n*places+p)*r+r-1-a]
				idx, w = g.extend(idx, w, g.place(c, d), d)
			}
			for ch := range channels {
				src, v := x.data[(n*channels+ch)*plane:], 0.0
				for k, i := range idx {
					if i >= 0 {
						v += float64(w[k] * src[i])
					}
				}
				y.data[(n*channels+ch)*places+p] = v
			}
		}
	}
	return y
}

// place turns a coordinate in [-1, 1] into one of an axis of extent d, moved inside as the padding asks.
func (g GridSampler) place(c float64, d int) float64 {
	lo, hi := -0.5, float64(d)-0.5
	x := (float64((c+1)*float64(d)) - 1) / 2
	if g.AlignCorners {
		lo, hi = 0, float64(d-1)
		x = float64((c + 1) / 2 * float64(d-1))
	}
	if g.Mode == "nearest" {
		x = math.RoundToEven(x)
	}
	switch {
	case g.Mode == "cubic": // each of the elements is looked up by itself
	case x >= lo && x <= hi:
	case x != x || g.Padding == "zeros":
	case g.Padding == "border":
		x = min(max(x, 0), float64(d-1))
	default:
		x = reflect(x, lo, hi)
	}
	return x
}

// reflect mirrors x at lo and hi until it lies between.
func reflect(x, lo, hi float64) float64 {
	span := hi - lo
	if span <= 0 || math.IsInf(x, 0) {
		return lo
	}
	d := lo - x
	if d < 0 {
		d = x - lo
	}
	if d = math.Mod(d, 2*span); d > span {
		d = 2*span - d
	}
	return lo + d
}

// extend multiplies the weights so far with those of an axis of extent d at coordinate x; -1 marks what is outside.
func (g GridSampler) extend(idx []int, w []float64, x float64, d int) (idx2 []int, w2 []float64) {
	from, n := math.Floor(x), 2
	switch g.Mode {
	case "nearest":
		from, n = math.RoundToEven(x), 1
	case "cubic":
		from, n = from-1, 4
	}
	for k, i := range idx {
		for j := range n {
			at := from + float64(j)
			v := 1.0
			switch g.Mode {
			case "linear":
				v = 1 - math.Abs(x-at)
			case "cubic":
				v = CubicFilter(math.Abs(x-at), -0.75)
			}
			p := g.inside(at, d)
			if i < 0 || p < 0 {
				p = -1
			} else {
				p += i * d
			}
			idx2, w2 = append(idx2, p), append(w2, float64(w[k]*v))
		}
	}
	return idx2, w2
}

// inside returns the element at an integral coordinate, or -1 if it is nothing.
func (g GridSampler) inside(at float64, d int) int {
	if at >= 0 && at < float64(d) {
		return int(at)
	}
	switch {
	case at != at || g.Padding == "zeros":
		return -1
	case g.Padding == "reflection" && g.AlignCorners:
		at = reflect(at, 0, float64(d-1))
	case g.Padding == "reflection":
		at = reflect(at, -0.5, float64(d)-0.5)
	}
	return int(min(max(at, 0), float64(d-1)))
}

// AffineGrid returns the grid [N, O₁…Oᵣ, r] of theta·(coordinates, 1) for theta:
// [N, r, r+1] and coordinates evenly spaced in [-1, 1], at the corners or, without
// alignCorners, at the centres of the elements.
func AffineGrid(theta *Dense[float64], size Shape, alignCorners bool) *Dense[float64] {
	r := len(size)
	n := theta.shape[0]
	out := New[float64](append(append(Shape{n}, size...), r)...)
	step := size.Strides()
	places := size.Len()
	p := make([]float64, r+1)
	p[r] = 1
	for b := range n {
		for o := range places {
			for a := range r { // coordinate a is that of the last axis but a
				axis := r - 1 - a
				d, i := float64(size[axis]), float64(o/step[axis]%size[axis])
				p[a] = (float64(2*i)+1)/d - 1
				if alignCorners {
					p[a] = -1
					if d > 1 {
						p[a] = float64(2*i)/(d-1) - 1
					}
				}
			}
			for a := range r {
				v := 0.0
				for k, c := range p {
					v += float64(theta.data[(b*r+a)*(r+1)+k] * c)
				}
				out.data[(b*places+o)*r+a] = v
			}
		}
	}
	return out
}

// RoiAligner averages or takes the largest of bilinear samples in the cells of regions; see RoiAlign.
type RoiAligner struct {
	Max           bool    // the largest weighted corner of the samples instead of their mean
	Scale         float64 // from region coordinates to those of x
	SamplingRatio int     // samples along each axis of a cell; 0 means as many as elements
	HalfPixel     bool    // shift by half an element, as ONNX does since opset 16
}

// RoiAlign returns [R, C, h, w] for x: [N, C, H, W] and rois: [R, 4] as (x₁, y₁, x₂, y₂),
// where region i lies in image batch[i].
func (r RoiAligner) RoiAlign(x, rois *Dense[float64], batch []int, h, w int) *Dense[float64] {
	out := New[float64](rois.shape[0], x.shape[1], h, w)
	c, ih, iw := x.shape[1], x.shape[2], x.shape[3]
	shift := 0.0
	if r.HalfPixel {
		shift = 0.5
	}
	for i := range rois.shape[0] {
		box := rois.data[i*4 : i*4+4]
		x0, y0 := float64(box[0]*r.Scale)-shift, float64(box[1]*r.Scale)-shift
		bw, bh := float64(box[2]*r.Scale)-shift-x0, float64(box[3]*r.Scale)-shift-y0
		if !r.HalfPixel {
			bw, bh = max(bw, 1), max(bh, 1)
		}
		nx, ny := r.samples(bw, w), r.samples(bh, h)
		for cell := range h * w {
			py, px := float64(cell/w), float64(cell%w)
			var idx []int
			var wt []float64
			for s := range ny * nx {
				sy := y0 + float64((py+(float64(s/nx)+0.5)/float64(ny))*bh)/float64(h)
				sx := x0 + float64((px+(float64(s%nx)+0.5)/float64(nx))*bw)/float64(w)
				idx, wt = appendBilinear(idx, wt, sy, sx, ih, iw)
			}
			for ch := range c {
				out.data[(i*c+ch)*h*w+cell] = r.pool(x.data[(batch[i]*c+ch)*ih*iw:], idx, wt, nx*ny)
			}
		}
	}
	return out
}

// samples returns the number of samples along an axis of a cell.
func (r RoiAligner) samples(extent float64, cells int) int {
	if r.SamplingRatio > 0 {
		return r.SamplingRatio
	}
	return int(min(max(math.Ceil(extent/float64(cells)), 0), 1<<10))
}

func (r RoiAligner) pool(src []float64, idx []int, w []float64, n int) float64 {
	v := 0.0
	for k, i := range idx {
		switch p := float64(w[k] * src[i]); {
		case r.Max && (k == 0 || p > v):
			v = p
		case !r.Max:
			v += p
		}
	}
	if r.Max {
		return v
	}
	return v / float64(max(n, 1))
}

// appendBilinear adds the four neighbours of (y, x) and their weights; a place more than one element outside counts as zero.
func appendBilinear(idx []int, w []float64, y, x float64, h, wd int) ([]int, []float64) {
	if !(y >= -1 && y <= float64(h) && x >= -1 && x <= float64(wd)) {
		return append(idx, 0), append(w, 0)
	}
	y0, y1, fy := neighbours(y, h)
	x0, x1, fx := neighbours(x, wd)
	return append(idx, y0*wd+x0, y0*wd+x1, y1*wd+x0, y1*wd+x1),
		append(w, (1-fy)*(1-fx), (1-fy)*fx, fy*(1-fx), fy*fx)
}

func neighbours(v float64, n int) (lo, hi int, frac float64) {
	v = max(v, 0)
	if lo = int(v); lo >= n-1 {
		return n - 1, n - 1, 0
	}
	return lo, lo + 1, v - float64(lo)
}
