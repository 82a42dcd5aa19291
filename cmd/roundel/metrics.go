package main

import (
	"fmt"
	"math"

	"roundel/data"
	"roundel/tensor"
)

// score compares the outputs of a network with labels and with those of the float network.
type score struct {
	samples  int
	labelled int
	correct  int     // of labelled
	agree    int     // samples whose first output has its maximum at the same class as the float network
	signal   float64 // Σ y², y the float outputs
	noise    float64 // Σ (ŷ - y)²
}

// add counts one batch of len(labels) samples, of which out and ref hold the outputs one after the other. When they have
// different sizes, as lists of boxes may, the output counts as all wrong.
func (s *score) add(out, ref *tensor.Dense[float32], labels []int) {
	n := len(labels)
	width := out.Len() / max(n, 1)
	if out.Len() != ref.Len() {
		s.samples += n
		for _, v := range ref.Data() {
			s.signal += float64(float64(v) * float64(v))
			s.noise += float64(float64(v) * float64(v))
		}
		return
	}
	for i := range n {
		y, yr := out.Data()[i*width:(i+1)*width], ref.Data()[i*width:(i+1)*width]
		top := argmax(y)
		s.samples++
		if top == argmax(yr) {
			s.agree++
		}
		if labels[i] != data.NoLabel {
			s.labelled++
			if top == labels[i] {
				s.correct++
			}
		}
		for j := range y {
			d := float64(y[j]) - float64(yr[j])
			s.noise += float64(d * d)
			s.signal += float64(float64(yr[j]) * float64(yr[j]))
		}
	}
}

// agreement is the share of samples whose top-1 class is that of the float network.
func (s *score) agreement() float64 { return float64(s.agree) / float64(max(s.samples, 1)) }

// accuracy is the top-1 accuracy on labelled samples.
func (s *score) accuracy() float64 { return float64(s.correct) / float64(max(s.labelled, 1)) }

// sqnr is 10·log10(Σ y² / Σ (ŷ-y)²) in dB, +Inf when the outputs are equal.
func (s *score) sqnr() float64 {
	if s.noise == 0 {
		return math.Inf(1)
	}
	return 10 * math.Log10(s.signal/s.noise)
}

// String formats accuracy (with labels), agreement and SQNR.
func (s *score) String() string {
	text := fmt.Sprintf("agreement with float %5.1f %%  output SQNR %s", 100*s.agreement(), dB(s.sqnr()))
	if s.labelled > 0 {
		return fmt.Sprintf("accuracy %6.2f %%  %s", 100*s.accuracy(), text)
	}
	return text
}

func dB(v float64) string {
	if math.IsInf(v, 1) {
		return "equal"
	}
	return fmt.Sprintf("%5.1f dB", v)
}

// argmax returns the index of the first largest element; NaN never wins.
func argmax(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] || x[best] != x[best] {
			best = i
		}
	}
	return best
}
