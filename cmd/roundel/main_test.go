package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"roundel/data"
	"roundel/internal/demo"
	"roundel/onnx"
	"roundel/tensor"
)

// cli runs one command line and returns its exit code and what it printed.
func cli(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(context.Background(), &environment{&out, &err}, args)
	return code, out.String(), err.String()
}

// files makes a folder with the demo model, some samples and several broken things.
func files(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, b []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	model := demo.Model()
	write("model.onnx", model)
	write("truncated.onnx", model[:len(model)*2/3])
	write("empty.onnx", nil)
	write("photo.onnx", []byte("\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01 not a model at all"))
	write("text.onnx", []byte("this is a text file, not a model\n"))
	write("plainfile", []byte("x"))
	if err := os.Mkdir(filepath.Join(dir, "nothing"), 0o777); err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Decode(model)
	if err != nil {
		t.Fatal(err)
	}
	m.Graph.Nodes[0].OpType = "FancyConv"
	m.Graph.Nodes[2].OpType = "OtherOp"
	write("unsupported.onnx", m.Encode())
	x := demo.Calibration()
	size := x.Len() / demo.CalibrationImages
	npy := func(name string, t2 tensor.Any) {
		t.Helper()
		if err := data.WriteNpy(filepath.Join(dir, name), t2); err != nil {
			t.Fatal(err)
		}
	}
	npy("x.npy", tensor.From(x.Data()[:64*size], 64, 1, 28, 28))
	npy("wrongshape.npy", tensor.New[float32](4, 3, 28, 28))
	npy("wrongtype.npy", tensor.New[int64](4, 1, 28, 28))
	return dir
}

func TestBadInputIsOneLine(t *testing.T) {
	dir := files(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	out := at("out")
	calib := []string{"--calib", at("x.npy"), "-o", out, "--progress", "off"}
	cases := []struct {
		name string
		args []string
		code int
		want []string // parts of the message
	}{
		{"no command", nil, exitUsage, nil},
		{"unknown command", []string{"quantise"}, exitUsage, []string{"quantise"}},
		{"unknown flag", []string{"inspect", at("model.onnx"), "--wat"}, exitUsage, []string{"wat"}},
		{"no model", []string{"inspect"}, exitUsage, []string{"MODEL"}},
		{"two models", []string{"inspect", "a", "b"}, exitUsage, []string{`"b"`}},
		{"absent file", []string{"inspect", at("absent.onnx")}, exitFailure, []string{"absent.onnx"}},
		{"folder as a model", []string{"inspect", dir}, exitFailure, []string{dir}},
		{"truncated", []string{"inspect", at("truncated.onnx")}, exitFailure, []string{"truncated.onnx"}},
		{"empty", []string{"inspect", at("empty.onnx")}, exitFailure, []string{"empty.onnx"}},
		{"photo", []string{"inspect", at("photo.onnx")}, exitFailure, []string{"photo.onnx"}},
		{"text", []string{"run", at("text.onnx"), "-o", out}, exitFailure, []string{"text.onnx"}},
		{"unsupported ops, all at once", []string{"inspect", at("unsupported.onnx")}, exitFailure, []string{"FancyConv", "OtherOp"}},
		{"missing input", []string{"run", at("model.onnx"), "-o", out}, exitUsage, []string{"--input input="}},
		{"unknown input", []string{"run", at("model.onnx"), "-o", out, "--input", "input=" + at("x.npy"), "--input", "z=" + at("x.npy")}, exitUsage, []string{`"z"`}},
		{"malformed input", []string{"run", at("model.onnx"), "-o", out, "--input", "x.npy"}, exitUsage, []string{"NAME=FILE"}},
		{"wrong shape", []string{"run", at("model.onnx"), "-o", out, "--input", "input=" + at("wrongshape.npy")}, exitFailure, []string{"input", "3"}},
		{"wrong type", []string{"run", at("model.onnx"), "-o", out, "--input", "input=" + at("wrongtype.npy")}, exitFailure, []string{"int64", "float32"}},
		{"empty calibration folder", []string{"quantize", at("model.onnx"), "--calib", at("nothing"), "-o", out}, exitFailure, []string{"nothing"}},
		{"absent calibration", []string{"quantize", at("model.onnx"), "--calib", at("absent"), "-o", out}, exitFailure, []string{"absent"}},
		{"no calibration", []string{"quantize", at("model.onnx"), "-o", out}, exitUsage, []string{"--calib"}},
		{"calibration of another shape", []string{"quantize", at("model.onnx"), "--calib", at("wrongshape.npy"), "-o", out}, exitFailure, []string{"wrongshape.npy"}},
		{"no output folder", []string{"quantize", at("model.onnx"), "--calib", at("x.npy")}, exitUsage, []string{"-o"}},
		{"output folder is a file", []string{"quantize", at("model.onnx"), "--calib", at("x.npy"), "-o", at("plainfile")}, exitFailure, []string{"plainfile"}},
		{"output folder below a file", []string{"quantize", at("model.onnx"), "--calib", at("x.npy"), "-o", at("plainfile/sub")}, exitFailure, []string{"plainfile"}},
		{"1 bit", append([]string{"quantize", at("model.onnx"), "--param-bits", "1"}, calib...), exitUsage, []string{"--param-bits 1", "2 to 16"}},
		{"33 bits", append([]string{"adaround", at("model.onnx"), "--param-bits", "33"}, calib...), exitUsage, []string{"--param-bits 33"}},
		{"bits are a word", append([]string{"quantize", at("model.onnx"), "--param-bits", "four"}, calib...), exitUsage, []string{"param-bits"}},
		{"3 output bits", append([]string{"quantize", at("model.onnx"), "--output-bits", "3"}, calib...), exitUsage, []string{"--output-bits 3"}},
		{"scheme", append([]string{"quantize", at("model.onnx"), "--scheme", "best"}, calib...), exitUsage, []string{"best"}},
		{"solver", append([]string{"quantize", at("model.onnx"), "--solver", "sgd"}, calib...), exitUsage, []string{"sgd"}},
		{"iterations", append([]string{"adaround", at("model.onnx"), "--iterations", "-1"}, calib...), exitUsage, []string{"--iterations -1"}},
		{"positions", append([]string{"adaround", at("model.onnx"), "--positions", "0"}, calib...), exitUsage, []string{"--positions 0"}},
		{"learning rate", append([]string{"adaround", at("model.onnx"), "--lr", "0"}, calib...), exitUsage, []string{"--lr 0"}},
		{"bits of a layer", append([]string{"adaround", at("model.onnx"), "--bits", "head.conv=99"}, calib...), exitUsage, []string{"head.conv=99", "2 to 16"}},
		{"malformed bits", append([]string{"adaround", at("model.onnx"), "--bits", "head.conv"}, calib...), exitUsage, []string{"LAYER=BITS"}},
		{"bits of an unknown layer", append([]string{"adaround", at("model.onnx"), "--bits", "head.con=8"}, calib...), exitFailure, []string{"head.con", "head.conv"}},
		{"threads", append([]string{"quantize", at("model.onnx"), "--threads", "0"}, calib...), exitUsage, []string{"--threads 0"}},
		{"memory", append([]string{"quantize", at("model.onnx"), "--mem", "much"}, calib...), exitUsage, []string{"much"}},
		{"preprocessing", append([]string{"quantize", at("model.onnx"), "--preprocess", "imagnet"}, calib...), exitUsage, []string{"imagnet"}},
		{"unknown layer to ignore", append([]string{"quantize", at("model.onnx"), "--ignore", "head.con"}, calib...), exitFailure, []string{"head.con", "head.conv"}},
		{"config file", append([]string{"quantize", at("model.onnx"), "--config", at("text.onnx")}, calib...), exitFailure, []string{"text.onnx"}},
		{"encodings file", []string{"eval", at("model.onnx"), "--data", at("x.npy"), "--encodings", at("text.onnx")}, exitFailure, []string{"text.onnx"}},
		{"nothing to evaluate", []string{"eval", at("model.onnx"), "--data", at("x.npy"), "--progress", "off"}, exitFailure, []string{"labels"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			code, _, stderr := cli(t, c.args...)
			if code != c.code {
				t.Errorf("exit code %d, want %d; printed %q", code, c.code, stderr)
			}
			if len(c.args) > 0 && strings.Count(strings.TrimRight(stderr, "\n"), "\n") != 0 {
				t.Errorf("more than one line: %q", stderr)
			}
			for _, w := range c.want {
				if !strings.Contains(stderr, w) {
					t.Errorf("%q does not mention %q", stderr, w)
				}
			}
			if left, err := os.ReadDir(out); err == nil && len(left) > 0 {
				t.Errorf("output left behind: %v", left)
			}
		})
	}
}

func TestRunWritesTheReferencesOutputs(t *testing.T) {
	dir := files(t)
	fast, slow := filepath.Join(dir, "fast"), filepath.Join(dir, "slow")
	args := []string{"run", filepath.Join(dir, "model.onnx"), "--input", "input=" + filepath.Join(dir, "x.npy"), "-o"}
	if code, _, stderr := cli(t, append(args, fast)...); code != 0 {
		t.Fatal(stderr)
	}
	if code, _, stderr := cli(t, append(args, slow, "--reference")...); code != 0 {
		t.Fatal(stderr)
	}
	read := func(d string) []float32 {
		v, err := data.ReadNpy(filepath.Join(d, "logits.npy"))
		if err != nil {
			t.Fatal(err)
		}
		return v.(*tensor.Dense[float32]).Data()
	}
	a, b := read(fast), read(slow)
	if len(a) != 640 || len(b) != 640 {
		t.Fatalf("%d and %d logits, want 640", len(a), len(b))
	}
	largest := float32(0)
	for _, v := range b {
		largest = max(largest, v, -v)
	}
	for i := range a {
		if d := a[i] - b[i]; d > 1e-4*largest || d < -1e-4*largest {
			t.Fatalf("logit %d: program %g, reference %g", i, a[i], b[i])
		}
	}
}

func TestQuantizeThenEval(t *testing.T) {
	dir := files(t)
	out := filepath.Join(dir, "out")
	model, x := filepath.Join(dir, "model.onnx"), filepath.Join(dir, "x.npy")
	args := []string{"quantize", model, "--calib", x, "-o", out, "--positions", "512", "--progress", "off"}
	code, stdout, stderr := cli(t, append(args, "--threads", "1")...)
	if code != 0 {
		t.Fatal(stderr)
	}
	for _, want := range []string{"W4 nearest", "W4 AdaRound", "W4A8", "sha256"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is missing from:\n%s", want, stdout)
		}
	}
	if entries, err := os.ReadDir(out); err != nil || len(entries) < 3 {
		t.Fatalf("outputs: %v, %v", entries, err)
	} else {
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") {
				t.Errorf("left behind: %s", e.Name())
			}
		}
	}
	// The same seed gives the same bytes, whatever the number of threads: the printed hashes are part of the output.
	code, again, stderr := cli(t, append(args, "--threads", "2")...)
	if code != 0 {
		t.Fatal(stderr)
	}
	if again != stdout {
		t.Errorf("two threads gave other results:\n%s\n%s", stdout, again)
	}
	code, stdout, stderr = cli(t, "eval", filepath.Join(out, "model_w4a8.onnx"), "--data", x, "--encodings", filepath.Join(out, "model_w4a8.encodings"),
		"--against", model, "--progress", "off")
	if code != 0 || !strings.Contains(stdout, "simulated") {
		t.Fatalf("eval: code %d, %s%s", code, stdout, stderr)
	}
	if n := strings.Count(stderr, "4 bits (int) in the file"); n != 1 || !strings.Contains(stderr, "in the file (and 17 more)") {
		t.Errorf("eval does not say once for all weights that they have other bits:\n%s", stderr)
	}
	evalInWholeNumbers(t, filepath.Join(out, "model_w4a8.onnx"), filepath.Join(out, "model_w4a8.encodings"), x)
}

// evalInWholeNumbers evaluates with --integer, and with encodings that whole numbers of 8 bits do not have.
func evalInWholeNumbers(t *testing.T, model, encodings, x string) {
	t.Helper()
	args := []string{"eval", model, "--data", x, "--progress", "off", "--integer", "--encodings"}
	code, stdout, stderr := cli(t, append(args, encodings)...)
	if code != 0 || !strings.Contains(stdout, "in whole numbers") || !strings.Contains(stdout, "simulated") {
		t.Fatalf("eval --integer: code %d, %s%s", code, stdout, stderr)
	}
	if code, _, stderr := cli(t, args[:len(args)-1]...); code != exitUsage || !strings.Contains(stderr, "--encodings") {
		t.Errorf("--integer without encodings: code %d, %s", code, stderr)
	}
	text, err := os.ReadFile(encodings)
	if err != nil {
		t.Fatal(err)
	}
	wide := filepath.Join(t.TempDir(), "wide.encodings")
	at := bytes.LastIndex(text, []byte(`"activation_encodings"`)) // keys are sorted: parameters follow
	text = append(slices.Clone(text[:at]), bytes.Replace(text[at:], []byte(`"bw": 8`), []byte(`"bw": 12`), 1)...)
	if err := os.WriteFile(wide, text, 0o666); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := cli(t, append(args, wide)...); code != exitFailure || !strings.Contains(stderr, "12 bits") {
		t.Errorf("an activation of 12 bits: code %d, %s", code, stderr)
	}
}
