package adaround

import (
	"fmt"
	"slices"

	"roundel/nn"
	"roundel/tensor"
)

// geometry says how the outputs of a layer read its input: which element of one
// input sample is column k of a position. All layers become columns times
// weights, z = Σ_k a_k·w_ok, with the weights as rows [O][K]. Columns run over the
// kernel's taps, and over the channels within each tap.
type geometry struct {
	op         string
	groups     int
	outs, k    int  // outputs and columns per group
	weightLeft bool // MatMul, Gemm: the constant is the left operand and positions are columns of the input
	transX     bool // Gemm: the input operand is transposed
	transW     bool // the weight is stored [K][O] (or for ConvTranspose [C][O/g][taps])
	alpha      float32

	kernel, stride, dilation, pads []int // spatial, of convolutions; pads at the beginning only
	endPads                        []int
	outPads                        []int // ConvTranspose
	autoPad                        string
}

// newGeometry describes node n with a constant weight of the given shape at input index wi.
func newGeometry(n *nn.Node, weight tensor.Shape, wi int) (*geometry, error) {
	switch n.Op {
	case "Conv", "ConvTranspose":
		if wi != 1 {
			return nil, fmt.Errorf("the constant is not its weight")
		}
		return convGeometry(n, weight)
	case "MatMul", "Gemm":
		if len(weight) != 2 {
			return nil, fmt.Errorf("weight of rank %d", len(weight))
		}
		return productGeometry(n, weight, wi), nil
	}
	return nil, fmt.Errorf("operator %s has no weight to round", n.Op)
}

func convGeometry(n *nn.Node, weight tensor.Shape) (*geometry, error) {
	d := len(weight) - 2
	if d < 1 || d > 3 {
		return nil, fmt.Errorf("weight of rank %d", len(weight))
	}
	g := &geometry{op: n.Op, groups: int(n.Int("group", 1)), alpha: 1, kernel: weight[2:],
		stride: spatial(n, "strides", d, 1), dilation: spatial(n, "dilations", d, 1),
		outPads: spatial(n, "output_padding", d, 0), autoPad: n.Str("auto_pad", "NOTSET")}
	pads := spatial(n, "pads", 2*d, 0)
	g.pads, g.endPads = pads[:d], pads[d:]
	taps := g.taps()
	if g.groups < 1 || weight[0]%g.groups != 0 {
		return nil, fmt.Errorf("%d groups for weight %v", g.groups, weight)
	}
	g.outs, g.k = weight[0]/g.groups, weight[1]*taps
	if n.Op == "ConvTranspose" {
		g.transW = true
		g.outs, g.k = weight[1], weight[0]/g.groups*taps
		if n.Ints("output_shape") != nil || (g.autoPad != "NOTSET" && g.autoPad != "VALID") {
			return nil, fmt.Errorf("output_shape and auto_pad of ConvTranspose are not supported")
		}
	}
	return g, nil
}

func productGeometry(n *nn.Node, weight tensor.Shape, wi int) *geometry {
	g := &geometry{op: n.Op, groups: 1, weightLeft: wi == 0, alpha: n.Float("alpha", 1)}
	transX, transW := n.Int("transA", 0) != 0, n.Int("transB", 0) != 0
	if g.weightLeft {
		transX, transW = transW, transX
		g.transX, g.transW = !transX, transW // the weight [O][K] is as wanted unless transposed
	} else {
		g.transX, g.transW = transX, !transW
	}
	g.outs, g.k = weight[0], weight[1]
	if g.transW {
		g.outs, g.k = weight[1], weight[0]
	}
	return g
}

// spatial returns an attribute of n integers, or n times def when it is absent.
func spatial(node *nn.Node, name string, n, def int) []int {
	out := make([]int, n)
	vals := node.Ints(name)
	for i := range out {
		if out[i] = def; i < len(vals) {
			out[i] = int(vals[i])
		}
	}
	return out
}

// rows returns the weight as rows [O][K].
func (g *geometry) rows(w []float32) []float32 {
	out := make([]float32, len(w))
	g.eachWeight(func(row, stored int) { out[row] = w[stored] })
	return out
}

// store is the inverse of rows: it returns rows [O][K] in the weight's own order.
func (g *geometry) store(rows []float32) []float32 {
	out := make([]float32, len(rows))
	g.eachWeight(func(row, stored int) { out[stored] = rows[row] })
	return out
}

// eachWeight calls f with the index of every weight in rows [O][K] and in the stored order.
func (g *geometry) eachWeight(f func(row, stored int)) {
	taps := g.taps()
	channels := g.k / taps
	for o := range g.groups * g.outs {
		for c := range channels {
			for t := range taps {
				stored := o*g.k + c*taps + t // [O][C/g][taps]
				if g.transW {                // [C][O/g][taps]
					stored = ((o/g.outs*channels+c)*g.outs+o%g.outs)*taps + t
				}
				f(o*g.k+t*channels+c, stored)
			}
		}
	}
}

// taps is the number of kernel elements, 1 for products.
func (g *geometry) taps() int { return tensor.Shape(g.kernel).Len() }

// channelAxis returns the axis of the stored weight that counts outputs.
func (g *geometry) channelAxis() int {
	if g.transW {
		return 1
	}
	return 0
}

// reader is a geometry bound to the shape and memory order of an input tensor.
type reader struct {
	*geometry
	in, out   []int // spatial extents
	pads      []int
	batch     int // samples in the tensor, or leading dimensions of a product
	positions int // per batch element
	// element (channel c, pixel q) of a sample is at c·channelStep + q·pixelStep
	channelStep, pixelStep int
	offsets                []int // pixel that each tap of the current position reads, -1 for padding
	coord                  []int
}

// bind prepares reading from inputs of shape x in the given memory order. The error says why the layer cannot be sampled.
func (g *geometry) bind(x tensor.Shape, layout nn.Layout) (*reader, error) {
	r := &reader{geometry: g}
	if g.op == "MatMul" || g.op == "Gemm" {
		if len(x) < 2 {
			return nil, fmt.Errorf("input of shape %v", x)
		}
		rows, cols := x[len(x)-2], x[len(x)-1]
		if g.transX {
			rows, cols = cols, rows
		}
		if cols != g.k || layout != nn.RowMajor {
			return nil, fmt.Errorf("%v input of shape %v for %d columns", layout, x, g.k)
		}
		r.batch, r.positions = x[:len(x)-2].Len(), rows
		return r, nil
	}
	d := len(g.kernel)
	channels := g.groups * g.k / g.taps()
	if len(x) != d+2 || x[1] != channels {
		return nil, fmt.Errorf("input of shape %v for %d channels and %d spatial axes", x, channels, d)
	}
	r.batch, r.in, r.out = x[0], x[2:], make([]int, d)
	r.pads, r.coord = slices.Clone(g.pads), make([]int, d)
	r.offsets = make([]int, g.taps())
	r.channelStep, r.pixelStep = tensor.Shape(r.in).Len(), 1
	if layout == nn.NHWC {
		r.channelStep, r.pixelStep = 1, channels
	}
	for i := range d {
		r.out[i] = r.extent(i)
		if r.out[i] < 1 {
			return nil, fmt.Errorf("input of shape %v gives no output", x)
		}
	}
	r.positions = tensor.Shape(r.out).Len()
	return r, nil
}

// extent returns the output extent of spatial axis i and settles its padding.
func (r *reader) extent(i int) int {
	reach := (r.kernel[i]-1)*r.dilation[i] + 1
	if r.op == "ConvTranspose" {
		return (r.in[i]-1)*r.stride[i] + r.outPads[i] + reach - r.pads[i] - r.endPads[i]
	}
	both := r.pads[i] + r.endPads[i]
	switch r.autoPad {
	case "SAME_UPPER", "SAME_LOWER":
		out := (r.in[i] + r.stride[i] - 1) / r.stride[i]
		both = max((out-1)*r.stride[i]+reach-r.in[i], 0)
		r.pads[i] = both / 2
		if r.autoPad == "SAME_LOWER" {
			r.pads[i] = both - both/2
		}
	case "VALID":
		both, r.pads[i] = 0, 0
	}
	if r.in[i]+both < reach {
		return 0
	}
	return (r.in[i]+both-reach)/r.stride[i] + 1
}

// read copies the columns of position pos of batch element n into dst, which has
// room for [Groups][K] with the groups stride apart.
func (r *reader) read(dst []float32, stride int, x []float32, n, pos int) {
	if r.in == nil {
		r.readProduct(dst, x, n, pos)
		return
	}
	r.locate(pos)
	channels := r.k / len(r.offsets)
	size := r.groups * channels * tensor.Shape(r.in).Len()
	x = x[n*size:][:size]
	for g := range r.groups {
		for t, pixel := range r.offsets {
			to := dst[g*stride+t*channels:][:channels]
			if pixel < 0 {
				clear(to)
				continue
			}
			from := pixel*r.pixelStep + g*channels*r.channelStep
			if r.channelStep == 1 {
				copy(to, x[from:])
				continue
			}
			for c := range to {
				to[c] = x[from+c*r.channelStep]
			}
		}
	}
}

func (r *reader) readProduct(dst, x []float32, n, pos int) {
	x = x[n*r.positions*r.k:][:r.positions*r.k]
	for k := range r.k {
		if r.transX {
			dst[k] = r.alpha * x[k*r.positions+pos]
		} else {
			dst[k] = r.alpha * x[pos*r.k+k]
		}
	}
}

// locate fills offsets with the pixel that each tap of position pos reads, -1 for padding.
func (r *reader) locate(pos int) {
	for i := len(r.out) - 1; i >= 0; i-- {
		r.coord[i] = pos % r.out[i]
		pos /= r.out[i]
	}
	for t := range r.offsets {
		off, rest, stride := 0, t, 1
		for i := len(r.kernel) - 1; i >= 0; i-- {
			tap := rest % r.kernel[i]
			rest /= r.kernel[i]
			at, ok := r.source(i, tap)
			if !ok {
				off = -1
				break
			}
			off += at * stride
			stride *= r.in[i]
		}
		r.offsets[t] = off
	}
}

// source returns the input coordinate on axis i that the tap reads at the current position.
func (r *reader) source(i, tap int) (int, bool) {
	var at int
	if r.op == "ConvTranspose" {
		at = r.coord[i] + r.pads[i] - tap*r.dilation[i]
		if at < 0 || at%r.stride[i] != 0 {
			return 0, false
		}
		at /= r.stride[i]
	} else {
		at = r.coord[i]*r.stride[i] - r.pads[i] + tap*r.dilation[i]
	}
	return at, at >= 0 && at < r.in[i]
}
