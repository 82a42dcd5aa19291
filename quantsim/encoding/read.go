package encoding

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"roundel/internal/jsontree"
)

// Parse reads an encodings file: version 0.6.1, 1.0.0, 2.0.0 or 2.1.0, or the
// parameter file that AdaRound writes, {"param_encodings": {name: [...]}}, or only
// the inside of it (older versions), or a list of entries alone. The shape of each
// entry decides how it is read, as in AIMET.
//
// Unknown keys, duplicate names, and values that do not make a grid are errors; each
// names source and the place in it, and all are reported together. Encodings of 0.6.1
// and 1.0.0 with several scales have Axis AxisUnknown: call Encoding.Resolve.
func Parse(source string, data []byte) (*File, error) {
	doc, err := jsontree.Parse(source, data)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	f := &File{}
	r := reader{f, map[string]string{}}
	root := doc.Root
	switch {
	case root.IsList():
		r.list(root, Param)
	case root.IsObject() && root.Opt("version").Present():
		r.whole(root)
	case root.IsObject() && root.Opt("param_encodings").Present():
		root.Only("param_encodings", "activation_encodings", "excluded_layers")
		r.section(root.Opt("param_encodings"), Param)
	default:
		r.dict(root, Param)
	}
	if err := doc.Err(); err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	return f, nil
}

// reader collects the entries of a document; problems go to its nodes.
type reader struct {
	*File
	seen map[string]string // tensor name to the place of its entry
}

func (r reader) whole(root *jsontree.Node) {
	r.Version = root.Get("version").Enum("0.6.1", "1.0.0", "2.0.0", "2.1.0")
	if p := root.Opt("producer"); p.Present() {
		p.Only("package", "version")
		r.Package, r.Release = p.Opt("package").Str(), p.Opt("version").Str()
	}
	if strings.HasPrefix(r.Version, "2.") {
		root.Only("encodings", "producer", "version")
		r.list(root.Get("encodings"), AnyKind)
		return
	}
	root.Only("activation_encodings", "param_encodings", "producer", "quantizer_args", "version", "excluded_layers")
	if a := root.Opt("quantizer_args"); a.Present() {
		r.Args = &Args{DataType: a.Get("dtype").Str(), Symmetric: a.Get("is_symmetric").Bool(),
			ActivationBits: int(a.Get("activation_bitwidth").Int(1, 32)), ParamBits: int(a.Get("param_bitwidth").Int(1, 32)),
			PerChannel: a.Get("per_channel_quantization").Bool(), Scheme: a.Get("quant_scheme").Str()}
	}
	if x := root.Opt("excluded_layers"); x.Present() {
		r.Annotated = true
		for _, c := range x.List() {
			r.Excluded = append(r.Excluded, c.Str())
		}
	}
	if !root.Opt("param_encodings").Present() && !root.Opt("activation_encodings").Present() {
		root.Errorf("neither param_encodings nor activation_encodings")
	}
	r.section(root.Opt("activation_encodings"), Activation)
	r.section(root.Opt("param_encodings"), Param)
}

// section reads a dict or a list of entries; torch writes dicts even where the version says lists.
func (r reader) section(n *jsontree.Node, k Kind) {
	switch {
	case !n.Present():
	case n.IsList():
		r.list(n, k)
	default:
		r.dict(n, k)
	}
}

func (r reader) dict(n *jsontree.Node, k Kind) {
	for _, name := range n.Keys() {
		c := n.Opt(name)
		if !c.IsList() {
			c.Errorf("not a list of encodings. If this file was written for PyTorch (<name>_torch.encodings), use the one for ONNX beside it")
			continue
		}
		r.put(name, k, c, readLegacy(c))
	}
}

func (r reader) list(n *jsontree.Node, k Kind) {
	for _, c := range n.List() {
		if !c.IsObject() {
			c.Errorf("not an entry with a name")
			continue
		}
		name := c.Get("name").Str()
		if c.Opt("bw").Present() {
			r.put(name, k, c, readEntry(c))
		} else {
			r.put(name, k, c, readOnnx(c))
		}
	}
}

// put adds an entry unless it is broken; n is where it was found.
func (r reader) put(name string, k Kind, n *jsontree.Node, e *Encoding) {
	if e == nil {
		return
	}
	if old, dup := r.seen[name]; dup {
		n.Errorf("tensor %q has an encoding already, at %s", name, old)
		return
	}
	r.seen[name] = n.Path()
	if err := e.Validate(nil); err != nil {
		n.Errorf("%s", strings.TrimPrefix(err.Error(), "encoding: "))
		return
	}
	r.Entries = append(r.Entries, Entry{Name: name, Kind: k, Encoding: e})
}

// readLegacy reads the 0.6.1 list of one tensor, one element per channel.
func readLegacy(n *jsontree.Node) *Encoding {
	items := n.List()
	if len(items) == 0 {
		n.Errorf("an empty list")
		return nil
	}
	e := &Encoding{Grid: Grid{Axis: PerTensor}}
	ranged := 0
	for i, c := range items {
		c.Only("bitwidth", "dtype", "is_symmetric", "min", "max", "offset", "scale")
		bits := int(c.Get("bitwidth").Int(1, 32))
		float := c.Get("dtype").Enum("int", "float") == "float"
		if float {
			e.Type, e.Bits = floatType(bits), bits
			return e
		}
		sym := strings.EqualFold(c.Get("is_symmetric").Enum("True", "False", "true", "false"), "true")
		if i == 0 {
			e.Bits, e.Symmetric = bits, sym
		} else if bits != e.Bits || sym != e.Symmetric {
			c.Errorf("%d bits, symmetric %v, but channel 0 has %d bits, symmetric %v", bits, sym, e.Bits, e.Symmetric)
		}
		if e.readRange(c, sym) {
			ranged++
		}
	}
	if len(items) > 1 {
		e.Axis = AxisUnknown
	}
	if ranged != len(items) {
		e.Min, e.Max = nil, nil
	}
	e.infer()
	return e
}

// readRange appends scale, offset and range of one 0.6.1 element. Partial elements
// are completed: without a range it is that of the grid; without a scale it comes
// from the range, which is kept. It reports whether there was a range.
func (e *Encoding) readRange(c *jsontree.Node, sym bool) bool {
	lo, hi := c.Opt("min").Float(), c.Opt("max").Float()
	ranged := c.Opt("min").Present() && c.Opt("max").Present() && lo < hi
	e.Min, e.Max = append(e.Min, lo), append(e.Max, hi)
	if !c.Opt("scale").Present() && ranged {
		p := Grid{Bits: e.Bits, Symmetric: sym, Axis: PerTensor}.fromRange(lo, hi)
		e.Scale, e.Offset = append(e.Scale, p.scale), append(e.Offset, p.offset)
		return true
	}
	e.Scale = append(e.Scale, c.Get("scale").Float())
	e.Offset = append(e.Offset, c.Get("offset").Float())
	return ranged
}

// infer sets the flags that legacy files do not have from the offsets of a symmetric grid, by AIMET's rule.
func (e *Encoding) infer() {
	if !e.Symmetric || e.Type != Int || len(e.Offset) == 0 {
		return
	}
	signed := -math.Ldexp(1, e.Bits-1)
	e.Strict = !slices.ContainsFunc(e.Offset, func(o float64) bool { return o != signed+1 })
	e.Unsigned = slices.Contains(e.Offset, 0)
}

func floatType(bits int) DataType {
	if bits == 32 {
		return Float32
	}
	return Float16
}

// readEntry reads a 1.0.0 entry.
func readEntry(n *jsontree.Node) *Encoding {
	n.Only("name", "dtype", "bw", "enc_type", "is_sym", "scale", "offset", "block_size", "zero_point_shift", "compressed_bw", "per_block_int_scale")
	bits := int(n.Get("bw").Int(1, 32))
	kind := n.Get("enc_type").Enum("PER_TENSOR", "PER_CHANNEL", "PER_BLOCK", "LPBQ", "VECTOR")
	e := &Encoding{Grid: Grid{Bits: bits, Axis: PerTensor}}
	if n.Get("dtype").Enum("INT", "FLOAT") == "FLOAT" {
		e.Type = floatType(bits)
		return e
	}
	if n.Opt("zero_point_shift").Present() {
		n.Opt("zero_point_shift").Errorf("shifted zero points are not supported")
	}
	e.Symmetric = n.Get("is_sym").Bool()
	e.Scale, e.Offset = n.Get("scale").Floats(), n.Get("offset").Floats()
	switch kind {
	case "PER_TENSOR":
		if len(e.Scale) != 1 {
			n.Opt("scale").Errorf("%d scales for PER_TENSOR", len(e.Scale))
			return nil
		}
	case "PER_CHANNEL":
		e.Axis = AxisUnknown
	case "VECTOR":
		n.Opt("enc_type").Errorf("vector quantization is not supported")
		return nil
	default:
		e.Axis, e.BlockAxis = AxisUnknown, AxisUnknown
		e.BlockSize = int(n.Get("block_size").Int(1, math.MaxInt32))
	}
	if kind == "LPBQ" && !e.expandBlocks(n) {
		return nil
	}
	e.infer()
	return e
}

// expandBlocks turns the two-level scales of an LPBQ entry into scales per block: scale[c] * int[c, b].
func (e *Encoding) expandBlocks(n *jsontree.Node) bool {
	ints := n.Get("per_block_int_scale").Floats()
	if len(e.Scale) == 0 || len(ints) == 0 || len(ints)%len(e.Scale) != 0 {
		n.Errorf("%d integer scales for %d channels", len(ints), len(e.Scale))
		return false
	}
	e.Bits = int(n.Get("compressed_bw").Int(2, 32))
	blocks := len(ints) / len(e.Scale)
	channel := e.Scale
	e.Scale, e.Offset = make([]float64, len(ints)), make([]float64, len(ints))
	for i, v := range ints {
		e.Scale[i] = channel[i/blocks] * v
		e.Offset[i] = -math.Ldexp(1, e.Bits-1)
	}
	return true
}
