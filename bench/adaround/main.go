// Command adaround compares roundel's rounding with AIMET's and measures how it scales.
//
//	adaround fold MODEL OUT.onnx               the model with constants and batch normalisation folded, for both tools
//	adaround data SOURCE OUT.npy               samples of a data source as one array, and labels beside it when there are any
//	adaround compare  -model M -calib C -test T -aimet DIR -o FILE   losses, layer by layer, on held-out positions
//	adaround network  -model M -calib C -eval E [-aimet DIR] -o FILE whole networks: accuracy, SQNR, seconds of each layer
//	adaround runs     -roundel BIN -model M -calib SOURCE ...        seconds, memory and scores of whole runs of the binary
//	adaround activations -model M -calib C -eval E                  W4A8, rounded with and without quantized activations in the inputs
//	adaround layers                                                  solver seconds against layer size and threads
//	adaround table    FILE...                                        the recorded comparisons as Markdown
//
// bench/run.sh runs them; bench/peers/aimet_adaround.py makes DIR.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"roundel/asm"
	"roundel/data"
	"roundel/nn"
	"roundel/nn/prepare"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/tensor"
)

var commands = map[string]func(context.Context, []string) error{
	"fold": fold, "data": dataToArray, "compare": compare, "network": network,
	"runs": runs, "activations": activations, "layers": layerScaling, "table": table,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: adaround fold|data|compare|network|runs|activations|layers|table ...; see the package comment")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](context.Background(), os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "adaround %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// openGraph reads a model; the graph has everything folded when prepared is set.
func openGraph(ctx context.Context, path string, prepared bool) (*onnx.Model, *nn.Graph, error) {
	m, err := onnx.Read(path)
	if err != nil {
		return nil, nil, err
	}
	g, err := convert.ToGraph(m)
	if err == nil {
		err = nn.Verify(g)
	}
	if err == nil && prepared {
		g, _, err = prepare.Apply(ctx, g, prepare.DefaultConfig())
	}
	if err == nil {
		err = nn.Verify(g)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, g, nil
}

func fold(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("want MODEL OUT.onnx")
	}
	m, g, err := openGraph(ctx, args[0], true)
	if err != nil {
		return err
	}
	folded, err := convert.ToModel(g, m)
	if err != nil {
		return err
	}
	return onnx.Write(args[1], folded)
}

// dataToArray writes samples [from, from+count) of a source, and their labels to OUT_labels.npy.
func dataToArray(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("data", flag.ExitOnError)
	pre := fs.String("preprocess", "", "as of roundel's commands")
	from := fs.Int("from", 0, "first sample")
	count := fs.Int("count", 0, "number of samples; 0 for all")
	_ = fs.Parse(args)
	if fs.NArg() != 2 {
		return fmt.Errorf("want SOURCE OUT.npy after the flags")
	}
	var o data.Options
	if *pre != "" {
		p, err := data.ParsePreprocess(*pre)
		if err != nil {
			return err
		}
		o.Preprocess = &p
	}
	src, err := data.Open(fs.Arg(0), o)
	if err != nil {
		return err
	}
	n := src.Len() - *from
	if *count > 0 {
		n = min(n, *count)
	}
	var all []float32
	var labels []int64
	var shape []int
	for i := range n {
		s, err := src.At(ctx, *from+i)
		if err != nil {
			return err
		}
		for _, x := range s.Inputs {
			t, err := tensor.As[float32](x)
			if err != nil {
				return err
			}
			all, shape = append(all, t.Data()...), t.Shape()[1:]
		}
		labels = append(labels, int64(s.Label))
	}
	if err := data.WriteNpy(fs.Arg(1), tensor.From(all, append([]int{n}, shape...)...)); err != nil {
		return err
	}
	if !src.Labelled() {
		return nil
	}
	return data.WriteNpy(labelsOf(fs.Arg(1)), tensor.From(labels, n))
}

func labelsOf(path string) string {
	return strings.TrimSuffix(path, filepath.Ext(path)) + "_labels.npy"
}

func readArray(path string) (*tensor.Dense[float32], error) {
	v, err := data.ReadNpy(path)
	if err != nil {
		return nil, err
	}
	return tensor.As[float32](v)
}

func newPool(threads int) *tensor.Pool { return tensor.NewPool(threads, asm.Best()) }
