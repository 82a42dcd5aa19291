package report

import (
	"bytes"
	"flag"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata")

func sample() Report {
	nan := math.NaN()
	return Report{
		Title:  "mobilenet_v2, 4-bit weights",
		Facts:  []Fact{{"Model", "mobilenet_v2.onnx"}, {"Seed", "1"}},
		Scores: []Score{{"float", 0.7188, "on 50,000 images"}, {"nearest", 0.0009, ""}, {"AdaRound", 0.6932, ""}},
		Layers: []Layer{
			{Name: "/features/0/Conv", Op: "Conv", Weights: 864, Bits: 4, LossNearest: 0.0321, LossAdaRound: 0.0042, Flipped: 0.13,
				SQNRNearest: 9.5, SQNRAdaRound: 22.5, SQNR: 21.25, Min: -3.5, Max: 6},
			{Name: "<script>alert(1)</script>", Op: "Gemm", Weights: 1281000, Bits: 8, LossNearest: nan, LossAdaRound: nan, Flipped: nan, SQNR: math.Inf(1), Min: nan, Max: nan},
			{Name: "worse", Op: "Conv", Weights: 12, Bits: 4, LossNearest: 0, LossAdaRound: 1, Flipped: 0, SQNR: -3, Min: 0, Max: 12},
		},
		Sensitivities: []Sensitivity{
			{Name: "/features/0/Conv", Op: "Conv", Alone: 23.44, Without: 15.25, Here: 20.5, Min: -3.5, Max: 6},
			{Name: "harmless", Op: "Clip", Alone: math.Inf(1), Without: 12.25, Here: nan, Min: nan, Max: nan},
			{Name: "/features/1/Conv", Op: "Conv", Alone: 43.44, Without: 12.5, Here: 19.5, Min: 0, Max: 6},
		},
		Findings: []Finding{{"bn", "the batch norm is not part of a layer"}},
	}
}

// TestRender compares with a committed page; go test -update writes it.
func TestRender(t *testing.T) {
	var b bytes.Buffer
	if err := Render(&b, sample()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "report.html")
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("the page differs from %s; look at it, then run go test -update", path)
	}
	page := b.String()
	for _, bad := range []string{"<script", "http://", "https://", "src=", "href=", "url(", "ZgotmplZ", "NaN"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	for _, good := range []string{"71.88 %", "13.08 %", "1,281,000", "21.2", "22.5", "23.4", "polyline", "&lt;script&gt;", "–", "∞"} {
		if !strings.Contains(page, good) {
			t.Errorf("the page lacks %q", good)
		}
	}
	if open, closed := strings.Count(page, "<tr>"), strings.Count(page, "</tr>"); open != closed {
		t.Errorf("%d rows begin, %d end", open, closed)
	}
	for _, w := range regexp.MustCompile(`(?:width|x)="(-?[0-9.]+)"`).FindAllStringSubmatch(page, -1) {
		if strings.HasPrefix(w[1], "-") || len(w[1]) > 4 {
			t.Errorf("a chart goes to %s", w[1])
		}
	}
}

func TestRenderEmpty(t *testing.T) {
	var b bytes.Buffer
	if err := Render(&b, Report{Title: "x"}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "<table>") || !strings.Contains(b.String(), "</html>") {
		t.Errorf("page of nothing: %s", b.String())
	}
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.html")
	if err := Write(path, sample()); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	var want bytes.Buffer
	Render(&want, sample())
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("file of %d bytes, want %d (%v)", len(got), want.Len(), err)
	}
	if err := Write(filepath.Join(path, "below"), sample()); err == nil || !strings.HasPrefix(err.Error(), "report: ") {
		t.Errorf("writing below a file: %v", err)
	}
}

func TestSpans(t *testing.T) {
	for _, tt := range []struct{ got, want span }{
		{bar(1, 2), span{"0.0", "40.0", "0.0"}},
		{bar(3, 2), span{"0.0", "80.0", "0.0"}},
		{bar(-1, 2), span{"0.0", "0.0", "0.0"}},
		{bar(math.Inf(1), 2), span{"0.0", "0.0", "0.0"}},
		{interval(-2, 2, scale{Low: -4, High: 4}), span{"20.0", "40.0", "40.0"}},
		{interval(0, 0, scale{Low: 0, High: 4}), span{"0.0", "0.5", "0.0"}},
	} {
		if tt.got != tt.want {
			t.Errorf("got %v, want %v", tt.got, tt.want)
		}
	}
}
