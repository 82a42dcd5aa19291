package main

import (
	"context"
	"path/filepath"

	"roundel/data"
	"roundel/tensor"
)

const (
	side   = 28
	pixels = side * side
)

// normalise is what package demo does to the images too: mean 0 and deviation 1 over the training set.
var normalise = data.Preprocess{Scale: 1. / 255, Mean: []float64{0.286}, Std: []float64{0.353}}

// black is a normalised pixel of value 0, the background.
var black = (0 - float32(normalise.Mean[0])) / float32(normalise.Std[0])

// images is a labelled set of normalised 28×28 images.
type images struct {
	values []float32
	labels []int
}

func (s *images) image(i int) []float32 { return s.values[i*pixels : (i+1)*pixels] }

// batch returns images [from, to) as [N, 1, 28, 28].
func (s *images) batch(from, to int) *tensor.Dense[float32] {
	return tensor.From(s.values[from*pixels:to*pixels], to-from, 1, side, side)
}

// load reads the first n images (0: all) of the set "train" or "t10k".
func load(dir, set string, n int) (*images, error) {
	in := data.Input{Name: "input", DType: tensor.Float32, Shape: []int{1, side, side}}
	src, err := data.Open(filepath.Join(dir, set+"-images-idx3-ubyte.gz"), data.Options{Inputs: []data.Input{in}, Preprocess: &normalise})
	if err != nil {
		return nil, err
	}
	if n > 0 && n < src.Len() {
		src = src.Slice(0, n)
	}
	s := &images{values: make([]float32, 0, src.Len()*pixels)}
	for sample, err := range src.All(context.Background()) {
		if err != nil {
			return nil, err
		}
		x, err := tensor.As[float32](sample.Inputs["input"])
		if err != nil {
			return nil, err
		}
		s.values, s.labels = append(s.values, x.Data()...), append(s.labels, sample.Label)
	}
	return s, nil
}
