package quantsim

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRuleErrorsNameThePath breaks a good config file in one place each: the error must name the file and the place.
func TestRuleErrorsNameThePath(t *testing.T) {
	b, err := os.ReadFile("testdata/placement/configs/by_operator.json")
	if err != nil {
		t.Fatal(err)
	}
	good := strings.Join(strings.Fields(string(b)), "")
	if _, err := ParseRules("good.json", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{`"model_input":{"is_input_quantized":"True"},`, ``, `"model_input" is missing`},
		{`"defaults":{`, `"defaults":{"simmetric":"True",`, `defaults.simmetric: unknown key`},
		{`"ops":{}`, `"ops":{"is_output_quantized":"False"}`, `defaults.ops.is_output_quantized: must be "True"`},
		{`"ops":{}`, `"ops":{"is_input_quantized":"True"}`, `defaults.ops.is_input_quantized: unknown key`},
		{`"ops":{}`, `"ops":{"is_symmetric":"yes"}`, `defaults.ops.is_symmetric: "yes" is not one of True, False`},
		{`"bias":{"is_quantized":"True"}`, `"bias":{"is_quantized":1}`, `params.bias.is_quantized: a number`},
		{`"min":0.0`, `"least":0.0`, `op_type.Sigmoid.encoding_constraints.least: unknown key`},
		{`"max":1.0`, `"max":-1.0`, `op_type.Sigmoid.encoding_constraints.max: -1 is below min 0`},
		{`"MaxPool":{"is_input_quantized":"True"`, `"MaxPool":{"is_input_quantized":"False"`, `op_type.MaxPool.is_input_quantized: can only be "True"`},
		{`"weight":{"is_symmetric":"False"}`, `"weight":{"bits":4}`, `op_type.Gemm.params.weight.bits: unknown key`},
		{`["Conv","Relu"]`, `["Conv"]`, `supergroups[1].op_list: a supergroup has at least two operators`},
		{`["Conv","Relu"]`, `["Conv",3]`, `supergroups[1].op_list[1]: a number`},
		{`"model_output":{`, `"supergroup_pass_list":["MatmulAd"],"model_output":{`, `supergroup_pass_list[0]: "MatmulAd" is not one of MatmulAdd`},
		{`"model_output":{`, `"model_output":{"is_input_quantized":"True",`, `model_output.is_input_quantized: unknown key`},
		{`"defaults":{`, `"defaults":{"supported_kernels":[{"activation":{"bitwidth":8,"dtype":"float"}}],`,
			`defaults.supported_kernels[0].activation.bitwidth: 8 bits of float are not a precision`},
		{`"defaults":{`, `"defaults":{"hw_version":73,`, `defaults.hw_version: a number`},
	} {
		text := strings.Replace(good, c.old, c.new, 1)
		if text == good {
			t.Fatalf("%q is not in the file", c.old)
		}
		if _, err := ParseRules("bad.json", []byte(text)); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "bad.json") {
			t.Errorf("%s: error %v, want %q", c.new, err, c.want)
		}
	}
	// All problems are reported, not only the first.
	two := strings.NewReplacer(`"min":0.0`, `"least":0.0`, `"ops":{}`, `"ops":[]`).Replace(good)
	if _, err := ParseRules("bad.json", []byte(two)); err == nil || !strings.Contains(err.Error(), "least") || !strings.Contains(err.Error(), "defaults.ops: a list") {
		t.Errorf("two problems: %v", err)
	}
}

// TestBuiltInRules: every name is a config that the reader takes, and files win over names.
func TestBuiltInRules(t *testing.T) {
	for _, name := range RuleNames() {
		r, err := LoadRules(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if v, hw := strings.CutPrefix(name, "htp_"); hw && r.HWVersion != strings.ToUpper(v) {
			t.Errorf("%s is for %q", name, r.HWVersion)
		}
		if conv := isTrue(r.OpTypes["Conv"].PerChannel); conv == slices.Contains([]string{"default_per_tensor", "htp_v66"}, name) {
			t.Errorf("%s: Conv per channel: %v", name, conv)
		}
	}
	if _, err := LoadRules("htp_v99"); err == nil || !strings.Contains(err.Error(), "htp_v66") {
		t.Errorf("an unknown name: %v", err)
	}
	path := filepath.Join(t.TempDir(), "default")
	if err := os.WriteFile(path, []byte("{}"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRules(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a file of a bad config: %v", err)
	}
}
