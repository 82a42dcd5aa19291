package quantsim

import (
	"errors"
	"fmt"
	"slices"

	"roundel/quantsim/encoding"
)

// ErrCalibrated is returned (wrapped) by SetAndFreezeParamEncodings after ComputeEncodings.
var ErrCalibrated = errors.New("the simulation is calibrated already")

// SetAndFreezeParamEncodings reads a parameter file, AdaRound's in either shape or an
// encodings file of any version, of which activations are ignored, and freezes what it
// has. Parameters that it does not mention are left as they are.
//
// It must come before ComputeEncodings: activations are calibrated with the weights
// quantized, so they would belong to other weights. That is an error, as are names that
// the model does not have as parameters, and encodings that do not fit them.
func (s *Sim) SetAndFreezeParamEncodings(path string) error {
	f, err := encoding.ReadFile(path)
	if err != nil {
		return err
	}
	if err := s.SetAndFreezeParams(f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// SetAndFreezeParams is SetAndFreezeParamEncodings of a file in memory. f is not changed.
func (s *Sim) SetAndFreezeParams(f *encoding.File) error {
	if s.calibrated {
		return fmt.Errorf("quantsim: parameter encodings cannot be frozen now: %w. Activations were measured with other weights; "+
			"make a new simulation, freeze the parameters first, then call ComputeEncodings", ErrCalibrated)
	}
	var errs []error
	for _, e := range f.Entries {
		switch q := s.quant[e.Name]; {
		case e.Kind == encoding.Activation || e.Kind == encoding.AnyKind && q != nil && q.kind != encoding.Param:
		case e.Kind == encoding.AnyKind && q == nil:
		case q == nil || q.kind != encoding.Param:
			errs = append(errs, fmt.Errorf("quantsim: parameter %q of the file is not one of the model%s", e.Name, s.why(e.Name)))
		default:
			errs = append(errs, s.check(e.Name, q, e.Encoding))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, e := range f.Entries {
		if q := s.quant[e.Name]; q != nil && q.kind == encoding.Param && e.Kind != encoding.Activation && !bias32(e) {
			if err := s.SetEncoding(e.Name, e.Encoding, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// check tries an assignment on a copy.
func (s *Sim) check(name string, q *quantizer, e *encoding.Encoding) error {
	c := *q
	return s.assign(name, &c, e, false)
}

// bias32 reports whether an entry is a bias at the scale of its accumulator, which
// encodings 2.0.0 carry for the target; it is not simulated.
func bias32(e encoding.Entry) bool { return e.Type == encoding.Int && e.Bits == 32 }

// LoadOptions say how strictly an encodings file has to match the simulation.
type LoadOptions struct {
	// Partial keeps quantizers enabled that the file does not mention; otherwise they are disabled, as absence means float.
	Partial bool
	// Reconfigure lets the file change bitwidth, symmetry, data type and granularity,
	// and enable quantizers; otherwise each difference is an error.
	Reconfigure bool
	// Freeze keeps what was loaded against ComputeEncodings.
	Freeze bool
}

// LoadEncodings sets the encodings of an encodings file of any version, parameters and
// activations. Names that the model does not have are errors, and so is what
// LoadOptions forbid; then nothing is changed. What was changed to follow the file is
// listed by Warnings.
//
// Encodings of tensors that only move data (version 2.0.0 has them) must equal those of
// their source. 32-bit biases are taken note of but not simulated.
func (s *Sim) LoadEncodings(f *encoding.File, o LoadOptions) error {
	var errs []error
	var notes []string
	named := map[*quantizer]bool{}
	for _, e := range f.Entries {
		q := s.quant[e.Name]
		if q == nil {
			errs = append(errs, s.derived(e, f))
			continue
		}
		if bias32(e) && q.kind == encoding.Param {
			continue
		}
		named[q] = true
		if err := s.check(e.Name, q, e.Encoding); err != nil {
			errs = append(errs, err)
			continue
		}
		if d := s.difference(e.Name, q, e); d != "" && !s.copies(e, f) {
			notes = append(notes, fmt.Sprintf("tensor %q: %s", e.Name, d))
			if !o.Reconfigure {
				errs = append(errs, fmt.Errorf("quantsim: tensor %q: %s; allow reconfiguration to follow the file", e.Name, d))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, e := range f.Entries {
		q := s.quant[e.Name]
		if q == nil || bias32(e) && q.kind == encoding.Param || !q.enabled && s.copies(e, f) {
			continue
		}
		if q.frozen {
			notes = append(notes, fmt.Sprintf("tensor %q is frozen and keeps its encoding", e.Name))
			continue
		}
		if err := s.assign(e.Name, q, e.Encoding, o.Freeze); err != nil {
			return err
		}
	}
	if !o.Partial {
		for _, name := range s.order {
			if q := s.quant[name]; q.enabled && !named[q] && !q.frozen {
				q.enabled = false
				notes = append(notes, fmt.Sprintf("tensor %q is not in the file and stays in float", name))
			}
		}
	}
	s.warnings = notes
	s.calibrated = len(s.uncalibrated()) == 0
	s.changed()
	return nil
}

// copies reports whether e is the encoding of a tensor that moves the data of another
// one in the same file, or that only a Clip with the same encoding reads.
func (s *Sim) copies(e encoding.Entry, f *encoding.File) bool {
	same := func(o *encoding.Encoding) bool {
		return o != nil && slices.Equal(o.Scale, e.Scale) && slices.Equal(o.Offset, e.Offset) && o.Bits == e.Bits
	}
	if next := s.consumers[e.Name]; len(next) == 1 && next[0].typ == "Clip" && !s.g.IsOutput(e.Name) && same(f.Find(next[0].outputs[0])) {
		return true
	}
	for name := e.Name; ; {
		o := s.producer[name]
		if o == nil || !keepsGrid[o.typ] || len(o.inputs) == 0 {
			return false
		}
		name = o.inputs[0]
		if src := f.Find(name); src != nil {
			return same(src)
		}
	}
}

// derived checks the entry of a tensor without a quantizer.
func (s *Sim) derived(e encoding.Entry, f *encoding.File) error {
	if s.copies(e, f) {
		return nil
	}
	return fmt.Errorf("quantsim: tensor %q of the file has no quantizer%s", e.Name, s.why(e.Name))
}

// difference describes how an entry differs from the settings of its quantizer, "" if it does not.
func (s *Sim) difference(name string, q *quantizer, e encoding.Entry) string {
	g := q.grid
	per := func(axis int, n int) string {
		if axis == encoding.PerTensor || n == 1 {
			return "per tensor"
		}
		return "per channel"
	}
	switch {
	case !q.enabled:
		return "it is disabled here and in the file it is quantized"
	case g.Type != e.Type || g.Bits != e.Bits:
		return fmt.Sprintf("it has %d bits (%v) here and %d bits (%v) in the file", g.Bits, g.Type, e.Bits, e.Type)
	case e.Type != encoding.Int:
		return ""
	case g.Symmetric != e.Symmetric && e.Kind != encoding.AnyKind:
		return fmt.Sprintf("it is symmetric here: %v, in the file: %v", g.Symmetric, e.Symmetric)
	case g.BlockSize != e.BlockSize:
		return fmt.Sprintf("it has blocks of %d here and of %d in the file", g.BlockSize, e.BlockSize)
	}
	if c := s.g.Consts[name]; c != nil && g.BlockSize == 0 {
		if n := g.Groups(c.Shape()); per(g.Axis, n) != per(e.Axis, len(e.Scale)) {
			return fmt.Sprintf("it is %s here and %s in the file", per(g.Axis, n), per(e.Axis, len(e.Scale)))
		}
	}
	return ""
}
