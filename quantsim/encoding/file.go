package encoding

import (
	"fmt"

	"roundel/internal/regular"
	"roundel/tensor"
)

// versions can be written; reading also takes 2.1.0.
var versions = [...]string{"0.6.1", "1.0.0", "2.0.0"}

// DefaultVersion is what AIMET 2.42 writes unless told otherwise.
const DefaultVersion = "1.0.0"

// CheckVersion returns an error that lists the versions if v cannot be written.
func CheckVersion(v string) error {
	for _, w := range versions {
		if v == w {
			return nil
		}
	}
	return fmt.Errorf("encoding: cannot write encodings version %q; known are %v", v, versions)
}

// Kind tells parameters from activations.
type Kind uint8

// The kinds. Files of version 2 do not say which is which.
const (
	AnyKind Kind = iota
	Param
	Activation
)

// Entry is the encoding of one tensor of a file.
type Entry struct {
	Name string
	Kind Kind
	// Shape is that of the tensor; it is needed only to write blocks, and files do not have it.
	Shape tensor.Shape
	*Encoding
}

// Args is the "quantizer_args" section of versions 0.6.1 and 1.0.0: the settings of the whole simulation.
type Args struct {
	ActivationBits, ParamBits int
	DataType                  string // "int" or "float", of the parameters
	Symmetric, PerChannel     bool   // of the parameters
	Scheme                    string
}

// File is the content of an encodings file. Entries keep their order.
type File struct {
	Version   string // as in the file; "" for AdaRound parameter files, which have none
	Entries   []Entry
	Package   string // producer
	Release   string // producer's version
	Args      *Args
	Excluded  []string // torch: modules left out of quantization
	Annotated bool     // "excluded_layers" was present, if empty
}

// Find returns the encoding of the tensor name, or nil.
func (f *File) Find(name string) *Encoding {
	for _, e := range f.Entries {
		if e.Name == name {
			return e.Encoding
		}
	}
	return nil
}

// Params returns the entries that are not activations.
func (f *File) Params() []Entry {
	var out []Entry
	for _, e := range f.Entries {
		if e.Kind != Activation {
			out = append(out, e)
		}
	}
	return out
}

// maxFile bounds the bytes of an encodings file; the largest models have some ten million scales.
const maxFile = 1 << 30

// ReadFile reads an encodings file of any version or shape; see Parse.
func ReadFile(path string) (*File, error) {
	b, err := regular.ReadFile(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	return Parse(path, b)
}
