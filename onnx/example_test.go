package onnx_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"roundel/onnx"
)

// A model is read, edited and written; what this package does not know stays as it was.
func Example() {
	m, err := onnx.Read(filepath.Join("convert", "testdata", "clip11.onnx"))
	if err != nil {
		log.Fatal(err)
	}
	for _, n := range m.Graph.Nodes {
		fmt.Println(n.Name, n.OpType, n.Inputs, n.Outputs)
	}
	m.Metadata = append(m.Metadata, &onnx.StringEntry{Key: "edited", Value: "yes"})
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := onnx.Write(filepath.Join(dir, "out.onnx"), m); err != nil {
		log.Fatal(err)
	}
	// Output: n Clip [x lo hi] [y]
}
