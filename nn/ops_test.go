package nn

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"roundel/tensor"
)

// opCase is one case of testdata/ops.json.
type opCase struct {
	Op      string
	Attrs   map[string]any
	Inputs  []*caseTensor
	Outputs []*caseTensor
}

// caseTensor is a tensor in JSON; NaN and infinities are strings.
type caseTensor struct {
	T string
	S []int
	D []any
}

func (c *caseTensor) tensor(t *testing.T) tensor.Any {
	t.Helper()
	if c == nil {
		return nil
	}
	data := make([]float64, len(c.D))
	for i, v := range c.D {
		switch v := v.(type) {
		case float64:
			data[i] = v
		case bool:
			if v {
				data[i] = 1
			}
		case string:
			f, err := strconv.ParseFloat(v, 64)
			if err != nil {
				t.Fatal(err)
			}
			data[i] = f
		}
	}
	dt := tensor.Float32
	for d := tensor.Float32; d <= tensor.Bool; d++ {
		if d.String() == c.T {
			dt = d
		}
	}
	return tensor.Cast(tensor.From(data, c.S...), dt)
}

// caseAttr converts a JSON value; numbers that are integers are integer attributes unless the operator's are floats.
func caseAttr(name string, v any) Attr {
	switch v := v.(type) {
	case string:
		return Attr{Kind: AttrString, S: v}
	case float64:
		if v != math.Trunc(v) || strings.Contains(" alpha beta bias lambd epsilon spatial_scale cubic_coeff_a extrapolation_value clip ", " "+name+" ") {
			return Attr{Kind: AttrFloat, F: float32(v)}
		}
		return Attr{Kind: AttrInt, I: int64(v)}
	case []any:
		a := Attr{Kind: AttrInts}
		for _, e := range v {
			switch e := e.(type) {
			case string:
				a.Kind, a.Strings = AttrStrings, append(a.Strings, e)
			case float64:
				a.Ints, a.Floats = append(a.Ints, int64(e)), append(a.Floats, float32(e))
			}
		}
		if strings.HasPrefix(name, "activation_") {
			a.Kind = AttrFloats
		}
		return a
	}
	return Attr{}
}

// node returns the node of a case and its inputs.
func (c *opCase) node(t *testing.T) (*Node, []tensor.Any) {
	n := &Node{Name: "n", Op: c.Op, Attrs: map[string]Attr{}}
	for k, v := range c.Attrs {
		n.Attrs[k] = caseAttr(k, v)
	}
	var in []tensor.Any
	for i, x := range c.Inputs {
		name := ""
		if x != nil {
			name = fmt.Sprint("i", i)
		}
		n.Inputs = append(n.Inputs, name)
		in = append(in, x.tensor(t))
	}
	for i := range c.Outputs {
		n.Outputs = append(n.Outputs, fmt.Sprint("o", i))
	}
	return n, in
}

func loadCases(t *testing.T) []opCase {
	b, err := os.ReadFile("testdata/ops.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []opCase }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	return file.Cases
}

// TestOps compares every operator with ONNX Runtime; testdata/make_ops.py wrote the cases.
func TestOps(t *testing.T) {
	for i, c := range loadCases(t) {
		t.Run(fmt.Sprintf("%s/%d", c.Op, i), func(t *testing.T) {
			n, in := c.node(t)
			got, err := evalNode(n, in)
			if err != nil {
				t.Fatalf("%v: %v", c.Attrs, err)
			}
			for j, w := range c.Outputs {
				if diff := differs(got[j], w.tensor(t), 2e-5, 2e-6); diff != "" {
					t.Errorf("attributes %v, output %d: %s", c.Attrs, j, diff)
				}
			}
			checkStatic(t, n, in, got)
		})
	}
}

// opsHash is the hash of the bits of all results of ops.json, the same on every architecture. The test prints
// the new one when a change of the results is meant.
const opsHash = 0x498b83175523355b

func TestOpsBits(t *testing.T) {
	h := fnv.New64a()
	for _, c := range loadCases(t) {
		n, in := c.node(t)
		got, err := evalNode(n, in)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range got {
			if v != nil {
				for _, f := range tensor.Float64s(v) {
					fmt.Fprintf(h, "%x,", math.Float64bits(f))
				}
			}
		}
	}
	if h.Sum64() != opsHash {
		t.Errorf("hash of all results is %#x, committed is %#x: they depend on the architecture, or were changed", h.Sum64(), uint64(opsHash))
	}
}

// differs describes the first difference, or is "".
func differs(got, want tensor.Any, rtol, atol float64) string {
	if got == nil || got.DType() != want.DType() || !got.Shape().Equal(want.Shape()) {
		return fmt.Sprintf("is %s, want %s", describe(got), describe(want))
	}
	if !want.DType().IsFloat() {
		rtol, atol = 0, 0
	}
	g, w := tensor.Float64s(got), tensor.Float64s(want)
	for i := range g {
		if g[i] != w[i] && !(math.IsNaN(g[i]) && math.IsNaN(w[i])) && !(math.Abs(g[i]-w[i]) <= atol+rtol*math.Abs(w[i])) {
			return fmt.Sprintf("%s: element %d is %v, want %v", describe(got), i, g[i], w[i])
		}
	}
	return ""
}

// checkStatic infers the node with less and less known of the inputs; what it says must hold for the result.
func checkStatic(t *testing.T, n *Node, in, got []tensor.Any) {
	t.Helper()
	for _, level := range []string{"constants", "shapes", "symbols", "ranks"} {
		g := &Graph{Nodes: []*Node{n}, Consts: map[string]tensor.Any{}}
		for i, x := range in {
			if x == nil {
				continue
			}
			ty := typeOf(x)
			switch {
			case level == "constants" || level == "symbols" && i > 0:
				g.Consts[n.Inputs[i]] = x
				continue
			case level == "symbols":
				for j, d := range ty.Dims {
					ty.Dims[j] = Dim{Size: -1, Sym: fmt.Sprintf("d%d", d.Size)}
				}
			case level == "ranks":
				ty = Type{DType: ty.DType}
			}
			g.Inputs = append(g.Inputs, ValueInfo{n.Inputs[i], ty})
		}
		if err := Infer(g); err != nil {
			t.Errorf("with known %s: %v", level, err)
			continue
		}
		for i, name := range n.Outputs {
			if got[i] == nil {
				continue
			}
			ty, actual := g.Types[name], got[i].Shape()
			bad := ty.DType != got[i].DType() || ty.Ranked && len(ty.Dims) != len(actual)
			for j := 0; ty.Ranked && !bad && j < len(actual); j++ {
				d := ty.Dims[j]
				bad = d.IsKnown() && d.Size != actual[j] || d.Sym != "" && symbolValue(d.Sym) != actual[j]
			}
			if bad {
				t.Errorf("with known %s, output %d is inferred as %v, but it is %s", level, i, ty, describe(got[i]))
			}
		}
	}
}

// symbolValue evaluates what expr.String wrote for symbols d<number>.
func symbolValue(s string) int {
	e := dimExpr(Dim{Size: -1, Sym: s})
	v := int(e.mul)
	for f := range strings.SplitSeq(e.sym, "*") {
		n, err := strconv.Atoi(strings.TrimPrefix(f, "d"))
		if err != nil {
			return -1
		}
		v *= n
	}
	return v + int(e.add)
}

// TestOpsCovered keeps operators from entering the table without a case here or in a test of their own.
func TestOpsCovered(t *testing.T) {
	elsewhere := strings.Fields("If Loop Scan Identity Dropout CastLike SwiGLU Swish CumProd RMSNormalization AffineGrid MaxUnpool CenterCropPad Scatter")
	seen := map[string]bool{}
	for _, op := range elsewhere {
		seen[op] = true
	}
	for _, c := range loadCases(t) {
		seen[c.Op] = true
	}
	for _, op := range Ops() {
		if !seen[op] {
			t.Errorf("operator %s has no case in testdata/ops.json", op)
		}
	}
}

// TestProgramOps runs every case as a compiled graph of one node, with the other inputs as constants and as feeds.
func TestProgramOps(t *testing.T) {
	for i, c := range loadCases(t) {
		t.Run(fmt.Sprintf("%s/%d", c.Op, i), func(t *testing.T) {
			n, in := c.node(t)
			for _, asConst := range []bool{false, true} {
				g := &Graph{Nodes: []*Node{n}, Consts: map[string]tensor.Any{}}
				feeds := map[string]tensor.Any{}
				for j, x := range in {
					switch {
					case x == nil:
					case j > 0 && asConst:
						g.Consts[n.Inputs[j]] = x
					default:
						g.Inputs = append(g.Inputs, ValueInfo{n.Inputs[j], typeOf(x)})
						feeds[n.Inputs[j]] = x
					}
				}
				for _, o := range n.Outputs {
					g.Outputs = append(g.Outputs, ValueInfo{Name: o})
				}
				p, err := Compile(t.Context(), g, CompileOptions{})
				if err != nil {
					t.Fatalf("%v: %v", c.Attrs, err)
				}
				got, err := p.Run(context.Background(), feeds)
				if err != nil {
					t.Fatalf("%v: %v", c.Attrs, err)
				}
				for j, w := range c.Outputs {
					if diff := differs(got[n.Outputs[j]], w.tensor(t), 2e-5, 1e-5); diff != "" {
						t.Errorf("constants %v, attributes %v, output %d: %s", asConst, c.Attrs, j, diff)
					}
				}
			}
		})
	}
}
