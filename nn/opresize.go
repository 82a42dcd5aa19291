package nn

import (
	"fmt"
	"math"
	"slices"

	"roundel/tensor"
)

// resizeOps interpolate between elements.
func resizeOps() []OpDef {
	return append(gridOps(), OpDef{Name: "Resize", Sig: "n f? f? I?", Infer: inferResize, Eval: evalResize})
}

// resizeAxes returns the axes that the inputs roi, scales and sizes speak of.
func (c *InferCtx) resizeAxes(rank int) ([]int, error) {
	as := c.node.Ints("axes")
	if as == nil {
		return axesFrom(0, rank), nil
	}
	return axes(as, rank)
}

// resizeMode reads the attributes.
func (c *InferCtx) resizeMode() (*tensor.ResizeMode, error) {
	n := c.node
	m := &tensor.ResizeMode{Mode: n.Str("mode", "nearest"), Coordinates: n.Str("coordinate_transformation_mode", "half_pixel"),
		Nearest: n.Str("nearest_mode", "round_prefer_floor"), CubicA: float64(n.Float("cubic_coeff_a", -0.75)),
		ExcludeOutside: n.Int("exclude_outside", 0) != 0, Antialias: n.Int("antialias", 0) != 0,
		Extrapolation: float64(n.Float("extrapolation_value", 0))}
	for _, a := range []struct {
		name, value string
		known       []string
	}{
		{"mode", m.Mode, []string{"nearest", "linear", "cubic"}},
		{"coordinate_transformation_mode", m.Coordinates, []string{"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",
			"align_corners", "asymmetric", "tf_crop_and_resize"}},
		{"nearest_mode", m.Nearest, []string{"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}},
	} {
		if !slices.Contains(a.known, a.value) {
			return nil, fmt.Errorf("attribute %s is %q; known are %v", a.name, a.value, a.known)
		}
	}
	if m.Coordinates == "tf_crop_and_resize" && !c.has(1) {
		return nil, fmt.Errorf("tf_crop_and_resize needs the input roi")
	}
	return m, nil
}

// resizeList returns the contents of input i, one number for each of n axes; nil if it is absent, unknown or empty.
func (c *InferCtx) resizeList(i, n int) ([]float64, error) {
	v, ok := c.floats(i)
	if !c.has(i) || !ok || len(v) == 0 {
		return nil, nil
	}
	if len(v) != n {
		return nil, fmt.Errorf("input %d has %d elements, %d are needed", i, len(v), n)
	}
	return v, nil
}

// isEmpty reports whether input i is absent or known to have no elements, which Resize takes for the same.
func (c *InferCtx) isEmpty(i int) bool {
	return !c.has(i) || c.val[i].t != nil && c.val[i].t.Len() == 0
}

// resizePlan returns what happens to each axis; an Out of -1 is not known.
func (c *InferCtx) resizePlan(d []Dim) ([]tensor.ResizeAxis, error) {
	list, err := c.resizeAxes(len(d))
	if err != nil {
		return nil, err
	}
	roi, err := c.resizeList(1, 2*len(list))
	if err != nil {
		return nil, err
	}
	scales, err := c.resizeList(2, len(list))
	if err != nil {
		return nil, err
	}
	sizes, err := c.resizeList(3, len(list))
	if err != nil {
		return nil, err
	}
	plan := make([]tensor.ResizeAxis, len(d))
	for i := range plan {
		plan[i] = tensor.ResizeAxis{Out: d[i].Size, Scale: 1, Start: 0, End: 1}
	}
	common, err := c.commonScale(d, list, sizes)
	if err != nil {
		return nil, err
	}
	for i, a := range list {
		p := &plan[a]
		p.Out = -1
		if roi != nil && c.node.Str("coordinate_transformation_mode", "") == "tf_crop_and_resize" {
			p.Start, p.End = roi[i], roi[len(list)+i]
		}
		switch {
		case scales != nil:
			err = scaleAxis(p, d[a], scales[i])
		case sizes != nil:
			err = sizeAxis(p, d[a], sizes[i], common)
		case c.isEmpty(2) && c.isEmpty(3):
			err = fmt.Errorf("has neither scales nor sizes")
		}
		if err != nil {
			return nil, fmt.Errorf("axis %d: %w", a, err)
		}
	}
	return plan, nil
}

// commonScale returns the one factor that keeps the aspect ratio, or 0 if every size is taken as it is.
func (c *InferCtx) commonScale(d []Dim, list []int, sizes []float64) (float64, error) {
	policy := c.node.Str("keep_aspect_ratio_policy", "stretch")
	if policy == "stretch" || sizes == nil {
		return 0, nil
	}
	pick := map[string]func(a, b float64) float64{"not_larger": math.Min, "not_smaller": math.Max}[policy]
	if pick == nil {
		return 0, fmt.Errorf("keep_aspect_ratio_policy is %q", policy)
	}
	s := math.NaN()
	for i, a := range list {
		r := sizes[i] / float64(max(d[a].Size, 1))
		if math.IsNaN(s) {
			s = r
		}
		s = pick(s, r)
	}
	return s, nil
}

// scaleAxis plans an axis by its factor. The extent is ⌊in·scale⌋, computed in float32 as other runtimes do.
func scaleAxis(p *tensor.ResizeAxis, d Dim, scale float64) error {
	if !(scale > 0) || scale > maxDim {
		return fmt.Errorf("scale %v is not positive", scale)
	}
	p.Scale = scale
	if !d.IsKnown() {
		return nil
	}
	n := math.Floor(float64(float32(float64(d.Size)*(p.End-p.Start)) * float32(scale)))
	if !(n >= 0 && n <= maxDim) {
		return fmt.Errorf("scale %v gives an extent of %v", scale, n)
	}
	p.Out = int(n)
	return checkResize(d.Size, p.Out)
}

// sizeAxis plans an axis by its extent, or by the common factor of all axes if that is not 0.
func sizeAxis(p *tensor.ResizeAxis, d Dim, size, common float64) error {
	if !(size >= 0 && size <= maxDim) {
		return fmt.Errorf("size %v is no extent", size)
	}
	if common == 0 {
		p.Out = int(size)
	}
	if !d.IsKnown() {
		return nil
	}
	p.Scale = size / float64(max(d.Size, 1))
	if common != 0 {
		n := math.Floor(float64(common*float64(d.Size)) + 0.5)
		if !(n >= 0 && n <= maxDim) {
			return fmt.Errorf("the aspect ratio asks for an extent of %v", n)
		}
		p.Out, p.Scale = int(n), common
	}
	return checkResize(d.Size, p.Out)
}

func checkResize(in, out int) error {
	if in == 0 && out > 0 {
		return fmt.Errorf("an empty axis cannot grow to %d", out)
	}
	return nil
}

func inferResize(c *InferCtx) error {
	m, err := c.resizeMode()
	if err != nil {
		return err
	}
	d, ok := c.dims(0)
	if !ok {
		return nil
	}
	if m.Mode != "nearest" && c.in[0].DType == tensor.Uint64 {
		return fmt.Errorf("mode %s is not defined for uint64", m.Mode)
	}
	plan, err := c.resizePlan(d)
	if err != nil {
		return err
	}
	list, err := c.resizeAxes(len(d))
	if err != nil {
		return err
	}
	sizes, haveSizes := c.exprs(3)
	out := make([]Dim, len(d))
	for i, p := range plan {
		out[i] = Dim{Size: -1}
		j := slices.Index(list, i)
		switch {
		case p.Out >= 0:
			out[i] = Known(p.Out)
		case j < 0:
			out[i] = d[i]
		case haveSizes && len(sizes) == len(list) && c.node.Str("keep_aspect_ratio_policy", "stretch") == "stretch":
			out[i] = sizes[j].dim()
		case c.isEmpty(3) && p.Scale == math.Trunc(p.Scale) && c.val[2].t != nil && p.Start == 0 && p.End == 1:
			out[i] = dimExpr(d[i]).times(number(int64(p.Scale))).dim()
		}
	}
	c.set(0, c.in[0].DType, out)
	return nil
}

func evalResize(c *EvalCtx) error {
	m, err := c.resizeMode()
	if err != nil {
		return err
	}
	x := c.arg[0]
	plan, err := c.resizePlan(c.in[0].Dims)
	if err != nil {
		return err
	}
	if m.Mode == "nearest" {
		maps := make([][]int, len(plan))
		for i, a := range plan {
			maps[i] = m.NearestIndices(x.Shape()[i], a)
			if a.Out == x.Shape()[i] && a.Scale == 1 && m.Coordinates != "tf_crop_and_resize" {
				maps[i] = axesFrom(0, a.Out)
			}
		}
		c.put(0, tensor.TakeAxes(x, maps, tensor.Cast(tensor.From([]float64{m.Extrapolation}, 1), x.DType())))
		return nil
	}
	y := m.Interpolate(tensor.Cast(x, tensor.Float64).(*tensor.Dense[float64]), plan)
	if isInteger(x.DType()) {
		y = tensor.MapFloat(y, math.RoundToEven)
	}
	c.put(0, y)
	return nil
}
