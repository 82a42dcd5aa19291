package onnx

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sample returns a model with one large and one small tensor.
func sample() *Model {
	big := bytes.Repeat([]byte{1, 2, 3, 4}, 1000)
	m := &Model{IRVersion: 8, Graph: &Graph{Name: "g",
		Nodes:   []*Node{{OpType: "Constant", Outputs: []string{"c"}, Attributes: []*Attribute{TensorAttr("value", &Tensor{Name: "inner", DataType: Uint8, Dims: []int64{4000}, RawData: bytes.Clone(big)})}}},
		Outputs: []*ValueInfo{{Name: "c", Type: NewTensorType(Uint8, 4000)}},
		Initializers: []*Tensor{{Name: "w", DataType: Float, Dims: []int64{10, 100}, RawData: big},
			{Name: "small", DataType: Float, Dims: []int64{1}, RawData: []byte{0, 0, 128, 63}}}}}
	m.SetOpset("", 17)
	return m
}

func write(t *testing.T, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFilesThatAreNoModels(t *testing.T) {
	dir := t.TempDir()
	model := readFile(t, filepath.Join(committed, "if11.onnx"))
	tests := []struct {
		name string
		b    []byte
		want string
	}{
		{"empty.onnx", nil, "it is empty, not an ONNX model"},
		{"photo.jpg", []byte("\xff\xd8\xff\xe0\x00\x10JFIF"), "a JPEG image"},
		{"readme.txt", []byte("Hello,\nthis is a text file.\n"), "a text file"},
		{"utf8.txt", []byte("a" + strings.Repeat("ż", 300)), "a text file"},
		{"utf8b.txt", []byte(strings.Repeat("€", 300)), "a text file"},
		{"model.zip", []byte("PK\x03\x04\x14\x00"), "a zip archive"},
		{"page.onnx", []byte("<!DOCTYPE html><html></html>"), "an HTML page"},
		{"lfs.onnx", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "Git LFS pointer"},
		{"ort.onnx", []byte("\x18\x00\x00\x00ORTM\x00\x00"), "ONNX Runtime's own format"},
		{"cut.onnx", model[:len(model)/2], "cut short"},
		{"zeros.onnx", make([]byte, 100), "byte 0"},
		{"other.pb", []byte{0x08, 0x01}, "it has no graph"},
		{"noopset.onnx", append([]byte{0x08, 0x08}, field(nil, 7, nil)...), "imports no operator set"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, filepath.Join(dir, tt.name), tt.b)
			_, err := Read(path)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "onnx: "+path+": ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with the path and %q", err, tt.want)
			}
		})
	}
	if _, err := Read(filepath.Join(dir, "absent.onnx")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a directory: %v", err)
	}
}

// TestReadCutAtEveryByte reads every beginning of a model file.
func TestReadCutAtEveryByte(t *testing.T) {
	b := readFile(t, filepath.Join(committed, "clip11.onnx"))
	path := filepath.Join(t.TempDir(), "m.onnx")
	for i := range b {
		if _, err := Read(write(t, path, b[:i])); err == nil {
			t.Errorf("cut at %d of %d: no error", i, len(b))
		}
	}
}

func TestReadExternal(t *testing.T) {
	m, err := Read(filepath.Join(committed, "external.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	w := m.Graph.FindInitializer("w")
	if w.IsExternal() || len(w.RawData) != 24 || !bytes.Equal(w.RawData[20:], []byte{0, 0, 192, 64}) {
		t.Errorf("w: %+v", w)
	}
	m, err = ReadOptions{KeepExternal: true}.Read(filepath.Join(committed, "external.onnx"))
	if err != nil || !m.Graph.FindInitializer("w").IsExternal() {
		t.Errorf("kept: %v", err)
	}
}

func TestExternalErrors(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "model")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "secret"), make([]byte, 64))
	write(t, filepath.Join(dir, "data"), make([]byte, 64))
	write(t, filepath.Join(dir, "sub", "data"), make([]byte, 64))
	if err := os.Symlink(filepath.Join("..", "secret"), filepath.Join(dir, "link")); err != nil {
		t.Skip(err)
	}
	if err := os.Symlink("data", filepath.Join(dir, "inside")); err != nil {
		t.Skip(err)
	}
	if err := os.Symlink("..", filepath.Join(dir, "up")); err != nil {
		t.Skip(err)
	}
	tests := []struct {
		name, location, offset, length, want string // want "" is success
	}{
		{"good", "data", "0", "64", ""},
		{"rest of the file by dimensions", "data", "8", "", ""},
		{"subdirectory", "sub/data", "0", "40", ""},
		{"link inside", "inside", "0", "40", ""},
		{"no location", "", "0", "40", "no location"},
		{"absolute", filepath.Join(root, "secret"), "0", "40", "absolute paths are refused"},
		{"parent", "../secret", "0", "40", `".." are refused`},
		{"hidden parent", "sub/../../secret", "0", "40", `".." are refused`},
		{"backslashes", `..\secret`, "0", "40", `".." are refused`},
		{"link out", "link", "0", "40", "a symbolic link leads out"},
		{"directory link out", "up/secret", "0", "40", "a symbolic link leads out"},
		{"directory", "sub", "0", "40", "not a regular file"},
		{"missing", "nothing", "0", "40", "no such file"},
		{"short", "data", "30", "40", "too few for 40 bytes from 30"},
		{"short by dimensions", "data", "40", "", "too few for 40 bytes from 40"},
		{"offset past the end", "data", "65", "0", "the data begins at 65"},
		{"negative", "data", "-1", "40", `offset "-1"`},
		{"huge", "data", "9223372036854775807", "9223372036854775807", "begins at"},
		{"not a number", "data", "0", "many", `length "many"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &Tensor{Name: "w", DataType: Float, Dims: []int64{10}, DataLocation: LocationExternal,
				ExternalData: []*StringEntry{{Key: "location", Value: tt.location}, {Key: "offset", Value: tt.offset}}}
			if tt.length != "" {
				w.ExternalData = append(w.ExternalData, &StringEntry{Key: "length", Value: tt.length})
			}
			err := LoadExternal(&Model{Graph: &Graph{Initializers: []*Tensor{w}}}, dir)
			if tt.want == "" {
				if err != nil || w.IsExternal() || len(w.RawData) == 0 {
					t.Errorf("%v, %d bytes", err, len(w.RawData))
				}
				return
			}
			file := tt.location[strings.LastIndexAny(tt.location, `/\`)+1:]
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), `tensor "w"`) || !strings.Contains(err.Error(), file) {
				t.Errorf("got %v, want the tensor, the file and %q", err, tt.want)
			}
		})
	}
}

func TestWrite(t *testing.T) {
	inline := len(sample().Encode())
	tests := []struct {
		name     string
		o        WriteOptions
		external bool
	}{
		{"default", WriteOptions{}, false},
		{"at the limit", WriteOptions{MaxInline: inline}, false},
		{"over the limit", WriteOptions{MaxInline: inline - 1}, true},
		{"always", WriteOptions{External: ExternalAlways}, true},
		{"keep what was inline", WriteOptions{External: ExternalKeep}, false},
		{"keep, over the limit", WriteOptions{External: ExternalKeep, MaxInline: inline - 1}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "m.onnx")
			m := sample()
			if err := tt.o.Write(path, m); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(m.Encode(), sample().Encode()) {
				t.Error("the model was changed")
			}
			files, _ := os.ReadDir(dir)
			if want := map[bool]int{false: 1, true: 2}[tt.external]; len(files) != want {
				t.Errorf("files %v, want %d", files, want)
			}
			if kept, err := (ReadOptions{KeepExternal: true}).Read(path); err != nil || kept.Graph.Initializers[0].IsExternal() != tt.external || kept.Graph.Initializers[1].IsExternal() {
				t.Errorf("%v", err)
			}
			back, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(back.Encode(), sample().Encode()) {
				t.Error("not the same model after reading")
			}
		})
	}
}

func TestWriteKeepsExternal(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.onnx")
	if err := (WriteOptions{External: ExternalAlways}).Write(path, sample()); err != nil {
		t.Fatal(err)
	}
	m, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		e    External
		want bool
	}{{ExternalKeep, true}, {ExternalAuto, false}, {ExternalNever, false}} {
		again := filepath.Join(t.TempDir(), "again.onnx")
		if err := (WriteOptions{External: tt.e}).Write(again, m); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(again + ".data"); (err == nil) != tt.want {
			t.Errorf("choice %d: data file: %v", tt.e, err)
		}
	}
}

func TestWriteErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.onnx")
	if err := (WriteOptions{External: ExternalAlways}).Write(path, sample()); err != nil {
		t.Fatal(err)
	}
	before := readFile(t, path)
	kept, err := ReadOptions{KeepExternal: true}.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, path, want string
		m                *Model
		o                WriteOptions
	}{
		{"too large", path, "more than 100", sample(), WriteOptions{External: ExternalNever, MaxInline: 100}},
		{"too large without data", path, "more than 100", sample(), WriteOptions{MaxInline: 100}},
		{"not loaded", path, `tensor "w" refers to data in "m.onnx.data"`, kept, WriteOptions{External: ExternalNever}},
		{"no directory", filepath.Join(dir, "no", "m.onnx"), "no such file", sample(), WriteOptions{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.o.Write(tt.path, tt.m); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if err := Write(path, kept); err != nil || !bytes.Equal(readFile(t, path), before) {
		t.Errorf("references that were kept: %v", err)
	}
	target := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(target, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(target, sample()); err == nil {
		t.Error("a directory was replaced")
	}
	files, _ := os.ReadDir(dir)
	if len(files) != 3 {
		t.Errorf("left behind: %v", files)
	}
}

func TestTensors(t *testing.T) {
	m, err := Decode(readFile(t, filepath.Join(committed, "if11.onnx")))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for range m.Tensors() {
		n++
	}
	if n != 3 { // two initializers and a Constant in a branch
		t.Errorf("%d tensors, want 3", n)
	}
	for range m.Tensors() {
		break // stopping early must not panic
	}
}
