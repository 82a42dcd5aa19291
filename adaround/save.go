package adaround

import (
	"io"
	"path/filepath"

	"roundel/internal/atomicfile"
	"roundel/quantsim/encoding"
)

// File lists the encodings of the rounded weights in execution order: what
// quantsim.Sim.SetAndFreezeParams takes.
func (r *Result) File() *encoding.File {
	f := &encoding.File{}
	for _, l := range r.Layers {
		f.Entries = append(f.Entries, encoding.Entry{Name: l.Weight, Kind: encoding.Param,
			Shape: r.Graph.Consts[l.Weight].Shape(), Encoding: r.ParamEncodings[l.Weight]})
	}
	return f
}

// SaveEncodings writes the encodings as <dir>/<prefix>.encodings in the form of the
// seed's apply_adaround, {"param_encodings": {name: [one entry per channel]}}, which
// SetAndFreezeParamEncodings reads. The folder is made if need be; the file appears
// whole or not at all.
func (r *Result) SaveEncodings(dir, prefix string) error {
	f := r.File()
	return atomicfile.Write(filepath.Join(dir, prefix+".encodings"), func(w io.Writer) error { return f.WriteAdaround(w, false) })
}
