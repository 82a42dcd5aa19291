package adaround

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"

	"roundel/nn"
	"roundel/tensor"
)

// sampler collects the columns and targets of one layer at chosen positions. Every
// image gives the same number of positions, drawn by a stream of its own that
// depends on seed, layer and image only. Solving rows are in random order.
type sampler struct {
	l       *layer
	seed    uint64
	each    int   // positions of one image
	slot    []int // image -> its first row in a list of solving rows, or -1-row of held-out rows
	shuffle []int // solving row -> place
	p       *Problem
	targets *targets
}

// split chooses which images are held out: true for about a share of them, the same for every layer.
func split(images int, share float64, seed uint64) []bool {
	held := make([]bool, images)
	count := int(float64(share*float64(images)) + 0.5)
	if share > 0 && images > 1 {
		count = max(count, 1)
	}
	rng := rand.New(rand.NewPCG(seed, 0x68656c64))
	for _, i := range rng.Perm(images)[:count] {
		held[i] = true
	}
	return held
}

// depthwisePositions bounds the positions of layers whose outputs have columns of
// their own: they have few weights for each, and their columns are many.
const depthwisePositions = 4096

// newSampler plans each positions for every image. held says which images only judge.
func newSampler(l *layer, held []bool, each int, seed uint64, pool *tensor.Pool) *sampler {
	s := &sampler{l: l, seed: streamSeed(seed, l.node.Name), each: each, p: l.problem()}
	for _, h := range held {
		if h {
			s.slot = append(s.slot, -1-s.p.HeldOut.P)
			s.p.HeldOut.P += each
		} else {
			s.slot = append(s.slot, s.p.Solve.P)
			s.p.Solve.P += each
		}
	}
	rng := rand.New(rand.NewPCG(s.seed, 0x73687566))
	s.shuffle = rng.Perm(s.p.Solve.P)
	for _, part := range []*Samples{&s.p.Solve, &s.p.HeldOut} {
		part.A = make([]float32, s.p.Groups*part.P*s.p.K)
		part.Y = make([]float32, part.P*s.p.O)
	}
	s.targets = newTargets(s.p, pool)
	return s
}

// positionsPerImage returns how many positions of a layer each image gives.
func positionsPerImage(l *layer, total, images, available int) int {
	if l.geo.outs == 1 && l.geo.groups > 1 {
		total = min(total, depthwisePositions)
	}
	return min(max((total+images/2)/images, 1), available)
}

// streamSeed derives the seed of a layer's own streams.
func streamSeed(seed uint64, name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64() ^ seed*0x9e3779b97f4a7c15
}

// take samples the images of a view: columns of the rounded network, targets from
// the columns of the float one. scratch belongs to the view's worker.
func (s *sampler) take(v view, scratch *sampleScratch) error {
	if err := finite(v, s.l.input, v.data); err != nil {
		return err
	}
	r, err := s.l.geo.bind(v.shape, v.layout)
	if err != nil {
		if v.layout != nn.NHWC {
			return err
		}
		tap := nn.Tap{Data: v.data, Shape: v.shape, Layout: v.layout}
		v.data, v.layout = tap.RowMajor(nil), nn.RowMajor
		if r, err = s.l.geo.bind(v.shape, v.layout); err != nil {
			return err
		}
	}
	scratch.resize(s)
	count := r.batch * r.positions / v.images
	for i := range v.images {
		if err := s.takeImage(v, r, v.first+i, i*count, count, scratch); err != nil {
			return err
		}
	}
	return nil
}

// finite returns an error that names the tensor if it has a NaN or an infinity: no loss can be computed from these.
func finite(v view, name string, x []float32) error {
	i := tensor.FirstNonFinite(x)
	if i < 0 {
		return nil
	}
	network := "the float network"
	if !v.float {
		network = "the rounded network"
	}
	return fmt.Errorf("tensor %q of %s has %v for calibration image %d: look for bad samples or for the operator that overflows, "+
		"or leave the layer in float", name, network, x[i], v.first)
}

// takeImage samples the image whose positions are [first, first+count) of the view.
func (s *sampler) takeImage(v view, r *reader, image, first, count int, scratch *sampleScratch) error {
	rng := rand.New(rand.NewPCG(s.seed, uint64(image)))
	part, row := &s.p.Solve, s.slot[image]
	if row < 0 {
		part, row = &s.p.HeldOut, -1-row
	}
	k := s.p.K
	for i, pos := range choose(rng, count, s.each) {
		at := row + i
		if part == &s.p.Solve {
			at = s.shuffle[at]
		}
		scratch.place[i] = at
		pos += first
		if v.rounded {
			r.read(part.A[at*k:], part.P*k, v.data, pos/r.positions, pos%r.positions)
		}
		if v.float {
			r.read(scratch.a[i*k:], s.each*k, v.data, pos/r.positions, pos%r.positions)
		}
	}
	if !v.float {
		return nil
	}
	return finite(v, s.l.node.Out(0), s.targets.compute(scratch, part))
}

// choose draws count of n numbers, distinct while there are enough (Floyd's algorithm), in ascending order.
func choose(rng *rand.Rand, n, count int) []int {
	out := make([]int, 0, count)
	for len(out) < count-min(count, n) {
		out = append(out, rng.IntN(n))
	}
	seen := make(map[int]bool, count)
	for j := n - min(count, n); j < n; j++ {
		v := rng.IntN(j + 1)
		if seen[v] {
			v = j
		}
		seen[v] = true
		out = append(out, v)
	}
	slices.Sort(out)
	return out
}

// sampleScratch is one worker's memory for one image.
type sampleScratch struct {
	a     []float32 // [Groups][each][K] columns of the float network
	y     []float32 // [each][outs] of one group
	place []int     // row of each position
	pool  *tensor.Pool
}

func (w *sampleScratch) resize(s *sampler) {
	if n := s.p.Groups * s.each * s.p.K; len(w.a) < n {
		w.a = make([]float32, n)
	}
	if n := s.each * s.p.outs(); len(w.y) < n {
		w.y = make([]float32, n)
	}
	if cap(w.place) < s.each {
		w.place = make([]int, s.each)
	}
	w.place = w.place[:s.each]
}

// targets computes the float network's outputs from its columns.
type targets struct {
	p      *Problem
	packed []*tensor.PackedGemm // one per group, nil for single outputs
}

func newTargets(p *Problem, pool *tensor.Pool) *targets {
	t := &targets{p: p}
	if p.outs() == 1 {
		return t
	}
	t.packed = make([]*tensor.PackedGemm, p.Groups)
	rows := p.outs() * p.K
	pool.For(p.Groups, func(_, g int) {
		t.packed[g] = tensor.PackGemm(pool.Kernels(), p.Weight[g*rows:(g+1)*rows], p.K, p.outs(), true)
	})
	return t
}

// compute stores the targets of one image's columns at their places. It returns those of one group that has a NaN or
// an infinity, nil if there is none.
func (t *targets) compute(w *sampleScratch, part *Samples) (bad []float32) {
	outs, k := t.p.outs(), t.p.K
	each := len(w.place)
	for g := range t.p.Groups {
		a := w.a[g*each*k : (g+1)*each*k]
		y := w.y[:each*outs]
		ep := tensor.Epilogue{}
		if t.p.Bias != nil {
			ep.Bias = t.p.Bias[g*outs : (g+1)*outs]
		}
		if outs > 1 {
			t.packed[g].Run(y, outs, a, k, each, ep, w.pool)
		} else {
			for i := range y {
				y[i] = weighted(a[i*k:(i+1)*k], t.p.Weight[g*k:(g+1)*k])
				if ep.Bias != nil {
					y[i] += ep.Bias[0]
				}
			}
		}
		to := part.targets(g, outs)
		for i, at := range w.place {
			copy(to[at*outs:(at+1)*outs], y[i*outs:])
		}
		if tensor.FirstNonFinite(y) >= 0 {
			return y
		}
	}
	return nil
}

// weighted returns Σ a_i·w_i, each product rounded before it is added.
func weighted(a, w []float32) float32 {
	var sum float32
	for i, v := range a {
		sum += float32(v * w[i])
	}
	return sum
}
