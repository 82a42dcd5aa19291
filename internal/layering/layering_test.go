// Package layering holds the test of which package may import which.
package layering

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// allowed lists, for each directory, the packages of this module that its non-test files may import.
// ARCHITECTURE.md draws the same picture; a new arrow is a change to both.
var allowed = map[string][]string{
	"asm":                 {},
	"tensor":              {"asm"},
	"autograd":            {"tensor", "asm"},
	"nn":                  {"tensor", "asm"},
	"nn/prepare":          {"nn", "tensor"},
	"onnx":                {"onnx/internal/wire"},
	"onnx/internal/wire":  {},
	"onnx/convert":        {"onnx", "nn", "tensor"},
	"data":                {"tensor", "internal/regular"},
	"quantsim/encoding":   {"tensor", "internal/jsontree", "internal/regular"},
	"quantsim":            {"nn", "quantsim/encoding", "tensor", "asm", "internal/jsontree", "internal/regular"},
	"quantsim/export":     {"quantsim", "quantsim/encoding", "onnx", "onnx/convert", "nn", "tensor", "internal/atomicfile"},
	"quantsim/integer":    {"quantsim", "quantsim/encoding", "nn", "tensor", "asm"},
	"adaround":            {"quantsim", "quantsim/encoding", "nn", "tensor", "asm", "autograd", "internal/atomicfile", "internal/regular"},
	"report":              {"internal/atomicfile"},
	"internal/jsontree":   {},
	"internal/progress":   {},
	"internal/atomicfile": {},
	"internal/lockfile":   {},
	"internal/regular":    {},
	"internal/layering":   {},
	"internal/settle":     {},
	"internal/golden":     {"data", "tensor"},
	"internal/demo":       {"tensor", "data"},
	"internal/demo/train": {"*"},
	"internal/demo/slice": {"*"},
	"cmd/roundel":         {"*"},
	"fuzz":                {"*"},
	"bench":               {"*"},
}

// nobody may import these.
var leaves = []string{"cmd", "fuzz", "bench"}

// standardOnly lists the third-party modules that the root module may import, and where.
var external = map[string][]string{
	"github.com/klauspost/cpuid/v2": {"asm", "cmd/roundel", "bench"},
	"github.com/google/go-cmp/cmp":  {"_test"},
	"golang.org/x/sys/cpu":          {"asm"},
	"golang.org/x/sys/unix":         {"internal/", "cmd/roundel"},
	"golang.org/x/sys/windows":      {"internal/", "cmd/roundel"},
	"golang.org/x/term":             {"internal/progress", "cmd/roundel"},
}

func TestImportDirections(t *testing.T) {
	root := moduleRoot(t)
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "venv") {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && path != root {
				return fs.SkipDir // a nested module has rules of its own
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(rel)
		seen[dir] = true
		checkFile(t, dir, path, strings.HasSuffix(name, "_test.go"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) < 5 {
		t.Fatalf("found only %d packages below %s", len(seen), root)
	}
}

func checkFile(t *testing.T, dir, path string, test bool) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Error(err)
			continue
		}
		switch ours, isOurs := strings.CutPrefix(imp, "roundel/"); {
		case isOurs:
			checkOurs(t, dir, path, ours, test)
		case strings.Contains(strings.SplitN(imp, "/", 2)[0], "."):
			checkExternal(t, dir, path, imp, test)
		case imp == "C":
			t.Errorf("%s uses cgo", path)
		}
	}
}

func checkOurs(t *testing.T, dir, path, imp string, test bool) {
	t.Helper()
	for _, leaf := range leaves {
		if (imp == leaf || strings.HasPrefix(imp, leaf+"/")) && dir != imp {
			t.Errorf("%s imports %s: nobody may", path, imp)
		}
	}
	if test {
		return // tests may look down and sideways; Go itself refuses cycles
	}
	rules, ok := rulesFor(dir)
	if !ok {
		t.Errorf("%s: package %q is not in the layering table; add it here and to ARCHITECTURE.md", path, dir)
		return
	}
	if !slices.Contains(rules, "*") && !slices.Contains(rules, imp) {
		t.Errorf("%s: %s may not import %s", path, dir, imp)
	}
}

func checkExternal(t *testing.T, dir, path, imp string, test bool) {
	t.Helper()
	where, ok := external[imp]
	if !ok {
		t.Errorf("%s imports %s: a new dependency needs a heading in RATIONALE.md and a line here", path, imp)
		return
	}
	for _, w := range where {
		if w == "_test" && test || strings.HasPrefix(dir+"/", strings.TrimSuffix(w, "/")+"/") {
			return
		}
	}
	t.Errorf("%s: %s may not import %s", path, dir, imp)
}

// rulesFor returns the rules of dir, or of the leaf folder it lies in.
func rulesFor(dir string) ([]string, bool) {
	if r, ok := allowed[dir]; ok {
		return r, true
	}
	for _, leaf := range leaves {
		if strings.HasPrefix(dir, leaf+"/") {
			return []string{"*"}, true
		}
	}
	return nil, false
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = up
	}
}
