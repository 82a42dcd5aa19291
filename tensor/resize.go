package tensor

import "math"

// ResizeMode says how Resize reads between the elements.
type ResizeMode struct {
	Mode           string  // "nearest", "linear" or "cubic"
	Coordinates    string  // coordinate_transformation_mode of ONNX
	Nearest        string  // nearest_mode of ONNX
	CubicA         float64 // cubic_coeff_a
	ExcludeOutside bool    // weights outside the tensor are zero, the others are scaled up
	Antialias      bool    // stretch the filter when an axis shrinks
	Extrapolation  float64 // value outside the tensor for "tf_crop_and_resize"
}

// ResizeAxis is the change of one axis: to Out elements by a factor of Scale, of
// the part from Start to End (fractions of the axis, for "tf_crop_and_resize").
type ResizeAxis struct {
	Out               int
	Scale, Start, End float64
}

// source returns the coordinate in an axis of extent in that position x after
// resizing comes from. It is computed in float32, like in other runtimes: a
// coordinate on the boundary between two elements decides which one is nearest.
func (m *ResizeMode) source(x, in int, a ResizeAxis) float64 {
	xf, inf, out, scale := float32(x), float32(in), float32(a.Out), float32(a.Scale)
	half := func() float32 { return float32((xf+0.5)/scale) - 0.5 }
	switch m.Coordinates {
	case "asymmetric":
		return float64(xf / scale)
	case "align_corners":
		if a.Out == 1 {
			return 0
		}
		return float64(float32(xf*(inf-1)) / (out - 1))
	case "pytorch_half_pixel":
		if a.Out == 1 {
			return 0
		}
	case "half_pixel_symmetric":
		adjust := out / float32(scale*inf)
		return float64(float32(inf/2*(1-adjust)) + half())
	case "tf_crop_and_resize":
		start, end := float32(a.Start), float32(a.End)
		if a.Out == 1 {
			return float64(float32(0.5*(start+end)) * (inf - 1))
		}
		return float64(float32(start*(inf-1)) + float32(xf*float32(float32((end-start)*(inf-1))/(out-1))))
	}
	return float64(half())
}

// NearestIndices returns, for each position after resizing an axis of extent in,
// the position it copies, or -1 for the extrapolation value.
func (m *ResizeMode) NearestIndices(in int, a ResizeAxis) []int {
	out := make([]int, a.Out)
	for x := range out {
		s := m.source(x, in, a)
		if m.Coordinates == "tf_crop_and_resize" && (s < 0 || s > float64(in-1)) {
			out[x] = -1
			continue
		}
		var i float64
		switch m.Nearest {
		case "floor":
			i = math.Floor(s)
		case "ceil":
			i = math.Ceil(s)
		case "round_prefer_ceil":
			i = math.Floor(s + 0.5)
		default: // round_prefer_floor
			i = math.Ceil(s - 0.5)
		}
		out[x] = int(min(max(i, 0), float64(in-1)))
	}
	return out
}

// weights returns the positions that make position x after resizing, and their
// weights; both are empty where the extrapolation value goes.
func (m *ResizeMode) weights(x, in int, a ResizeAxis) (idx []int, w []float64) {
	s := m.source(x, in, a)
	if m.Coordinates == "tf_crop_and_resize" && (s < 0 || s > float64(in-1)) {
		return nil, nil
	}
	reach, stretch := 1.0, 1.0
	if m.Mode == "cubic" {
		reach = 2
	}
	if m.Antialias && a.Scale < 1 {
		stretch = a.Scale
	}
	sum := 0.0
	for i := int(math.Floor(s-reach/stretch)) + 1; float64(i) < s+reach/stretch; i++ {
		v := m.filter((float64(i) - s) * stretch)
		if m.ExcludeOutside && (i < 0 || i >= in) {
			continue
		}
		idx, w = append(idx, min(max(i, 0), in-1)), append(w, v)
		sum += v
	}
	if m.ExcludeOutside || stretch != 1 {
		for i := range w {
			w[i] /= sum
		}
	}
	return idx, w
}

// ResizeTaps lists what each position after resizing an axis is made of.
type ResizeTaps struct {
	start   []int // position x has the taps [start[x], start[x+1])
	index   []int
	weights []float32
}

// At returns the positions that make position x, and their weights.
func (t *ResizeTaps) At(x int) ([]int, []float32) {
	return t.index[t.start[x]:t.start[x+1]], t.weights[t.start[x]:t.start[x+1]]
}

// Taps returns the taps of an axis of extent in; m.Coordinates is not "tf_crop_and_resize".
func (m *ResizeMode) Taps(in int, a ResizeAxis) (t ResizeTaps) {
	add := func(i int, w float64) { t.index, t.weights = append(t.index, i), append(t.weights, float32(w)) }
	nearest := m.Mode == "nearest" && !(a.Out == in && a.Scale == 1)
	var from []int
	if nearest {
		from = m.NearestIndices(in, a)
	}
	for x := range a.Out {
		t.start = append(t.start, len(t.index))
		switch {
		case nearest:
			add(from[x], 1)
		case a.Out == in && a.Scale == 1:
			add(x, 1)
		default:
			idx, w := m.weights(x, in, a)
			for i := range idx {
				if w[i] != 0 {
					add(idx[i], w[i])
				}
			}
		}
	}
	t.start = append(t.start, len(t.index))
	return t
}

// filter is the interpolation kernel at distance d.
func (m *ResizeMode) filter(d float64) float64 {
	d = math.Abs(d)
	if m.Mode != "cubic" {
		return max(0, 1-d)
	}
	return CubicFilter(d, m.CubicA)
}

// CubicFilter is the cubic convolution kernel with parameter a at distance d ≥ 0.
func CubicFilter(d, a float64) float64 {
	switch {
	case d <= 1:
		return float64((float64((a+2)*d)-(a+3))*float64(d*d)) + 1
	case d < 2:
		return float64((float64((float64(a*d)-float64(5*a))*d)+float64(8*a))*d) - float64(4*a)
	}
	return 0
}

// Interpolate resizes every axis of x in turn by linear or cubic interpolation.
func (m *ResizeMode) Interpolate(x *Dense[float64], axes []ResizeAxis) *Dense[float64] {
	for i, a := range axes {
		if a.Out == x.shape[i] && a.Scale == 1 && m.Coordinates != "tf_crop_and_resize" {
			continue
		}
		x = m.interpolateAxis(x, i, a)
	}
	return x
}

func (m *ResizeMode) interpolateAxis(x *Dense[float64], axis int, a ResizeAxis) *Dense[float64] {
	shape := x.shape.Clone()
	shape[axis] = a.Out
	y := New[float64](shape...)
	from, inner := lines(x.shape, []int{axis})
	to, innerTo := lines(shape, []int{axis})
	for o := range a.Out {
		idx, w := m.weights(o, x.shape[axis], a)
		for l, s := range from {
			v := 0.0
			for k, i := range idx {
				v += float64(w[k] * x.data[s+inner[i]])
			}
			if len(idx) == 0 {
				v = m.Extrapolation
			}
			y.data[to[l]+innerTo[o]] = v
		}
	}
	return y
}
