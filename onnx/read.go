package onnx

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"roundel/onnx/internal/wire"
)

// ReadOptions says how a file is read. The zero value is what Read uses.
type ReadOptions struct {
	// KeepExternal leaves tensors that have their data in other files as references.
	KeepExternal bool
}

// Read reads a model file with its external data. A file that is no ONNX model is an
// error of one line that says what it seems to be. External data must lie in the
// directory of the model or below: absolute paths, ".." and symbolic links that
// lead out of it are refused.
func Read(path string) (*Model, error) { return ReadOptions{}.Read(path) }

// Read reads a model file.
func (o ReadOptions) Read(path string) (*Model, error) {
	b, err := readModelFile(path)
	if err != nil {
		return nil, err
	}
	m, err := Decode(b)
	if err == nil {
		err = incomplete(m)
	}
	if err != nil {
		return nil, explain(path, b, err)
	}
	if !o.KeepExternal {
		if err := LoadExternal(m, filepath.Dir(path)); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// readModelFile reads a regular file of a size that protobuf allows: pipes could block and devices never end.
func readModelFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("onnx: %w", err)
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("onnx: %s: it is not a regular file", path)
	case st.Size() > math.MaxInt32:
		return nil, fmt.Errorf("onnx: %s: it has %d bytes, more than a protobuf file may have; tensors belong into external data then", path, st.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("onnx: %w", err)
	}
	return b, nil
}

// incomplete checks for the parts that every model has. Protobuf that is cut
// between two fields is well-formed, and so is much that is not a model at all.
func incomplete(m *Model) error {
	switch {
	case m.Graph == nil:
		return errors.New("it has no graph: it is not an ONNX model, or it is cut short")
	case len(m.OpsetImport) == 0 && m.IRVersion >= 3:
		return errors.New("it imports no operator set: the file is cut short")
	}
	return nil
}

// explain returns an error for the content b of a file that is not a model.
func explain(path string, b []byte, err error) error {
	if what := sniff(b); what != "" {
		return fmt.Errorf("onnx: %s: it is %s, not an ONNX model", path, what)
	}
	if s, ok := errors.AsType[*SyntaxError](err); ok {
		out := *s
		out.File = path
		if errors.Is(s.Err, wire.ErrTruncated) {
			out.Err = fmt.Errorf("%w; the file is cut short or is not an ONNX model", s.Err)
		}
		return &out
	}
	return fmt.Errorf("onnx: %s: %w", path, err)
}

// magics are beginnings of files that people take for models.
var magics = []struct {
	offset int
	magic  string
	what   string
}{
	{0, "\xff\xd8\xff", "a JPEG image"},
	{0, "\x89PNG", "a PNG image"},
	{0, "GIF8", "a GIF image"},
	{0, "PK\x03\x04", "a zip archive (PyTorch's own files are; export the model to ONNX)"},
	{0, "\x1f\x8b", "a gzip file; decompress it first"},
	{0, "\x93NUMPY", "a NumPy array"},
	{0, "\x89HDF", "an HDF5 file (Keras?)"},
	{0, "%PDF", "a PDF"},
	{0, "\x7fELF", "a program"},
	{4, "ORTM", "a model in ONNX Runtime's own format"},
	{4, "TFL3", "a TensorFlow Lite model"},
	{0, "version https://git-lfs", "a Git LFS pointer; run git lfs pull"},
	{0, "<!DOCTYPE", "an HTML page (a failed download?)"},
	{0, "<html", "an HTML page (a failed download?)"},
}

// sniff names the kind of file that begins with b, "" if it is not known.
func sniff(b []byte) string {
	if len(b) == 0 {
		return "empty"
	}
	for _, m := range magics {
		if len(b) > m.offset && bytes.HasPrefix(b[m.offset:], []byte(m.magic)) {
			return m.what
		}
	}
	head := b[:min(len(b), 512)]
	for range utf8.UTFMax - 1 { // the last character may be cut
		if len(head) < len(b) && !utf8.Valid(head) {
			head = head[:len(head)-1]
		}
	}
	control := func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' }
	if utf8.Valid(head) && !strings.ContainsFunc(string(head), control) {
		return "a text file"
	}
	return ""
}
