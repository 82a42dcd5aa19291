package main

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// TestBillOfMaterials holds the list in the binary against go.mod and go.sum, and every reference in it against its parts.
func TestBillOfMaterials(t *testing.T) {
	type part struct {
		Ref        string `json:"bom-ref"`
		Name       string
		Version    string
		PURL       string
		Properties []struct{ Name, Value string }
	}
	var bom struct {
		BomFormat, SpecVersion string
		Metadata               struct{ Component part }
		Components             []part
		Dependencies           []struct {
			Ref       string
			DependsOn []string
		}
	}
	code, first, stderr := cli(t, "version", "--sbom")
	if code != 0 {
		t.Fatal(stderr)
	}
	if _, second, _ := cli(t, "version", "--sbom"); second != first {
		t.Error("two runs print two lists")
	}
	d := json.NewDecoder(bytes.NewReader([]byte(first)))
	if err := d.Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if bom.BomFormat != "CycloneDX" || bom.SpecVersion != "1.5" || bom.Metadata.Component.Name != "roundel" {
		t.Errorf("head: %s %s of %s", bom.BomFormat, bom.SpecVersion, bom.Metadata.Component.Name)
	}
	sums, err := os.ReadFile("../../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]part{}
	for _, p := range bom.Components {
		have[p.Ref] = p
		if p.Name == "std" {
			if p.Version != strings.TrimPrefix(runtime.Version(), "go") {
				t.Errorf("standard library %s, built with %s", p.Version, runtime.Version())
			}
			continue
		}
		if len(p.Properties) != 1 || !strings.Contains(string(sums), p.Name+" "+p.Version+" "+p.Properties[0].Value+"\n") {
			t.Errorf("%s %s %v is not in go.sum", p.Name, p.Version, p.Properties)
		}
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(golang\.org/x/\S+) (v\S+)`).FindAllStringSubmatch(string(mod), -1) {
		if _, ok := have["pkg:golang/"+m[1]+"@"+m[2]]; !ok {
			t.Errorf("%s %s of go.mod is missing", m[1], m[2])
		}
	}
	if len(bom.Dependencies) != 1 || bom.Dependencies[0].Ref != bom.Metadata.Component.Ref || len(bom.Dependencies[0].DependsOn) != len(have) {
		t.Fatalf("dependencies %v for %d parts", bom.Dependencies, len(have))
	}
	for _, ref := range bom.Dependencies[0].DependsOn {
		if _, ok := have[ref]; !ok {
			t.Errorf("%s is no part", ref)
		}
	}
}

// TestLicenses: every module of go.sum that is in the binary has its notice.
func TestLicenses(t *testing.T) {
	_, text, _ := cli(t, "version", "--licenses")
	for _, want := range []string{"golang.org/x/sys", "golang.org/x/term", "The Go Authors", "Redistribution and use in source and binary forms"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the notices", want)
		}
	}
}
