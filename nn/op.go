package nn

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"roundel/tensor"
)

// OpDef is one operator: a row of the operator table.
type OpDef struct {
	Name string
	// Sig describes the inputs, separated by spaces: a letter for the element types that are allowed
	// (see sigClasses), then "=k" if the type must be that of input k, "?" if the input may be absent
	// and "*" if the last input repeats any number of times (at least once, unless "?" too).
	Sig string
	// Infer sets the types of the outputs. Whenever all inputs are known it must set or refuse; it never
	// computes with large tensors.
	Infer func(*InferCtx) error
	// Eval computes the outputs by the plain reference. Infer accepted the same inputs before.
	Eval  func(*EvalCtx) error
	flags opFlags
	// scalar returns the function that Eval applies to each float element, or is nil.
	scalar func(*Node) func(float64) float64
	in     []sigField
}

type opFlags uint8

const (
	// fold: cheap enough to be evaluated during inference when all inputs are small constants.
	fold opFlags = 1 << iota
	// widen: Eval sees float16 and bfloat16 as float32, all signed integers and the smaller unsigned
	// ones as int64, and its results are converted back. It needs versions for float32, float64,
	// int64 and uint64 at most.
	widen
	// dynamic: the shapes of the outputs depend on more than Infer looks at.
	dynamic
	// control: has subgraphs; Eval runs without Infer.
	control
)

// sigField is the constraint on one input.
type sigField struct {
	letter             byte
	same               int // input whose type it shares, or -1
	optional, variadic bool
}

// sigClasses gives the element types behind the letters of OpDef.Sig.
var sigClasses = map[byte][]tensor.DType{
	'f': {tensor.Float32, tensor.Float64, tensor.Float16, tensor.BFloat16},
	'n': {tensor.Float32, tensor.Float64, tensor.Float16, tensor.BFloat16, tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64,
		tensor.Uint8, tensor.Uint16, tensor.Uint32, tensor.Uint64},
	'u': {tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64, tensor.Uint8, tensor.Uint16, tensor.Uint32, tensor.Uint64},
	'i': {tensor.Int32, tensor.Int64},
	'I': {tensor.Int64},
	'q': {tensor.Int8, tensor.Uint8, tensor.Int16, tensor.Uint16},
	'b': {tensor.Bool},
	'a': {tensor.Float32, tensor.Float64, tensor.Float16, tensor.BFloat16, tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64,
		tensor.Uint8, tensor.Uint16, tensor.Uint32, tensor.Uint64, tensor.Bool},
}

// sigWords name the classes in messages.
var sigWords = map[byte]string{'f': "a float tensor", 'n': "a numeric tensor", 'u': "an integer tensor", 'i': "an int32 or int64 tensor",
	'I': "an int64 tensor", 'q': "an 8- or 16-bit integer tensor", 'b': "a bool tensor", 'a': "a tensor"}

// parseSig reads the notation of OpDef.Sig; it panics on a malformed row.
func parseSig(sig string) []sigField {
	var out []sigField
	for _, w := range strings.Fields(sig) {
		f := sigField{letter: w[0], same: -1}
		if sigClasses[w[0]] == nil {
			panic("nn: operator signature " + sig)
		}
		for i := 1; i < len(w); i++ {
			switch c := w[i]; {
			case c == '=':
				f.same = 0
			case c >= '0' && c <= '9' && f.same >= 0:
				f.same = int(c - '0')
			case c == '?':
				f.optional = true
			case c == '*':
				f.variadic = true
			default:
				panic("nn: operator signature " + sig)
			}
		}
		out = append(out, f)
	}
	return out
}

// opTable is the operator table, built on first use. (It cannot be a sync.OnceValue: the table refers to the
// interpreter, which looks up the table.)
var opTable struct {
	once sync.Once
	rows map[string]*OpDef
}

// table returns the operator table.
func table() map[string]*OpDef {
	opTable.once.Do(func() {
		t := map[string]*OpDef{}
		for _, family := range [][]OpDef{
			elementwiseOps(), logicOps(), activationOps(), reduceOps(), moveOps(), gatherOps(), generatorOps(), matmulOps(),
			convOps(), poolOps(), normOps(), resizeOps(), detectOps(), rnnOps(), controlOps(), quantOps(), attentionOps(),
		} {
			for _, d := range family {
				if t[d.Name] != nil {
					panic("nn: operator " + d.Name + " is in the table twice")
				}
				d.in = parseSig(d.Sig)
				t[d.Name] = &d
			}
		}
		opTable.rows = t
	})
	return opTable.rows
}

// lookup returns the row of an operator, or nil.
func lookup(op string) *OpDef { return table()[op] }

// Ops returns the names of the operators that can be inferred and executed, sorted.
func Ops() []string { return slices.Sorted(maps.Keys(table())) }

// checkInputs compares the number and the element types of the inputs of n with the signature.
func (d *OpDef) checkInputs(n *Node, in []Type) error {
	if len(n.Outputs) == 0 {
		return errors.New("has no output")
	}
	for i, f := range d.in {
		if n.In(i) == "" && !f.optional {
			return fmt.Errorf("input %d is missing; it has to be %s", i, sigWords[f.letter])
		}
	}
	for i := range in {
		f := sigField{}
		switch {
		case i < len(d.in):
			f = d.in[i]
		case len(d.in) > 0 && d.in[len(d.in)-1].variadic:
			f = d.in[len(d.in)-1]
		default:
			return fmt.Errorf("has %d inputs, but the operator takes at most %d", len(in), len(d.in))
		}
		if n.Inputs[i] == "" {
			if !f.optional {
				return fmt.Errorf("input %d is absent", i)
			}
			continue
		}
		dt := in[i].DType
		if !slices.Contains(sigClasses[f.letter], dt) {
			return fmt.Errorf("input %d (%q) is %v; it has to be %s", i, n.Inputs[i], dt, sigWords[f.letter])
		}
		if f.same >= 0 && n.In(f.same) != "" && f.same < i && in[f.same].DType != dt {
			return fmt.Errorf("input %d (%q) is %v, but input %d is %v; insert a Cast", i, n.Inputs[i], dt, f.same, in[f.same].DType)
		}
	}
	return nil
}
