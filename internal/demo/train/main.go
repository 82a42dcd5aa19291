// Command train makes the demonstration model: a small MobileNetV2-like network
// for Fashion-MNIST, trained from scratch by package autograd, and written as ONNX
// with its BatchNorms separate.
//
//	go run ./internal/demo/train -data DIR -out internal/demo/model.onnx
//
// The same seed gives the same bytes, for any number of workers and on every CPU.
package main

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"time"

	"roundel/asm"
	"roundel/autograd"
	"roundel/internal/atomicfile"
	"roundel/tensor"
)

type config struct {
	dir, out          string
	seed              uint64
	epochs, batch     int
	limit             int
	lr, decay, smooth float64
	workers           int
}

func main() {
	var c config
	flag.StringVar(&c.dir, "data", "", "folder with the four Fashion-MNIST files (idx, gzip)")
	flag.StringVar(&c.out, "out", "model.onnx", "file to write")
	flag.Uint64Var(&c.seed, "seed", 1, "seed of initialisation, order and augmentation")
	flag.IntVar(&c.epochs, "epochs", 8, "passes over the training set")
	flag.IntVar(&c.batch, "batch", 128, "images per step")
	flag.IntVar(&c.limit, "limit", 0, "use only the first images of both sets (0: all)")
	flag.Float64Var(&c.lr, "lr", 0.1, "largest learning rate")
	flag.Float64Var(&c.decay, "decay", 5e-5, "weight decay of convolutions and classifier")
	flag.Float64Var(&c.smooth, "smoothing", 0.05, "label smoothing")
	flag.IntVar(&c.workers, "workers", 1, "workers; the result does not depend on it")
	flag.Parse()
	if err := run(c); err != nil {
		fmt.Fprintln(os.Stderr, "train:", err)
		os.Exit(1)
	}
}

func run(c config) error {
	train, err := load(c.dir, "train", c.limit)
	if err != nil {
		return err
	}
	test, err := load(c.dir, "t10k", c.limit)
	if err != nil {
		return err
	}
	n := newNet(rand.New(rand.NewPCG(c.seed, 1)))
	t := autograd.New[float32](tensor.NewPool(c.workers, asm.Kernels{}))
	start := time.Now()
	fit(c, n, t, train)
	fmt.Printf("trained for %v\n", time.Since(start).Round(time.Second))
	if err := report(n, t, test); err != nil {
		return err
	}
	b, err := export(n)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %d bytes\n", c.out, len(b))
	return atomicfile.WriteBytes(c.out, b)
}

// fit trains n with Nesterov momentum, a linear warm-up over the first two hundred steps and a cosine decay.
func fit(c config, n *net, t *tape, train *images) {
	weights := &autograd.SGD[float32]{Momentum: 0.9, Nesterov: true, WeightDecay: c.decay}
	others := &autograd.SGD[float32]{Momentum: 0.9, Nesterov: true}
	for _, l := range n.layers() {
		weights.Params = append(weights.Params, l.w)
		others.Params = append(others.Params, l.gamma, l.beta)
	}
	weights.Params = append(weights.Params, n.fcW)
	others.Params = append(others.Params, n.fcB)

	rng := rand.New(rand.NewPCG(c.seed, 2))
	x := tensor.New[float32](c.batch, 1, side, side)
	labels := make([]int, c.batch)
	perEpoch := len(train.labels) / c.batch
	start := time.Now()
	for epoch := range c.epochs {
		order := rng.Perm(len(train.labels))
		total := 0.0
		for step := range perEpoch {
			for i := range c.batch {
				at := order[step*c.batch+i]
				augment(x.Data()[i*pixels:(i+1)*pixels], train.image(at), rng)
				labels[i] = train.labels[at]
			}
			rate := c.lr * schedule(epoch*perEpoch+step, c.epochs*perEpoch)
			weights.LR, others.LR = rate, rate
			loss := t.CrossEntropy(n.train(t, autograd.Const(x)), labels, c.smooth)
			t.Backward(loss, nil)
			weights.Step()
			others.Step()
			total += float64(loss.X.Data()[0])
			t.Reset()
		}
		fmt.Printf("epoch %d of %d: loss %.4f, %v\n", epoch+1, c.epochs, total/float64(perEpoch), time.Since(start).Round(time.Second))
	}
}

// schedule returns the factor of the learning rate at a step: a linear warm-up, then half a cosine.
func schedule(step, steps int) float64 {
	const warm = 200
	f := 0.5 * (1 + tensor.Cos(math.Pi*float64(step)/float64(steps)))
	if step < warm {
		f *= float64(step+1) / warm
	}
	return f
}

// augment writes the image src to dst, shifted by up to two pixels each way and mirrored half of the time.
func augment(dst []float32, src []float32, rng *rand.Rand) {
	dx, dy, mirror := rng.IntN(5)-2, rng.IntN(5)-2, rng.IntN(2) == 1
	for y := range side {
		for x := range side {
			sx, sy := x+dx, y+dy
			if mirror {
				sx = side - 1 - sx
			}
			p := normalise(0) // the background
			if sx >= 0 && sx < side && sy >= 0 && sy < side {
				p = src[sy*side+sx]
			}
			dst[y*side+x] = p
		}
	}
}
