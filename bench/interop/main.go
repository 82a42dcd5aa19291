// Command interop writes what other tools are compared on: models simulated in several
// precisions, exported in every format, with inputs and our own outputs beside them.
//
//	go run ./bench/interop -shared ../shared -out /tmp/interop
//
// Then qdq_ort.py runs the QDQ models in ONNX Runtime, and aimet.py loads the encodings
// into AIMET's simulation and AIMET's into ours. Users need none of this.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"roundel/asm"
	"roundel/data"
	"roundel/internal/atomicfile"
	"roundel/nn"
	"roundel/nn/prepare"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/quantsim/export"
	"roundel/quantsim/integer"
	"roundel/tensor"
)

// network is a model with its data.
type network struct {
	name, model, calib, eval, preprocess string
}

var networks = []network{
	{"mobilenet_v2", "models/mobilenet_v2.onnx", "data/photos-calib", "data/photos-eval", "imagenet"},
	{"resnet18_random", "models/resnet18_random.onnx", "data/photos-calib", "data/photos-eval", "imagenet"},
	{"fashion_mobilenet", "models/fashion_mobilenet.onnx", fashion + "train-images-idx3-ubyte.gz", fashion + "t10k-images-idx3-ubyte.gz", "unit,mean=0.2860,std=0.3530"},
	{"fashion_resnet", "models/fashion_resnet.onnx", fashion + "train-images-idx3-ubyte.gz", fashion + "t10k-images-idx3-ubyte.gz", "unit,mean=0.2860,std=0.3530"},
}

const fashion = "data/fashion-mnist/"

// precision is one way to quantize.
type precision struct {
	name            string
	params, outputs int
	rules           string
	scheme          encoding.Scheme
}

var precisions = []precision{
	{"w8a8", 8, 8, "default", encoding.SchemeTF},
	{"w8a8_per_tensor", 8, 8, "default_per_tensor", encoding.SchemeTF},
	{"w4a8", 4, 8, "default", encoding.SchemeTFEnhanced},
	{"w4a8_per_tensor", 4, 8, "default_per_tensor", encoding.SchemeTFEnhanced},
	{"w8a16", 8, 16, "default", encoding.SchemeTF},
	{"w8a16_per_tensor", 8, 16, "default_per_tensor", encoding.SchemeTF},
	{exactName, 8, 8, "default", encoding.SchemeTF},
}

// exactName is the precision that leaves rounding no choice (powersOfTwo).
const exactName = "w8a8_exact"

// result is what measure.json of a case holds.
type result struct {
	Model, Precision, Scheme  string
	Calibration, Evaluation   int
	FloatSeconds, SimSeconds  float64 // of the evaluation images
	CalibrateSeconds          float64
	CalibrateFloatSeconds     float64 // of the calibration images, without calibrating
	ParamBits, ActivationBits int
	IntegerNodes              int      // computed in whole numbers by package integer
	FloatNodes                []string // not
}

type settings struct {
	shared, out, only string
	calib, eval       int
	workers           int
	keepCalib         bool
	rounds            int
	scheme            string
	exactName         bool
}

func main() {
	var o settings
	flag.StringVar(&o.shared, "shared", "../shared", "folder with models and data")
	flag.StringVar(&o.out, "out", "", "folder to write")
	flag.StringVar(&o.only, "only", "", "only cases whose name, model-precision, contains this")
	flag.IntVar(&o.calib, "calib", 64, "calibration images")
	flag.IntVar(&o.eval, "eval", 128, "evaluation images")
	flag.IntVar(&o.workers, "workers", 2, "workers")
	flag.BoolVar(&o.exactName, "exact-name", false, "-only is the whole name of a case")
	flag.IntVar(&o.rounds, "rounds", 1, "times are medians of so many")
	flag.StringVar(&o.scheme, "scheme", "", "calibrate by this scheme, not by that of the case")
	flag.BoolVar(&o.keepCalib, "keep-calib", false, "write the calibration batches too, for aimet.py")
	load := flag.String("load", "", "instead: run the simulation of -base with the encodings of this file on x.npy beside it, and write -result")
	base := flag.String("base", "", "with -load: float model; if it is the same file, a QDQ model to import")
	res := flag.String("result", "", "with -load: file to write")
	images := flag.Int("images", 0, "with -load: only so many")
	vals := flag.String("values", "", "instead: write float activations of -base and their encodings to this folder, for aimet_values.py")
	flag.Parse()
	var err error
	switch {
	case *load != "":
		err = loadAndRun(*load, *base, *res, *images)
	case *vals != "":
		err = values(*base, *vals)
	default:
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(o settings) error {
	if o.out == "" {
		return errors.New("interop: -out is missing")
	}
	for _, n := range networks {
		for _, p := range precisions {
			if name := n.name + "-" + p.name; name == o.only || !o.exactName && strings.Contains(name, o.only) {
				r, err := one(o, n, p, filepath.Join(o.out, name))
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				fmt.Printf("%-32s simulation %.2f x float, calibration %.2f x float (%.3f and %.3f s of float)\n", name,
					r.SimSeconds/r.FloatSeconds, r.CalibrateSeconds/r.CalibrateFloatSeconds, r.FloatSeconds, r.CalibrateFloatSeconds)
			}
		}
	}
	return nil
}

// one makes one case.
func one(o settings, n network, p precision, dir string) (*result, error) {
	base, err := onnx.Read(filepath.Join(o.shared, n.model))
	if err != nil {
		return nil, err
	}
	g, err := convert.ToGraph(base)
	if err != nil {
		return nil, err
	}
	if p.name == exactName { // every layer gets a bias
		if g, _, err = prepare.Apply(context.Background(), g, prepare.DefaultConfig()); err != nil {
			return nil, err
		}
	}
	pre, err := data.ParsePreprocess(n.preprocess)
	if err != nil {
		return nil, err
	}
	input := g.Inputs[0].Name
	opt := data.Options{Inputs: []data.Input{{Name: input}}, Preprocess: &pre}
	calib, err := batches(filepath.Join(o.shared, n.calib), opt, input, o.calib, 16)
	if err != nil {
		return nil, err
	}
	x, err := batches(filepath.Join(o.shared, n.eval), opt, input, o.eval, o.eval)
	if err != nil {
		return nil, err
	}
	if o.scheme != "" {
		if p.scheme, err = encoding.ParseScheme(o.scheme); err != nil {
			return nil, err
		}
	}
	cfg := quantsim.DefaultConfig()
	cfg.ParamBits, cfg.OutputBits, cfg.ConfigFile, cfg.Method.Scheme, cfg.Workers = p.params, p.outputs, p.rules, p.scheme, o.workers
	s, err := quantsim.New(g, cfg)
	if err != nil {
		return nil, err
	}
	r := &result{Model: n.model, Precision: p.name, Scheme: p.scheme.String(), Calibration: o.calib, Evaluation: o.eval, ParamBits: p.params, ActivationBits: p.outputs}
	float, err := nn.Compile(context.Background(), g, nn.CompileOptions{Pool: tensor.NewPool(o.workers, asm.Best())})
	if err != nil {
		return nil, err
	}
	if err := r.measure(float, s, calib, x[0], max(o.rounds, 1)); err != nil {
		return nil, err
	}
	if p.name == exactName {
		if s, err = powersOfTwo(g, s, cfg); err != nil {
			return nil, err
		}
		if float, err = nn.Compile(context.Background(), s.Graph(), nn.CompileOptions{Pool: tensor.NewPool(o.workers, asm.Best())}); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	if o.keepCalib {
		for i, b := range calib {
			if err := data.WriteNpy(filepath.Join(dir, fmt.Sprintf("calib%d.npy", i)), b[input]); err != nil {
				return nil, err
			}
		}
	}
	return r, r.write(float, s, base, x[0], dir, g.Outputs[0].Name)
}

// measure times float and simulation, calibrating on the way.
func (r *result) measure(float *nn.Program, s *quantsim.Sim, calib []map[string]tensor.Any, x map[string]tensor.Any, rounds int) error {
	ctx := context.Background()
	timed := func(dst *float64, f func() error) error {
		start := time.Now()
		err := f()
		*dst = time.Since(start).Seconds()
		return err
	}
	var all []result
	pass := func() error {
		for _, b := range calib {
			if _, err := float.Run(ctx, b); err != nil {
				return err
			}
		}
		return nil
	}
	compute := func() error {
		return s.ComputeEncodings(ctx, func(run func(map[string]tensor.Any) error) error {
			for _, b := range calib {
				if err := run(b); err != nil {
					return err
				}
			}
			return nil
		})
	}
	forward := func() error { _, err := s.Forward(ctx, x); return err }
	plain := func() error { _, err := float.Run(ctx, x); return err }
	if err := errors.Join(pass(), compute(), plain(), forward()); err != nil {
		return err
	}
	for range rounds {
		var t result
		if err := errors.Join(timed(&t.CalibrateFloatSeconds, pass), timed(&t.CalibrateSeconds, compute)); err != nil {
			return err
		}
		// The simulation is compiled anew after a calibration; that is not timed.
		if err := errors.Join(forward(), timed(&t.FloatSeconds, plain), timed(&t.SimSeconds, forward)); err != nil {
			return err
		}
		all = append(all, t)
	}
	median := func(f func(result) float64) float64 {
		var v []float64
		for _, t := range all {
			v = append(v, f(t))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	r.CalibrateFloatSeconds = median(func(t result) float64 { return t.CalibrateFloatSeconds })
	r.CalibrateSeconds = median(func(t result) float64 { return t.CalibrateSeconds })
	r.FloatSeconds = median(func(t result) float64 { return t.FloatSeconds })
	r.SimSeconds = median(func(t result) float64 { return t.SimSeconds })
	return nil
}

// write writes the files of a case.
func (r *result) write(float *nn.Program, s *quantsim.Sim, base *onnx.Model, x map[string]tensor.Any, dir, output string) error {
	for _, v := range []string{"0.6.1", "1.0.0", "2.0.0"} {
		if err := export.Write(s, base, dir, "net-"+v, export.Options{Version: v, NoModel: true}); err != nil {
			return err
		}
	}
	if err := export.Write(s, base, dir, "net", export.Options{QDQ: true}); err != nil {
		return err
	}
	ctx := context.Background()
	want, err := float.Run(ctx, x)
	if err != nil {
		return err
	}
	got, err := s.Forward(ctx, x)
	if err != nil {
		return err
	}
	files := map[string]tensor.Any{"x": x[s.Graph().Inputs[0].Name], "float": want[output], "sim": got[output]}
	if r.ActivationBits <= 8 {
		m, err := integer.Lower(s)
		if err != nil {
			return err
		}
		p, err := m.Compile(context.Background(), nn.CompileOptions{})
		if err != nil {
			return err
		}
		whole, err := p.Run(ctx, x)
		if err != nil {
			return err
		}
		r.IntegerNodes, r.FloatNodes = len(m.Integer), m.Float
		// ONNX Runtime has integer kernels for 8-bit weights: 4 bits go into a container of 8.
		o := export.Options{NoModel: true, QDQ: true, QDQModel: export.QDQOptions{KeepOpset: true}}
		if err := export.Write(s, base, dir, "net-int8", o); err != nil {
			return err
		}
		files["integer"] = whole[output]
	}
	for name, v := range files {
		if err := data.WriteNpy(filepath.Join(dir, name+".npy"), v); err != nil {
			return err
		}
	}
	return atomicfile.Write(filepath.Join(dir, "measure.json"), func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	})
}

// batches reads the first n samples of a source, size at a time.
func batches(path string, o data.Options, input string, n, size int) ([]map[string]tensor.Any, error) {
	src, err := data.Open(path, o)
	if err != nil {
		return nil, err
	}
	var out []map[string]tensor.Any
	for lo := 0; lo < min(n, src.Len()); lo += size {
		hi := min(lo+size, n, src.Len())
		var all []float32
		var shape tensor.Shape
		for i := lo; i < hi; i++ {
			s, err := src.At(context.Background(), i)
			if err != nil {
				return nil, err
			}
			t, err := tensor.As[float32](s.Inputs[input])
			if err != nil {
				return nil, err
			}
			all, shape = append(all, t.Data()...), t.Shape().Clone()
		}
		shape[0] = hi - lo
		out = append(out, map[string]tensor.Any{input: tensor.From(all, shape...)})
	}
	return out, nil
}
