package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"roundel/data"
	"roundel/nn"
	"roundel/tensor"
)

// typed makes a float32 value; negative extents are open, and have the symbol of syms at the same place.
func typed(name, syms string, dims ...int) nn.ValueInfo {
	t := nn.Type{DType: tensor.Float32, Dims: []nn.Dim{}, Ranked: true}
	for i, d := range dims {
		dim := nn.Dim{Size: d}
		if d < 0 && i < len(syms) && syms[i] != '_' {
			dim.Sym = syms[i : i+1]
		}
		t.Dims = append(t.Dims, dim)
	}
	return nn.ValueInfo{Name: name, Type: t}
}

// TestBatchAxes: which dimension of each input counts samples, and which inputs are states.
func TestBatchAxes(t *testing.T) {
	const no = data.NoBatch
	lstm := &nn.Node{Name: "l", Op: "LSTM", Inputs: []string{"x", "w", "r", "", "", "h", "hc"}, Outputs: []string{"y"}}
	cut := &nn.Node{Name: "s", Op: "Squeeze", Inputs: []string{"c"}, Outputs: []string{"hc"}}
	for _, tt := range []struct {
		name   string
		ins    []nn.ValueInfo
		out    nn.ValueInfo
		nodes  []*nn.Node
		axes   []int
		states []bool
		alone  bool
	}{
		{"images", []nn.ValueInfo{typed("x", "n", -1, 3, 8, 8)}, typed("y", "n", -1, 10), nil, []int{0}, []bool{false}, false},
		{"one image at a time", []nn.ValueInfo{typed("x", "", 1, 3, 8, 8)}, typed("y", "", 1, 10), nil, []int{0}, []bool{false}, false},
		{"boxes of one image", []nn.ValueInfo{typed("x", "", 1, 3, 8, 8)}, typed("y", "", -1, 4), nil, []int{0}, []bool{false}, true},
		{"state by symbol", []nn.ValueInfo{typed("x", "nt", -1, -1), typed("s", "_n", 2, -1, 8), typed("r", "")}, typed("y", "n", -1, 1), nil,
			[]int{0, 1, no}, []bool{false, true, false}, false},
		{"state before the data", []nn.ValueInfo{typed("s", "_n", 2, -1, 8), typed("x", "nt", -1, -1)}, typed("y", "n", -1, 1), nil, []int{1, 0}, []bool{true, false}, false},
		{"state without symbols", []nn.ValueInfo{typed("x", "", -1, -1), typed("s", "", 2, -1, 8)}, typed("y", "", -1, 1), nil, []int{0, 1}, []bool{false, true}, false},
		{"static state", []nn.ValueInfo{typed("x", "", 1, 576), typed("s", "", 2, 1, 8)}, typed("y", "", 1, 1), nil, []int{0, 1}, []bool{false, true}, true},
		{"state of a recurrent layer", []nn.ValueInfo{typed("x", "t", -1, 576), typed("h", "", 1, 1, 8), typed("c", "", 1, 1, 8)}, typed("y", "t", -1),
			[]*nn.Node{cut, lstm}, []int{0, no, no}, []bool{false, true, true}, true},
		{"only a state", []nn.ValueInfo{typed("h", "", 1, 1, 8)}, typed("y", "", 1, 8), []*nn.Node{lstm}, []int{0}, []bool{false}, false},
		{"two data inputs", []nn.ValueInfo{typed("x", "nl", -1, -1), typed("m", "nl", -1, -1)}, typed("y", "n", -1, 8), nil, []int{0, 0}, []bool{false, false}, false},
	} {
		g := &nn.Graph{Inputs: tt.ins, Outputs: []nn.ValueInfo{tt.out}, Nodes: tt.nodes, Types: map[string]nn.Type{tt.out.Name: tt.out.Type}}
		ins, alone := dataInputs(g)
		var axes []int
		var states []bool
		for _, in := range ins {
			axes, states = append(axes, in.Batch), append(states, in.Zero)
		}
		if !slices.Equal(axes, tt.axes) || !slices.Equal(states, tt.states) || alone != tt.alone {
			t.Errorf("%s: axes %v, states %v, alone %v; want %v, %v, %v", tt.name, axes, states, alone, tt.axes, tt.states, tt.alone)
		}
	}
}

// TestJoin: samples are stacked along the batch, wherever it is.
func TestJoin(t *testing.T) {
	sample := func(v float32) data.Sample {
		return data.Sample{Inputs: map[string]tensor.Any{"x": tensor.From([]float32{v, v + 1}, 1, 2), "s": tensor.From([]float32{v, v + 1, v + 2, v + 3}, 2, 1, 2), "r": tensor.From([]int64{8})}}
	}
	src := source{batch: map[string]int{"x": 0, "s": 1, "r": data.NoBatch}}
	b, err := src.join([]data.Sample{sample(0), sample(10)})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]float64{"x": {0, 1, 10, 11}, "s": {0, 1, 10, 11, 2, 3, 12, 13}, "r": {8}} {
		if have := tensor.Float64s(b.feeds[name]); !slices.Equal(have, want) {
			t.Errorf("%s is %v, want %v", name, have, want)
		}
	}
	other := sample(1)
	other.Inputs["r"] = tensor.From([]int64{16})
	if src.sameWhole([]data.Sample{sample(0), other}) || !src.sameWhole([]data.Sample{sample(0), sample(1)}) {
		t.Error("samples with another rate cannot share a batch, others can")
	}
}

// TestUnlessDone does not wait for work that never ends, and returns what work that ends returns.
func TestUnlessDone(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	if v, err := unlessDone(ctx, func() (int, error) { return 3, io.EOF }); v != 3 || !errors.Is(err, io.EOF) {
		t.Errorf("got %d, %v", v, err)
	}
	stop()
	forever := make(chan int)
	defer close(forever)
	if v, err := unlessDone(ctx, func() (int, error) { return <-forever, nil }); v != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("got %d, %v when the context was done", v, err)
	}
}
