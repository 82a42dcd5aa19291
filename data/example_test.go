package data_test

import (
	"context"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"

	"roundel/data"
	"roundel/tensor"
)

// A folder of images whose sub-folders are classes, prepared as torchvision's models expect it.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "photos")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	for _, class := range []string{"cat", "dog"} {
		os.Mkdir(filepath.Join(dir, class), 0o755)
		f, err := os.Create(filepath.Join(dir, class, "1.png"))
		if err != nil {
			fmt.Println(err)
			return
		}
		png.Encode(f, image.NewRGBA(image.Rect(0, 0, 320, 240)))
		f.Close()
	}

	in := data.Input{Name: "input", DType: tensor.Float32, Shape: []int{3, 224, 224}}
	src, err := data.Open(dir, data.Options{Inputs: []data.Input{in}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for sample, err := range src.All(context.Background()) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(sample.Name, sample.Label, sample.Inputs["input"].Shape())
	}
	// Output:
	// cat/1.png 0 [1 3 224 224]
	// dog/1.png 1 [1 3 224 224]
}

func ExampleParsePreprocess() {
	p, err := data.ParsePreprocess("imagenet,resize=232,mean=0.5,std=0.5,bgr")
	fmt.Println(p, err)
	_, err = data.ParsePreprocess("imagenet,rezise=232")
	fmt.Println(err)
	// Output:
	// none,resize=232,crop=224,bgr,scale=0.00392156862745098,mean=0.5,std=0.5 <nil>
	// data: preprocessing "imagenet,rezise=232": "rezise=232": unknown setting; known are resize, size, crop, mean, std, scale, layout, gray, rgb, bgr
}
