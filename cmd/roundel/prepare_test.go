package main

import (
	"path/filepath"
	"strings"
	"testing"

	"roundel/nn"
	"roundel/nn/prepare"
	"roundel/onnx"
	"roundel/onnx/convert"
)

func TestParsePreparation(t *testing.T) {
	d := prepare.DefaultConfig()
	for text, want := range map[string]func(*preparation){
		"":                           func(*preparation) {},
		"-fuse-scale,-fuse-bias":     func(p *preparation) { p.FuseScale, p.FuseBias = false, false },
		"equalize,relu6-to-relu":     func(p *preparation) { p.Equalize, p.ReLU6 = true, prepare.ReLU6ToReLU },
		"equalize,absorb-bias":       func(p *preparation) { p.Equalize, p.AbsorbBias = true, true },
		"-all":                       func(p *preparation) { p.Config = prepare.Config{} },
		"-all,fold-constants":        func(p *preparation) { p.Config = prepare.Config{FoldConstants: true} },
		"correct-bias=analytic":      func(p *preparation) { p.bias = "analytic" },
		"-normalize-batch-norm":      func(p *preparation) { p.NormalizeBatchNorm = false },
		"-fold-batch-norm,-equalize": func(p *preparation) { p.FoldBatchNorm = false },
	} {
		w := preparation{Config: d}
		want(&w)
		if have, err := parsePreparation(text); err != nil || have != w {
			t.Errorf("%q: %+v, %v; want %+v", text, have, err, w)
		}
	}
	for _, bad := range []string{"fold", "absorb-bias", "correct-bias=best", "-relu6-to-relu"} {
		if _, err := parsePreparation(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// TestPreparedOrNot quantizes with the rewrites switched off, with more of them, and with corrected biases.
func TestPreparedOrNot(t *testing.T) {
	dir := files(t)
	for i, list := range []string{"-all", "equalize", "correct-bias=empirical"} {
		out := filepath.Join(dir, "out", string(rune('a'+i)))
		code, stdout, stderr := cli(t, "quantize", filepath.Join(dir, "model.onnx"), "--calib", filepath.Join(dir, "x.npy"), "-o", out,
			"--positions", "64", "--samples", "8", "--no-qdq", "--prepare", list)
		if code != exitOK {
			t.Fatalf("%s: %s%s", list, stdout, stderr)
		}
		if strings.Contains(stderr, "fold batch norm") == (list == "-all") {
			t.Errorf("%s: it says\n%s", list, stderr)
		}
		if strings.Contains(stderr, "corrected the biases") != strings.HasPrefix(list, "correct") {
			t.Errorf("%s: it says\n%s", list, stderr)
		}
	}
}

// TestLintBeforeTheWork: what hurts quantization is said by inspect, and summed up for quantize.
func TestLintBeforeTheWork(t *testing.T) {
	m := tiny([]*onnx.Node{node("MatMul", "x w", "a"), node("Exp", "a", "b"), node("Exp", "b", "c"), node("Softplus", "c", "y")},
		f32("w", []int64{4, 4}, 1, 1, 1, 90))
	g, err := convert.ToGraph(m)
	if err == nil {
		err = nn.Verify(g)
	}
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(lintNotes(g), "\n")
	for _, want := range []string{"channel-range: n_a", "wide-range: n_b", "(and 1 more)", "unbounded-activation: n_y"} {
		if !strings.Contains(notes, want) {
			t.Errorf("%q is missing in:\n%s", want, notes)
		}
	}
	path := filepath.Join(t.TempDir(), "m.onnx")
	if err := onnx.Write(path, m); err != nil {
		t.Fatal(err)
	}
	if _, stdout, _ := cli(t, "inspect", path); !strings.Contains(stdout, "quantization: wide-range: n_c") {
		t.Errorf("inspect says\n%s", stdout)
	}
}
