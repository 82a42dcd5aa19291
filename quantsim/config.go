package quantsim

import (
	"errors"
	"fmt"

	"roundel/quantsim/encoding"
)

// Config says how a model is quantized where the rules leave a choice.
type Config struct {
	Method      encoding.Method   // calibration of activations, and of parameters unless ParamMethod is set
	ParamMethod encoding.Method   // zero: as Method
	ParamBits   int               // bitwidth of parameters
	OutputBits  int               // bitwidth of activations
	ParamType   encoding.DataType // encoding.Int, or a float type
	OutputType  encoding.DataType
	ConfigFile  string // rules: a file, a built-in name (see RuleNames), or "" for "roundel_default"
	Rules       *Rules // used instead of ConfigFile if not nil
	Workers     int    // for running the model; 0 means 1
}

// DefaultConfig is AIMET 2.42's default: 8-bit integers, min-max, weights per channel.
func DefaultConfig() Config {
	return Config{Method: encoding.Method{Scheme: encoding.SchemeTF}, ParamBits: 8, OutputBits: 8}
}

// Validate reports everything that is wrong with c.
func (c Config) Validate() error {
	errs := []error{c.Method.Validate()}
	if c.ParamMethod.Scheme != 0 {
		errs = append(errs, c.ParamMethod.Validate())
	}
	errs = append(errs, precisionOK("parameters", c.ParamType, c.ParamBits, 2), precisionOK("activations", c.OutputType, c.OutputBits, 4))
	if c.Workers < 0 {
		errs = append(errs, fmt.Errorf("quantsim: %d workers", c.Workers))
	}
	return errors.Join(errs...)
}

func precisionOK(what string, t encoding.DataType, bits, least int) error {
	if err := (encoding.Grid{Type: t, Bits: bits, Axis: encoding.PerTensor}).Validate(nil); err != nil {
		return fmt.Errorf("quantsim: %s: %w", what, err)
	}
	if t == encoding.Int && bits < least {
		return fmt.Errorf("quantsim: %s: bitwidth %d is outside %d..32", what, bits, least)
	}
	return nil
}
