// Command gopeers times matrix products of other pure-Go libraries for bench/ops:
//
//	gopeers gonum|gomlx
//
// It answers the requests of bench/peers/op_server.py on standard input. It is a
// module of its own, so that roundel depends on none of them.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"time"

	"github.com/gomlx/gomlx/backends"
	"github.com/gomlx/gomlx/backends/simplego"
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/shapes"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

type request struct {
	Op      string
	M, N, K int
	Run     float64
}

// products makes a product of m x k and k x n to be run again and again, by library.
var products = map[string]func(m, n, k int) (func() error, error){"gonum": gonum, "gomlx": gomlx}

var modules = map[string]string{"gonum": "gonum.org/v1/gonum", "gomlx": "github.com/gomlx/gomlx"}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 || products[os.Args[1]] == nil {
		log.Fatal("usage: gopeers gonum|gomlx")
	}
	if err := serve(os.Args[1]); err != nil {
		log.Fatal("gopeers: ", err)
	}
}

func serve(name string) error {
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(map[string]string{"version": version(name)}); err != nil {
		return err
	}
	var run func() error
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return err
		}
		answer := map[string]float64{}
		var err error
		switch {
		case r.Op == "gemm":
			if run, err = products[name](r.M, r.N, r.K); err != nil {
				return err
			}
		case run == nil:
			return errors.New("a product comes first")
		default:
			if answer["time"], err = repeat(run, r.Run); err != nil {
				return err
			}
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func version(name string) string {
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, m := range info.Deps {
			if m.Path == modules[name] {
				return m.Path + " " + m.Version
			}
		}
	}
	return name
}

func repeat(f func() error, seconds float64) (float64, error) {
	start := time.Now()
	for n := 1; ; n++ {
		if err := f(); err != nil {
			return 0, err
		}
		if spent := time.Since(start).Seconds(); spent >= seconds {
			return spent / float64(n), nil
		}
	}
}

func gonum(m, n, k int) (func() error, error) {
	a := blas32.General{Rows: m, Cols: k, Stride: k, Data: random(m * k)}
	b := blas32.General{Rows: k, Cols: n, Stride: n, Data: random(k * n)}
	c := blas32.General{Rows: m, Cols: n, Stride: n, Data: make([]float32, m*n)}
	return func() error { blas32.Gemm(blas.NoTrans, blas.NoTrans, 1, a, b, 0, c); return nil }, nil
}

func gomlx(m, n, k int) (func() error, error) {
	backend, err := simplego.New("")
	if err != nil {
		return nil, err
	}
	build := backend.Builder("product")
	var buffers []backends.Buffer
	var ops []backends.Op
	for i, dims := range [][]int{{m, k}, {k, n}} {
		shape := shapes.Make(dtypes.Float32, dims...)
		op, err := build.Parameter(fmt.Sprint("x", i), shape, nil)
		if err != nil {
			return nil, err
		}
		buffer, err := backend.BufferFromFlatData(0, random(dims[0]*dims[1]), shape)
		if err != nil {
			return nil, err
		}
		ops, buffers = append(ops, op), append(buffers, buffer)
	}
	dot, err := build.Dot(ops[0], ops[1])
	if err != nil {
		return nil, err
	}
	exec, err := build.Compile([]backends.Op{dot}, nil)
	if err != nil {
		return nil, err
	}
	return func() error {
		outs, err := exec.Execute(buffers, nil, 0)
		if err != nil {
			return err
		}
		return backend.BufferFinalize(outs[0])
	}, nil
}

func random(n int) []float32 {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(r.NormFloat64())
	}
	return s
}
