package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"roundel/data"
	"roundel/onnx"
	"roundel/tensor"
)

// FuzzCommandLine runs command lines of any words over a few small files: none panics, the exit code is 0, 1 or 2, and a
// failure is said in one last line. Words cannot lead out of the folder: they lose their slashes.
func FuzzCommandLine(f *testing.F) {
	f.Chdir(f.TempDir())
	m := tiny([]*onnx.Node{node("MatMul", "x w", "h"), node("Relu", "h", "r"), node("MatMul", "r v", "y")},
		f32("w", []int64{4, 4}, 0.5, -0.25, 0.75, 0.1, -0.3), f32("v", []int64{4, 3}, 0.2, -0.9, 0.4, 0.6, 0.3))
	x := tensor.From([]float32{1, 2, 3, 4, -1, 0, 5, 6, 0.5, 0.25, 1, -2}, 3, 4)
	err := os.WriteFile("m.onnx", m.Encode(), 0o666)
	if err == nil {
		err = data.WriteNpy("x.npy", x)
	}
	if err == nil {
		err = os.WriteFile("junk", []byte("\x00\x01junk"), 0o666)
	}
	if err != nil {
		f.Fatal(err)
	}
	seeds := []string{
		"", "help", "version", "version --licenses", "inspect m.onnx --layers", "inspect junk", "run m.onnx --input x=x.npy -o out", "run m.onnx --input x=x.npy -o out --fetch h,r",
		"run m.onnx --reference --input x=x.npy -o out", "quantize m.onnx --calib x.npy -o out --progress off", "quantize m.onnx --calib x.npy -o out --resume --no-qdq --param-bits 8",
		"quantize m.onnx --calib x.npy --eval x.npy -o out --solver adam --iterations 20 --lr 0.01 --seed 3 --progress json",
		"quantize m.onnx --calib x.npy -o out --scheme percentile --output-bits 16 --encoding-version 2.0.0 --bits n_h=8 --ignore n_y --threads 2",
		"quantize m.onnx --calib x.npy -o out --config default --mem 10M --positions 7 --batch-size 2 --samples 2 --preprocess none",
		"adaround m.onnx --calib x.npy -o out --prefix p", "adaround m.onnx --calib x.npy -o m.onnx", "eval m.onnx --data x.npy --labels junk", "eval m.onnx --data x.npy --against m.onnx",
		"eval m.onnx --data x.npy --encodings junk", "check m.onnx junk", "demo -o out", "quantize -- m.onnx", "quantize m.onnx --calib x.npy -o out --mem 1", "quantize -h", "--", "quantize m.onnx --calib= -o=",
	}
	for _, s := range seeds {
		f.Add(strings.ReplaceAll(s, " ", "\n"))
	}
	f.Fuzz(func(t *testing.T, line string) {
		if len(line) > 1000 {
			return
		}
		args := strings.Split(strings.ReplaceAll(strings.ReplaceAll(line, "/", "_"), `\`, "_"), "\n")
		if line == "" {
			args = nil
		}
		for _, a := range args { // above the folder
			if strings.Contains(a, "..") {
				return
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if len(args) > 0 && args[0] == "demo" {
			cancel() // it takes too long
		}
		before, err := os.ReadFile("m.onnx")
		if err != nil {
			t.Fatal(err)
		}
		var out, msg bytes.Buffer
		code := run(ctx, &environment{&out, &msg}, args)
		text := strings.TrimRight(msg.String(), "\n")
		switch {
		case code != exitOK && code != exitFailure && code != exitUsage:
			t.Errorf("exit code %d", code)
		case code != exitOK && len(args) > 0 && !strings.HasPrefix(text[strings.LastIndexByte(text, '\n')+1:], "roundel"):
			t.Errorf("exit code %d, and the last line is not ours: %q", code, text)
		}
		if after, err := os.ReadFile("m.onnx"); err != nil || !bytes.Equal(before, after) {
			t.Errorf("the model was changed: %v", err)
		}
	})
}
