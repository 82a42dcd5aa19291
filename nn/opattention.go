package nn

import (
	"fmt"
	"math"

	"roundel/tensor"
)

// attentionOps are the fused operators of transformers. They are evaluated in float64.
func attentionOps() []OpDef {
	return []OpDef{
		{Name: "Attention", Sig: "f f= f a? f? f? i?", Infer: inferAttention, Eval: viaFloat64(evalAttention)},
		{Name: "RotaryEmbedding", Sig: "f f= f= I?", Infer: inferRotary, Eval: evalRotary},
	}
}

// heads describes the inputs of an Attention in four dimensions: [batch, heads, length, size].
type heads struct {
	q, k, v    []Dim
	flat       bool // the inputs are [batch, length, heads·size]
	total      Dim  // length of keys with those of the past
	batch, len Dim
}

// attentionHeads finds the dimensions of the heads; nil while a rank is unknown.
func (c *InferCtx) attentionHeads() (*heads, error) {
	var d [3][]Dim
	for i := range d {
		x, ok := c.dims(i)
		if !ok {
			return nil, nil
		}
		if len(x) != 3 && len(x) != 4 || i > 0 && len(x) != len(c.in[0].Dims) {
			return nil, fmt.Errorf("Q, K and V are %v, %v and %v; they have to have 3 or 4 dimensions", c.in[0], c.in[1], c.in[2])
		}
		d[i] = x
		if len(x) == 4 {
			continue
		}
		attr := "kv_num_heads"
		if i == 0 {
			attr = "q_num_heads"
		}
		n := c.node.Int(attr, 0)
		if n < 1 || n > maxDim || x[2].IsKnown() && x[2].Size%int(n) != 0 {
			return nil, fmt.Errorf("input %d is %v for %s = %d", i, c.in[i], attr, n)
		}
		d[i] = []Dim{x[0], Known(int(n)), x[1], dimExpr(x[2]).over(number(n)).dim()}
	}
	h := &heads{q: d[0], k: d[1], v: d[2], flat: len(c.in[0].Dims) == 3, batch: d[0][0], len: d[0][2]}
	if past, ok := c.dims(4); ok && len(past) == 4 {
		h.total = dimExpr(past[2]).plus(dimExpr(h.k[2])).dim()
	} else if !c.has(4) {
		h.total = h.k[2]
	} else {
		h.total = Dim{Size: -1}
	}
	return h, c.checkHeads(h)
}

// checkHeads checks what the heads have to have in common.
func (c *InferCtx) checkHeads(h *heads) error {
	for _, p := range [][2]Dim{{h.q[0], h.k[0]}, {h.q[0], h.v[0]}, {h.q[3], h.k[3]}, {h.k[1], h.v[1]}, {h.k[2], h.v[2]}} {
		if _, ok := sameDim(p[0], p[1]); !ok {
			return fmt.Errorf("Q, K and V do not belong together: heads %v, %v and %v", h.q, h.k, h.v)
		}
	}
	if h.q[1].IsKnown() && h.k[1].IsKnown() && (h.k[1].Size == 0 || h.q[1].Size%h.k[1].Size != 0) {
		return fmt.Errorf("%v query heads for %v key heads", h.q[1], h.k[1])
	}
	if c.has(4) != c.has(5) || c.has(4) && c.has(6) {
		return fmt.Errorf("past_key and past_value belong together, and exclude nonpad_kv_seqlen")
	}
	for i, d := range [][]Dim{4: h.k, 5: h.v} {
		if d != nil && c.has(i) {
			if err := c.checkDims(i, []Dim{d[0], d[1], {Size: -1}, d[3]}); err != nil {
				return err
			}
		}
	}
	if p, ok := c.dims(4); ok && c.in[5].Ranked {
		if _, ok := sameDim(p[2], c.in[5].Dims[2]); !ok {
			return fmt.Errorf("past_key is %v, past_value %v", c.in[4], c.in[5])
		}
	}
	if d := c.in[min(3, len(c.in)-1)].DType; c.has(3) && d != tensor.Bool && !d.IsFloat() {
		return fmt.Errorf("attn_mask is %v; it has to be bool or float", c.in[3])
	}
	if c.has(6) {
		return c.checkBias(6, h.batch)
	}
	return nil
}

func inferAttention(c *InferCtx) error {
	for i := range min(len(c.out), 4) {
		c.setUnranked(i, c.in[0].DType)
	}
	h, err := c.attentionHeads()
	if err != nil || h == nil {
		return err
	}
	if m := c.node.Int("qk_matmul_output_mode", 0); m < 0 || m > 3 {
		return fmt.Errorf("qk_matmul_output_mode is %d", m)
	}
	y := []Dim{h.batch, h.q[1], h.len, h.v[3]}
	if h.flat {
		y = []Dim{h.batch, h.len, dimExpr(h.q[1]).times(dimExpr(h.v[3])).dim()}
	}
	c.set(0, c.in[0].DType, y)
	c.set(1, c.in[0].DType, []Dim{h.batch, h.k[1], h.total, h.k[3]})
	c.set(2, c.in[2].DType, []Dim{h.batch, h.v[1], h.total, h.v[3]})
	c.set(3, c.in[0].DType, []Dim{h.batch, h.q[1], h.len, h.total})
	return nil
}

// evalAttention computes Attention as of opset 25; see tensor.Attention.
func evalAttention(c *EvalCtx) error {
	h, err := c.attentionHeads()
	if err != nil {
		return err
	}
	var qkv [3]tensor.Any
	for i := range qkv {
		qkv[i] = c.arg[i]
		if h.flat {
			d := [][]Dim{h.q, h.k, h.v}[i]
			s := tensor.Shape{d[0].Size, d[2].Size, d[1].Size, d[3].Size}
			qkv[i] = tensor.Transpose(tensor.ReshapeAny(qkv[i], s), []int{0, 2, 1, 3})
		}
		if i > 0 && c.has(3+i) {
			qkv[i] = tensor.Concat([]tensor.Any{c.arg[3+i], qkv[i]}, 2)
		}
	}
	q, k, v := qkv[0].(*tensor.Dense[float64]), qkv[1].(*tensor.Dense[float64]), qkv[2].(*tensor.Dense[float64])
	bias, err := c.attentionBias(q.Shape(), k.Shape()[2])
	if err != nil {
		return err
	}
	scale := 1 / math.Sqrt(float64(q.Shape()[3]))
	if a, ok := c.node.Attrs["scale"]; ok && a.Kind == AttrFloat {
		scale = float64(a.F)
	}
	y, scores := tensor.Attention(q, k, v, bias, scale, float64(c.node.Float("softcap", 0)), int(c.node.Int("qk_matmul_output_mode", 0)))
	var out tensor.Any = y
	if h.flat {
		out = tensor.ReshapeAny(tensor.Transpose(y, []int{0, 2, 1, 3}), c.outShape(0))
	}
	for i, t := range []tensor.Any{out, k, v, scores} {
		c.put(i, t)
	}
	return nil
}

// attentionBias adds up the mask, the causal and the window limits and the padding of the keys, as [B, H, S, total].
func (c *EvalCtx) attentionBias(q tensor.Shape, total int) (*tensor.Dense[float64], error) {
	b, h, s := q[0], q[1], q[2]
	shape := tensor.Shape{b, h, s, total}
	bias := tensor.New[float64](shape...)
	if c.has(3) {
		m, err := c.attentionMask(shape)
		if err != nil {
			return nil, err
		}
		bias = m
	}
	var valid []int64 // keys that are no padding, for each image
	if c.has(6) {
		valid = tensor.Int64s(c.arg[6])
	}
	left, right := c.node.Int("left_window_size", -1), c.node.Int("right_window_size", -1)
	causal := c.node.Int("is_causal", 0) != 0
	for at := range bias.Data() {
		i, j := int64(at/total%s), int64(at%total)
		pos := i // of the query among the keys
		switch {
		case valid != nil:
			pos += valid[at/(total*s*h)] - int64(s)
		case c.has(4):
			pos += int64(c.arg[4].Shape()[2])
		}
		if causal && j > pos || left >= 0 && pos-j > left || right >= 0 && j-pos > right || valid != nil && j >= valid[at/(total*s*h)] {
			bias.Data()[at] = math.Inf(-1)
		}
	}
	return bias, nil
}

// attentionMask returns attn_mask as numbers to add, broadcast; keys behind its end are shut out.
func (c *EvalCtx) attentionMask(shape tensor.Shape) (*tensor.Dense[float64], error) {
	m := c.arg[3].(*tensor.Dense[float64])
	if c.in[3].DType == tensor.Bool {
		m = tensor.MapFloat(m, func(v float64) float64 {
			if v != 0 {
				return 0
			}
			return math.Inf(-1)
		})
	}
	rank, total := len(m.Shape()), shape[3]
	if n := rank - 1; n >= 0 && m.Shape()[n] < total && m.Shape()[n] != 1 {
		maps := make([][]int, rank)
		for a, d := range m.Shape() {
			maps[a] = axesFrom(0, d)
		}
		maps[n] = padIndices(total, 0, m.Shape()[n], "constant")
		m = tensor.TakeAxes(m, maps, tensor.Scalar(math.Inf(-1))).(*tensor.Dense[float64])
	}
	if all, err := tensor.BroadcastShape(m.Shape(), shape); err != nil || !all.Equal(shape) {
		return nil, fmt.Errorf("attn_mask %v does not broadcast to %v", c.in[3], shape)
	}
	return tensor.CloneAny(tensor.Expand(m, shape)).(*tensor.Dense[float64]), nil
}

// rotaryDims returns the number of heads, their size and the part that is rotated, for an input of rank 3 or 4.
func (c *InferCtx) rotaryDims(x []Dim) (n, size, dim int, err error) {
	heads := c.node.Int("num_heads", 0)
	switch {
	case len(x) == 4 && x[1].IsKnown() && x[3].IsKnown():
		n, size = x[1].Size, x[3].Size
	case len(x) == 3 && heads >= 1 && heads <= maxDim && x[2].IsKnown() && x[2].Size%int(heads) == 0:
		n, size = int(heads), x[2].Size/int(heads)
	default:
		return 0, 0, 0, fmt.Errorf("input is %v with num_heads = %d", c.in[0], heads)
	}
	d := c.node.Int("rotary_embedding_dim", 0)
	if d == 0 {
		d = int64(size)
	}
	if d < 0 || d > int64(size) || d%2 != 0 {
		return 0, 0, 0, fmt.Errorf("%d of %d elements cannot be rotated", d, size)
	}
	return n, size, int(d), nil
}

func inferRotary(c *InferCtx) error {
	c.out[0] = c.in[0]
	x, ok := c.dims(0)
	if !ok || len(x) == 4 && !(x[1].IsKnown() && x[3].IsKnown()) || len(x) == 3 && !x[2].IsKnown() {
		return nil
	}
	_, _, _, err := c.rotaryDims(x)
	return err
}

func evalRotary(c *EvalCtx) error {
	n, size, dim, err := c.rotaryDims(c.in[0].Dims)
	if err != nil {
		return err
	}
	x := tensor.Cast(c.arg[0], tensor.Float64)
	if len(x.Shape()) == 4 {
		x = tensor.Transpose(x, []int{0, 2, 1, 3})
	}
	shape := x.Shape()
	x = tensor.ReshapeAny(x, tensor.Shape{shape[0], shape[1], n, size})
	var cs [2]*tensor.Dense[float64]
	for i := range cs {
		t := tensor.Cast(c.arg[1+i], tensor.Float64)
		if c.has(3) {
			if len(t.Shape()) != 2 {
				return fmt.Errorf("input %d is %v; with position_ids it has to be a matrix", 1+i, c.in[1+i])
			}
			idx, err := resolve(tensor.Int64s(c.arg[3]), t.Shape()[0])
			if err != nil {
				return err
			}
			t = tensor.Gather(t, idx, c.arg[3].Shape(), 0)
		}
		if want := (tensor.Shape{shape[0], shape[1], dim / 2}); !t.Shape().Equal(want) {
			return fmt.Errorf("input %d gives %v angles, %v are wanted", 1+i, t.Shape(), want)
		}
		cs[i] = t.(*tensor.Dense[float64])
	}
	var y tensor.Any = tensor.RotaryEmbedding(x.(*tensor.Dense[float64]), cs[0], cs[1], dim, c.node.Int("interleaved", 0) != 0)
	if len(c.in[0].Dims) == 4 {
		y = tensor.Transpose(y, []int{0, 2, 1, 3})
	}
	c.put(0, tensor.ReshapeAny(y, c.outShape(0)))
	return nil
}
