package data

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"roundel/internal/regular"
	"roundel/tensor"
)

// rows is an array whose first dimension counts samples. Its elements stay in the file unless
// they cannot be found there without reading everything before them.
type rows struct {
	plan npyPlan // its offset is within the file, or within mem
	path string
	mem  []byte
	same bool // the one row is for all samples
}

// row reads sample i, with a first dimension of 1.
func (a rows) row(i int) (tensor.Any, error) {
	if a.same {
		i = 0
	}
	var src io.ReaderAt = bytes.NewReader(a.mem)
	if a.mem == nil {
		f, err := regular.Open(a.path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		src = f
	}
	shape := append(tensor.Shape{1}, a.plan.shape[1:]...)
	size := int64(shape.Len()) * int64(a.plan.dtype.Size())
	t, err := a.plan.read(io.NewSectionReader(src, a.plan.offset+int64(i)*size, size), shape)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errors.New("the file has become shorter while it was in use")
	}
	return t, err
}

// openRows finds the array in r, a .npy of the given size that begins at offset 0 of r.
func openRows(path string, r io.ReaderAt, size int64) (rows, error) {
	plan, err := readNpyPlan(r, size)
	if err != nil {
		return rows{}, err
	}
	if plan.fortran && len(plan.shape) > 1 {
		t, err := plan.read(io.NewSectionReader(r, plan.offset, plan.bytes()), plan.shape)
		if err != nil {
			return rows{}, err
		}
		var b bytes.Buffer
		if err := EncodeNpy(&b, t); err != nil {
			return rows{}, err
		}
		plan, err = readNpyPlan(bytes.NewReader(b.Bytes()), int64(b.Len()))
		return rows{plan: plan, path: path, mem: b.Bytes()}, err
	}
	return rows{plan: plan, path: path}, nil
}

// npy is a source of the rows of one file.
func (r reader) npy(path, name string) ([]entry, error) {
	in, err := r.input()
	if err != nil {
		return nil, err
	}
	f, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	a, err := openRows(path, f, st.Size())
	if err != nil {
		return nil, err
	}
	return r.records(name, []Input{in}, []rows{a}, nil, Preprocess{})
}

// maxSamples bounds the samples of one array, each of which takes memory before it is read.
const maxSamples = 1 << 22

// records lists the rows of one array per input. An array that is itself what the model wants counts as one row.
func (r reader) records(name string, inputs []Input, arrays []rows, labels []int64, def Preprocess) ([]entry, error) {
	n := -1
	for i := range arrays {
		shape, in := &arrays[i].plan.shape, inputs[i]
		if in.Shape != nil && in.fits(*shape) {
			*shape = append(tensor.Shape{1}, *shape...)
			arrays[i].same = in.Batch != 0
		}
		if len(*shape) == 0 {
			return nil, fmt.Errorf("the array for input %q has no dimensions; the first should count samples", in.Name)
		}
		switch count := (*shape)[0]; {
		case arrays[i].same:
		case n < 0:
			n = count
		case count != n:
			return nil, fmt.Errorf("input %q has %d samples, input %q has %d", inputs[0].Name, n, in.Name, count)
		}
		if row := (*shape)[1:]; row.Len() == 0 {
			return nil, fmt.Errorf("the samples for input %q have shape %v, which is empty", in.Name, row)
		}
	}
	n = max(n, -n) // 1 if all arrays serve every sample
	if n > maxSamples {
		return nil, fmt.Errorf("%d samples; at most %d are supported, is the first dimension the one that counts them?", n, maxSamples)
	}
	if labels != nil && len(labels) != n {
		return nil, fmt.Errorf("%d labels for %d samples", len(labels), n)
	}
	p := r.preprocess(def)
	entries := make([]entry, n)
	for i := range entries {
		e := &entries[i]
		e.name, e.label = name, NoLabel
		if n > 1 {
			e.name = fmt.Sprintf("%s[%d]", name, i)
		}
		if labels != nil {
			e.label = int(labels[i])
		}
		e.read = func() (map[string]tensor.Any, error) { return readRecord(inputs, arrays, i, p) }
	}
	return entries, nil
}

func readRecord(inputs []Input, arrays []rows, i int, p Preprocess) (map[string]tensor.Any, error) {
	sample := map[string]tensor.Any{}
	for k, in := range inputs {
		t, err := arrays[k].row(i)
		if err == nil {
			t, err = p.values(t)
		}
		if err == nil {
			t, err = in.accept(t)
		}
		if err != nil {
			return nil, err
		}
		sample[in.Name] = t
	}
	return sample, nil
}

// values scales and normalises t, one sample with a first dimension of 1, to float32; the channels are
// dimension 1 or, for NHWC, the last. Without anything to do it returns t as it is.
func (p Preprocess) values(t tensor.Any) (tensor.Any, error) {
	if !p.changesValues() {
		return t, nil
	}
	shape := t.Shape()
	axis := 1
	if p.Layout == NHWC {
		axis = len(shape) - 1
	}
	channels, inner := 1, t.Len()
	if axis > 0 && axis < len(shape) && t.Len() > 0 {
		channels, inner = shape[axis], shape[axis+1:].Len()
	}
	out := tensor.New[float32](shape...)
	src := tensor.Float64s(t)
	for c := range channels {
		mean, std, err := p.normal(c, channels)
		if err != nil {
			return nil, err
		}
		for from := c * inner; from < len(src); from += channels * inner {
			for i := from; i < from+inner; i++ {
				out.Data()[i] = p.value(src[i], mean, std)
			}
		}
	}
	return out, nil
}
