package data_test

import (
	"context"
	"testing"

	"roundel/data"
	"roundel/internal/golden"
	"roundel/tensor"
)

// open reads the first sample of a source of one input.
func open(t *testing.T, path string, p data.Preprocess) tensor.Any {
	t.Helper()
	s, err := data.Open(path, data.Options{Preprocess: &p})
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.At(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return v.Inputs["input"]
}

// TestImagesGolden compares decoding, resizing and normalising with Pillow and torchvision. PNG is exact to the
// end. JPEG differs from libjpeg in the last bit of the inverse DCT only: at least 96 % of samples are equal.
func TestImagesGolden(t *testing.T) {
	golden.Each(t, "images", func(t *testing.T, m *golden.Manifest) {
		path := m.InputFile(t, "image")
		jpeg := path[len(path)-4:] == ".jpg"
		plain := data.Preprocess{Layout: data.NHWC}
		rgb := golden.NpyOf[uint8](t, m.WantFile(t, "rgb"))
		comparePixels(t, "rgb", m, "rgb", open(t, path, plain), rgb, jpeg)

		plain.Resize, plain.Crop = 256, 224
		resized := golden.NpyOf[uint8](t, m.WantFile(t, "resized_cropped_rgb"))
		comparePixels(t, "resized", m, "resized", open(t, path, plain), resized, jpeg)

		var step int
		m.Param(t, "tensor_stride", &step)
		full := tensor.Any(open(t, path, data.Imagenet()))
		for axis := 2; axis < 4; axis++ {
			full = tensor.SliceAxis(full, axis, 0, (224+step-1)/step, step)
		}
		want := m.Want(t, "tensor")
		atol := 0.0 // torch computes the same three float32 operations
		if jpeg {
			atol = m.Tol(t, "resized_max_abs") / 255 / .224
		}
		if err := golden.Close(tensor.ReshapeAny(full, want.Shape()), want, 0, atol); err != nil {
			t.Errorf("tensor: %v", err)
		}
	})
}

func comparePixels(t *testing.T, what string, m *golden.Manifest, tol string, got tensor.Any, want *tensor.Dense[uint8], jpeg bool) {
	t.Helper()
	got = tensor.Cast(tensor.ReshapeAny(got, want.Shape()), tensor.Uint8)
	if !jpeg {
		if err := golden.Close(got, want, 0, 0); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	sum, same, largest := 0, 0, 0
	for i, v := range got.(*tensor.Dense[uint8]).Data() {
		d := int(v) - int(want.Data()[i])
		d = max(d, -d)
		sum += d
		largest = max(largest, d)
		if d == 0 {
			same++
		}
	}
	n := float64(want.Len())
	t.Logf("%s: %.2f%% equal, mean difference %.4f, largest %d", what, 100*float64(same)/n, float64(sum)/n, largest)
	if float64(largest) > m.Tol(t, tol+"_max_abs") || float64(sum)/n > m.Tol(t, tol+"_mean_abs") || float64(same)/n < 0.96 {
		t.Errorf("%s is further from the reference than a different inverse DCT explains", what)
	}
}
