package export

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"roundel/internal/atomicfile"
	"roundel/nn"
	"roundel/onnx"
	"roundel/onnx/convert"
	"roundel/quantsim"
	"roundel/quantsim/encoding"
)

// Producer is the name that files are signed with.
const Producer = "roundel"

// Options say what Write writes. The zero value is the float model and encodings of the default version.
type Options struct {
	Version  string // of the encodings: "0.6.1", "1.0.0", "2.0.0"; "" is encoding.DefaultVersion
	Bias     *bool  // int32 encodings of biases; nil: as AIMET does for the version
	NoModel  bool   // write no float model
	QDQ      bool   // write <prefix>_qdq.onnx too
	QDQModel QDQOptions
	Release  string // version of this program, for the producer entry
}

// Write writes <prefix>.onnx, the float model of the simulation, and
// <prefix>.encodings into the folder dir, which is made if need be. base is the model
// that the simulation's graph came from; nothing in it is changed. Each file appears
// whole or not at all; the encodings come last.
func Write(s *quantsim.Sim, base *onnx.Model, dir, prefix string, o Options) error {
	if o.Version == "" {
		o.Version = encoding.DefaultVersion
	}
	if prefix == "" || prefix != filepath.Base(prefix) {
		return fmt.Errorf("export: %q is not a file name prefix", prefix)
	}
	f, err := Encodings(s, o)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, prefix)
	if !o.NoModel {
		m, err := convert.ToModel(s.Graph(), base)
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		if err := writeModel(path+".onnx", m); err != nil {
			return err
		}
	}
	if o.QDQ {
		m, err := ToQDQ(s, base, o.QDQModel)
		if err != nil {
			return err
		}
		if err := writeModel(path+"_qdq.onnx", m); err != nil {
			return err
		}
	}
	if err := atomicfile.Write(path+".encodings", func(w io.Writer) error { return f.Write(w, o.Version) }); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

// Encodings returns the content of the encodings file that Write would write.
func Encodings(s *quantsim.Sim, o Options) (*encoding.File, error) {
	if o.Version == "" {
		o.Version = encoding.DefaultVersion
	}
	if err := encoding.CheckVersion(o.Version); err != nil {
		return nil, err
	}
	add := quantsim.OptionsFor(o.Version)
	if o.Bias != nil {
		add.Bias = *o.Bias
	}
	f, err := s.Encodings(add)
	if err != nil {
		return nil, err
	}
	f.Package, f.Release = Producer, o.Release
	return f, nil
}

func writeModel(path string, m *onnx.Model) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if err := (onnx.WriteOptions{External: onnx.ExternalKeep}).Write(path, m); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

// atOpset returns m, or if its operators are older than v, the same model in opset v.
func atOpset(m *onnx.Model, v int64) (*onnx.Model, error) {
	if m.Opset("") >= v {
		return m, nil
	}
	g, err := convert.ToGraph(m)
	if err == nil {
		err = nn.Infer(g) // some operators can only be written when their rank is known
	}
	if err != nil {
		return nil, err
	}
	// Against a base without nodes everything is written anew, in the base's opset.
	base := *m
	base.OpsetImport = nil
	for _, o := range m.OpsetImport {
		c := *o
		base.OpsetImport = append(base.OpsetImport, &c)
	}
	base.SetOpset("", v)
	base.Functions = nil
	bare := *m.Graph
	bare.Nodes, bare.Initializers, bare.SparseInitializers, bare.ValueInfo = nil, nil, nil, nil
	bare.Inputs = slices.DeleteFunc(slices.Clone(bare.Inputs), func(in *onnx.ValueInfo) bool { return m.Graph.FindInitializer(in.Name) != nil })
	bare.Outputs = nil // nothing in base makes them
	base.Graph = &bare
	out, err := convert.ToModel(g, &base)
	if err != nil {
		return nil, fmt.Errorf("export: the model is of opset %d and cannot be written in opset %d: %w", m.Opset(""), v, err)
	}
	out.Graph.Outputs = m.Graph.Outputs
	out.IRVersion = max(out.IRVersion, irFor(v))
	return out, nil
}

// irFor returns the IR version that came with an opset.
func irFor(opset int64) int64 {
	switch {
	case opset >= 21:
		return 10
	case opset >= 19:
		return 9
	case opset >= 15:
		return 8
	case opset >= 12:
		return 7
	}
	return 4
}
