package nn

import (
	"fmt"
	"math"

	"roundel/tensor"
)

// detectOps belong to the heads of detectors.
func detectOps() []OpDef {
	return []OpDef{{Name: "NonMaxSuppression", Sig: "f f= I? f? f?", Infer: inferNMS, Eval: evalNMS, flags: dynamic}}
}

func inferNMS(c *InferCtx) error {
	c.set(0, tensor.Int64, []Dim{{Size: -1}, Known(3)})
	b, ok0 := c.dims(0)
	s, ok1 := c.dims(1)
	if !ok0 || !ok1 {
		return nil
	}
	if len(b) != 3 || len(s) != 3 || b[2].IsKnown() && b[2].Size != 4 {
		return fmt.Errorf("boxes %v and scores %v have to be [N, B, 4] and [N, C, B]", c.in[0], c.in[1])
	}
	_, ok0 = sameDim(b[0], s[0])
	_, ok1 = sameDim(b[1], s[2])
	if !ok0 || !ok1 {
		return fmt.Errorf("boxes %v and scores %v do not belong together", c.in[0], c.in[1])
	}
	return nil
}

// number returns the single element of input i, or def if the input is absent.
func (c *InferCtx) number(i int, def float64) (float64, error) {
	v, ok := c.floats(i)
	if !ok {
		return def, nil
	}
	if len(v) != 1 {
		return 0, fmt.Errorf("input %d is %v; it has to be a scalar", i, c.in[i])
	}
	return v[0], nil
}

func evalNMS(c *EvalCtx) error {
	limit, err0 := c.number(2, 0)
	maxIoU, err1 := c.number(3, 0)
	minScore, err2 := c.number(4, math.Inf(-1))
	if err0 != nil || err1 != nil || err2 != nil {
		return fmt.Errorf("the limits have to be scalars")
	}
	boxes, scores := tensor.Float64s(c.arg[0]), tensor.Float64s(c.arg[1])
	s := c.arg[1].Shape()
	n, classes, each := s[0], s[1], s[2]
	var out []int64
	for b := range n {
		for k := range classes {
			keep := tensor.NonMaxSuppression(boxes[b*each*4:(b+1)*each*4], scores[(b*classes+k)*each:][:each],
				int(min(max(limit, 0), float64(each))), maxIoU, minScore, c.node.Int("center_point_box", 0) != 0)
			for _, i := range keep {
				out = append(out, int64(b), int64(k), int64(i))
			}
		}
	}
	c.put(0, tensor.From(out, len(out)/3, 3))
	return nil
}
