package main

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roundel/data"
	"roundel/internal/demo"
	"roundel/onnx"
	"roundel/tensor"
)

// tiny returns a model x float[1,4] -> y of the given nodes, as bytes.
func tiny(nodes []*onnx.Node, consts ...*onnx.Tensor) *onnx.Model {
	m := &onnx.Model{IRVersion: 8, Graph: &onnx.Graph{Name: "g", Nodes: nodes, Initializers: consts,
		Inputs: []*onnx.ValueInfo{{Name: "x", Type: onnx.NewTensorType(onnx.Float, 1, 4)}}, Outputs: []*onnx.ValueInfo{{Name: "y"}}}}
	m.SetOpset("", 17)
	return m
}

func node(op, in, out string, attrs ...*onnx.Attribute) *onnx.Node {
	return &onnx.Node{Name: "n_" + out, OpType: op, Inputs: strings.Fields(in), Outputs: strings.Fields(out), Attributes: attrs}
}

func i64(name string, v ...int64) *onnx.Tensor {
	t := &onnx.Tensor{Name: name, DataType: onnx.Int64, Dims: []int64{int64(len(v))}}
	for _, n := range v {
		t.RawData = binary.LittleEndian.AppendUint64(t.RawData, uint64(n))
	}
	return t
}

// f32 repeats v until the shape is full.
func f32(name string, dims []int64, v ...float32) *onnx.Tensor {
	t := &onnx.Tensor{Name: name, DataType: onnx.Float, Dims: dims}
	n := 1
	for _, d := range dims {
		n *= int(d)
	}
	for i := range n {
		t.RawData = binary.LittleEndian.AppendUint32(t.RawData, math.Float32bits(v[i%len(v)]))
	}
	return t
}

// nestedIf returns an If in an If in an If.
func nestedIf(depth int) *onnx.Node {
	inner := node("Identity", "x", "y")
	for range depth {
		branch := func(name string) *onnx.Attribute {
			return &onnx.Attribute{Name: name, Type: onnx.AttributeGraph, G: &onnx.Graph{Name: "b", Nodes: []*onnx.Node{inner}, Outputs: []*onnx.ValueInfo{{Name: "y"}}}}
		}
		inner = node("If", "c", "y", branch("then_branch"))
		inner.Attributes = append(inner.Attributes, &onnx.Attribute{Name: "else_branch", Type: onnx.AttributeGraph,
			G: &onnx.Graph{Name: "e", Nodes: []*onnx.Node{node("Identity", "x", "y")}, Outputs: []*onnx.ValueInfo{{Name: "y"}}}})
	}
	return inner
}

func external(location string) *onnx.Tensor {
	return &onnx.Tensor{Name: "w", DataType: onnx.Float, Dims: []int64{1, 4}, DataLocation: onnx.LocationExternal,
		ExternalData: []*onnx.StringEntry{{Key: "location", Value: location}}}
}

func TestHostileModels(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(filepath.Dir(dir), "secret.bin")
	if err := os.WriteFile(secret, make([]byte, 16), 0o666); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(secret)
	if err := os.Symlink(secret, filepath.Join(dir, "link.bin")); err != nil {
		t.Skip(err)
	}
	add := []*onnx.Node{node("Add", "x w", "y")}
	big := math.MaxInt64
	cases := []struct {
		name  string
		model *onnx.Model
		want  []string
	}{
		{"cycle", tiny([]*onnx.Node{node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b", "y")}), []string{"n_a", "depends on its own output"}},
		{"self reference", tiny([]*onnx.Node{node("Add", "x y", "y")}), []string{"n_y"}},
		{"value made twice", tiny([]*onnx.Node{node("Relu", "x", "y"), node("Abs", "x", "y")}), []string{`"y"`}},
		{"missing input", tiny([]*onnx.Node{node("Add", "x nowhere", "y")}), []string{"nowhere"}},
		{"huge constant", tiny(add, &onnx.Tensor{Name: "w", DataType: onnx.Float, Dims: []int64{1 << 40, 1 << 40}}), []string{`"w"`, "dimensions"}},
		{"overflowing dims", tiny(add, &onnx.Tensor{Name: "w", DataType: onnx.Float, Dims: []int64{1 << 32, 1 << 32}, RawData: []byte{}}), []string{`"w"`}},
		{"negative dims", tiny(add, &onnx.Tensor{Name: "w", DataType: onnx.Float, Dims: []int64{-1, -4}, RawData: make([]byte, 16)}), []string{`"w"`}},
		{"too little data", tiny(add, &onnx.Tensor{Name: "w", DataType: onnx.Float, Dims: []int64{1, 4}, RawData: make([]byte, 15)}), []string{`"w"`}},
		{"huge reshape", tiny([]*onnx.Node{node("Expand", "x s", "y")}, i64("s", int64(big), int64(big))), []string{"n_y"}},
		{"overflowing tile", tiny([]*onnx.Node{node("Tile", "x s", "y")}, i64("s", 1<<31, 1<<31)), []string{"n_y"}},
		{"negative reshape", tiny([]*onnx.Node{node("Reshape", "x s", "y")}, i64("s", -7)), []string{"n_y"}},
		{"huge fill", tiny([]*onnx.Node{node("ConstantOfShape", "s", "z"), node("Add", "x z", "y")}, i64("s", 1<<20, 1<<20)), []string{"n_z"}},
		{"huge padding", tiny([]*onnx.Node{node("Pad", "x s", "y")}, i64("s", 0, 1<<40, 0, 1<<40)), []string{"n_y"}},
		{"negative padding", tiny([]*onnx.Node{node("Pad", "x s", "y")}, i64("s", 0, -9, 0, -9)), []string{"n_y"}},
		{"deep nesting", tiny([]*onnx.Node{nestedIf(2000)}, &onnx.Tensor{Name: "c", DataType: onnx.Bool, RawData: []byte{1}}), []string{"deep"}},
		{"external above", tiny(add, external("../secret.bin")), []string{`"w"`, "refused"}},
		{"external absolute", tiny(add, external(secret)), []string{`"w"`, "refused"}},
		{"external through a link", tiny(add, external("link.bin")), []string{`"w"`, "symbolic link"}},
		{"external folder", tiny(add, external(".")), []string{`"w"`}},
		{"external absent", tiny(add, external("absent.bin")), []string{`"w"`, "absent.bin"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, "m.onnx")
			if err := os.WriteFile(path, c.model.Encode(), 0o666); err != nil {
				t.Fatal(err)
			}
			x := filepath.Join(dir, "x.npy")
			if err := data.WriteNpy(x, tensor.New[float32](1, 4)); err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(dir, "out")
			for _, args := range [][]string{{"inspect", path}, {"run", path, "--input", "x=" + x, "-o", out}, {"quantize", path, "--calib", x, "-o", out}} {
				code, _, stderr := cli(t, args...)
				if code != exitFailure || strings.Count(strings.TrimRight(stderr, "\n"), "\n") > 0 {
					t.Errorf("%s: code %d, %q", args[0], code, stderr)
				}
				for _, w := range append(c.want, filepath.Dir(dir)) {
					if !strings.Contains(stderr, w) {
						t.Errorf("%s: %q does not mention %q", args[0], stderr, w)
					}
				}
			}
			if left, err := os.ReadDir(out); err == nil && len(left) > 0 {
				t.Errorf("output left behind: %v", left)
			}
		})
	}
}

// zipOf makes an archive of one compressed member whose directory promises size bytes.
func zipOf(t *testing.T, content []byte, size uint32) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create("x.npy")
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b.Bytes(), []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(b.Bytes()[at+24:], size)
	return b.String()
}

func TestHostileData(t *testing.T) {
	dir := files(t)
	model := filepath.Join(dir, "model.onnx")
	header := func(shape string) []byte {
		s := "{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }\n"
		return append([]byte("\x93NUMPY\x01\x00"), append([]byte{byte(len(s)), 0}, s...)...)
	}
	claims := header("(500000, 1, 28, 28)")
	bad := demo.Calibration().Data()[:784*8]
	bad = append([]float32{}, bad...)
	bad[784*3+5] = float32(math.NaN())
	nan := &bytes.Buffer{}
	if err := data.EncodeNpy(nan, tensor.From(bad, 8, 1, 28, 28)); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, dir, map[string]string{
		"bomb.npz":   zipOf(t, claims, 1_568_000_080),
		"lie.npz":    zipOf(t, append(header("(1, 1, 28, 28)"), make([]byte, 3136)...), 12),
		"huge.npy":   string(claims),
		"nan.npy":    nan.String(),
		"nested.enc": strings.Repeat("[", 200_000),
		"deep.json":  strings.Repeat(`{"defaults":`, 50_000),
		"escape.txt": "../../../../../../etc/passwd\n",
		"self.txt":   "self.txt\n",
	})
	at := func(name string) string { return filepath.Join(dir, name) }
	cases := []struct {
		name string
		args []string
		want []string
	}{
		{"zip bomb", []string{"--calib", at("bomb.npz")}, []string{"bomb.npz", "cannot come from"}},
		{"zip with a false size", []string{"--calib", at("lie.npz")}, []string{"lie.npz"}},
		{"array larger than its file", []string{"--calib", at("huge.npy")}, []string{"huge.npy"}},
		{"list that leads to text", []string{"--calib", at("escape.txt")}, []string{"escape.txt", "line 1"}},
		{"list of itself", []string{"--calib", at("self.txt")}, []string{"self.txt", "line 1"}},
		{"NaN in the data", []string{"--calib", at("nan.npy"), "--progress", "off"}, []string{`"input"`, "NaN", "image 3"}},
		{"nested config", []string{"--calib", at("x.npy"), "--config", at("deep.json")}, []string{"deep.json"}},
		{"folder as config", []string{"--calib", at("x.npy"), "--config", dir}, []string{dir}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			code, _, stderr := cli(t, append([]string{"quantize", model, "-o", at("out"), "--positions", "256"}, c.args...)...)
			lines := strings.Split(strings.TrimRight(stderr, "\n"), "\n")
			if code != exitFailure {
				t.Errorf("code %d, %q", code, stderr)
			}
			for _, w := range c.want {
				if last := lines[len(lines)-1]; !strings.Contains(last, w) {
					t.Errorf("%q does not mention %q", last, w)
				}
			}
			if have, err := os.ReadDir(at("out")); err == nil {
				for _, e := range have {
					if e.Name() != checkpointName {
						t.Errorf("left behind: %s", e.Name())
					}
				}
			}
		})
	}
	code, _, stderr := cli(t, "check", model, at("nested.enc"))
	if code != exitFailure || !strings.Contains(stderr, "nested.enc") {
		t.Errorf("nested encodings: code %d, %q", code, stderr)
	}
}

// TestNotFinite spoils the weights of a network, or makes its activations overflow: the error names the tensor.
func TestNotFinite(t *testing.T) {
	dir := t.TempDir()
	x := filepath.Join(dir, "x.npy")
	if err := data.WriteNpy(x, tensor.From([]float32{1, 2, 3, 4, 5, 6, 7, 8}, 2, 4)); err != nil {
		t.Fatal(err)
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	w := func(name string, v ...float32) *onnx.Tensor { return f32(name, []int64{4, 4}, v...) }
	chain := []*onnx.Node{node("MatMul", "x w", "h"), node("MatMul", "h v", "y")}
	cases := []struct {
		name  string
		model *onnx.Model
		want  []string
	}{
		{"NaN weight", tiny(chain, w("w", 1, 2, 3, 4, 5, 6, nan), w("v", 1, -1)), []string{`"w"`, "NaN", "n_h", "repair"}},
		{"infinite weight", tiny(chain, w("w", 1), w("v", 1, -inf)), []string{`"v"`, "-Inf", "n_y", "repair"}},
		{"overflow before a layer", tiny(chain, w("w", 3e38), w("v", 1, 0.5)), []string{`"h"`, "Inf", "overflows"}},
		{"overflow behind the last layer", tiny([]*onnx.Node{node("MatMul", "x w", "h"), node("Exp", "h", "y")}, w("w", 50, 60)), []string{`"y"`, "Inf", "overflows"}},
		{"NaN from an operator", tiny([]*onnx.Node{node("MatMul", "x w", "h"), node("Sqrt", "h", "s"), node("MatMul", "s v", "y")}, w("w", -1), w("v", 1, 0.5)), []string{`"s"`, "NaN"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, "m.onnx")
			if err := os.WriteFile(path, c.model.Encode(), 0o666); err != nil {
				t.Fatal(err)
			}
			code, _, stderr := cli(t, "quantize", path, "--calib", x, "-o", filepath.Join(dir, "out"), "--progress", "off", "--scheme", "tf")
			if code != exitFailure {
				t.Errorf("code %d", code)
			}
			for _, want := range c.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("%q does not mention %q", stderr, want)
				}
			}
			if have, err := filepath.Glob(filepath.Join(dir, "out", "m*")); err != nil || len(have) > 0 {
				t.Errorf("results: %v, %v", have, err)
			}
		})
	}
}
