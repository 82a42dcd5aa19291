package data

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"

	"roundel/tensor"
)

// NoLabel is the label of a sample that has none.
const NoLabel = -1

// Sample is one image or record, ready to be fed to a model.
type Sample struct {
	Inputs map[string]tensor.Any // by input name; the batch dimension (Input.Batch), if there is one, is 1
	Label  int                   // class number, or NoLabel
	Name   string                // file name relative to the source, with "[i]" for rows of an array
}

// Input is what a model wants to be fed.
type Input struct {
	Name  string
	DType tensor.DType // Invalid: any
	Shape []int        // of one sample, without the batch dimension; -1 for any extent; nil for any shape
	Batch int          // the axis of the batch dimension, 0 for most; NoBatch if there is none
	Zero  bool         // a state in float32: zeros are fed when the source has nothing for it
}

// NoBatch is the Batch of an input that counts no samples, such as a sample rate.
const NoBatch = -1

// Options says how to read a source.
type Options struct {
	// Inputs are the model's. Sources of one array or image per sample feed the only one; it may
	// be left out, and is then called "input".
	Inputs []Input
	// Labels is a file of class numbers: text with "name number" or one number per line, an idx file or a
	// .npy file. When empty, labels come from the source itself, if it has any.
	Labels string
	// Preprocess is what is done to each image; nil for the default of the kind of source: Imagenet
	// for images, the factor 1/255 for idx files, nothing for NumPy arrays.
	Preprocess *Preprocess
}

// entry is one sample that has not been read yet.
type entry struct {
	name  string // for people, and to find labels by
	label int
	read  func() (map[string]tensor.Any, error)
}

// Source is a list of samples in a fixed order, read when they are asked for. Its methods may be called
// from several goroutines.
type Source struct {
	path    string
	entries []entry
	first   map[string]tensor.Any // the inputs of sample 0, which all others must resemble
	zeros   map[string]tensor.Any // states, for samples that have none
}

// Open opens a source of samples, by what path is:
//
//   - a folder: its JPEG, PNG and .npy files in the order of their names; when they are in sub-folders, those
//     are the classes (numbered in order, or by their name when all names are numbers)
//   - a .npy file: one sample per row of the first dimension, or one sample when Options.Inputs says that it is
//   - a .npz file: in the same way for several inputs, by name; an array "labels" gives labels
//   - an idx file (MNIST), plain or gzip; the labels beside it are found by their usual name
//   - an image
//   - a text file: one of these files per line, relative to the list's folder, each with an optional class number
//
// The first sample is read at once, so most mistakes are found here. Nothing stays open.
func Open(path string, o Options) (*Source, error) {
	if o.Preprocess != nil {
		if err := o.Preprocess.Validate(); err != nil {
			return nil, err
		}
	}
	r := reader{o}
	entries, err := r.open(path)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	if o.Labels != "" {
		if err := label(entries, o.Labels); err != nil {
			return nil, fmt.Errorf("data: labels %s: %w", o.Labels, err)
		}
	}
	s := &Source{path: path, entries: entries, zeros: map[string]tensor.Any{}}
	for _, in := range o.Inputs {
		if in.Zero {
			s.zeros[in.Name] = in.zeros()
		}
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("data: %s has no samples", path)
	}
	sample, err := s.At(context.Background(), 0)
	s.first = sample.Inputs
	return s, err
}

// Len returns the number of samples, at least 1.
func (s *Source) Len() int { return len(s.entries) }

// Name returns the name of sample i without reading it.
func (s *Source) Name(i int) string { return s.entries[i].name }

// Label returns the class of sample i without reading it, or NoLabel.
func (s *Source) Label(i int) int { return s.entries[i].label }

// Labelled reports whether every sample has a label.
func (s *Source) Labelled() bool {
	return !slices.ContainsFunc(s.entries, func(e entry) bool { return e.label == NoLabel })
}

// At reads sample i of Len. The error names the file.
func (s *Source) At(ctx context.Context, i int) (Sample, error) {
	if err := ctx.Err(); err != nil {
		return Sample{}, fmt.Errorf("data: at sample %d of %d: %w", i, s.Len(), err)
	}
	e := s.entries[i]
	inputs, err := e.read()
	if err == nil {
		for name, t := range s.zeros {
			if inputs[name] == nil {
				inputs[name] = t
			}
		}
		err = s.alike(inputs)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.first != nil:
		return Sample{}, fmt.Errorf("data: %s of %s disappeared while it was in use; put it back or start again without it: %w", e.name, s.path, err)
	case err != nil:
		return Sample{}, fmt.Errorf("data: %s of %s: %w", e.name, s.path, err)
	}
	return Sample{Inputs: inputs, Label: e.label, Name: e.name}, nil
}

// alike checks that a sample has the types and shapes of the first.
func (s *Source) alike(inputs map[string]tensor.Any) error {
	for name, want := range s.first {
		have := inputs[name]
		if have.DType() != want.DType() || !have.Shape().Equal(want.Shape()) {
			return fmt.Errorf("input %q is %v%v, in %s it is %v%v; samples must be alike: resize and crop images, or sort the files by size",
				name, have.DType(), have.Shape(), s.entries[0].name, want.DType(), want.Shape())
		}
	}
	return nil
}

// All reads the samples in order. After an error it stops.
func (s *Source) All(ctx context.Context) iter.Seq2[Sample, error] {
	return func(yield func(Sample, error) bool) {
		for i := range s.Len() {
			v, err := s.At(ctx, i)
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// Slice returns the samples lo to hi (not included).
func (s *Source) Slice(lo, hi int) *Source {
	c := *s
	c.entries = s.entries[lo:hi]
	return &c
}

// Pick returns n samples drawn at random without repetition, in the order of the source; the same seed draws the
// same samples. With n beyond Len it returns all.
func (s *Source) Pick(n int, seed uint64) *Source {
	c := *s
	if n >= s.Len() {
		return &c
	}
	at := rand.New(rand.NewPCG(seed, 0x64617461)).Perm(s.Len())[:max(n, 0)]
	slices.Sort(at)
	c.entries = make([]entry, 0, len(at))
	for _, i := range at {
		c.entries = append(c.entries, s.entries[i])
	}
	return &c
}

// reader opens the kinds of sources.
type reader struct{ o Options }

// input returns the only input of the model that is not a state.
func (r reader) input() (Input, error) {
	var names []string
	only := Input{Name: "input"}
	for _, in := range r.o.Inputs {
		if !in.Zero {
			names, only = append(names, in.Name), in
		}
	}
	if len(names) > 1 {
		return Input{}, fmt.Errorf("the model has inputs %s, this source feeds one; use .npz files with an array for each", strings.Join(names, ", "))
	}
	return only, nil
}

// preprocess returns the preprocessing asked for, or that of the kind of source.
func (r reader) preprocess(def Preprocess) Preprocess {
	if r.o.Preprocess != nil {
		return *r.o.Preprocess
	}
	return def
}

// accept checks a sample, with its batch dimension of 1, against what the model wants. Elements of wider or narrower
// floats become float32 when the model wants that.
func (in Input) accept(t tensor.Any) (tensor.Any, error) {
	if in.DType != tensor.Invalid && t.DType() != in.DType {
		if in.DType != tensor.Float32 || !t.DType().IsFloat() {
			return nil, fmt.Errorf("elements are %v, the model's input %q wants %v; convert the file, or use preprocessing with a scale or mean to get float32", t.DType(), in.Name, in.DType)
		}
		t = tensor.Cast(t, tensor.Float32)
	}
	if in.Shape == nil {
		return t, nil
	}
	row := t.Shape()[1:]
	switch {
	case in.fits(row):
	case in.Batch > 0 && len(row) == len(in.Shape)+1 && row[in.Batch] == 1 && in.fits(slices.Delete(row.Clone(), in.Batch, in.Batch+1)):
		row = slices.Delete(row.Clone(), in.Batch, in.Batch+1)
	case in.Batch == NoBatch && len(in.Shape) == len(row)+1 && in.Shape[0] == 1 && in.fits(slices.Insert(row.Clone(), 0, 1)):
		row = slices.Insert(row.Clone(), 0, 1)
	default:
		return nil, fmt.Errorf("one sample has shape %v, the model's input %q wants %v (-1 is any); change the preprocessing or the file", row, in.Name, in.Shape)
	}
	if in.Batch == 0 {
		return t, nil
	}
	return tensor.ReshapeAny(t, in.whole(row)), nil
}

// whole returns the shape that the model is fed for a sample of shape row.
func (in Input) whole(row tensor.Shape) tensor.Shape {
	if in.Batch == NoBatch {
		return row
	}
	return slices.Insert(row.Clone(), in.Batch, 1)
}

// zeros returns a sample of zeros; extents that are not known are 1.
func (in Input) zeros() tensor.Any {
	row := tensor.Shape{}
	for _, d := range in.Shape {
		row = append(row, max(d, 1))
	}
	return tensor.New[float32](in.whole(row)...)
}

// fits reports whether one sample of shape s is what the model wants.
func (in Input) fits(s tensor.Shape) bool {
	if len(s) != len(in.Shape) {
		return false
	}
	for i, d := range in.Shape {
		if d >= 0 && d != s[i] {
			return false
		}
	}
	return true
}

// slashed returns path relative to dir with forward slashes, the same name on every system.
func slashed(dir, path string) string {
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		rel = path
	}
	return filepath.ToSlash(rel)
}
