package nn

import (
	"fmt"
	"slices"
	"strings"

	"roundel/tensor"
)

// matmulOps are matrix products and sums of products.
func matmulOps() []OpDef {
	return []OpDef{
		{Name: "MatMul", Sig: "n n=", Infer: inferMatMul, flags: widen,
			Eval: byNumber(0, matMul[float64, float32], matMul[float64, float64], matMul[int64, int64], matMul[uint64, uint64])},
		{Name: "Gemm", Sig: "n n= n=?", Infer: inferGemm, flags: widen,
			Eval: byNumber(0, gemm[float32], gemm[float64], viaFloat64(gemm[float64]), viaFloat64(gemm[float64]))},
		{Name: "Einsum", Sig: "n=*", Infer: inferEinsum, flags: widen,
			Eval: byNumber(0, einsum[float64, float32], einsum[float64, float64], einsum[int64, int64], einsum[uint64, uint64])},
	}
}

// viaFloat64 evaluates integers in float64, exact up to 2⁵³.
func viaFloat64(eval func(*EvalCtx) error) func(*EvalCtx) error {
	return func(c *EvalCtx) error {
		for i, t := range c.arg {
			if t != nil {
				c.arg[i] = tensor.Cast(t, tensor.Float64)
			}
		}
		return eval(c)
	}
}

// inferMatMul follows NumPy: vectors at either side, broadcast batches.
func inferMatMul(c *InferCtx) error {
	dims, err := c.matMulDims(0, 1)
	if dims != nil {
		c.set(0, c.in[0].DType, dims)
	}
	return err
}

// matMulDims returns the dimensions of the product of inputs i and j, nil while a rank is unknown.
func (c *InferCtx) matMulDims(i, j int) ([]Dim, error) {
	a, ok0, err := c.rankAtLeast(i, 1)
	if err != nil {
		return nil, err
	}
	b, ok1, err := c.rankAtLeast(j, 1)
	if err != nil || !ok0 || !ok1 {
		return nil, err
	}
	inner := b[max(len(b)-2, 0)]
	if _, ok := sameDim(a[len(a)-1], inner); !ok {
		return nil, fmt.Errorf("cannot multiply %v by %v: %v columns, %v rows", c.in[i], c.in[j], a[len(a)-1], inner)
	}
	out, err := broadcastDims(slices.Clone(a[:max(len(a)-2, 0)]), b[:max(len(b)-2, 0)])
	if err != nil {
		return nil, err
	}
	if len(a) > 1 {
		out = append(out, a[len(a)-2])
	}
	if len(b) > 1 {
		out = append(out, b[len(b)-1])
	}
	return out, nil
}

func matMul[A, T tensor.Number](c *EvalCtx) error {
	c.put(0, tensor.MatMul[A](arg[T](c, 0), arg[T](c, 1)))
	return nil
}

func inferGemm(c *InferCtx) error {
	var m, n [2]Dim
	for i, attr := range []string{"transA", "transB"} {
		d, ok := c.dims(i)
		if !ok {
			d = unknown(2)
		}
		if len(d) != 2 {
			return fmt.Errorf("input %d is %v; it has to be a matrix", i, c.in[i])
		}
		if c.node.Int(attr, 0) != 0 {
			d = []Dim{d[1], d[0]}
		}
		m[i], n[i] = d[0], d[1]
	}
	if _, ok := sameDim(n[0], m[1]); !ok {
		return fmt.Errorf("cannot multiply %v by %v (transA=%d, transB=%d): %v columns, %v rows",
			c.in[0], c.in[1], c.node.Int("transA", 0), c.node.Int("transB", 0), n[0], m[1])
	}
	out := []Dim{m[0], n[1]}
	c.set(0, c.in[0].DType, out)
	if d, ok := c.dims(2); ok {
		all, err := broadcastDims(out, d)
		if err != nil || len(all) != 2 || all[0].IsKnown() && out[0].IsKnown() && all[0] != out[0] || all[1].IsKnown() && out[1].IsKnown() && all[1] != out[1] {
			return fmt.Errorf("input 2 is %v; it does not broadcast to %v", c.in[2], out)
		}
	}
	return nil
}

// gemm computes alpha·A'·B' + beta·C in float64, rounded once.
func gemm[T tensor.Float](c *EvalCtx) error {
	ab := [2]*tensor.Dense[float64]{}
	for i, attr := range []string{"transA", "transB"} {
		t := tensor.Cast(c.arg[i], tensor.Float64)
		if c.node.Int(attr, 0) != 0 {
			t = tensor.Transpose(t, []int{1, 0})
		}
		ab[i] = t.(*tensor.Dense[float64])
	}
	alpha, beta := float64(c.node.Float("alpha", 1)), float64(c.node.Float("beta", 1))
	y := tensor.MapFloat(tensor.MatMul[float64](ab[0], ab[1]), func(v float64) float64 { return alpha * v })
	if c.has(2) {
		y = tensor.Map2(y, tensor.Cast(c.arg[2], tensor.Float64).(*tensor.Dense[float64]), func(a, b float64) float64 { return a + float64(beta*b) })
	}
	c.put(0, tensor.Cast(y, tensor.DTypeOf[T]()))
	return nil
}

// einsumPlan is a parsed equation: the index variable of every axis, where the first nOut variables are those of the result.
type einsumPlan struct {
	labels [][]int
	dims   []Dim
	nOut   int
}

// planEinsum parses the attribute equation for inputs of known rank; nil while a rank is unknown. An ellipsis
// stands for as many axes as the longest operand needs, aligned at the end.
func (c *InferCtx) planEinsum() (*einsumPlan, error) {
	eq := strings.ReplaceAll(c.node.Str("equation", ""), " ", "")
	left, right, explicit := strings.Cut(eq, "->")
	terms := strings.Split(left, ",")
	if len(terms) != len(c.in) {
		return nil, fmt.Errorf("equation %q has %d operands, the node %d", eq, len(terms), len(c.in))
	}
	wide, names := 0, make([][]string, len(terms))
	for i, t := range terms {
		d, ok := c.dims(i)
		if !ok {
			return nil, nil
		}
		letters := strings.Replace(t, "...", "", 1)
		free := len(d) - len(letters)
		if !isLetters(letters) || free < 0 || free > 0 && letters == t {
			return nil, fmt.Errorf("term %q of equation %q does not fit %v", t, eq, c.in[i])
		}
		wide = max(wide, free)
		names[i] = spellTerm(t, free)
	}
	if !explicit {
		right = implicitOutput(left)
	}
	letters := strings.Replace(right, "...", "", 1)
	if !isLetters(letters) {
		return nil, fmt.Errorf("output term %q of equation %q is not made of letters", right, eq)
	}
	if letters == right {
		wide = 0 // axes of the ellipsis are summed over
	}
	return c.resolveEinsum(eq, names, spellTerm(right, wide))
}

// resolveEinsum numbers the index variables, those of the result first, and finds their extents.
func (c *InferCtx) resolveEinsum(eq string, names [][]string, out []string) (*einsumPlan, error) {
	p := &einsumPlan{labels: make([][]int, len(names)), nOut: len(out)}
	number := map[string]int{}
	for i, v := range out {
		if _, twice := number[v]; twice {
			return nil, fmt.Errorf("equation %q repeats %q in its output", eq, v)
		}
		number[v] = i
		p.dims = append(p.dims, Known(1))
	}
	seen := map[string]bool{}
	for i, list := range names {
		for j, v := range list {
			k, ok := number[v]
			if !ok {
				k = len(p.dims)
				number[v], p.dims = k, append(p.dims, Known(1))
			}
			seen[v] = true
			p.labels[i] = append(p.labels[i], k)
			d, err := broadcastDims([]Dim{p.dims[k]}, []Dim{c.in[i].Dims[j]})
			if err != nil {
				return nil, fmt.Errorf("%q in equation %q is both %v and %v", v, eq, p.dims[k], c.in[i].Dims[j])
			}
			p.dims[k] = d[0]
		}
	}
	for _, v := range out {
		if !seen[v] && v[0] != '.' {
			return nil, fmt.Errorf("equation %q has %q only in its output", eq, v)
		}
	}
	return p, nil
}

// spellTerm lists the index variables of a term whose ellipsis stands for free axes, named ".1", ".2", … from the end.
func spellTerm(t string, free int) (out []string) {
	front, back, _ := strings.Cut(t, "...")
	for _, r := range front {
		out = append(out, string(r))
	}
	for i := free; i > 0; i-- {
		out = append(out, fmt.Sprintf(".%d", i))
	}
	for _, r := range back {
		out = append(out, string(r))
	}
	return out
}

// implicitOutput is the output of an equation without an arrow: the ellipsis and the letters that occur once, sorted.
func implicitOutput(left string) string {
	var once []string
	for r := 'A'; r <= 'z'; r++ {
		if strings.Count(left, string(r)) == 1 {
			once = append(once, string(r))
		}
	}
	if strings.Contains(left, "...") {
		once = append([]string{"..."}, once...)
	}
	return strings.Join(once, "")
}

func isLetters(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }) < 0
}

func inferEinsum(c *InferCtx) error {
	p, err := c.planEinsum()
	if err != nil || p == nil {
		return err
	}
	if e := product(p.dims); e.isNumber() && e.add > 1<<40 {
		return fmt.Errorf("equation %q has %v terms, which is absurd", c.node.Str("equation", ""), e)
	}
	c.set(0, c.in[0].DType, p.dims[:p.nOut:p.nOut])
	return nil
}

func einsum[A, T tensor.Number](c *EvalCtx) error {
	p, err := c.planEinsum()
	if err != nil {
		return err
	}
	xs := make([]*tensor.Dense[T], len(c.arg))
	for i := range xs {
		xs[i] = arg[T](c, i)
	}
	dims, _ := Type{Dims: p.dims, Ranked: true}.Shape()
	c.put(0, tensor.Einsum[A](xs, p.labels, dims, p.nOut))
	return nil
}
