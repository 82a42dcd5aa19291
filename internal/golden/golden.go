// Package golden gives tests the fixtures that the reference implementations wrote.
//
// The fixtures are not part of the module: they lie in the folder "shared" beside
// the module's own folder, or wherever the environment variable ROUNDEL_SHARED says.
// Without them a test skips and says so; with ROUNDEL_REQUIRE_SHARED=1 it fails,
// so that a machine that should have them cannot pass by skipping.
//
// The file README.md in shared/golden describes the format.
package golden

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"testing"

	"roundel/data"
	"roundel/tensor"
)

// Shared returns the path of rel, such as "models/mobilenet_v2.onnx", in the shared folder.
// It skips the test when the folder or the file is absent.
func Shared(t testing.TB, rel string) string {
	t.Helper()
	dir, err := sharedDir()
	if err == nil {
		path := filepath.Join(dir, filepath.FromSlash(rel))
		if _, err = os.Stat(path); err == nil {
			return path
		}
	}
	if os.Getenv("ROUNDEL_REQUIRE_SHARED") == "1" {
		t.Fatalf("golden: shared file %s is required and absent: %v", rel, err)
	}
	t.Skipf("golden: shared file %s is absent (%v); set ROUNDEL_SHARED to its folder", rel, err)
	return ""
}

// sharedDir returns ROUNDEL_SHARED, or the folder "shared" beside the nearest module root that has one.
func sharedDir() (string, error) {
	if dir := os.Getenv("ROUNDEL_SHARED"); dir != "" {
		return dir, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			beside := filepath.Join(filepath.Dir(dir), "shared")
			if _, err := os.Stat(beside); err == nil {
				return beside, nil
			}
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no folder \"shared\" beside the module")
		}
		dir = up
	}
}

// Dir returns the folder of one case of a kind, such as Dir(t, "adaround", "conv_none_lr0.01").
func Dir(t testing.TB, kind, name string) string {
	t.Helper()
	return Shared(t, "golden/"+kind+"/"+name)
}

// Cases returns the names of all cases of a kind, sorted. It fails the test when there are none.
func Cases(t testing.TB, kind string) []string {
	t.Helper()
	entries, err := os.ReadDir(Shared(t, "golden/"+kind))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		t.Fatalf("golden: kind %q has no cases", kind)
	}
	sort.Strings(names)
	return names
}

// Npy reads the .npy file path.
func Npy(t testing.TB, path string) tensor.Any {
	t.Helper()
	a, err := data.ReadNpy(path)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// NpyOf reads the .npy file path, whose elements must be of type T.
func NpyOf[T tensor.Elem](t testing.TB, path string) *tensor.Dense[T] {
	t.Helper()
	d, err := tensor.As[T](Npy(t, path))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return d
}

// JSON decodes the file path into dst.
func JSON(t testing.TB, path string, dst any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, dst)
	}
	if err != nil {
		t.Fatalf("golden: %s: %v", path, err)
	}
}

// Float is a number in the fixtures' JSON, where non-finite values are the strings "inf", "-inf" and "nan".
type Float float64

// UnmarshalJSON accepts a number or one of the three strings.
func (f *Float) UnmarshalJSON(b []byte) error {
	text := string(b)
	if s, err := strconv.Unquote(text); err == nil {
		text = s
	}
	v, err := strconv.ParseFloat(text, 64)
	*f = Float(v)
	return err
}

// Manifest is the manifest.json of a case. An entry of Inputs or Expected is a value or a reference to a file.
type Manifest struct {
	Dir         string `json:"-"`
	Case, Kind  string
	Producer    string
	Description string
	Inputs      map[string]json.RawMessage
	Params      map[string]json.RawMessage
	Expected    map[string]json.RawMessage
	Tolerance   map[string]any
}

// Load reads the manifest of one case.
func Load(t testing.TB, kind, name string) *Manifest {
	t.Helper()
	m := &Manifest{Dir: Dir(t, kind, name)}
	JSON(t, filepath.Join(m.Dir, "manifest.json"), m)
	return m
}

// Each runs f as a subtest for every case of a kind.
func Each(t *testing.T, kind string, f func(t *testing.T, m *Manifest)) {
	t.Helper()
	for _, name := range Cases(t, kind) {
		t.Run(name, func(t *testing.T) { f(t, Load(t, kind, name)) })
	}
}

// Input reads the .npy file of the input name.
func (m *Manifest) Input(t testing.TB, name string) tensor.Any {
	t.Helper()
	return Npy(t, m.file(t, m.Inputs, name))
}

// Want reads the .npy file of the expected value name.
func (m *Manifest) Want(t testing.TB, name string) tensor.Any {
	t.Helper()
	return Npy(t, m.file(t, m.Expected, name))
}

// InputFile returns the path of the input name, for instance "model" or "image".
func (m *Manifest) InputFile(t testing.TB, name string) string {
	t.Helper()
	return m.file(t, m.Inputs, name)
}

// WantFile returns the path of the expected file name, for instance "after_model".
func (m *Manifest) WantFile(t testing.TB, name string) string {
	t.Helper()
	return m.file(t, m.Expected, name)
}

// Model returns the path of the case's model.onnx.
func (m *Manifest) Model(t testing.TB) string {
	t.Helper()
	return m.file(t, m.Inputs, "model")
}

func (m *Manifest) file(t testing.TB, entries map[string]json.RawMessage, name string) string {
	t.Helper()
	var ref struct{ File string }
	if err := json.Unmarshal(entries[name], &ref); err != nil || ref.File == "" {
		t.Fatalf("golden: %s: no file for %q", m.Dir, name)
	}
	return filepath.Join(m.Dir, ref.File)
}

// WantValue decodes the expected value name into dst.
func (m *Manifest) WantValue(t testing.TB, name string, dst any) {
	t.Helper()
	m.value(t, m.Expected, name, dst)
}

// InputValue decodes the input value name into dst.
func (m *Manifest) InputValue(t testing.TB, name string, dst any) {
	t.Helper()
	m.value(t, m.Inputs, name, dst)
}

// Param decodes the parameter name into dst.
func (m *Manifest) Param(t testing.TB, name string, dst any) {
	t.Helper()
	m.value(t, m.Params, name, dst)
}

func (m *Manifest) value(t testing.TB, entries map[string]json.RawMessage, name string, dst any) {
	t.Helper()
	raw, ok := entries[name]
	if !ok {
		t.Fatalf("golden: %s: no %q", m.Dir, name)
	}
	if err := json.Unmarshal(raw, dst); err != nil {
		t.Fatalf("golden: %s: %q: %v", m.Dir, name, err)
	}
}

// Tol returns the tolerance name, for instance "rtol".
func (m *Manifest) Tol(t testing.TB, name string) float64 {
	t.Helper()
	v, ok := m.Tolerance[name].(float64)
	if !ok {
		t.Fatalf("golden: %s: no tolerance %q in %v", m.Dir, name, m.Tolerance)
	}
	return v
}
