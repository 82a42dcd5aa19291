package quantsim

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"roundel/internal/regular"
)

// Rules say which tensors are quantized: the content of a config file.
type Rules struct {
	Name              string // file or alias they came from
	OutputsQuantized  bool   // defaults.ops.is_output_quantized
	OutputsSymmetric  bool   // defaults.ops.is_symmetric
	ParamsQuantized   bool   // defaults.params.is_quantized
	ParamsSymmetric   bool   // defaults.params.is_symmetric
	Strict, Unsigned  bool   // defaults.strict_symmetric, unsigned_symmetric
	PerChannel        bool   // defaults.per_channel_quantization
	HWVersion         string // "V73"; enables exception rules
	ParamTypes        map[string]ParamRule
	OpTypes           map[string]OpRule
	Supergroups       [][]string
	Passes            []string
	InputsQuantized   bool
	GraphOutputsQuant bool
	Kernels           []Kernel // what the target offers; information only
}

// ParamRule overrides the defaults of one kind of parameter ("weight", "bias"); nil means no change.
type ParamRule struct {
	Quantized, Symmetric *bool
}

// OpRule overrides the defaults for one operator; nil means no change.
type OpRule struct {
	InputsQuantized  *bool
	OutputsQuantized *bool
	Symmetric        *bool // of inputs and outputs
	PerChannel       *bool // of parameters
	Params           map[string]ParamRule
	Constraint       *Range // fixed range of the outputs
	Kernels          []Kernel
}

// Range is a range of values with ends that may be absent.
type Range struct {
	Min, Max *float64
}

// Kernel is a pair of precisions that a target can run ("supported_kernels").
type Kernel struct {
	Activation, Param Precision
}

// Precision is a bitwidth and "int" or "float".
type Precision struct {
	Bits int
	Type string
}

//go:embed rules/*.json
var ruleFiles embed.FS

// aliases maps the names of the built-in rules to files. Targets that differ only in their version share a file.
var aliases = map[string]struct{ file, hw string }{
	"roundel_default":     {"roundel_default.json", ""},
	"default":             {"default_per_channel.json", ""},
	"default_per_channel": {"default_per_channel.json", ""},
	"default_per_tensor":  {"default_per_tensor.json", ""},
	"htp_v66":             {"htp_v66.json", "V66"},
	"htp_v68":             {"htp_v68.json", "V68"},
	"htp_v69":             {"htp_v69.json", "V69"},
	"htp_v73":             {"htp_v73.json", "V73"},
	"htp_v75":             {"htp_v73.json", "V75"},
	"htp_v79":             {"htp_v73.json", "V79"},
	"htp_v81":             {"htp_v73.json", "V81"},
	"htp_v85":             {"htp_v73.json", "V85"},
}

// RuleNames returns the names of the built-in rules.
func RuleNames() []string {
	var names []string
	for n := range aliases {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// maxRules bounds the bytes of a config file.
const maxRules = 1 << 24

// LoadRules returns the rules of a config file, or built-in ones by name; "" means
// "roundel_default": AIMET's "default", which quantizes weights per channel, and patterns that
// exporters write out (RATIONALE.md). A file wins over a name.
func LoadRules(name string) (*Rules, error) {
	if name == "" {
		name = "roundel_default"
	} else if b, err := regular.ReadFile(name, maxRules); err == nil {
		return ParseRules(name, b)
	} else if _, known := aliases[name]; !known {
		return nil, fmt.Errorf("quantsim: config %q is neither a file that can be read (%v) nor a built-in one (%s)",
			name, err, strings.Join(RuleNames(), ", "))
	}
	a := aliases[name]
	b, err := ruleFiles.ReadFile("rules/" + a.file)
	if err != nil {
		return nil, fmt.Errorf("quantsim: %w", err)
	}
	r, err := ParseRules(name, b)
	if err == nil && a.hw != "" {
		r.HWVersion = a.hw
	}
	return r, err
}
