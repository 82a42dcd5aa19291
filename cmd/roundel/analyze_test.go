package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// analyzed is the part of the JSON file that tests look at.
type analyzed struct {
	EvalSamples           int
	OutputSQNR, Agreement *float64
	Layers                []struct {
		Node, Op, Result string
		Alone, Without   *float64
	}
	Activations []struct {
		Tensor            string
		SQNR              *float64
		Min, Max, Clipped float64
	}
	Ranges []struct {
		Tensor, Kind   string
		Bits, Channels int
		SQNR           *float64
	}
}

func readAnalysis(t *testing.T, path string) *analyzed {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var a analyzed
	if err := json.Unmarshal(b, &a); err != nil {
		t.Fatal(err)
	}
	return &a
}

// TestAnalyze quantizes the first layer to 2 bits and all others to 8: it must be the one that hurts.
func TestAnalyze(t *testing.T) {
	dir := files(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	args := []string{"analyze", at("model.onnx"), "--calib", at("x.npy"), "--progress", "off", "--param-bits", "8"}
	code, stdout, stderr := cli(t, append(args, "--json", at("a.json"), "--html", at("a.html"))...)
	if code != 0 {
		t.Fatal(stderr)
	}
	a := readAnalysis(t, at("a.json"))
	if a.EvalSamples != 32 || len(a.Layers) < 10 || len(a.Activations) < 10 || len(a.Ranges) < 20 {
		t.Fatalf("%d samples, %d layers, %d activations, %d ranges", a.EvalSamples, len(a.Layers), len(a.Activations), len(a.Ranges))
	}
	for _, want := range []string{a.Layers[0].Node, a.Ranges[0].Tensor, a.Activations[0].Tensor, "alone", "without", "a.json", "a.html"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is missing from\n%s", want, stdout)
		}
	}
	for _, x := range a.Activations {
		if x.SQNR == nil || *x.SQNR < 10 || !(x.Min < x.Max) {
			t.Errorf("%+v", x)
		}
	}
	first := a.Layers[0]
	code, _, stderr = cli(t, append(args, "--json", at("b.json"), "--bits", first.Node+"=2", "--threads", "1")...)
	if code != 0 {
		t.Fatal(stderr)
	}
	b := readAnalysis(t, at("b.json"))
	if !(*b.Layers[0].Alone < *first.Alone-10 && *b.OutputSQNR < *a.OutputSQNR-5) {
		t.Errorf("2 bits: alone %.1f dB instead of %.1f, all %.1f instead of %.1f", *b.Layers[0].Alone, *first.Alone, *b.OutputSQNR, *a.OutputSQNR)
	}
	for _, l := range b.Layers[1:] {
		if *l.Alone < *b.Layers[0].Alone || *l.Without > *b.Layers[0].Without {
			t.Errorf("%s: %.1f and %.1f dB, the layer of 2 bits %.1f and %.1f", l.Node, *l.Alone, *l.Without, *b.Layers[0].Alone, *b.Layers[0].Without)
		}
	}
	code, _, stderr = cli(t, append(args, "--json", at("c.json"), "--ignore", first.Node)...)
	if c := readAnalysis(t, at("c.json")); code != 0 || c.Layers[0].Node == first.Node {
		t.Errorf("ignored, but analyzed: %s%s", c.Layers[0].Node, stderr)
	}
}

// TestAnalyzeExported analyzes what quantize has written, from its encodings.
func TestAnalyzeExported(t *testing.T) {
	dir := files(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	code, _, stderr := cli(t, "quantize", at("model.onnx"), "--calib", at("x.npy"), "-o", at("out"), "--positions", "512", "--progress", "off")
	if code != 0 {
		t.Fatal(stderr)
	}
	page, err := os.ReadFile(at("out/model_w4a8.html"))
	if err != nil || !strings.Contains(string(page), "polyline") || strings.Count(string(page), "–") > 3 {
		t.Errorf("the report lacks the layers' SQNR: %v", err)
	}
	code, _, stderr = cli(t, "analyze", at("out/model_w4a8.onnx"), "--encodings", at("out/model_w4a8.encodings"), "--eval", at("x.npy"),
		"--eval-samples", "8", "--json", at("a.json"), "--progress", "plain")
	if code != 0 {
		t.Fatal(stderr)
	}
	a := readAnalysis(t, at("a.json"))
	if a.EvalSamples != 8 || len(a.Layers) < 10 || !(*a.OutputSQNR > 15) {
		t.Errorf("%d samples, %d layers, %v dB", a.EvalSamples, len(a.Layers), *a.OutputSQNR)
	}
	if !strings.Contains(stderr, "one by one") {
		t.Errorf("no progress: %s", stderr)
	}
	// What was exported passes check; with a name of another model it does not.
	code, stdout, stderr := cli(t, "check", at("out/model_w4a8.onnx"), at("out/model_w4a8.encodings"))
	if code != 0 || !strings.Contains(stdout, "encodings describe") || strings.Contains(stdout, "error:") {
		t.Errorf("check: code %d, %s%s", code, stdout, stderr)
	}
	b, err := os.ReadFile(at("out/model_w4a8.encodings"))
	if err != nil {
		t.Fatal(err)
	}
	name := a.Ranges[0].Tensor
	if err := os.WriteFile(at("other.encodings"), []byte(strings.ReplaceAll(string(b), `"`+name+`"`, `"elsewhere"`)), 0o666); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr = cli(t, "check", at("out/model_w4a8.onnx"), at("other.encodings"))
	if code != exitFailure || !strings.Contains(stdout, `error: name: "elsewhere"`) || !strings.Contains(stderr, "does not describe") {
		t.Errorf("check of other names: code %d, %s%s", code, stdout, stderr)
	}
}

func TestAnalyzeRefuses(t *testing.T) {
	dir := files(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, exitUsage, "--calib"},
		{[]string{"--encodings", "e"}, exitUsage, "--eval"},
		{[]string{"--encodings", at("text.onnx"), "--eval", at("x.npy")}, exitFailure, "text.onnx"},
		{[]string{"--encodings", "e", "--eval", "x", "--ignore", "a"}, exitUsage, "--ignore"},
		{[]string{"--calib", at("x.npy"), "--param-bits", "1"}, exitUsage, "2 to 16"},
		{[]string{"--calib", at("x.npy"), "--bits", "a=40"}, exitUsage, "a=40"},
		{[]string{"--calib", at("x.npy"), "--bits", "nothing*=4"}, exitFailure, `"nothing*"`},
		{[]string{"--calib", at("x.npy"), "--eval-samples", "-1"}, exitUsage, "--eval-samples"},
		{[]string{"--calib", at("x.npy"), "--json", at("model.onnx")}, exitFailure, "replace the input"},
		{[]string{"--calib", at("x.npy"), "--json", at("none/a.json")}, exitFailure, "no folder"},
		{[]string{"--calib", at("x.npy"), "--html", dir}, exitFailure, "not a file"},
		{[]string{"--calib", at("wrongshape.npy")}, exitFailure, "wrongshape.npy"},
	} {
		code, _, stderr := cli(t, append([]string{"analyze", at("model.onnx"), "--progress", "off"}, c.args...)...)
		if code != c.code || !strings.Contains(stderr, c.want) || strings.Count(strings.TrimRight(stderr, "\n"), "\n") != 0 {
			t.Errorf("%v: code %d, %q", c.args, code, stderr)
		}
	}
}

// TestAnalyzeStops interrupts the run at the first progress line of the last stage: nothing is written.
func TestAnalyzeStops(t *testing.T) {
	dir := files(t)
	ctx, cancel := context.WithCancel(context.Background())
	w := writerFunc(func(b []byte) (int, error) {
		if strings.Contains(string(b), "one by one") {
			cancel()
		}
		return len(b), nil
	})
	code := run(ctx, &environment{w, w}, []string{"analyze", filepath.Join(dir, "model.onnx"), "--calib", filepath.Join(dir, "x.npy"), "--json", filepath.Join(dir, "a.json"), "--progress", "plain"})
	if _, err := os.Stat(filepath.Join(dir, "a.json")); code != exitFailure || err == nil {
		t.Errorf("code %d, file %v", code, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
