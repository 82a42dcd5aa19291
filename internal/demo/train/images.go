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

// normalise maps a grey value v to (v/255 − 0.286)/0.353: mean 0 and deviation 1 over the training set. Package
// demo may differ from it in the last bit.
func normalise(v byte) float32 { return (float32(v)/255 - 0.286) / 0.353 }

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
	in := data.Input{Name: "input", DType: tensor.Uint8, Shape: []int{1, side, side}}
	src, err := data.Open(filepath.Join(dir, set+"-images-idx3-ubyte.gz"), data.Options{Inputs: []data.Input{in}, Preprocess: &data.Preprocess{}})
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
		grey, err := tensor.As[uint8](sample.Inputs["input"])
		if err != nil {
			return nil, err
		}
		for _, v := range grey.Data() {
			s.values = append(s.values, normalise(v))
		}
		s.labels = append(s.labels, sample.Label)
	}
	return s, nil
}
