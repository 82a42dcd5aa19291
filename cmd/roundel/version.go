package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
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
	showSBOM := fs.Bool("sbom", false, "print the software bill of materials, as CycloneDX JSON")
	if _, err := parse(env, fs, args); err != nil {
		return err
	}
	if *showLicenses {
		fmt.Fprint(env.stdout, licenses)
		return nil
	}
	info, ok := debug.ReadBuildInfo()
	if *showSBOM {
		if !ok {
			return errors.New("this binary was built without module information")
		}
		return writeSBOM(env.stdout, info)
	}
	version, revision := "devel", ""
	var deps []string
	if ok {
		version = mainVersion(info)
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

// release is the version of a build that was not made from a tagged module; set by the linker.
var release string

func mainVersion(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	if release != "" {
		return release
	}
	return "devel"
}

// component is one module in a bill of materials.
type component struct {
	Type       string        `json:"type"`
	BOMRef     string        `json:"bom-ref"`
	Name       string        `json:"name"`
	Version    string        `json:"version"`
	PURL       string        `json:"purl"`
	Properties []sbomComment `json:"properties,omitempty"`
}

type sbomComment struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// writeSBOM lists the modules in this binary in the form of CycloneDX 1.5, without a date: the same build gives the same bytes.
func writeSBOM(w io.Writer, info *debug.BuildInfo) error {
	part := func(kind, path, version, sum string) component {
		purl := "pkg:golang/" + path + "@" + version
		c := component{Type: kind, BOMRef: purl, Name: path, Version: version, PURL: purl}
		if sum != "" {
			c.Properties = []sbomComment{{"go:sum", sum}}
		}
		return c
	}
	main := part("application", info.Main.Path, mainVersion(info), "")
	for _, s := range info.Settings {
		main.Properties = append(main.Properties, sbomComment{"go:build:" + s.Key, s.Value})
	}
	parts := []component{part("library", "std", strings.TrimPrefix(info.GoVersion, "go"), "")}
	refs := []string{parts[0].BOMRef}
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = d.Replace
		}
		parts = append(parts, part("library", d.Path, d.Version, d.Sum))
		refs = append(refs, parts[len(parts)-1].BOMRef)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(map[string]any{
		"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
		"metadata":     map[string]any{"component": main},
		"components":   parts,
		"dependencies": []any{map[string]any{"ref": main.BOMRef, "dependsOn": refs}},
	})
}
