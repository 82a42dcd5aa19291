// Package report writes the result of a run as one HTML file that needs nothing else: no network, no scripts.
package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"

	"roundel/internal/atomicfile"
)

// Report is what the page shows. Empty parts are left out; the same values give the same bytes.
type Report struct {
	Title         string
	Facts         []Fact  // what was done, with what: model, samples, bits, seed, version
	Scores        []Score // the same measure for different models, to be compared
	Layers        []Layer
	Sensitivities []Sensitivity
	Findings      []Finding
}

// Fact is a line of the summary.
type Fact struct{ Name, Value string }

// Score is the value of one measure, such as accuracy, for one variant of the model.
type Score struct {
	Name  string  // of the variant, such as "float" or "int4 weights, AdaRound"
	Value float64 // a share between 0 and 1, shown in percent
	Note  string  // such as "on 10,000 images"
}

// Layer is one quantized layer. NaN is shown as unknown.
type Layer struct {
	Name, Op     string
	Weights      int     // how many
	Bits         int     // of the weights
	LossNearest  float64 // mean squared error of the output when weights are rounded to nearest
	LossAdaRound float64 // the same after AdaRound
	Flipped      float64 // share of weights that AdaRound rounded the other way
	// Of the layer's output against the float network, in dB, with the errors of the layers before in it: weights
	// rounded to nearest, weights by AdaRound, and weights and activations as the device has them.
	SQNRNearest, SQNRAdaRound, SQNR float64
	Min, Max                        float64 // range of the output
}

// Sensitivity is what quantizing one layer does, in dB. NaN is shown as unknown.
type Sensitivity struct {
	Name, Op string
	Alone    float64 // SQNR of the network's output when only this layer is quantized
	Without  float64 // the same when all others are
	Here     float64 // SQNR of this layer's output with everything quantized
	Min, Max float64 // range of the output
}

// Finding is a remark about a node.
type Finding struct{ Node, Text string }

//go:embed page.html
var page string

// Render writes the page to w.
func Render(w io.Writer, r Report) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"num": number, "decibel": decibel, "chart": chart, "loss": loss, "percent": percent, "bar": bar, "ratio": ratio, "interval": interval, "count": count,
	}).Parse(page)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := t.Execute(w, view{r, scaleOf(r)}); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// Write writes the page to the file path, all of it or nothing.
func Write(path string, r Report) error {
	if err := atomicfile.Write(path, func(w io.Writer) error { return Render(w, r) }); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// view is what the template sees.
type view struct {
	Report
	Scale scale
}

// scale has the extremes that the charts of all layers share.
type scale struct{ SQNR, Loss, Low, High float64 }

func scaleOf(r Report) scale {
	var s scale
	level := func(values ...float64) {
		for _, v := range values {
			if finite(v) {
				s.SQNR = max(s.SQNR, v)
			}
		}
	}
	interval := func(lo, hi float64) {
		if finite(lo) && finite(hi) {
			s.Low, s.High = min(s.Low, lo), max(s.High, hi)
		}
	}
	for _, l := range r.Layers {
		level(l.SQNRNearest, l.SQNRAdaRound, l.SQNR)
		interval(l.Min, l.Max)
	}
	for _, l := range r.Sensitivities {
		level(l.Alone, l.Here)
		interval(l.Min, l.Max)
	}
	for _, l := range r.Sensitivities {
		if v := loss(l, r.Sensitivities); finite(v) {
			s.Loss = max(s.Loss, v)
		}
	}
	return s
}

func finite(v float64) bool { return v-v == 0 }

// number formats v with three digits, unknown values as a dash.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case math.IsInf(v, 0):
		return strings.Replace(fmt.Sprintf("%.0f", v), "Inf", "∞", 1)
	}
	return fmt.Sprintf("%.3g", v)
}

// percent formats a share with two digits after the point.
func percent(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return fmt.Sprintf("%.2f %%", 100*v)
}

// count formats n in groups of three digits.
func count(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// chartWidth is the width of the charts in the table, in pixels.
const chartWidth = 80

// span is a bar of a chart from X, W pixels wide; Zero is where the value 0 lies.
type span struct{ X, W, Zero string }

func newSpan(x, w, zero float64) span {
	f := func(v float64) string { return fmt.Sprintf("%.1f", v) }
	return span{f(x), f(w), f(zero)}
}

// bar is a bar from 0 to v, where limit is as wide as the chart. What cannot be shown is an empty bar.
func bar(v, limit float64) span {
	if !finite(v) || v <= 0 || limit <= 0 {
		return newSpan(0, 0, 0)
	}
	return newSpan(0, chartWidth*min(v/limit, 1), 0)
}

// interval is a bar from lo to hi on the scale of all layers.
func interval(lo, hi float64, s scale) span {
	if !finite(lo) || !finite(hi) || s.High <= s.Low {
		return newSpan(0, 0, 0)
	}
	at := func(v float64) float64 { return chartWidth * (v - s.Low) / (s.High - s.Low) }
	return newSpan(at(lo), max(at(hi)-at(lo), 0.5), at(0))
}

// ratio is AdaRound's loss as a share of nearest rounding's, NaN when that is not a number of use.
func ratio(l Layer) float64 {
	if !(l.LossNearest > 0) || !finite(l.LossAdaRound) {
		return math.NaN()
	}
	return l.LossAdaRound / l.LossNearest
}

// decibel formats v with one digit after the point.
func decibel(v float64) string {
	if !finite(v) {
		return number(v)
	}
	return fmt.Sprintf("%.1f", v)
}

// loss is how much noise a layer brings: the largest SQNR that any layer keeps alone, less its own.
func loss(l Sensitivity, all []Sensitivity) float64 {
	best := math.Inf(-1)
	for _, o := range all {
		if finite(o.Alone) {
			best = max(best, o.Alone)
		}
	}
	return best - l.Alone
}

// The size of the chart of all layers, in pixels; labels of the axis lie left of it.
const (
	plotWidth  = 1000
	plotHeight = 180
)

// plot is the chart of the layers' SQNR: polylines from the first layer to the last, and lines every 10 dB.
type plot struct {
	Lines []plotLine
	Ticks []plotTick
}

type plotLine struct{ Class, Name, Points string }

type plotTick struct {
	Y, Text string
}

// chart draws the SQNR of all layers; it has no lines with fewer than two layers.
func chart(layers []Layer) plot {
	lo, hi := math.Inf(1), math.Inf(-1)
	lines := []struct {
		class, name string
		value       func(Layer) float64
	}{
		{"nearest", "weights to nearest", func(l Layer) float64 { return l.SQNRNearest }},
		{"adaround", "weights by AdaRound", func(l Layer) float64 { return l.SQNRAdaRound }},
		{"device", "weights and activations, as on the device", func(l Layer) float64 { return l.SQNR }},
	}
	for _, l := range layers {
		for _, line := range lines {
			if v := line.value(l); finite(v) {
				lo, hi = min(lo, v), max(hi, v)
			}
		}
	}
	if len(layers) < 2 || lo >= hi {
		return plot{}
	}
	lo, hi = 10*math.Floor(lo/10), 10*math.Ceil(hi/10)
	y := func(v float64) string { return fmt.Sprintf("%.1f", plotHeight*(hi-v)/(hi-lo)) }
	var p plot
	for t := lo; t <= hi; t += 10 {
		p.Ticks = append(p.Ticks, plotTick{y(t), fmt.Sprintf("%.0f", t)})
	}
	for _, line := range lines {
		var points []string
		for i, l := range layers {
			if v := line.value(l); finite(v) {
				points = append(points, fmt.Sprintf("%.1f,%s", plotWidth*float64(i)/float64(len(layers)-1), y(v)))
			}
		}
		p.Lines = append(p.Lines, plotLine{line.class, line.name, strings.Join(points, " ")})
	}
	return p
}
