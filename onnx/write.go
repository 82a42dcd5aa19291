package onnx

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

// External says where Write puts the data of tensors.
type External uint8

// The choices for external data.
const (
	ExternalAuto   External = iota // in a second file only when the model would be larger than protobuf allows
	ExternalKeep                   // in a second file for the tensors that had it so when they were read, else as ExternalAuto
	ExternalAlways                 // in a second file for all tensors but small ones
	ExternalNever                  // in the model file; a model that is too large is an error
)

// WriteOptions says how a model is written. The zero value is what Write uses.
type WriteOptions struct {
	External  External
	MaxInline int // largest size in bytes of the model file; 0 is protobuf's limit, 2 GiB - 1
}

const (
	minExternal = 1024    // bytes; smaller tensors stay in the model
	bigTensor   = 1 << 20 // bytes; from here on data begins at a multiple of bigAlign
	bigAlign    = 1 << 16 // what any system can map into memory
	smallAlign  = 64
)

// Write writes a model, with tensor data in path + ".data" if the model is too large
// for one file. Files are replaced at once: a reader sees the old or the new one.
func Write(path string, m *Model) error { return WriteOptions{}.Write(path, m) }

// Write writes a model. m is not changed.
func (o WriteOptions) Write(path string, m *Model) error {
	limit := o.MaxInline
	if limit <= 0 {
		limit = math.MaxInt32
	}
	dataName := filepath.Base(path) + ".data"
	ext := o.choose(m, limit)
	for t := range m.Tensors() {
		if loc, _ := Lookup(t.ExternalData, "location"); t.IsExternal() && (o.External == ExternalNever || len(ext) > 0 && loc == dataName) {
			return fmt.Errorf("onnx: %s: tensor %q refers to data in %q that was not loaded; read the model with its external data", path, t.Name, loc)
		}
	}
	swap := layOut(ext, dataName)
	if n := size(m, swap); n > limit {
		return fmt.Errorf("onnx: %s: the model would have %d bytes in one file, more than %d; use external data", path, n, limit)
	}
	if len(ext) > 0 {
		err := writeAtomic(filepath.Join(filepath.Dir(path), dataName), func(w io.Writer) error { return writeData(w, ext, swap) })
		if err != nil {
			return err
		}
	}
	return writeAtomic(path, func(w io.Writer) error {
		_, err := w.Write(encode(m, swap))
		return err
	})
}

// choose returns the tensors whose data goes to the second file, each once.
func (o WriteOptions) choose(m *Model, limit int) []*Tensor {
	all := o.External == ExternalAlways || o.External != ExternalNever && m.Size() > limit
	var out []*Tensor
	seen := map[*Tensor]bool{}
	for t := range m.Tensors() {
		if len(t.RawData) < minExternal || seen[t] || t.IsExternal() {
			continue
		}
		if all || o.External == ExternalKeep && t.wasExternal {
			seen[t] = true
			out = append(out, t)
		}
	}
	return out
}

// layOut returns for each tensor one that refers to its place in the file.
func layOut(ext []*Tensor, file string) map[*Tensor]*Tensor {
	swap, offset := make(map[*Tensor]*Tensor, len(ext)), 0
	for _, t := range ext {
		align := smallAlign
		if len(t.RawData) >= bigTensor {
			align = bigAlign
		}
		offset = (offset + align - 1) / align * align
		r := *t
		r.RawData, r.DataLocation = nil, LocationExternal
		r.ExternalData = []*StringEntry{{Key: "location", Value: file}, {Key: "offset", Value: strconv.Itoa(offset)},
			{Key: "length", Value: strconv.Itoa(len(t.RawData))}}
		swap[t] = &r
		offset += len(t.RawData)
	}
	return swap
}

// writeData writes the tensors' data at the places that swap says.
func writeData(w io.Writer, ext []*Tensor, swap map[*Tensor]*Tensor) error {
	pos, zeros := 0, make([]byte, bigAlign)
	for _, t := range ext {
		s, _ := Lookup(swap[t].ExternalData, "offset")
		offset, err := strconv.Atoi(s)
		if err != nil {
			return err
		}
		if _, err := w.Write(zeros[:offset-pos]); err != nil {
			return err
		}
		if _, err := w.Write(t.RawData); err != nil {
			return err
		}
		pos = offset + len(t.RawData)
	}
	return nil
}

// writeAtomic writes a file beside path, forces it to the disk and renames it to path.
func writeAtomic(path string, body func(io.Writer) error) (err error) {
	tmp := fmt.Sprintf("%s.%08x.tmp", path, rand.Uint32())
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fmt.Errorf("onnx: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(tmp)
			err = fmt.Errorf("onnx: writing %s: %w", path, err)
		}
	}()
	w := bufio.NewWriterSize(f, 1<<16)
	if err = body(w); err != nil {
		return err
	}
	if err = w.Flush(); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(tmp, path); err != nil {
		return err
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil { // make the new name durable where the system can
		_ = dir.Sync()
		_ = dir.Close()
	}
	return nil
}
