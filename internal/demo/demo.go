// Package demo embeds a small model and a slice of its data, so that the whole
// pipeline can be shown and tested without any download.
//
// The model is a MobileNetV2-like network for Fashion-MNIST, trained by
// internal/demo/train; the images were cut from the data set by internal/demo/slice
// (LICENSE-fashion-mnist.txt has their licence).
package demo

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"

	"roundel/tensor"
)

// Sizes of the embedded data.
const (
	CalibrationImages = 1024 // the first of the training set
	TestImages        = 2500 // the first of the test set
	side              = 28
)

//go:embed model.onnx
var model []byte

// images holds the grey values of the calibration images, those of the test images, then the test labels.
//
//go:embed images.bin.gz
var images []byte

// Model returns the ONNX file: input "input" [N, 1, 28, 28], output "logits" [N, 10], opset 17,
// BatchNorm separate. The caller must not change it.
func Model() []byte { return model }

// Calibration returns 1,024 unlabelled training images [1024, 1, 28, 28], normalised.
func Calibration() *tensor.Dense[float32] {
	return normalised(grey(0, CalibrationImages*side*side), CalibrationImages)
}

// Test returns 2,500 test images [2500, 1, 28, 28], normalised, with their classes 0 to 9.
func Test() (x *tensor.Dense[float32], labels []int) {
	const first, end = CalibrationImages * side * side, (CalibrationImages + TestImages) * side * side
	b := grey(first, end+TestImages)
	for _, c := range b[end-first:] {
		labels = append(labels, int(c))
	}
	return normalised(b[:end-first], TestImages), labels
}

// normalised maps grey values v to (v/255 − 0.286)/0.353, which has mean 0 and deviation 1 over
// the training set. It rounds as package data does for the preprocessing "unit,mean=0.286,std=0.353".
func normalised(b []byte, n int) *tensor.Dense[float32] {
	x := tensor.New[float32](n, 1, side, side)
	for i, v := range b {
		x.Data()[i] = (float32(float64(v)*(1./255)) - 0.286) / 0.353
	}
	return x
}

// grey decompresses bytes [from, to) of the embedded data. It panics when they cannot be
// had: then the program was built from a damaged tree.
func grey(from, to int) []byte {
	z, err := gzip.NewReader(bytes.NewReader(images))
	if err == nil {
		_, err = io.CopyN(io.Discard, z, int64(from))
	}
	b := make([]byte, to-from)
	if err == nil {
		_, err = io.ReadFull(z, b)
	}
	if err != nil {
		panic(fmt.Sprintf("demo: the embedded images are damaged: %v", err))
	}
	return b
}
