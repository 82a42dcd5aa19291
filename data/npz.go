package data

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"roundel/internal/regular"
	"roundel/tensor"
)

// maxHeld bounds what is decompressed into memory from one file.
const maxHeld = 2 << 30

// maxInflate is the largest factor by which DEFLATE can compress: 258 bytes in two bits.
const maxInflate = 1032

// held checks what a compressed file promises against what can be true and what we are willing to hold.
func held(size, compressed, already int64) error {
	if size < 0 || size > compressed*maxInflate+1024 {
		return fmt.Errorf("%d bytes cannot come from %d compressed ones; the file is damaged", size, compressed)
	}
	if size > maxHeld-already {
		return fmt.Errorf("its arrays have more than %d bytes; save it without compression (numpy.savez), then rows are read one at a time", int64(maxHeld))
	}
	return nil
}

// npz is a source of the rows of several arrays.
func (r reader) npz(path, name string) ([]entry, error) {
	arrays, labels, err := r.openNpz(path)
	if err != nil {
		return nil, err
	}
	var names []string
	for n := range arrays {
		names = append(names, n)
	}
	slices.Sort(names)
	inputs := r.o.Inputs
	switch {
	case len(names) == 0:
		return nil, errors.New("the archive has no arrays")
	case len(inputs) == 0:
		for _, n := range names {
			inputs = append(inputs, Input{Name: n})
		}
	case len(inputs) == 1 && len(names) == 1: // whatever its name, often arr_0
		arrays[inputs[0].Name] = arrays[names[0]]
	}
	var list []rows
	var fed []Input
	for _, in := range inputs {
		a, ok := arrays[in.Name]
		if !ok && in.Zero {
			continue
		}
		if fed = append(fed, in); !ok {
			return nil, fmt.Errorf("no array for the model's input %q; the archive has %s", in.Name, strings.Join(names, ", "))
		}
		list = append(list, a)
	}
	return r.records(name, fed, list, labels, Preprocess{})
}

// openNpz finds the arrays of an archive by name, and labels apart from them.
func (r reader) openNpz(path string) (map[string]rows, []int64, error) {
	file, err := regular.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	z, err := zip.NewReader(file, st.Size())
	if err != nil {
		return nil, nil, err
	}
	arrays, total := map[string]rows{}, int64(0)
	var labels []int64
	for _, f := range z.File {
		name, ok := strings.CutSuffix(f.Name, ".npy")
		if !ok {
			continue
		}
		if _, twice := arrays[name]; twice {
			return nil, nil, fmt.Errorf("the archive has %q twice", f.Name)
		}
		a, err := openMember(path, f, &total)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		isInput := slices.ContainsFunc(r.o.Inputs, func(in Input) bool { return in.Name == name })
		if (name == "labels" || name == "label") && !isInput {
			if labels, err = a.ints(); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", f.Name, err)
			}
			continue
		}
		arrays[name] = a
	}
	return arrays, labels, nil
}

// openMember finds one array of an archive: in the file when it is stored, in memory when it is compressed.
func openMember(path string, f *zip.File, total *int64) (rows, error) {
	if f.Method == zip.Store {
		at, err := f.DataOffset()
		if err != nil {
			return rows{}, err
		}
		src, err := f.OpenRaw()
		if err != nil {
			return rows{}, err
		}
		size := int64(f.CompressedSize64)
		section, ok := src.(io.ReaderAt)
		if !ok || size < 1 {
			return rows{}, errors.New("the archive cannot be read out of order")
		}
		if _, err := section.ReadAt(make([]byte, 1), size-1); err != nil {
			return rows{}, fmt.Errorf("%d bytes are beyond the end of the archive; it is truncated", size)
		}
		a, err := openRows(path, section, size)
		if a.mem == nil {
			a.plan.offset += at
		}
		return a, err
	}
	size := int64(f.UncompressedSize64)
	if err := held(size, int64(f.CompressedSize64), *total); err != nil {
		return rows{}, err
	}
	*total += size
	src, err := f.Open()
	if err != nil {
		return rows{}, err
	}
	defer src.Close()
	mem := make([]byte, size)
	if _, err := io.ReadFull(src, mem); err != nil {
		return rows{}, fmt.Errorf("decompressing: %w", err)
	}
	if n, err := src.Read(make([]byte, 1)); n > 0 || err != io.EOF { // io.EOF comes after the checksum was found right
		return rows{}, fmt.Errorf("decompressing: longer than it says, or damaged (%v)", err)
	}
	a, err := openRows(path, bytes.NewReader(mem), size)
	if a.mem == nil {
		a.mem = mem
	}
	return a, err
}

// ints reads the whole array, which has one integer per sample.
func (a rows) ints() ([]int64, error) {
	if a.plan.dtype.IsFloat() || a.plan.dtype == tensor.Bool {
		return nil, fmt.Errorf("labels are %v, want integers", a.plan.dtype)
	}
	n := a.plan.shape.Len()
	if len(a.plan.shape) == 0 || n != a.plan.shape[0] {
		return nil, fmt.Errorf("labels have shape %v, want one per sample", a.plan.shape)
	}
	a.plan.shape = tensor.Shape{1, n}
	t, err := a.row(0)
	if err != nil {
		return nil, err
	}
	return tensor.Int64s(t), nil
}
