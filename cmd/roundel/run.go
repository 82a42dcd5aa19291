package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"roundel/data"
	"roundel/internal/atomicfile"
	"roundel/nn"
	"roundel/tensor"
)

// inputFlag collects --input NAME=FILE, given once for each input.
type inputFlag map[string]string

func (f inputFlag) String() string { return "" }

func (f inputFlag) Set(s string) error {
	name, file, ok := strings.Cut(s, "=")
	if !ok || name == "" || file == "" {
		return fmt.Errorf("%q is not NAME=FILE.npy", s)
	}
	if _, twice := f[name]; twice {
		return fmt.Errorf("input %q is given twice", name)
	}
	f[name] = file
	return nil
}

// runModel executes the float model on .npy inputs and writes each output as DIR/<name>.npy.
func runModel(ctx context.Context, env *environment, args []string) error {
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	inputs := inputFlag{}
	fs.Var(inputs, "input", "`NAME=X.npy`, once for each model input")
	dir := fs.String("o", "", "folder for the outputs, one .npy each")
	fetch := fs.String("fetch", "", "comma-separated tensors to write instead of the graph outputs; any inner tensor")
	reference := fs.Bool("reference", false, "use the plain reference of every operator instead of the compiled program")
	var machine machineFlags
	machine.add(fs)
	pos, err := parse(env, fs, args, "MODEL")
	if err != nil {
		return err
	}
	pool, err := machine.pool()
	if err != nil {
		return err
	}
	l, err := openModel(ctx, pos[0])
	if err != nil {
		return err
	}
	feeds, err := readFeeds(l, inputs)
	if err != nil {
		return err
	}
	out, err := openOutput(*dir)
	if err != nil {
		return err
	}
	defer out.close()
	var outs map[string]tensor.Any
	if *reference {
		if *fetch != "" {
			return usagef("--reference gives the graph outputs only; leave out --fetch")
		}
		outs, err = nn.Eval(ctx, l.graph, feeds)
	} else {
		o := nn.CompileOptions{Pool: pool}
		if *fetch != "" {
			o.Fetches = strings.Split(*fetch, ",")
		}
		var p *nn.Program
		if p, err = nn.Compile(ctx, l.graph, o); err == nil {
			outs, err = p.Run(ctx, feeds)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", l.path, err)
	}
	return writeOutputs(env, out, outs, outputNames(l.graph, *fetch))
}

func outputNames(g *nn.Graph, fetch string) []string {
	if fetch != "" {
		return strings.Split(fetch, ",")
	}
	var names []string
	for _, o := range g.Outputs {
		names = append(names, o.Name)
	}
	return names
}

// readFeeds reads the file of every model input; a missing or unknown name is a usage error that lists the inputs.
func readFeeds(l *loaded, files inputFlag) (map[string]tensor.Any, error) {
	var want []string
	feeds := map[string]tensor.Any{}
	for _, in := range l.graph.Inputs {
		want = append(want, fmt.Sprintf("%s %v", in.Name, in.Type))
	}
	for _, in := range l.graph.Inputs {
		file, ok := files[in.Name]
		if !ok {
			return nil, usagef("--input %s=FILE.npy is missing; the model's inputs: %s", in.Name, strings.Join(want, ", "))
		}
		t, err := data.ReadNpy(file)
		if err != nil {
			return nil, err
		}
		feeds[in.Name] = t
	}
	for name := range files {
		if feeds[name] == nil {
			return nil, usagef("the model has no input %q; its inputs: %s", name, strings.Join(want, ", "))
		}
	}
	return feeds, nil
}

func writeOutputs(env *environment, out *output, outs map[string]tensor.Any, names []string) error {
	var files []string
	for _, name := range names {
		file := fileName(name) + ".npy"
		if slices.Contains(files, file) {
			return fmt.Errorf("two outputs would be called %s; --fetch them one at a time", file)
		}
		files = append(files, file)
		err := atomicfile.Write(filepath.Join(out.stage(), file), func(w io.Writer) error { return data.EncodeNpy(w, outs[name]) })
		if err != nil {
			return err
		}
	}
	if err := out.commit(files); err != nil {
		return err
	}
	for i, name := range names {
		fmt.Fprintf(env.stdout, "%s %v%v -> %s\n", name, outs[name].DType(), outs[name].Shape(), out.path(files[i]))
	}
	return nil
}
