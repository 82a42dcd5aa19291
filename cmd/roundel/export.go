package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"roundel/quantsim"
	"roundel/quantsim/encoding"
	"roundel/quantsim/export"
	"roundel/report"
)

// simulation is the type of a calibrated model, named here for tables of variants.
type simulation = *quantsim.Sim

// export writes the rounded model, its encodings, the same as QDQ ONNX, and the report, and prints the hash of each.
func (j *job) export(env *environment, l *loaded, out *output, vs []*variant) error {
	j.doing = "exporting"
	name := j.resultName(l)
	o := j.files
	o.QDQ = o.QDQ && j.hasONNXTypes()
	if err := export.Write(j.sim, l.model, out.stage(), name, o); err != nil {
		return err
	}
	if err := report.Write(filepath.Join(out.stage(), name+".html"), j.page(l, vs)); err != nil {
		return err
	}
	names := []string{name + ".onnx", name + ".encodings"}
	if o.QDQ {
		names = append(names, name+"_qdq.onnx")
	} else if j.files.QDQ {
		fmt.Fprintln(env.stdout, "no QDQ model: ONNX has integers of 4, 8 and 16 bits only")
	}
	return out.publish(env, resultNames(name), append(names, name+".html"))
}

// resultName is what the files of a quantization are called, without extension.
func (j *job) resultName(l *loaded) string {
	return l.prefix() + fmt.Sprintf("_w%da%d", j.simulate.ParamBits, j.simulate.OutputBits)
}

// publish commits the results and prints the hash of those listed.
func (o *output) publish(env *environment, names, listed []string) error {
	var sums []string
	for _, name := range listed {
		sum, err := hashFile(filepath.Join(o.stage(), name))
		if err != nil {
			return err
		}
		sums = append(sums, sum)
	}
	if err := o.commit(names); err != nil {
		return err
	}
	for i, name := range listed {
		fmt.Fprintf(env.stdout, "wrote %s sha256 %s\n", o.path(name), sums[i])
	}
	return nil
}

// hasONNXTypes reports whether ONNX has an integer type for every bitwidth in use.
func (j *job) hasONNXTypes() bool {
	for _, name := range j.sim.Tensors() {
		st, _ := j.sim.State(name)
		if st.Enabled && st.Grid.Type == encoding.Int {
			switch st.Grid.Bits {
			case 4, 8, 16, 32:
			default:
				return false
			}
		}
	}
	return true
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// page is the content of the HTML report. It has no times: the same run gives the same bytes.
func (j *job) page(l *loaded, vs []*variant) report.Report {
	r := report.Report{Title: fmt.Sprintf("%s, %d-bit weights, %d-bit activations", filepath.Base(l.path), j.simulate.ParamBits, j.simulate.OutputBits)}
	r.Facts = []report.Fact{
		{Name: "model", Value: filepath.Base(l.path)},
		{Name: "calibration samples", Value: fmt.Sprint(j.calib.Len())},
		{Name: "evaluation samples", Value: fmt.Sprint(j.eval.Len())},
		{Name: "range scheme", Value: j.simulate.Method.Scheme.String()},
		{Name: "solver", Value: string(j.rounding.Solver)},
		{Name: "seed", Value: fmt.Sprint(j.rounding.Seed)},
		{Name: "Go", Value: runtime.Version()},
	}
	for _, v := range vs {
		s := report.Score{Name: v.name, Value: v.score.agreement(), Note: "agreement with float; output SQNR " + strings.TrimSpace(dB(v.score.sqnr()))}
		if v.score.labelled > 0 {
			s.Value, s.Note = v.score.accuracy(), fmt.Sprintf("accuracy; %.2f %% %s", 100*v.score.agreement(), s.Note)
		}
		if v.name == "float" && v.score.labelled > 0 {
			s.Note = "accuracy"
		}
		r.Scores = append(r.Scores, s)
	}
	for _, lr := range j.rounded.Layers {
		layer := report.Layer{Name: lr.Name, Op: lr.Op, Weights: lr.Weights, Bits: lr.Bits,
			LossNearest: lr.Nearest.HeldOut, LossAdaRound: lr.Final.HeldOut, Flipped: float64(lr.Flips) / float64(max(lr.Weights, 1)),
			SQNRNearest: j.layers[0][lr.Name], SQNRAdaRound: j.layers[1][lr.Name], SQNR: j.layers[2][lr.Name], Min: math.NaN(), Max: math.NaN()}
		if lr.HeldOut == 0 {
			layer.LossNearest, layer.LossAdaRound = lr.Nearest.Solve, lr.Final.Solve
		}
		if st, ok := j.sim.State(resultTensor(j.sim, lr.Name)); ok && len(st.Encoding.Min) == 1 {
			layer.Min, layer.Max = st.Encoding.Min[0], st.Encoding.Max[0]
		}
		r.Layers = append(r.Layers, layer)
	}
	for _, s := range j.rounded.Skipped {
		r.Findings = append(r.Findings, report.Finding{Node: s.Node, Text: "left in float: " + s.Reason})
	}
	return r
}
