package onnx

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// LoadExternal reads the data of the tensors of m that refer to files in dir and
// puts it into RawData. Each file is read once, and tensors share its memory. An
// error names the tensor and the file; m is then partly loaded.
func LoadExternal(m *Model, dir string) error {
	var root *os.Root
	files := map[string][]byte{}
	for t := range m.Tensors() {
		if !t.IsExternal() {
			continue
		}
		if root == nil {
			var err error
			if root, err = os.OpenRoot(dir); err != nil {
				return fmt.Errorf("onnx: %w", err)
			}
			defer root.Close()
		}
		if err := t.load(root, files); err != nil {
			loc, _ := Lookup(t.ExternalData, "location")
			return fmt.Errorf("onnx: tensor %q: external data %q: %w", t.Name, filepath.Join(dir, loc), err)
		}
	}
	return nil
}

// load reads t's data below root. files has what was read so far.
func (m *Tensor) load(root *os.Root, files map[string][]byte) error {
	ref, err := m.reference()
	if err != nil {
		return err
	}
	b, ok := files[ref.location]
	if !ok {
		if b, err = readRegular(root, ref.location); err != nil {
			return err
		}
		files[ref.location] = b
	}
	size := int64(len(b))
	if ref.offset > size {
		return fmt.Errorf("the file has %d bytes and the data begins at %d", size, ref.offset)
	}
	if ref.length < 0 {
		ref.length = size - ref.offset
		if want, ok := m.rawSize(); ok {
			ref.length = want
		}
	}
	if ref.length > size-ref.offset {
		return fmt.Errorf("the file has %d bytes, too few for %d bytes from %d", size, ref.length, ref.offset)
	}
	end := ref.offset + ref.length
	m.RawData = b[ref.offset:end:end]
	m.ExternalData, m.DataLocation, m.wasExternal = nil, LocationDefault, true
	m.has &^= 1 << 14
	return nil
}

// rawSize returns the bytes that t's elements take, if its dimensions are sane.
func (m *Tensor) rawSize() (int64, bool) {
	n := int64(m.DataType.Bits())
	for _, d := range m.Dims {
		if d < 0 || d > 0 && n > (1<<50)/d {
			return 0, false
		}
		n *= d
	}
	return (n + 7) / 8, m.DataType.Bits() > 0
}

// reference is where the data of a tensor is.
type reference struct {
	location       string
	offset, length int64 // length is -1 when not given
}

// reference reads and checks the entries of external_data.
func (m *Tensor) reference() (reference, error) {
	r := reference{length: -1}
	r.location, _ = Lookup(m.ExternalData, "location")
	if err := checkLocation(r.location); err != nil {
		return r, err
	}
	for key, p := range map[string]*int64{"offset": &r.offset, "length": &r.length} {
		s, ok := Lookup(m.ExternalData, key)
		if !ok {
			continue
		}
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil || v < 0 {
			return r, fmt.Errorf("%s %q is not a number of bytes", key, s)
		}
		*p = v
	}
	return r, nil
}

// checkLocation refuses what could lead out of the model's directory. Symbolic links are left to os.Root.
func checkLocation(loc string) error {
	slash := strings.ReplaceAll(loc, `\`, "/")
	switch {
	case loc == "":
		return errors.New("no location is given")
	case filepath.IsAbs(loc) || strings.HasPrefix(slash, "/"):
		return errors.New("absolute paths are refused")
	}
	for part := range strings.SplitSeq(slash, "/") {
		if part == ".." {
			return errors.New(`paths with ".." are refused`)
		}
	}
	if !filepath.IsLocal(filepath.FromSlash(loc)) {
		return errors.New("the path leads out of the model's directory")
	}
	return nil
}

// readRegular reads a file below root, without waiting on pipes or devices.
func readRegular(root *os.Root, name string) ([]byte, error) {
	name = filepath.FromSlash(name)
	info, err := root.Stat(name)
	if err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("reading %d bytes: %w", info.Size(), err)
	}
	return b, nil
}

// cause drops the path from an error whose text would repeat it.
func cause(err error) error {
	p, ok := errors.AsType[*os.PathError](err)
	switch {
	case !ok:
		return err
	case strings.Contains(p.Err.Error(), "escapes"): // os.Root has no error value for this
		return errors.New("a symbolic link leads out of the model's directory; copy the file there")
	}
	return p.Err
}
