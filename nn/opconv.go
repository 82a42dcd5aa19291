package nn

import (
	"fmt"
	"slices"

	"roundel/tensor"
)

// convOps are the convolutions.
func convOps() []OpDef {
	return []OpDef{
		{Name: "Conv", Sig: "f f= f=?", Infer: inferConv, Eval: byFloat(0, conv[float32], conv[float64]), flags: widen},
		{Name: "ConvTranspose", Sig: "f f= f=?", Infer: inferConvTranspose, Eval: byFloat(0, convTranspose[float32], convTranspose[float64]), flags: widen},
	}
}

// spatial holds the attributes of an operator that slides a window over the axes behind batch and channel.
type spatial struct {
	kernel, stride, dilation []int
	before, after            []int // as given; auto overrides them
	auto                     string
	ceil                     bool
}

// spatial reads the window attributes for n spatial axes; kernel is the default for kernel_shape, nil if it is required.
func (c *InferCtx) spatial(n int, kernel []int) (*spatial, error) {
	if n < 1 || n > 3 {
		return nil, fmt.Errorf("%d spatial axes; 1 to 3 are supported", n)
	}
	s := &spatial{auto: c.node.Str("auto_pad", "NOTSET"), ceil: c.node.Int("ceil_mode", 0) != 0}
	var err error
	read := func(name string, def []int, want int, low int64) (out []int) {
		a := c.node.Ints(name)
		if a == nil {
			if def == nil {
				err = fmt.Errorf("attribute %s is missing", name)
			}
			return def
		}
		if len(a) != want {
			err = fmt.Errorf("attribute %s = %v does not fit %d spatial axes", name, a, n)
		}
		for _, v := range a {
			if v < low || v > 1<<24 {
				err = fmt.Errorf("attribute %s = %v is out of range", name, a)
				v = low
			}
			out = append(out, int(v))
		}
		return out
	}
	ones := slices.Repeat([]int{1}, n)
	s.kernel = read("kernel_shape", kernel, n, 1)
	s.stride, s.dilation = read("strides", ones, n, 1), read("dilations", ones, n, 1)
	pads := read("pads", make([]int, 2*n), 2*n, 0)
	if err != nil {
		return nil, err
	}
	s.before, s.after = pads[:n], pads[n:]
	if !slices.Contains([]string{"NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", ""}, s.auto) {
		return nil, fmt.Errorf("auto_pad is %q", s.auto)
	}
	if s.auto == "VALID" {
		s.before, s.after = make([]int, n), make([]int, n)
	}
	return s, nil
}

// span returns the extent that a dilated kernel covers along axis i.
func (s *spatial) span(i int) int { return (s.kernel[i]-1)*s.dilation[i] + 1 }

// same reports whether the padding follows from the output size, ⌈in/stride⌉.
func (s *spatial) same() bool { return s.auto == "SAME_UPPER" || s.auto == "SAME_LOWER" }

// pads returns the padding along axis i for an input of extent in.
func (s *spatial) pads(i, in int) (before, after int) {
	if !s.same() {
		return s.before[i], s.after[i]
	}
	out := (in + s.stride[i] - 1) / s.stride[i]
	total := max(0, (out-1)*s.stride[i]+s.span(i)-in)
	if s.auto == "SAME_LOWER" {
		return total - total/2, total / 2
	}
	return total / 2, total - total/2
}

// outDim returns the extent of the output along axis i.
func (s *spatial) outDim(i int, d Dim) (Dim, error) {
	switch {
	case s.same() && d.IsKnown():
		return Known((d.Size + s.stride[i] - 1) / s.stride[i]), nil
	case s.same() && s.stride[i] == 1:
		return d, nil
	case s.same():
		return Dim{Size: -1}, nil
	case !d.IsKnown() && s.stride[i] == 1:
		return dimExpr(d).plus(number(int64(s.before[i] + s.after[i] - s.span(i) + 1))).dim(), nil
	case !d.IsKnown():
		return Dim{Size: -1}, nil
	}
	free := d.Size + s.before[i] + s.after[i] - s.span(i)
	if free < 0 {
		return d, fmt.Errorf("a window of %d does not fit a padded extent of %d", s.span(i), d.Size+s.before[i]+s.after[i])
	}
	n := free/s.stride[i] + 1
	if s.ceil && free%s.stride[i] != 0 && n*s.stride[i] < d.Size+s.before[i] { // the last window has to start inside
		n++
	}
	return Known(n), nil
}

// outDims returns the extents of the output for the spatial dimensions d.
func (s *spatial) outDims(d []Dim) ([]Dim, error) {
	out := make([]Dim, len(d))
	for i := range d {
		var err error
		if out[i], err = s.outDim(i, d[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// window returns the reference's window for spatial extents in.
func (s *spatial) window(in []int) (w tensor.Window) {
	w = tensor.Window{Kernel: [3]int{1, 1, 1}, Stride: [3]int{1, 1, 1}, Dilation: [3]int{1, 1, 1}}
	for i := range in {
		a := 3 - len(in) + i
		w.Kernel[a], w.Stride[a], w.Dilation[a] = s.kernel[i], s.stride[i], s.dilation[i]
		w.Before[a], w.After[a] = s.pads(i, in[i])
	}
	return w
}

// convInput checks the weights, input wi, against the data, input xi, and returns
// their dimensions. chanAxis is the axis of the weights that runs over input channels of a group.
func (c *InferCtx) convInput(xi, wi int) (x, w []Dim, s *spatial, err error) {
	x, ok0, err := c.rankAtLeast(xi, 3)
	if err != nil {
		return nil, nil, nil, err
	}
	w, ok1, err := c.rankAtLeast(wi, 3)
	if err != nil || !ok0 || !ok1 {
		return nil, nil, nil, err
	}
	if len(x) != len(w) {
		return nil, nil, nil, fmt.Errorf("data %v and weights %v have different ranks", c.in[xi], c.in[wi])
	}
	kernel := make([]int, len(w)-2)
	for i, d := range w[2:] {
		if !d.IsKnown() {
			kernel = nil // kernel_shape has to say it
			break
		}
		if d.Size == 0 {
			return nil, nil, nil, fmt.Errorf("weights %v are empty", c.in[wi])
		}
		kernel[i] = d.Size
	}
	if s, err = c.spatial(len(x)-2, kernel); err != nil {
		return nil, nil, nil, err
	}
	if kernel != nil && !slices.Equal(kernel, s.kernel) {
		return nil, nil, nil, fmt.Errorf("kernel_shape %v does not fit weights %v", s.kernel, c.in[wi])
	}
	return x, w, s, nil
}

// groups returns the attribute group and checks that it divides the channels.
func (c *InferCtx) groups(channels ...Dim) (int, error) {
	g := c.node.Int("group", 1)
	if g < 1 || g > maxDim {
		return 0, fmt.Errorf("group is %d", g)
	}
	for _, ch := range channels {
		if ch.IsKnown() && ch.Size%int(g) != 0 {
			return 0, fmt.Errorf("%v channels cannot be divided into %d groups", ch, g)
		}
	}
	return int(g), nil
}

// checkBias checks that input i, if present, is a vector of n elements.
func (c *InferCtx) checkBias(i int, n Dim) error {
	if d, ok := c.dims(i); ok {
		if len(d) != 1 {
			return fmt.Errorf("input %d is %v; it has to be a vector", i, c.in[i])
		}
		if _, ok := sameDim(d[0], n); !ok {
			return fmt.Errorf("input %d is %v for %v channels", i, c.in[i], n)
		}
	}
	return nil
}

func inferConv(c *InferCtx) error {
	dims, err := c.convDims(0, 1)
	if err != nil {
		return err
	}
	if dims == nil {
		return nil
	}
	c.set(0, c.in[0].DType, dims)
	return c.checkBias(2, dims[1])
}

// convDims returns the dimensions of the convolution of input xi with weights wi, nil while they are unknown.
func (c *InferCtx) convDims(xi, wi int) ([]Dim, error) {
	x, w, s, err := c.convInput(xi, wi)
	if err != nil || s == nil {
		return nil, err
	}
	g, err := c.groups(x[1], w[0])
	if err != nil {
		return nil, err
	}
	if _, ok := sameDim(x[1], dimExpr(w[1]).times(number(int64(g))).dim()); !ok {
		return nil, fmt.Errorf("data %v and weights %v with %d groups: %v channels, %v times %d wanted", c.in[xi], c.in[wi], g, x[1], w[1], g)
	}
	sp, err := s.outDims(x[2:])
	if err != nil {
		return nil, err
	}
	return append([]Dim{x[0], w[0]}, sp...), nil
}

func conv[T tensor.Float](c *EvalCtx) error {
	x, w := arg[T](c, 0), arg[T](c, 1)
	s, err := c.spatial(len(x.Shape())-2, w.Shape()[2:])
	if err != nil {
		return err
	}
	c.put(0, tensor.ConvND(x, w, arg[T](c, 2), s.window(x.Shape()[2:]), int(c.node.Int("group", 1)), c.outShape(0)))
	return nil
}

// transposed returns the spatial dimensions of a ConvTranspose and the padding it
// removes. output_shape, when given, decides the padding; see the ONNX operator.
func (s *spatial) transposed(n *Node, d []Dim) (out []Dim, before []int, err error) {
	extra, want := n.Ints("output_padding"), n.Ints("output_shape")
	if want != nil && len(want) == len(d)+2 {
		want = want[2:]
	}
	if extra != nil && len(extra) != len(d) || want != nil && len(want) != len(d) {
		return nil, nil, fmt.Errorf("output_padding %v and output_shape %v do not fit %d spatial axes", extra, want, len(d))
	}
	out, before = make([]Dim, len(d)), slices.Clone(s.before)
	for i := range d {
		add := int64(s.span(i) - s.stride[i])
		if extra != nil {
			if extra[i] < 0 || extra[i] > maxDim {
				return nil, nil, fmt.Errorf("output_padding is %v", extra)
			}
			add += extra[i]
		}
		full := dimExpr(d[i]).times(number(int64(s.stride[i]))).plus(number(add)) // before any padding is removed
		size := full.plus(number(-int64(s.before[i] + s.after[i])))
		fixed := want != nil || s.same()
		if want != nil {
			size = number(want[i])
		} else if s.same() {
			size = dimExpr(d[i]).times(number(int64(s.stride[i])))
		}
		if fixed {
			total := full.plus(size.times(number(-1)))
			if !total.isNumber() {
				out[i] = size.dim()
				continue
			}
			t := int(max(total.add, 0))
			before[i] = t - t/2
			if s.auto == "SAME_UPPER" {
				before[i] = t / 2
			}
		}
		if size.isNumber() && size.add < 1 {
			return nil, nil, fmt.Errorf("the output of axis %d would have extent %v", i, size)
		}
		out[i] = size.dim()
	}
	return out, before, nil
}

func inferConvTranspose(c *InferCtx) error {
	x, w, s, err := c.convInput(0, 1)
	if err != nil || s == nil {
		return err
	}
	g, err := c.groups(x[1])
	if err != nil {
		return err
	}
	if _, ok := sameDim(x[1], w[0]); !ok {
		return fmt.Errorf("data %v and weights %v: %v channels, %v wanted", c.in[0], c.in[1], x[1], w[0])
	}
	sp, _, err := s.transposed(c.node, x[2:])
	if err != nil {
		return err
	}
	m := dimExpr(w[1]).times(number(int64(g))).dim()
	c.set(0, c.in[0].DType, append([]Dim{x[0], m}, sp...))
	return c.checkBias(2, m)
}

func convTranspose[T tensor.Float](c *EvalCtx) error {
	x, w := arg[T](c, 0), arg[T](c, 1)
	s, err := c.spatial(len(x.Shape())-2, w.Shape()[2:])
	if err != nil {
		return err
	}
	_, before, err := s.transposed(c.node, knownDims(x.Shape()[2:]))
	if err != nil {
		return err
	}
	s.auto, s.before = "NOTSET", before
	c.put(0, tensor.ConvTransposeND(x, w, arg[T](c, 2), s.window(x.Shape()[2:]), int(c.node.Int("group", 1)), c.outShape(0)))
	return nil
}
