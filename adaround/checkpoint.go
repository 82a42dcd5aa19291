package adaround

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"roundel/internal/atomicfile"
	"roundel/internal/regular"
	"roundel/nn"
	"roundel/tensor"
)

// checkpoints are the files of finished layers in one folder. They belong to one
// model, one set of data and one configuration; the key in each file is a hash of these.
type checkpoints struct {
	dir  string // "" for none
	hash hash.Hash
	key  string
}

// checkpoint is the content of a file.
type checkpoint struct {
	Format string // "roundel adaround checkpoint 2"
	Made   string // by which version of the program: another one may solve differently
	Key    string // of model, data and configuration
	Layer  string
	Index  int
	Codes  string // base64 of [O][K] signed variable-length integers (encoding/binary)
	Scale  []float32
	Bias   []float32 `json:",omitempty"`
	Report LayerReport
	Sum    string // SHA-256 of the file with this field empty
}

const checkpointFormat = "roundel adaround checkpoint 2"

// openCheckpoints starts the key with the model and the configuration.
func openCheckpoints(ctx context.Context, cfg Config, g *nn.Graph, layers []*layer) (*checkpoints, error) {
	c := &checkpoints{dir: cfg.Checkpoint}
	if c.dir == "" {
		return c, nil
	}
	if err := os.MkdirAll(c.dir, 0o777); err != nil {
		return nil, fmt.Errorf("adaround: checkpoint folder: %w", err)
	}
	c.hash = sha256.New()
	fmt.Fprintf(c.hash, "%s\n%d %g %g %g %d %d %q %d %q %q %g %d %d %g %d %t %t\n", checkpointFormat, cfg.NumIterations, cfg.RegParam, cfg.BetaRange,
		cfg.WarmStart, cfg.ParamBits, cfg.Scheme, cfg.ConfigFile, len(layers), cfg.IgnoreOps, cfg.Solver, cfg.LearningRate, cfg.BatchSize,
		cfg.Positions, cfg.HeldOut, cfg.Seed, cfg.FitScale, cfg.CorrectBias)
	for _, name := range sortedKeys(cfg.Activations) {
		fmt.Fprintf(c.hash, "%q %v\n", name, cfg.Activations[name])
	}
	for _, l := range layers {
		fmt.Fprintf(c.hash, "%q %q %d %v %v\n", l.node.Name, l.weight, l.bits, l.enc, l.act)
	}
	for _, n := range g.Nodes {
		fmt.Fprintf(c.hash, "%q %s %q %q", n.Name, n.Op, n.Inputs, n.Outputs)
		for _, name := range sortedKeys(n.Attrs) {
			a := n.Attrs[name]
			fmt.Fprintf(c.hash, " %q %d %g %q %v %v %q", name, a.I, a.F, a.S, a.Ints, a.Floats, a.Strings)
		}
	}
	for _, name := range sortedKeys(g.Consts) {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("adaround: stopped while the model was hashed: %w", err)
		}
		c.add(name, g.Consts[name])
	}
	return c, nil
}

// add puts a tensor into the key.
func (c *checkpoints) add(name string, t tensor.Any) {
	fmt.Fprintf(c.hash, "%q %v %v\n", name, t.DType(), t.Shape())
	switch t := t.(type) {
	case *tensor.Dense[float32]:
		buf := make([]byte, 0, 1<<16)
		for part := range slices.Chunk(t.Data(), 1<<14) {
			buf = buf[:0]
			for _, v := range part {
				buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
			}
			c.hash.Write(buf)
		}
	case *tensor.Dense[int64]:
		binary.Write(c.hash, binary.LittleEndian, t.Data())
	default:
		fmt.Fprint(c.hash, tensor.Float64s(t))
	}
}

// digest returns what the calibration data has to be shown to, nil without checkpoints.
func (c *checkpoints) digest() func(string, tensor.Any) {
	if c.dir == "" {
		return nil
	}
	return c.add
}

// ready closes the key.
func (c *checkpoints) ready() error {
	if c.dir != "" {
		c.key = hex.EncodeToString(c.hash.Sum(nil))
	}
	return nil
}

func (c *checkpoints) path(i int) string {
	return filepath.Join(c.dir, fmt.Sprintf("layer-%04d.json", i))
}

// save writes the file of layer i.
func (c *checkpoints) save(i int, l *layer, sol *Solution, report LayerReport) error {
	if c.dir == "" {
		return nil
	}
	raw := make([]byte, 0, len(sol.Codes))
	for _, v := range sol.Codes {
		raw = binary.AppendVarint(raw, int64(v))
	}
	f := checkpoint{Format: checkpointFormat, Made: version(), Key: c.key, Layer: l.node.Name, Index: i,
		Codes: base64.StdEncoding.EncodeToString(raw), Scale: sol.Scale, Bias: sol.Bias, Report: report}
	f.Sum = f.sum()
	b, err := json.Marshal(f)
	if err == nil {
		err = atomicfile.WriteBytes(c.path(i), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("adaround: checkpoint of layer %q: %w", l.node.Name, err)
	}
	return nil
}

// sum is the hash of the file without its Sum.
func (f checkpoint) sum() string {
	f.Sum = ""
	b, err := json.Marshal(f)
	if err != nil {
		return ""
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// load returns the solution of layer i, nil when there is no file. A file that is
// damaged, or belongs to another model, data or configuration, is an error that names it.
func (c *checkpoints) load(i int, l *layer) (*Solution, LayerReport, error) {
	none := LayerReport{}
	if c.dir == "" {
		return nil, none, nil
	}
	p := l.problem()
	b, err := regular.ReadFile(c.path(i), 1<<20+64*(int64(len(p.Weight))+int64(p.O)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, none, nil
	}
	var f checkpoint
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	bad := func(why string) (*Solution, LayerReport, error) {
		return nil, none, fmt.Errorf("adaround: checkpoint %s %s; remove it to solve the layer again", c.path(i), why)
	}
	foreign := func(why string) (*Solution, LayerReport, error) {
		return nil, none, fmt.Errorf("adaround: checkpoint %s %s; remove the folder to start again", c.path(i), why)
	}
	switch {
	case err != nil:
		return bad(fmt.Sprintf("cannot be read (%v)", err))
	case f.Format != checkpointFormat:
		return bad(fmt.Sprintf("is not of the format %q", checkpointFormat))
	case f.Sum != f.sum():
		return bad("is damaged: its checksum does not match")
	case f.Made != version():
		return foreign(fmt.Sprintf("was written by roundel %s, this is %s", f.Made, version()))
	case f.Key != c.key || f.Layer != l.node.Name || f.Index != i:
		return foreign(fmt.Sprintf("is of layer %q of another model, other data or another configuration", f.Layer))
	}
	raw, err := base64.StdEncoding.DecodeString(f.Codes)
	if err != nil || len(f.Scale) != p.O || len(f.Bias) != 0 && len(f.Bias) != p.O {
		return bad("does not fit the layer")
	}
	sol := &Solution{Codes: make([]int32, 0, len(p.Weight)), Scale: f.Scale, Bias: f.Bias,
		Nearest: f.Report.Nearest, Final: f.Report.Final, Flips: f.Report.Flips}
	for i := range p.Weight {
		code, n := binary.Varint(raw)
		if n <= 0 {
			return bad("does not fit the layer")
		}
		raw = raw[n:]
		o := i / p.K
		if code < int64(p.Lo[o]) || code > int64(p.Hi[o]) || !(f.Scale[o] > 0) {
			return bad(fmt.Sprintf("has code %d and scale %v for output %d, outside the grid", code, f.Scale[o], o))
		}
		sol.Codes = append(sol.Codes, int32(code))
	}
	if len(raw) > 0 {
		return bad("does not fit the layer")
	}
	f.Report.Resumed = true
	return sol, f.Report, nil
}
