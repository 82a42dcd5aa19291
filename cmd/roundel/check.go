package main

import (
	"context"
	"flag"
	"fmt"

	"roundel/onnx"
	"roundel/quantsim/encoding"
	"roundel/quantsim/export"
)

// runCheck re-reads two files and proves that they describe the same model; advice does not fail the command.
func runCheck(_ context.Context, env *environment, args []string) error {
	fs := flag.NewFlagSet("check", flag.ContinueOnError)
	pos, err := parse(env, fs, args, "MODEL", "ENCODINGS")
	if err != nil {
		return err
	}
	m, err := onnx.Read(pos[0])
	if err != nil {
		return err
	}
	f, err := encoding.ReadFile(pos[1])
	if err != nil {
		return err
	}
	findings, err := export.Check(m, f)
	if err != nil {
		return fmt.Errorf("%s: %w", pos[0], err)
	}
	fatal := 0
	for _, x := range findings {
		fmt.Fprintln(env.stdout, x)
		if x.Fatal {
			fatal++
		}
	}
	if fatal > 0 {
		return fmt.Errorf("%s does not describe %s: %d mismatches", pos[1], pos[0], fatal)
	}
	fmt.Fprintf(env.stdout, "%d encodings describe %s\n", len(f.Entries), pos[0])
	return nil
}
