// Command roundel rounds the weights of a trained network to few bits with
// AdaRound, simulates the quantized model, and writes the files that other
// toolchains read. "roundel help" lists the commands.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// command is one word of the command line.
type command struct {
	name, args, summary string
	run                 func(ctx context.Context, env *environment, args []string) error
}

// environment is what a command may touch besides files.
type environment struct {
	stdout, stderr io.Writer
}

func commands() []command {
	return []command{
		{"quantize", "MODEL --calib SRC -o DIR", "the whole job: fold, round, calibrate, evaluate, export", runQuantize},
		{"adaround", "MODEL --calib SRC -o DIR", "round the weights only", runAdaround},
		{"eval", "MODEL --data SRC", "accuracy, or agreement with the float model, of a model or a simulation", runEval},
		{"analyze", "MODEL --calib SRC", "which layers quantization hurts, and by how much", runAnalyze},
		{"run", "MODEL --input NAME=X.npy -o DIR", "run the float model and write its outputs as .npy", runModel},
		{"check", "MODEL ENCODINGS", "prove that an encodings file describes a model, and what target converters would reject", runCheck},
		{"inspect", "MODEL", "what is in a model, and what roundel can do with it", runInspect},
		{"demo", "[-o DIR]", "quantize the embedded network on the embedded data", runDemo},
		{"version", "", "version, Go version, instruction set", runVersion},
	}
}

// usageError is a mistake in the command line: exit code 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the program at once
	code := run(ctx, &environment{os.Stdout, os.Stderr}, os.Args[1:])
	os.Exit(code)
}

// run executes one command line and returns the exit code. An error becomes one line on stderr.
func run(ctx context.Context, env *environment, args []string) int {
	if len(args) == 0 {
		printHelp(env.stderr)
		return exitUsage
	}
	name := args[0]
	switch name {
	case "help", "-h", "--help", "-help":
		printHelp(env.stdout)
		return exitOK
	}
	for _, c := range commands() {
		if c.name != name {
			continue
		}
		err := c.run(ctx, env, args[1:])
		if cause := context.Cause(ctx); errors.Is(err, context.Canceled) && !errors.Is(err, cause) {
			err = cause // names the signal
		}
		switch {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return exitOK
		case errors.As(err, new(usageError)):
			fmt.Fprintf(env.stderr, "roundel %s: %s\n", name, oneLine(err))
			return exitUsage
		}
		fmt.Fprintf(env.stderr, "roundel %s: %s\n", name, oneLine(err))
		return exitFailure
	}
	fmt.Fprintf(env.stderr, "roundel: there is no command %q; \"roundel help\" lists them\n", name)
	return exitUsage
}

// oneLine joins the lines of an error: scripts read one line per failure.
func oneLine(err error) string {
	var parts []string
	for _, line := range strings.Split(err.Error(), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			parts = append(parts, line)
		}
	}
	return strings.Join(parts, "; ")
}

func printHelp(w io.Writer) {
	fmt.Fprint(w, "roundel rounds the weights of a trained ONNX model to few bits (AdaRound), simulates the result and exports it.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  roundel %-9s %-33s %s\n", c.name, c.args, c.summary)
	}
	fmt.Fprint(w, "\n\"roundel COMMAND -h\" lists the flags of a command. Exit code 0: done, 1: failed, 2: wrong usage.\n")
}

// parse reads flags and positional arguments in any order and checks the number of positionals.
func parse(env *environment, fs *flag.FlagSet, args []string, positionals ...string) ([]string, error) {
	fs.SetOutput(env.stderr)
	fs.Usage = func() {
		fmt.Fprintf(env.stderr, "usage: roundel %s %s [flags]\n", fs.Name(), strings.Join(positionals, " "))
		fs.PrintDefaults()
	}
	// The flag package prints the whole usage on an error; one line is wanted.
	quiet := flag.NewFlagSet(fs.Name(), flag.ContinueOnError)
	quiet.SetOutput(io.Discard)
	fs.VisitAll(func(f *flag.Flag) { quiet.Var(f.Value, f.Name, f.Usage) })
	var pos []string
	for {
		if err := quiet.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				fs.SetOutput(env.stdout)
				fs.Usage()
				return nil, err
			}
			return nil, usageError{err}
		}
		rest := quiet.Args()
		if len(rest) == 0 {
			break
		}
		if consumed := len(args) - len(rest); consumed > 0 && args[consumed-1] == "--" {
			pos = append(pos, rest...)
			break
		}
		pos, args = append(pos, rest[0]), rest[1:]
	}
	if len(pos) != len(positionals) {
		if len(pos) < len(positionals) {
			return nil, usagef("%s is missing; usage: roundel %s %s [flags]", positionals[len(pos)], fs.Name(), strings.Join(positionals, " "))
		}
		return nil, usagef("unexpected argument %q", pos[len(positionals)])
	}
	return pos, nil
}
