package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"

	"roundel/nn"
	"roundel/nn/prepare"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/tensor"
)

// runInspect prints what a model contains and everything that stands in the way of running it, all at once.
func runInspect(ctx context.Context, env *environment, args []string) error {
	fs := flag.NewFlagSet("inspect", flag.ContinueOnError)
	layers := fs.Bool("layers", false, "list every layer with a weight")
	pos, err := parse(env, fs, args, "MODEL")
	if err != nil {
		return err
	}
	m, err := onnx.Read(pos[0])
	if err != nil {
		return err
	}
	printHeader(env, pos[0], m)
	g, err := convert.ToGraph(m)
	if err != nil {
		return fmt.Errorf("%s: %w", pos[0], err)
	}
	verr, plain := nn.Verify(g), g
	if verr == nil { // a weight may lie behind Identity, Transpose or Reshape
		if plain, _, err = (preparation{Config: prepare.Config{FoldConstants: true}}).apply(ctx, g); err != nil {
			return fmt.Errorf("%s: %w", pos[0], err)
		}
	}
	printGraph(env, g)
	printLayers(env, plain, *layers)
	if verr != nil {
		return fmt.Errorf("%s: %w", pos[0], verr)
	}
	fmt.Fprintln(env.stdout, "every operator is supported")
	folded, _, err := preparation{Config: prepare.DefaultConfig()}.apply(ctx, g)
	if err != nil {
		return fmt.Errorf("%s: %w", pos[0], err)
	}
	for _, f := range prepare.Lint(folded) {
		fmt.Fprintln(env.stdout, "quantization:", f)
	}
	return nil
}

func printHeader(env *environment, path string, m *onnx.Model) {
	var sets []string
	for _, s := range m.OpsetImport {
		domain := s.Domain
		if domain == "" {
			domain = "ai.onnx"
		}
		sets = append(sets, fmt.Sprintf("%s %d", domain, s.Version))
	}
	fmt.Fprintf(env.stdout, "%s: IR %d, opset %s, made by %s %s\n", path, m.IRVersion, strings.Join(sets, ", "), m.ProducerName, m.ProducerVersion)
}

func printGraph(env *environment, g *nn.Graph) {
	for _, v := range g.Inputs {
		fmt.Fprintf(env.stdout, "input  %s %v\n", v.Name, v.Type)
	}
	for _, v := range g.Outputs {
		fmt.Fprintf(env.stdout, "output %s %v\n", v.Name, g.Types[v.Name])
	}
	count := map[string]int{}
	for _, n := range g.Nodes {
		count[n.Op]++
	}
	var ops []string
	for _, op := range slices.Sorted(maps.Keys(count)) {
		ops = append(ops, fmt.Sprintf("%s %d", op, count[op]))
	}
	fmt.Fprintf(env.stdout, "%d nodes: %s\n", len(g.Nodes), strings.Join(ops, ", "))
}

// printLayers counts the layers, and the weights, of which a shared one counts once.
func printLayers(env *environment, g *nn.Graph, each bool) {
	params, weighted := 0, 0
	seen := map[*tensor.Dense[float32]]bool{}
	for _, n := range g.Nodes {
		w := weightOf(g, n)
		if w == nil {
			continue
		}
		weighted++
		if !seen[w] {
			params += w.Len()
		}
		seen[w] = true
		if each {
			fmt.Fprintf(env.stdout, "layer  %s %s weight %v -> %v\n", n.Name, n.Op, w.Shape(), g.Types[n.Out(0)])
		}
	}
	fmt.Fprintf(env.stdout, "%d layers with weights, %d weights\n", weighted, params)
}

// weightOf returns the constant weight of a layer that AdaRound can round, or nil.
func weightOf(g *nn.Graph, n *nn.Node) *tensor.Dense[float32] {
	switch n.Op {
	case "Conv", "ConvTranspose", "Gemm", "MatMul":
		for _, in := range n.Inputs[:min(2, len(n.Inputs))] {
			if w := g.ConstF32(in); w != nil {
				return w
			}
		}
	}
	return nil
}
