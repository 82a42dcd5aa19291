package prepare_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"roundel/internal/golden"
	"roundel/nn"
	"roundel/nn/prepare"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/tensor"
)

// TestGolden compares the rewritten constants, the nodes and the output with the reference implementation.
func TestGolden(t *testing.T) {
	golden.Each(t, "prepare", func(t *testing.T, m *golden.Manifest) {
		g := load(t, m.Model(t))
		var op string
		m.Param(t, "operation", &op)
		c := prepare.Config{FoldConstants: true, FoldBatchNorm: true, NormalizeBatchNorm: true}
		if op == "cle" {
			c.Equalize, c.AbsorbBias = true, true
			if m.Case == "relu6_constant_node_cle" { // elsewhere the reference keeps a Clip whose bounds are initializers
				c.ReLU6 = prepare.ReLU6ToReLU
			}
		}
		out, _, err := prepare.Apply(t.Context(), g, c)
		if err != nil {
			t.Fatal(err)
		}
		compareConsts(t, m, out)
		compareNodes(t, m, out)
		feeds := map[string]tensor.Any{g.Inputs[0].Name: m.Input(t, "x")}
		for _, side := range []struct {
			g      *nn.Graph
			prefix string
		}{{g, "before_out_"}, {out, "after_out_"}} {
			res, err := nn.Eval(t.Context(), side.g, feeds)
			if err != nil {
				t.Fatal(err)
			}
			for name, y := range res {
				if err := golden.Close(y, m.Want(t, side.prefix+name), m.Tol(t, "out_rtol"), m.Tol(t, "out_atol")); err != nil {
					t.Errorf("%s%s: %v", side.prefix, name, err)
				}
			}
		}
	})
}

func load(t *testing.T, path string) *nn.Graph {
	t.Helper()
	m, err := onnx.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	g, err := convert.ToGraph(m)
	if err == nil {
		err = nn.Verify(g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func compareConsts(t *testing.T, m *golden.Manifest, g *nn.Graph) {
	t.Helper()
	n := 0
	for _, key := range slices.Sorted(maps.Keys(m.Expected)) {
		name, ok := strings.CutPrefix(key, "after_param_")
		if !ok || g.Consts[name] == nil && (name == "lo" || name == "hi") {
			continue
		}
		n++
		if g.Consts[name] == nil {
			t.Errorf("no constant %q; have %v", name, slices.Sorted(maps.Keys(g.Consts)))
			continue
		}
		if err := golden.Close(g.Consts[name], m.Want(t, key), m.Tol(t, "param_rtol"), m.Tol(t, "param_atol")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n == 0 {
		t.Error("no constant was compared")
	}
}

// compareNodes compares operators, node names and wiring. Where the reference gave a replaced activation new
// names, only the operators are compared.
func compareNodes(t *testing.T, m *golden.Manifest, g *nn.Graph) {
	t.Helper()
	var nodes [][]any
	m.WantValue(t, "nodes", &nodes)
	var want, got, wantOps, gotOps []string
	renamed := false
	for _, n := range nodes {
		if n[0] == "Constant" {
			continue
		}
		renamed = renamed || strings.HasPrefix(n[1].(string), "Relu_clip_")
		want = append(want, line(n[0].(string), n[1].(string), stringsOf(n[2]), stringsOf(n[3])))
		wantOps = append(wantOps, n[0].(string))
	}
	for _, n := range g.Nodes {
		got = append(got, line(n.Op, n.Name, n.Inputs, n.Outputs))
		gotOps = append(gotOps, n.Op)
	}
	if renamed {
		want, got = wantOps, gotOps
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("nodes (-want +got):\n%s", d)
	}
}

func line(op, name string, in, out []string) string {
	return name + ": " + strings.Join(out, ",") + " = " + op + "(" + strings.Join(in, ",") + ")"
}

func stringsOf(v any) []string {
	var s []string
	for _, x := range v.([]any) {
		s = append(s, x.(string))
	}
	return s
}

// TestMobileNet folds the network with separate batch norms and compares its weights, layer by layer, with the file in
// which they were folded by others.
func TestMobileNet(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 28 MB of models")
	}
	separate, folded := load(t, golden.Shared(t, "models/mobilenet_v2_bn.onnx")), load(t, golden.Shared(t, "models/mobilenet_v2.onnx"))
	got, _, err := prepare.Apply(t.Context(), separate, prepare.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := prepare.Apply(t.Context(), folded, prepare.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Nodes) != len(want.Nodes) {
		t.Fatalf("%d nodes, want %d", len(got.Nodes), len(want.Nodes))
	}
	for i, n := range got.Nodes {
		m := want.Nodes[i]
		if n.Op != m.Op || len(n.Inputs) != len(m.Inputs) {
			t.Fatalf("node %d is %s%v, want %s%v", i, n.Op, n.Inputs, m.Op, m.Inputs)
		}
		for j, in := range n.Inputs {
			if c := got.Consts[in]; c != nil {
				if err := golden.Close(c, want.Consts[m.Inputs[j]], 1e-4, 1e-4); err != nil {
					t.Errorf("%s input %d: %v", n.Name, j, err)
				}
			}
		}
	}
	rules := map[string]int{}
	for _, f := range prepare.Lint(got) {
		rules[f.Rule]++
	}
	if rules["channel-range"] < 5 || rules["standalone-batch-norm"] > 0 {
		t.Errorf("findings %v; the network is known for the uneven channels of its depthwise layers", rules)
	}
}
