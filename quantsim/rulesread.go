package quantsim

import (
	"fmt"
	"slices"
	"strings"

	"roundel/internal/jsontree"
)

// ParseRules reads a config file in AIMET's format. It is checked against the schema:
// unknown keys, wrong types and settings that mean nothing where they stand are
// errors, each with its path in the file, and all are reported. Booleans are the
// strings "True" and "False"; JSON booleans are taken too.
func ParseRules(source string, data []byte) (*Rules, error) {
	doc, err := jsontree.Parse(source, data)
	if err != nil {
		return nil, fmt.Errorf("quantsim: config %w", err)
	}
	root := doc.Root
	r := &Rules{Name: source, ParamTypes: map[string]ParamRule{}, OpTypes: map[string]OpRule{}}
	root.Only("defaults", "params", "op_type", "supergroups", "model_input", "model_output", "supergroup_pass_list")
	r.readDefaults(root.Get("defaults"))
	r.ParamTypes = paramRules(root.Get("params"))
	ops := root.Get("op_type")
	for _, op := range ops.Keys() {
		r.OpTypes[op] = opRule(ops.Opt(op))
	}
	for _, g := range root.Get("supergroups").List() {
		g.Only("op_list")
		r.Supergroups = append(r.Supergroups, opList(g.Get("op_list")))
	}
	for _, p := range root.Opt("supergroup_pass_list").List() {
		r.Passes = append(r.Passes, p.Enum(knownPasses...))
	}
	in, out := root.Get("model_input"), root.Get("model_output")
	in.Only("is_input_quantized")
	out.Only("is_output_quantized")
	r.InputsQuantized = isTrue(onlyTrue(in.Opt("is_input_quantized")))
	r.GraphOutputsQuant = isTrue(onlyTrue(out.Opt("is_output_quantized")))
	if err := doc.Err(); err != nil {
		return nil, fmt.Errorf("quantsim: config %w", err)
	}
	return r, nil
}

// knownPasses are the patterns that are quantized as one operator, floatDivisors and outputSigmoids. The last three are not AIMET's.
var knownPasses = []string{"MatmulAdd", "LayerNormalization", "RMSNormalization", "MaskedSoftmax", "Pointwise", "FloatDivisors",
	"OutputSigmoids"}

func (r *Rules) readDefaults(n *jsontree.Node) {
	n.Only("ops", "params", "strict_symmetric", "unsigned_symmetric", "per_channel_quantization", "supported_kernels", "hw_version")
	ops, params := n.Get("ops"), n.Get("params")
	ops.Only("is_output_quantized", "is_symmetric")
	if q := ops.Opt("is_output_quantized"); q.Present() {
		r.OutputsQuantized = isTrue(flag(q))
		if !r.OutputsQuantized {
			q.Errorf("must be \"True\"; to quantize no outputs, leave it away")
		}
	}
	r.OutputsSymmetric = isTrue(flag(ops.Opt("is_symmetric")))
	params.Only("is_quantized", "is_symmetric")
	r.ParamsQuantized = isTrue(flag(params.Opt("is_quantized")))
	r.ParamsSymmetric = isTrue(flag(params.Opt("is_symmetric")))
	r.Strict = isTrue(flag(n.Opt("strict_symmetric")))
	r.Unsigned = isTrue(flag(n.Opt("unsigned_symmetric")))
	r.PerChannel = isTrue(flag(n.Opt("per_channel_quantization")))
	r.Kernels = kernels(n.Opt("supported_kernels"))
	if v := n.Opt("hw_version"); v.Present() {
		r.HWVersion = strings.ToUpper(v.Str())
	}
}

func paramRules(n *jsontree.Node) map[string]ParamRule {
	out := map[string]ParamRule{}
	for _, k := range n.Keys() {
		p := n.Opt(k)
		p.Only("is_quantized", "is_symmetric")
		out[k] = ParamRule{flag(p.Opt("is_quantized")), flag(p.Opt("is_symmetric"))}
	}
	return out
}

func opRule(n *jsontree.Node) OpRule {
	n.Only("is_input_quantized", "is_output_quantized", "is_symmetric", "per_channel_quantization", "params", "encoding_constraints", "supported_kernels")
	r := OpRule{InputsQuantized: onlyTrue(n.Opt("is_input_quantized")), OutputsQuantized: flag(n.Opt("is_output_quantized")),
		Symmetric: flag(n.Opt("is_symmetric")), PerChannel: flag(n.Opt("per_channel_quantization")), Kernels: kernels(n.Opt("supported_kernels"))}
	if p := n.Opt("params"); p.Present() {
		r.Params = paramRules(p)
	}
	if c := n.Opt("encoding_constraints"); c.Present() {
		c.Only("min", "max")
		lo := c.Get("min").Float()
		r.Constraint = &Range{Min: &lo}
		if m := c.Opt("max"); m.Present() {
			hi := m.Float()
			r.Constraint.Max = &hi
			if hi < lo {
				m.Errorf("%v is below min %v", hi, lo)
			}
		}
	}
	return r
}

func opList(n *jsontree.Node) []string {
	var ops []string
	for _, o := range n.List() {
		ops = append(ops, o.Str())
	}
	if n.Present() && len(ops) < 2 {
		n.Errorf("a supergroup has at least two operators")
	}
	return ops
}

func kernels(n *jsontree.Node) []Kernel {
	var out []Kernel
	for _, k := range n.List() {
		k.Only("activation", "param")
		out = append(out, Kernel{precision(k.Get("activation")), precision(k.Opt("param"))})
	}
	return out
}

func precision(n *jsontree.Node) Precision {
	if !n.Present() {
		return Precision{}
	}
	n.Only("bitwidth", "dtype")
	p := Precision{Bits: int(n.Get("bitwidth").Int(4, 32)), Type: n.Get("dtype").Enum("int", "float")}
	if !slices.Contains([]int{4, 8, 16, 32}, p.Bits) || p.Type == "float" && p.Bits < 16 {
		n.Opt("bitwidth").Errorf("%d bits of %s are not a precision: int has 4, 8, 16 or 32, float 16 or 32", p.Bits, p.Type)
	}
	return p
}

// flag reads "True" or "False"; nil when absent.
func flag(n *jsontree.Node) *bool {
	if !n.Present() {
		return nil
	}
	v := false
	if n.IsBool() {
		v = n.Bool()
	} else {
		v = n.Enum("True", "False") == "True"
	}
	return &v
}

// onlyTrue reads a flag that switches on and cannot switch off.
func onlyTrue(n *jsontree.Node) *bool {
	f := flag(n)
	if f != nil && !*f {
		n.Errorf("can only be \"True\"; leave it away otherwise")
	}
	return f
}

func isTrue(f *bool) bool { return f != nil && *f }
