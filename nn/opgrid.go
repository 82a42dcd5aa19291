package nn

import (
	"fmt"
	"slices"

	"roundel/tensor"
)

// gridOps sample images at computed places. They are evaluated in float64.
func gridOps() []OpDef {
	return []OpDef{
		{Name: "GridSample", Sig: "f f", Infer: inferGridSample, Eval: viaFloat64(evalGridSample)},
		{Name: "AffineGrid", Sig: "f I", Infer: inferAffineGrid, Eval: evalAffineGrid},
		{Name: "RoiAlign", Sig: "f f= I", Infer: inferRoiAlign, Eval: evalRoiAlign},
	}
}

// gridSampler reads the attributes; the names of the modes before opset 20 are known too.
func (c *InferCtx) gridSampler() (tensor.GridSampler, error) {
	g := tensor.GridSampler{Mode: c.node.Str("mode", "linear"), Padding: c.node.Str("padding_mode", "zeros"), AlignCorners: c.node.Int("align_corners", 0) != 0}
	switch g.Mode {
	case "bilinear":
		g.Mode = "linear"
	case "bicubic":
		g.Mode = "cubic"
	}
	if !slices.Contains([]string{"nearest", "linear", "cubic"}, g.Mode) || !slices.Contains([]string{"zeros", "border", "reflection"}, g.Padding) {
		return g, fmt.Errorf("mode %q or padding_mode %q is not known", g.Mode, g.Padding)
	}
	return g, nil
}

func inferGridSample(c *InferCtx) error {
	if _, err := c.gridSampler(); err != nil {
		return err
	}
	x, ok0, err := c.rankAtLeast(0, 3)
	if err != nil {
		return err
	}
	grid, ok1 := c.dims(1)
	if !ok0 || !ok1 {
		return nil
	}
	if len(grid) != len(x) || grid[len(grid)-1].IsKnown() && grid[len(grid)-1].Size != len(x)-2 {
		return fmt.Errorf("grid %v does not fit data %v", c.in[1], c.in[0])
	}
	n, ok := sameDim(x[0], grid[0])
	if !ok || slices.Contains(x[2:], Known(0)) {
		return fmt.Errorf("grid %v does not fit data %v", c.in[1], c.in[0])
	}
	c.set(0, c.in[0].DType, append([]Dim{n, x[1]}, grid[1:len(grid)-1]...))
	return nil
}

func evalGridSample(c *EvalCtx) error {
	g, err := c.gridSampler()
	if err != nil {
		return err
	}
	c.put(0, g.GridSample(c.f64(0), c.f64(1)))
	return nil
}

func inferAffineGrid(c *InferCtx) error {
	size, ok := c.exprs(1)
	if !ok {
		return nil
	}
	r := len(size) - 2
	if r != 2 && r != 3 {
		return fmt.Errorf("size has %d extents; 4 or 5 are wanted", len(size))
	}
	if err := c.checkDims(0, []Dim{size[0].dim(), Known(r), Known(r + 1)}); err != nil {
		return err
	}
	out := []Dim{size[0].dim()}
	for _, e := range size[2:] {
		out = append(out, e.dim())
	}
	c.set(0, c.in[0].DType, append(out, Known(r)))
	return nil
}

func evalAffineGrid(c *EvalCtx) error {
	theta := tensor.Cast(c.arg[0], tensor.Float64).(*tensor.Dense[float64])
	s := c.outShape(0)
	c.put(0, tensor.AffineGrid(theta, s[1:len(s)-1], c.node.Int("align_corners", 0) != 0))
	return nil
}

func inferRoiAlign(c *InferCtx) error {
	if m := c.node.Str("mode", "avg"); m != "avg" && m != "max" {
		return fmt.Errorf("mode is %q; known are avg and max", m)
	}
	h, w := c.node.Int("output_height", 1), c.node.Int("output_width", 1)
	if h < 1 || w < 1 || h > 1<<16 || w > 1<<16 || c.node.Int("sampling_ratio", 0) < 0 || c.node.Int("sampling_ratio", 0) > 1<<10 {
		return fmt.Errorf("output %dx%d or sampling_ratio %d is out of range", h, w, c.node.Int("sampling_ratio", 0))
	}
	x, ok0 := c.dims(0)
	rois, ok1 := c.dims(1)
	if !ok0 || !ok1 {
		return nil
	}
	if len(x) != 4 || len(rois) != 2 || rois[1].IsKnown() && rois[1].Size != 4 || x[2] == Known(0) || x[3] == Known(0) {
		return fmt.Errorf("data %v and rois %v have to be [N, C, H, W] and [R, 4]", c.in[0], c.in[1])
	}
	c.set(0, c.in[0].DType, []Dim{rois[0], x[1], Known(int(h)), Known(int(w))})
	return c.checkBias(2, rois[0])
}

func evalRoiAlign(c *EvalCtx) error {
	x := tensor.Cast(c.arg[0], tensor.Float64).(*tensor.Dense[float64])
	rois := tensor.Cast(c.arg[1], tensor.Float64).(*tensor.Dense[float64])
	batch, err := resolve(tensor.Int64s(c.arg[2]), x.Shape()[0])
	if err != nil {
		return err
	}
	r := tensor.RoiAligner{Max: c.node.Str("mode", "avg") == "max", Scale: float64(c.node.Float("spatial_scale", 1)),
		SamplingRatio: int(c.node.Int("sampling_ratio", 0)), HalfPixel: c.node.Str("coordinate_transformation_mode", "half_pixel") == "half_pixel"}
	s := c.outShape(0)
	c.put(0, r.RoiAlign(x, rois, batch, s[2], s[3]))
	return nil
}
