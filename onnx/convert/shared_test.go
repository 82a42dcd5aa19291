package convert

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roundel/onnx"
)

// sharedModels returns the ONNX files of the shared directory, or skips the test.
func sharedModels(t *testing.T) []string {
	t.Helper()
	dir := os.Getenv("ROUNDEL_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no shared models: %v (set ROUNDEL_SHARED)", err)
	}
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, ".onnx") {
			out = append(out, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func load(t *testing.T, path string) *onnx.Model {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Decode(b)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return m
}

func TestSharedModelsConvert(t *testing.T) {
	for _, f := range sharedModels(t) {
		m := load(t, f)
		g, err := ToGraph(m)
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		made := map[string]bool{}
		for name := range g.Consts {
			made[name] = true
		}
		for _, v := range g.Inputs {
			made[v.Name] = true
		}
		for _, n := range g.Nodes {
			if n.Op == "Constant" || n.Origin == 0 {
				t.Errorf("%s: node %q (%s) has origin %d", f, n.Name, n.Op, n.Origin)
			}
			for _, in := range n.Inputs {
				if in != "" && !made[in] {
					t.Errorf("%s: node %q reads %q before it is made", f, n.Name, in)
				}
			}
			for _, o := range n.Outputs {
				made[o] = true
			}
		}
	}
}
