package nn

import (
	"sync"

	"roundel/asm"
	"roundel/tensor"
)

// WeightCache keeps what is derived from constants once for all programs that
// share it: packed convolution and GEMM weights, weights with a folded
// BatchNormalization, and nodes whose inputs are all constants.
//
// Entries are keyed by the identity of the constant tensor (its pointer), the
// parameters and the ISA, so a tensor must not be changed after it was used.
// A WeightCache may be used from several goroutines.
type WeightCache struct {
	mu     sync.Mutex
	conv   map[convKey]*tensor.PackedConv
	gemm   map[gemmKey]*tensor.PackedGemm
	folded map[foldKey][]tensor.Any
	bytes  int64
}

// NewWeightCache returns an empty cache.
func NewWeightCache() *WeightCache {
	return &WeightCache{conv: map[convKey]*tensor.PackedConv{}, gemm: map[gemmKey]*tensor.PackedGemm{},
		folded: map[foldKey][]tensor.Any{}}
}

type convKey struct {
	w      *tensor.Dense[float32]
	params tensor.ConvParams
	isa    string

	winograd bool
}

type gemmKey struct {
	b      *tensor.Dense[float32]
	transB bool
	isa    string
}

// foldKey names the result of a computation on constants: the node that asks
// for it and the identities of up to six inputs.
type foldKey struct {
	node *Node
	what string
	in   [6]tensor.Any
}

// Bytes returns the memory that packed and derived weights take, about 4 bytes per weight each.
func (c *WeightCache) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// Forget drops everything that was derived from t. Call it for a replaced
// constant, for instance after a rounding step made a new weight tensor.
// Programs that were compiled before keep working.
func (c *WeightCache) Forget(t tensor.Any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(t)
}

func (c *WeightCache) forget(t tensor.Any) {
	f, _ := t.(*tensor.Dense[float32])
	for k := range c.conv {
		if f != nil && k.w == f {
			c.bytes -= c.conv[k].Bytes()
			delete(c.conv, k)
		}
	}
	for k := range c.gemm {
		if f != nil && k.b == f {
			c.bytes -= c.gemm[k].Bytes()
			delete(c.gemm, k)
		}
	}
	for k, vs := range c.folded {
		for _, in := range k.in {
			if in != nil && in == t {
				delete(c.folded, k)
				for _, v := range vs {
					c.bytes -= sizeOf(v)
					c.forget(v)
				}
				break
			}
		}
	}
}

func sizeOf(v tensor.Any) int64 {
	if v == nil {
		return 0
	}
	return int64(v.Len()) * int64(v.DType().Size())
}

// packConv packs the weights w of a convolution, perhaps for Winograd's algorithm.
func (c *WeightCache) packConv(k asm.Kernels, p tensor.ConvParams, w *tensor.Dense[float32], winograd bool) *tensor.PackedConv {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := convKey{w, p, k.ISA, winograd}
	if v, ok := c.conv[key]; ok {
		return v
	}
	pack := tensor.PackConv
	if winograd {
		pack = tensor.PackWinograd
	}
	v := pack(k, p, w.Data())
	c.conv[key] = v
	c.bytes += v.Bytes()
	return v
}

// packGemm packs the right operand b, [K, N] or with transB [N, K].
func (c *WeightCache) packGemm(k asm.Kernels, b *tensor.Dense[float32], transB bool) *tensor.PackedGemm {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := gemmKey{b, transB, k.ISA}
	if v, ok := c.gemm[key]; ok {
		return v
	}
	rows, cols := b.Shape()[0], b.Shape()[1]
	if transB {
		rows, cols = cols, rows
	}
	v := tensor.PackGemm(k, b.Data(), rows, cols, transB)
	c.gemm[key] = v
	c.bytes += v.Bytes()
	return v
}

// fold returns the cached result of f for the inputs, or calls f. More inputs than a key holds are not cached.
func (c *WeightCache) fold(n *Node, what string, inputs []tensor.Any, f func() ([]tensor.Any, error)) ([]tensor.Any, error) {
	key := foldKey{node: n, what: what}
	if len(inputs) > len(key.in) {
		return f()
	}
	copy(key.in[:], inputs)
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.folded[key]; ok {
		return v, nil
	}
	v, err := f()
	if err != nil {
		return nil, err
	}
	c.folded[key] = v
	for _, t := range v {
		c.bytes += sizeOf(t)
	}
	return v, nil
}
