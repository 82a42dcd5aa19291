package encoding

import (
	"fmt"
	"strings"
)

// Scheme names the rule that turns observed data into a range. The numbers are those of AIMET's QuantScheme.
type Scheme int

// The schemes. The two range-learning names calibrate as SchemeTF and
// SchemeTFEnhanced; what they add, training the range afterwards, is not a
// property of calibration. SchemeMSE and SchemeEntropy have no AIMET counterpart.
const (
	SchemeTF              Scheme = 1 // running minimum and maximum
	SchemeTFEnhanced      Scheme = 2 // least squared error over a histogram, saturation weighted by 3
	SchemeLearnTF         Scheme = 3
	SchemeLearnTFEnhanced Scheme = 4
	SchemePercentile      Scheme = 6 // cut (100-p) % off each tail of a histogram
	SchemeMSE             Scheme = 101
	SchemeEntropy         Scheme = 102
)

var schemeNames = []struct {
	s     Scheme
	names []string // the first is the canonical one
}{
	{SchemeTF, []string{"post_training_tf", "tf", "min_max"}},
	{SchemeTFEnhanced, []string{"post_training_tf_enhanced", "tf_enhanced"}},
	{SchemeLearnTF, []string{"training_range_learning_with_tf_init"}},
	{SchemeLearnTFEnhanced, []string{"training_range_learning_with_tf_enhanced_init"}},
	{SchemePercentile, []string{"post_training_percentile", "percentile"}},
	{SchemeMSE, []string{"mse"}},
	{SchemeEntropy, []string{"entropy"}},
}

// String returns the canonical name, such as "post_training_tf_enhanced".
func (s Scheme) String() string {
	for _, e := range schemeNames {
		if e.s == s {
			return e.names[0]
		}
	}
	return fmt.Sprintf("scheme(%d)", int(s))
}

// ParseScheme reads a scheme name, canonical or one of AIMET's short forms (tf, min_max, tf_enhanced, percentile), in any case.
func ParseScheme(name string) (Scheme, error) {
	var known []string
	for _, e := range schemeNames {
		for _, n := range e.names {
			if strings.EqualFold(n, name) {
				return e.s, nil
			}
		}
		known = append(known, e.names[len(e.names)-1])
	}
	return 0, fmt.Errorf("encoding: unknown quantization scheme %q; known are %s", name, strings.Join(known, ", "))
}

// Method is a scheme with its parameter.
type Method struct {
	Scheme Scheme
	// Percentile is used by SchemePercentile: 50 < p <= 100; 0 means 100.
	Percentile float64
}

// Validate reports an unknown scheme or a percentile out of range.
func (m Method) Validate() error {
	known := false
	for _, e := range schemeNames {
		known = known || e.s == m.Scheme
	}
	if !known {
		return fmt.Errorf("encoding: unknown quantization scheme %d; known are 1 (tf), 2 (tf_enhanced), 3, 4 (range learning), "+
			"6 (percentile), 101 (mse), 102 (entropy)", int(m.Scheme))
	}
	if p := m.Percentile; m.Scheme == SchemePercentile && p != 0 && !(p > 50 && p <= 100) {
		return fmt.Errorf("encoding: percentile %v is outside (50, 100]", p)
	}
	return nil
}

// base maps the range-learning schemes to the one they calibrate as.
func (m Method) base() Scheme {
	switch m.Scheme {
	case SchemeLearnTF:
		return SchemeTF
	case SchemeLearnTFEnhanced:
		return SchemeTFEnhanced
	}
	return m.Scheme
}
