package convert_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/tensor"
)

var update = flag.Bool("update", false, "write CONFORMANCE.md from the results of TestConformance")

// outcome is how one node test went.
type outcome struct {
	name, op string
	status   string // "pass", "fail", or why the case is not claimed
	err      error
}

const (
	pass      = "pass"
	fail      = "fail"
	noDomain  = "operator of another domain"
	noOp      = "operator not implemented"
	noType    = "element type or container not supported"
	noFeature = "feature not supported"
	deviates  = "deviates on purpose"
)

// deviations are cases in which we follow ONNX Runtime and PyTorch on purpose, which disagree with the expected values.
var deviations = map[string]string{
	"test_resize_downsample_scales_cubic_align_corners":  "length_resized is the extent of the output, not input times scale",
	"test_resize_downsample_scales_linear_align_corners": "length_resized is the extent of the output, not input times scale",
}

// TestConformance runs the node tests of the ONNX standard with nn.Eval. They are
// in ROUNDEL_ONNX_TESTS, one directory for each case with model.onnx and
// test_data_set_*/{input,output}_*.pb; testdata/node_tests.py writes them. Every
// case whose operators and types we claim has to pass.
func TestConformance(t *testing.T) {
	dir := os.Getenv("ROUNDEL_ONNX_TESTS")
	if dir == "" {
		t.Skip("ROUNDEL_ONNX_TESTS is not set: no ONNX node tests (testdata/node_tests.py writes them)")
	}
	models, err := filepath.Glob(filepath.Join(dir, "*", "model.onnx"))
	if err != nil || len(models) == 0 {
		t.Fatalf("no case in %s: %v", dir, err)
	}
	var all []outcome
	for _, m := range models {
		o := runCase(filepath.Dir(m))
		if why := deviations[o.name]; why != "" {
			if o.status != fail {
				t.Errorf("%s: %s, but it is listed as a deviation", o.name, o.status)
			}
			o.status, o.err = deviates, errors.New(why)
		}
		if o.status == fail {
			t.Errorf("%s (%s): %v", o.name, o.op, o.err)
		}
		if testing.Verbose() && o.status != pass && o.status != fail {
			t.Logf("%s: %s: %v", o.name, o.status, o.err)
		}
		all = append(all, o)
	}
	text := conformanceReport(all)
	t.Log("\n" + summary(all))
	if *update {
		if err := os.WriteFile(filepath.Join("..", "..", "CONFORMANCE.md"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// runCase runs all data sets of one case.
func runCase(dir string) (o outcome) {
	o = outcome{name: filepath.Base(dir), status: fail}
	m, err := onnx.Read(filepath.Join(dir, "model.onnx"))
	if err != nil {
		o.err = err
		return o
	}
	o.op = caseOp(m, o.name)
	for _, n := range m.Graph.Nodes {
		if n.OpType == "CastLike" && slices.ContainsFunc(m.Graph.Inputs, fourBits) {
			o.status = noType // they are stored in 8 bits, so CastLike cannot tell
			return o
		}
		if n.Domain != "" && n.Domain != "ai.onnx" {
			o.status = noDomain
			return o
		}
	}
	g, err := convert.ToGraph(m)
	var unsupported *onnx.UnsupportedError
	if errors.As(err, &unsupported) {
		o.status, o.err = noFeature, err // an old opset, training mode
		if strings.Contains(err.Error(), "element type") || strings.Contains(err.Error(), " types") {
			o.status = noType
		}
		return o
	}
	if err == nil {
		err = nn.Verify(g)
	}
	var missing *nn.UnsupportedError
	if errors.As(err, &missing) {
		o.status, o.err = noOp, missing
		return o
	}
	if o.err = err; err != nil {
		return o
	}
	sets, _ := filepath.Glob(filepath.Join(dir, "test_data_set_*"))
	for _, set := range sets {
		if o.err = runSet(g, set); o.err != nil {
			if errors.As(o.err, &unsupported) {
				o.status = noType
			}
			return o
		}
	}
	o.status = pass
	return o
}

// fourBits reports whether v is declared with elements of 4 bits.
func fourBits(v *onnx.ValueInfo) bool {
	return v.Type != nil && v.Type.Tensor != nil && v.Type.Tensor.ElemType.Bits() == 4
}

// caseOp names the operator that a case is about: its first one, except for the expanded forms of functions.
func caseOp(m *onnx.Model, name string) string {
	if strings.Contains(name, "_expanded") {
		return "(function bodies)"
	}
	for _, n := range m.Graph.Nodes {
		if n.OpType != "Constant" {
			return n.OpType
		}
	}
	return "Constant"
}

// runSet evaluates g on one data set and compares.
func runSet(g *nn.Graph, dir string) error {
	feeds := map[string]tensor.Any{}
	for i, in := range g.Inputs {
		t, err := readTensor(filepath.Join(dir, fmt.Sprintf("input_%d.pb", i)))
		if err != nil {
			return err
		}
		feeds[in.Name] = t
	}
	got, err := nn.Eval(context.Background(), g, feeds)
	if err != nil {
		return err
	}
	for i, out := range g.Outputs {
		want, err := readTensor(filepath.Join(dir, fmt.Sprintf("output_%d.pb", i)))
		if err != nil {
			return err
		}
		if err := compareTensors(got[out.Name], want, 1e-3, 1e-7); err != nil {
			return fmt.Errorf("output %q: %w", out.Name, err)
		}
		if err := agrees(g.Types[out.Name], want); err != nil {
			return fmt.Errorf("output %q: %w", out.Name, err)
		}
	}
	return nil
}

// readTensor reads a file with a TensorProto by wrapping it into a model as its initializer.
func readTensor(path string) (tensor.Any, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for _, tag := range []byte{5<<3 | 2, 7<<3 | 2} { // GraphProto.initializer, ModelProto.graph
		b = append(binary.AppendUvarint([]byte{tag}, uint64(len(b))), b...)
	}
	m, err := onnx.Decode(b)
	if err != nil {
		return nil, err
	}
	return convert.ToTensor(m.Graph.Initializers[0])
}

// compareTensors reports the first element that differs: |got-want| ≤ atol + rtol·|want| for floats, equality otherwise.
func compareTensors(got, want tensor.Any, rtol, atol float64) error {
	if got == nil || got.DType() != want.DType() || !got.Shape().Equal(want.Shape()) {
		if got == nil {
			return errors.New("is missing")
		}
		return fmt.Errorf("is %v%v, want %v%v", got.DType(), got.Shape(), want.DType(), want.Shape())
	}
	switch got.DType() {
	case tensor.Float16: // two units in the last place: the cases round after every step of a function
		rtol = 0x1p-9
	case tensor.BFloat16:
		rtol = 0x1p-6
	case tensor.Float32, tensor.Float64:
	default:
		rtol, atol = 0, 0
	}
	g, w := tensor.Float64s(got), tensor.Float64s(want)
	for i := range g {
		if g[i] == w[i] || math.IsNaN(g[i]) && math.IsNaN(w[i]) {
			continue
		}
		if !(math.Abs(g[i]-w[i]) <= atol+rtol*math.Abs(w[i])) || math.IsInf(g[i], 0) || math.IsInf(w[i], 0) {
			return fmt.Errorf("%v%v: element %d is %v, want %v", got.DType(), got.Shape(), i, g[i], w[i])
		}
	}
	return nil
}

// summary counts the outcomes.
func summary(all []outcome) string {
	n := map[string]int{}
	for _, o := range all {
		n[o.status]++
	}
	def := len(all) - n[noDomain]
	var b strings.Builder
	fmt.Fprintf(&b, "%d cases, %d of the default domain: %d pass (%.1f %%), %d claimed cases fail\n",
		len(all), def, n[pass], 100*float64(n[pass])/float64(max(def, 1)), n[fail])
	for _, s := range slices.Sorted(maps.Keys(n)) {
		fmt.Fprintf(&b, "- %s: %d\n", s, n[s])
	}
	return b.String()
}

// conformanceReport is the text of CONFORMANCE.md.
func conformanceReport(all []outcome) string {
	passed, total := map[string]int{}, map[string]int{}
	notes := map[string]map[string]int{}
	for _, o := range all {
		if o.status == noDomain {
			continue
		}
		total[o.op]++
		if o.status == pass {
			passed[o.op]++
			continue
		}
		if notes[o.op] == nil {
			notes[o.op] = map[string]int{}
		}
		notes[o.op][o.status]++
	}
	var b strings.Builder
	b.WriteString("# Conformance to the ONNX operator tests\n\nWritten by `go test ./onnx/convert -run TestConformance -update` with " +
		"`ROUNDEL_ONNX_TESTS` set to the node tests of the onnx package (`onnx/convert/testdata/node_tests.py` writes them). " +
		"The reference interpreter `nn.Eval` runs every case; tolerance 1e-3 relative, 1e-7 absolute, integers exact.\n\n")
	b.WriteString(summary(all) + "\n| operator | pass | cases | not passed |\n|---|---|---|---|\n")
	for _, op := range slices.Sorted(maps.Keys(total)) {
		var why []string
		for _, s := range slices.Sorted(maps.Keys(notes[op])) {
			why = append(why, fmt.Sprintf("%d %s", notes[op][s], s))
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %s |\n", op, passed[op], total[op], strings.Join(why, ", "))
	}
	return b.String()
}
