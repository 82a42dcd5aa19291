package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"roundel/asm"
)

//go:embed licenses.txt
var licenses string

// runVersion prints what a bug report needs: module version, Go version, platform and the instruction sets in use.
func runVersion(_ context.Context, env *environment, args []string) error {
	fs := flag.NewFlagSet("version", flag.ContinueOnError)
	showLicenses := fs.Bool("licenses", false, "print the licences of roundel, its dependencies and its data")
	if _, err := parse(env, fs, args); err != nil {
		return err
	}
	if *showLicenses {
		fmt.Fprint(env.stdout, licenses)
		return nil
	}
	version, revision := "devel", ""
	var deps []string
	if info, ok := debug.ReadBuildInfo(); ok {
		if v := info.Main.Version; v != "" && v != "(devel)" {
			version = v
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value[:min(12, len(s.Value))]
			}
		}
		for _, d := range info.Deps {
			deps = append(deps, d.Path+" "+d.Version)
		}
	}
	var available []string
	for _, k := range asm.Available() {
		available = append(available, k.ISA)
	}
	fmt.Fprintf(env.stdout, "roundel %s%s\n%s %s/%s\n", version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	fmt.Fprintf(env.stdout, "kernels: %s (available: %s; ROUNDEL_ISA lowers it)\n", asm.Best().ISA, strings.Join(available, ", "))
	for _, d := range deps {
		fmt.Fprintf(env.stdout, "with %s\n", d)
	}
	return nil
}
