package main

import (
	"flag"
	"maps"
	"slices"
	"testing"

	"roundel/adaround"
)

// TestRoundingFlags: every flag of the rounding reaches its field of the configuration, and the fields have the documented defaults.
func TestRoundingFlags(t *testing.T) {
	parsed := func(args ...string) adaround.Config {
		t.Helper()
		var q quantFlags
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		q.addRounding(fs)
		if err := fs.Parse(args); err != nil {
			t.Fatal(err)
		}
		c, err := q.rounding(3)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	d := parsed()
	if d.Solver != adaround.Fast || d.NumIterations != 0 || d.Positions != 16384 || d.LearningRate != 1e-3 || d.ParamBits != 4 {
		t.Errorf("defaults: %+v", d)
	}
	c := parsed("--solver", "adam", "--iterations", "77", "--positions", "900", "--lr", "0.02", "--param-bits", "5", "--seed", "9",
		"--bits", "/features/*=8", "--bits", "head.conv=6", "--ignore", "a,b*")
	if c.Solver != adaround.Adam || c.NumIterations != 77 || c.Positions != 900 || c.LearningRate != 0.02 || c.ParamBits != 5 || c.Seed != 9 || c.Workers != 3 {
		t.Errorf("%+v", c)
	}
	if want := map[string]int{"/features/*": 8, "head.conv": 6}; !maps.Equal(c.ParamBitsOverrides, want) {
		t.Errorf("bits %v, want %v", c.ParamBitsOverrides, want)
	}
	if want := []string{"a", "b*"}; !slices.Equal(c.IgnoreOps, want) {
		t.Errorf("ignored %v, want %v", c.IgnoreOps, want)
	}
}
