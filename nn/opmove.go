package nn

import (
	"fmt"
	"slices"

	"roundel/tensor"
)

// moveOps change the shape or the order of elements, or their type.
func moveOps() []OpDef {
	rows := []OpDef{
		{Name: "Identity", Sig: "a", Infer: inferIdentity, Eval: evalFirst},
		{Name: "Dropout", Sig: "f f? b?", Infer: inferDropout, Eval: evalDropout},
		{Name: "Reshape", Sig: "a I", Infer: inferReshape, Eval: evalReshaped},
		{Name: "Flatten", Sig: "a", Infer: inferFlatten, Eval: evalReshaped},
		{Name: "Squeeze", Sig: "a I?", Infer: inferSqueeze, Eval: evalReshaped},
		{Name: "Unsqueeze", Sig: "a I", Infer: inferUnsqueeze, Eval: evalReshaped},
		{Name: "Transpose", Sig: "a", Infer: inferTranspose, Eval: evalTranspose},
		{Name: "Concat", Sig: "a=*", Infer: inferConcat, Eval: evalConcat},
		{Name: "Expand", Sig: "a I", Infer: inferExpand, Eval: evalExpand},
		{Name: "Tile", Sig: "a I", Infer: inferTile, Eval: evalTile},
		{Name: "DepthToSpace", Sig: "a", Infer: inferDepthToSpace, Eval: evalDepthToSpace},
		{Name: "SpaceToDepth", Sig: "a", Infer: inferSpaceToDepth, Eval: evalSpaceToDepth},
		{Name: "Cast", Sig: "a", Infer: inferCast, Eval: evalCast},
		{Name: "CastLike", Sig: "a a", Infer: inferCast, Eval: evalCast},
	}
	rows = append(rows, sliceOps()...)
	for i := range rows {
		rows[i].flags = fold
	}
	return rows
}

func inferIdentity(c *InferCtx) error {
	c.out[0], c.outVal[0] = c.in[0], c.val[0]
	return nil
}

func evalFirst(c *EvalCtx) error {
	c.put(0, c.arg[0])
	return nil
}

// inferDropout: inference mode only, so the mask is all true.
func inferDropout(c *InferCtx) error {
	if mode, ok := c.ints(2); ok && len(mode) == 1 && mode[0] != 0 {
		if ratio, ok := c.floats(1); !ok || len(ratio) != 1 || ratio[0] != 0 {
			return fmt.Errorf("training_mode is set; only inference is supported")
		}
	}
	c.out[0] = c.in[0]
	if len(c.out) > 1 {
		c.out[1] = c.in[0]
		c.out[1].DType = tensor.Bool
	}
	return nil
}

func evalDropout(c *EvalCtx) error {
	c.put(0, c.arg[0])
	if len(c.res) > 1 {
		mask := tensor.New[bool](c.arg[0].Shape()...)
		for i := range mask.Data() {
			mask.Data()[i] = true
		}
		c.put(1, mask)
	}
	return nil
}

// permutation returns the attribute perm, by default the reversed order.
func (c *InferCtx) permutation(rank int) ([]int, error) {
	attr := c.node.Ints("perm")
	if _, ok := c.node.Attrs["perm"]; !ok {
		for i := range rank {
			attr = append(attr, int64(rank-1-i))
		}
	}
	if len(attr) != rank {
		return nil, fmt.Errorf("perm %v does not fit %d dimensions", attr, rank)
	}
	return axes(attr, rank)
}

func inferTranspose(c *InferCtx) error {
	d, ok := c.dims(0)
	if !ok {
		return nil
	}
	perm, err := c.permutation(len(d))
	if err != nil {
		return err
	}
	out := make([]Dim, len(d))
	for i, p := range perm {
		out[i] = d[p]
	}
	c.set(0, c.in[0].DType, out)
	return nil
}

func evalTranspose(c *EvalCtx) error {
	perm, err := c.permutation(len(c.arg[0].Shape()))
	if err != nil {
		return err
	}
	c.put(0, tensor.Transpose(c.arg[0], perm))
	return nil
}

func inferConcat(c *InferCtx) error {
	var out []Dim
	for i := range c.in {
		d, ok := c.dims(i)
		if !ok {
			return nil
		}
		if out == nil {
			out = slices.Clone(d)
			if len(d) == 0 {
				return fmt.Errorf("input %d is a scalar", i)
			}
		}
		if len(d) != len(out) {
			return fmt.Errorf("inputs 0 and %d have different ranks: %v, %v", i, c.in[0], c.in[i])
		}
		a, err := axis(c.node.Int("axis", 0), len(out))
		if err != nil {
			return err
		}
		for j := range d {
			if i == 0 {
				continue
			}
			if j == a {
				out[j] = dimExpr(out[j]).plus(dimExpr(d[j])).dim()
			} else if out[j], ok = sameDim(out[j], d[j]); !ok {
				return fmt.Errorf("inputs 0 and %d differ outside axis %d: %v, %v", i, a, c.in[0], c.in[i])
			}
		}
	}
	c.set(0, c.in[0].DType, out)
	c.knowConcat(out)
	return nil
}

// knowConcat follows vectors of integers, the parts that are unknown too.
func (c *InferCtx) knowConcat(out []Dim) {
	if len(out) != 1 || !out[0].IsKnown() || out[0].Size > maxFold {
		return
	}
	var all []expr
	some := false
	for i := range c.in {
		v, ok := c.exprs(i)
		if !ok {
			v = make([]expr, c.in[i].Dims[0].Size)
		}
		some = some || ok
		all = append(all, v...)
	}
	if some {
		c.know(0, all)
	}
}

func evalConcat(c *EvalCtx) error {
	a, err := axis(c.node.Int("axis", 0), len(c.arg[0].Shape()))
	if err != nil {
		return err
	}
	c.put(0, tensor.Concat(c.arg, a))
	return nil
}

// inferExpand broadcasts the input with the shape given; both may stretch.
func inferExpand(c *InferCtx) error {
	v, ok := c.exprs(1)
	if !ok {
		if n, ok := c.length(1); ok && c.in[0].Ranked {
			c.set(0, c.in[0].DType, unknown(max(n, len(c.in[0].Dims))))
		}
		return nil
	}
	want := make([]Dim, len(v))
	for i, e := range v {
		if e.isNumber() && e.add < 0 {
			return fmt.Errorf("shape %v has a negative dimension", v)
		}
		want[i] = e.dim()
	}
	d, ok := c.dims(0)
	if !ok {
		return nil
	}
	out, err := broadcastDims(d, want)
	if err != nil {
		return err
	}
	c.set(0, c.in[0].DType, out)
	if e, ok := c.exprs(0); ok && len(e) == 1 && len(out) == 1 && out[0].IsKnown() && out[0].Size <= maxFold {
		c.know(0, slices.Repeat(e, out[0].Size))
	}
	return nil
}

func evalExpand(c *EvalCtx) error {
	c.put(0, tensor.Expand(c.arg[0], c.outShape(0)))
	return nil
}

func inferTile(c *InferCtx) error {
	d, ok := c.dims(0)
	if !ok {
		return nil
	}
	reps, ok := c.exprs(1)
	if !ok {
		c.set(0, c.in[0].DType, unknown(len(d)))
		return nil
	}
	if len(reps) != len(d) {
		return fmt.Errorf("%d repeats for %v", len(reps), c.in[0])
	}
	out := make([]Dim, len(d))
	for i, r := range reps {
		if r.isNumber() && r.add < 0 {
			return fmt.Errorf("repeats %v are negative", reps)
		}
		e := dimExpr(d[i]).times(r)
		if e.isNumber() && e.add > maxDim {
			return fmt.Errorf("repeating %v by %v is above the limit of %d", c.in[0], reps, maxDim)
		}
		out[i] = e.dim()
	}
	c.set(0, c.in[0].DType, out)
	return nil
}

func evalTile(c *EvalCtx) error {
	maps := make([][]int, len(c.arg[0].Shape()))
	for i, d := range c.arg[0].Shape() {
		for j := range c.outShape(0)[i] {
			maps[i] = append(maps[i], j%d)
		}
	}
	c.put(0, tensor.TakeAxes(c.arg[0], maps, nil))
	return nil
}

// castType returns the element type a Cast asks for; bits is 4 for the types that are stored in 8 bits.
func castType(c *InferCtx) (dt tensor.DType, bits int, err error) {
	if c.node.Op == "CastLike" {
		return c.in[1].DType, 0, nil
	}
	switch to := c.node.Int("to", 0); to {
	case 21:
		return tensor.Uint8, 4, nil
	case 22:
		return tensor.Int8, 4, nil
	default:
		dt, ok := onnxTypes[to]
		if !ok {
			return 0, 0, fmt.Errorf("cannot cast to ONNX element type %d", to)
		}
		return dt, 0, nil
	}
}

// onnxTypes maps the element type numbers of ONNX, which attributes carry.
var onnxTypes = map[int64]tensor.DType{1: tensor.Float32, 2: tensor.Uint8, 3: tensor.Int8, 4: tensor.Uint16, 5: tensor.Int16,
	6: tensor.Int32, 7: tensor.Int64, 9: tensor.Bool, 10: tensor.Float16, 11: tensor.Float64, 12: tensor.Uint32, 13: tensor.Uint64, 16: tensor.BFloat16}

func inferCast(c *InferCtx) error {
	dt, bits, err := castType(c)
	if err != nil {
		return err
	}
	c.out[0] = c.in[0]
	c.out[0].DType = dt
	if v, ok := c.exprs(0); ok && dt != tensor.Bool && bits == 0 {
		c.know(0, v)
	}
	return nil
}

func evalCast(c *EvalCtx) error {
	dt, bits, err := castType(c.InferCtx)
	if err != nil {
		return err
	}
	x := c.arg[0]
	if bits == 4 { // keep the low bits, with the sign
		x = tensor.Map(tensor.Cast(x, tensor.Int64).(*tensor.Dense[int64]), func(v int64) int64 {
			if v &= 15; dt == tensor.Int8 && v > 7 {
				v -= 16
			}
			return v
		})
	}
	c.put(0, tensor.Cast(x, dt))
	return nil
}

// blockSize returns the attribute blocksize and the four dimensions of the input.
func (c *InferCtx) blockSize() (b int, d []Dim, ok bool, err error) {
	v := c.node.Int("blocksize", 0)
	if v < 1 || v > 1<<15 {
		return 0, nil, false, fmt.Errorf("blocksize %d is not positive", v)
	}
	d, ok = c.dims(0)
	if !ok {
		c.set(0, c.in[0].DType, unknown(4))
		return int(v), nil, false, nil
	}
	if len(d) != 4 {
		return 0, nil, false, fmt.Errorf("input is %v; it has to be [N, C, H, W]", c.in[0])
	}
	return int(v), d, true, nil
}

// divide returns d/by, and an error if d is known to be no multiple.
func divide(d Dim, by int) (Dim, error) {
	if d.IsKnown() && d.Size%by != 0 {
		return d, fmt.Errorf("extent %v is no multiple of %d", d, by)
	}
	return dimExpr(d).over(number(int64(by))).dim(), nil
}

func inferDepthToSpace(c *InferCtx) error {
	b, d, ok, err := c.blockSize()
	if !ok || err != nil {
		return err
	}
	ch, err := divide(d[1], b*b)
	if err != nil {
		return err
	}
	e := number(int64(b))
	c.set(0, c.in[0].DType, []Dim{d[0], ch, dimExpr(d[2]).times(e).dim(), dimExpr(d[3]).times(e).dim()})
	return nil
}

func evalDepthToSpace(c *EvalCtx) error {
	b := int(c.node.Int("blocksize", 0))
	s, o := c.arg[0].Shape(), c.outShape(0)
	split, perm := tensor.Shape{s[0], b, b, o[1], s[2], s[3]}, []int{0, 3, 4, 1, 5, 2}
	if c.node.Str("mode", "DCR") == "CRD" {
		split, perm = tensor.Shape{s[0], o[1], b, b, s[2], s[3]}, []int{0, 1, 4, 2, 5, 3}
	}
	c.put(0, tensor.ReshapeAny(tensor.Transpose(tensor.ReshapeAny(c.arg[0], split), perm), o))
	return nil
}

func inferSpaceToDepth(c *InferCtx) error {
	b, d, ok, err := c.blockSize()
	if !ok || err != nil {
		return err
	}
	h, err1 := divide(d[2], b)
	w, err2 := divide(d[3], b)
	if err1 != nil {
		return err1
	}
	c.set(0, c.in[0].DType, []Dim{d[0], dimExpr(d[1]).times(number(int64(b * b))).dim(), h, w})
	return err2
}

func evalSpaceToDepth(c *EvalCtx) error {
	b := int(c.node.Int("blocksize", 0))
	s, o := c.arg[0].Shape(), c.outShape(0)
	perm := []int{0, 3, 5, 1, 2, 4}
	if c.node.Str("mode", "DCR") == "CRD" {
		perm = []int{0, 1, 3, 5, 2, 4}
	}
	split := tensor.Shape{s[0], s[1], o[2], b, o[3], b}
	c.put(0, tensor.ReshapeAny(tensor.Transpose(tensor.ReshapeAny(c.arg[0], split), perm), o))
	return nil
}
