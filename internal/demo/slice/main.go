// Command slice cuts the images that package demo embeds out of Fashion-MNIST: the
// grey values of the first 1,024 training images and of the first 2,500 test images,
// then the labels of the latter, all bytes, compressed.
//
//	go run ./internal/demo/slice -data DIR -out internal/demo/images.bin.gz
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"roundel/data"
	"roundel/internal/atomicfile"
	"roundel/internal/demo"
	"roundel/tensor"
)

func main() {
	dir := flag.String("data", "", "folder with the four Fashion-MNIST files (idx, gzip)")
	out := flag.String("out", "images.bin.gz", "file to write")
	flag.Parse()
	if err := run(*dir, *out); err != nil {
		fmt.Fprintln(os.Stderr, "slice:", err)
		os.Exit(1)
	}
}

func run(dir, out string) error {
	calibration, _, err := read(dir, "train", demo.CalibrationImages)
	if err != nil {
		return err
	}
	test, labels, err := read(dir, "t10k", demo.TestImages)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	for _, part := range [][]byte{calibration, test, labels} {
		if _, err := z.Write(part); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	return atomicfile.WriteBytes(out, b.Bytes())
}

// read returns the grey values and the labels of the first n images of a set.
func read(dir, set string, n int) (grey, labels []byte, err error) {
	src, err := data.Open(filepath.Join(dir, set+"-images-idx3-ubyte.gz"), data.Options{Preprocess: &data.Preprocess{}})
	if err != nil {
		return nil, nil, err
	}
	if src.Len() < n {
		return nil, nil, fmt.Errorf("%s has %d images of %s, want %d", dir, src.Len(), set, n)
	}
	for s, err := range src.Slice(0, n).All(context.Background()) {
		if err != nil {
			return nil, nil, err
		}
		x, err := tensor.As[uint8](s.Inputs["input"])
		if err != nil {
			return nil, nil, err
		}
		grey, labels = append(grey, x.Data()...), append(labels, byte(s.Label))
	}
	return grey, labels, nil
}
