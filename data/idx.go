package data

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"roundel/internal/regular"
	"roundel/tensor"
)

// idxTypes are the element types of the idx format, by their code in the header.
var idxTypes = map[byte]tensor.DType{
	0x08: tensor.Uint8, 0x09: tensor.Int8, 0x0b: tensor.Int16, 0x0c: tensor.Int32, 0x0d: tensor.Float32, 0x0e: tensor.Float64,
}

// openIdx reads the header of an idx file, as in the MNIST data: two zero bytes, the element type, the
// number of dimensions, then each as 32 bits, all big endian. A gzip file is decompressed into memory.
func openIdx(path string) (rows, error) {
	f, err := regular.Open(path)
	if err != nil {
		return rows{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return rows{}, err
	}
	magic := make([]byte, 2)
	if _, err := f.ReadAt(magic, 0); err != nil {
		return rows{}, err
	}
	if !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		plan, err := idxPlan(f)
		if err == nil && plan.bytes() != st.Size()-plan.offset {
			err = fmt.Errorf("shape %v needs %d bytes, the file has %d", plan.shape, plan.bytes(), st.Size()-plan.offset)
		}
		return rows{plan: plan, path: path}, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return rows{}, err
	}
	plan, err := idxPlan(z)
	if err != nil {
		return rows{}, err
	}
	if err := held(plan.bytes(), st.Size(), 0); err != nil {
		return rows{}, err
	}
	mem := make([]byte, plan.bytes())
	if _, err := io.ReadFull(z, mem); err != nil {
		return rows{}, fmt.Errorf("decompressing: %w", err)
	}
	if n, err := z.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		return rows{}, fmt.Errorf("decompressing: longer than it says, or damaged (%v)", err)
	}
	plan.offset = 0
	return rows{plan: plan, path: path, mem: mem}, nil
}

func idxPlan(r io.Reader) (npyPlan, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return npyPlan{}, fmt.Errorf("reading the header: %w", err)
	}
	dt, ok := idxTypes[head[2]]
	if head[0] != 0 || head[1] != 0 || !ok || head[3] == 0 || head[3] > maxRank {
		return npyPlan{}, fmt.Errorf("% x is not the beginning of an idx file", head)
	}
	dims := make([]byte, 4*int(head[3]))
	if _, err := io.ReadFull(r, dims); err != nil {
		return npyPlan{}, fmt.Errorf("reading the header: %w", err)
	}
	p := npyPlan{dtype: dt, order: binary.BigEndian, offset: int64(4 + len(dims))}
	for i := 0; i < len(dims); i += 4 {
		p.shape = append(p.shape, int(binary.BigEndian.Uint32(dims[i:])))
	}
	return p, checkExtent(p)
}

// idx is a source of images of one channel. What the model wants decides the shape when the number of values agrees.
func (r reader) idx(path, name string) ([]entry, error) {
	in, err := r.input()
	if err != nil {
		return nil, err
	}
	a, err := openIdx(path)
	if err != nil {
		return nil, err
	}
	s := a.plan.shape
	known := in.Shape != nil && !slices.ContainsFunc(in.Shape, func(d int) bool { return d < 0 })
	switch {
	case known && tensor.Shape(in.Shape).Len() == s[1:].Len():
		a.plan.shape = append(tensor.Shape{s[0]}, in.Shape...)
	case len(s) == 3:
		a.plan.shape = tensor.Shape{s[0], 1, s[1], s[2]}
	}
	var labels []int64
	if beside := idxLabels(path); beside != "" && r.o.Labels == "" {
		if labels, err = readInts(beside); err != nil {
			return nil, fmt.Errorf("labels %s: %w", beside, err)
		}
	}
	return r.records(name, []Input{in}, []rows{a}, labels, Preprocess{Scale: 1. / 255})
}

// idxLabels returns the labels beside train-images-idx3-ubyte, which are called train-labels-idx1-ubyte, with or
// without .gz; "" when there are none.
func idxLabels(path string) string {
	base := strings.TrimSuffix(filepath.Base(path), ".gz")
	name := strings.Replace(strings.Replace(base, "images", "labels", 1), "idx3", "idx1", 1)
	if name == base {
		return ""
	}
	for _, n := range []string{name, name + ".gz"} {
		n = filepath.Join(filepath.Dir(path), n)
		if _, err := os.Stat(n); err == nil {
			return n
		}
	}
	return ""
}

// readInts reads a list of class numbers from an idx or .npy file.
func readInts(path string) ([]int64, error) {
	head, err := firstBytes(path)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(head, []byte(npyMagic)) {
		a, err := openIdx(path)
		if err != nil {
			return nil, err
		}
		return a.ints()
	}
	t, err := ReadNpy(path)
	if err != nil {
		return nil, err
	}
	if t.DType().IsFloat() || t.DType() == tensor.Bool || len(t.Shape()) != 1 {
		return nil, fmt.Errorf("labels are %v%v, want one integer per sample", t.DType(), t.Shape())
	}
	return tensor.Int64s(t), nil
}

// label sets the labels of all entries from a file.
func label(entries []entry, path string) error {
	head, err := firstBytes(path)
	if err != nil {
		return err
	}
	var labels []int64
	if bytes.HasPrefix(head, []byte(npyMagic)) || bytes.HasPrefix(head, []byte{0, 0}) || bytes.HasPrefix(head, []byte{0x1f, 0x8b}) {
		labels, err = readInts(path)
	} else {
		labels, err = labelText(entries, path)
	}
	if err != nil {
		return err
	}
	if len(labels) != len(entries) {
		return fmt.Errorf("%d labels for %d samples", len(labels), len(entries))
	}
	for i, v := range labels {
		if v < 0 || v != int64(int(v)) {
			return fmt.Errorf("label %d of sample %s is not a class number", v, entries[i].name)
		}
		entries[i].label = int(v)
	}
	return nil
}

// labelText reads one number per line, in the order of the samples, or lines of a name and a number.
func labelText(entries []entry, path string) ([]int64, error) {
	lines, err := textLines(path)
	if errors.Is(err, errNoData) {
		return nil, errors.New("the file has no lines of text")
	} else if err != nil {
		return nil, err
	}
	var inOrder []int64
	byName := map[string]int64{}
	for _, l := range lines {
		name, class := cutLabel("\t" + l.text)
		if class == NoLabel {
			return nil, fmt.Errorf("line %d: %q does not end in a class number", l.number, l.text)
		}
		if name == "" {
			inOrder = append(inOrder, int64(class))
			continue
		}
		if have, seen := byName[name]; seen && have != int64(class) {
			return nil, fmt.Errorf("line %d: %q has label %d already", l.number, name, have)
		}
		byName[name] = int64(class)
	}
	if len(byName) == 0 {
		return inOrder, nil
	}
	if len(inOrder) > 0 {
		return nil, errors.New("some lines have a name and some only a number")
	}
	labels := make([]int64, len(entries))
	for i, e := range entries {
		v, ok := byName[e.name]
		if !ok {
			v, ok = byName[e.name[strings.LastIndex(e.name, "/")+1:]]
		}
		if !ok {
			return nil, fmt.Errorf("no label for %s; add a line %q", e.name, e.name+" <class>")
		}
		labels[i] = v
	}
	return labels, nil
}
