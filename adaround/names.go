package adaround

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"roundel/nn"
	"roundel/tensor"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// matchNames returns the indices of the layers that pattern names: a node or weight
// name, or a pattern with * and ? that also match slashes. No match is an error
// that suggests the nearest name.
func matchNames(pattern string, layers []*layer) ([]int, error) {
	var hits []int
	for i, l := range layers {
		if l.node.Name == pattern || l.weight == pattern || matches(pattern, l.node.Name) || matches(pattern, l.weight) {
			hits = append(hits, i)
		}
	}
	if hits != nil {
		return hits, nil
	}
	if strings.ContainsAny(pattern, "*?[") {
		return nil, fmt.Errorf("no layer or weight matches %q", pattern)
	}
	var names []string
	for _, l := range layers {
		names = append(names, l.node.Name, l.weight)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no layer is named %q: the model has none to round", pattern)
	}
	return nil, fmt.Errorf("no layer or weight is named %q; the nearest name is %q", pattern, nearestName(pattern, names))
}

// nearestName returns the first of the names that the fewest edits make of name.
func nearestName(name string, names []string) string {
	return slices.MinFunc(names, func(a, b string) int { return cmp.Compare(editDistance(name, a), editDistance(name, b)) })
}

// checkActivations reports the names of activations that are no value of g.
func checkActivations(activations map[string]tensor.FakeQuant, g *nn.Graph) error {
	known := sortedKeys(g.Consts)
	for _, v := range g.Inputs {
		known = append(known, v.Name)
	}
	for _, n := range g.Nodes {
		known = append(known, n.Outputs...)
	}
	known = slices.DeleteFunc(known, func(name string) bool { return name == "" })
	var errs []error
	for _, name := range sortedKeys(activations) {
		if !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("adaround: Activations: no value is named %q; the nearest name is %q", name, nearestName(name, known)))
		}
	}
	return errors.Join(errs...)
}

// matches is path.Match without the special meaning of slashes.
func matches(pattern, name string) bool {
	flat := strings.NewReplacer("/", "\x00")
	ok, err := path.Match(flat.Replace(pattern), flat.Replace(name))
	return err == nil && ok
}

// editDistance is the number of insertions, deletions and replacements of bytes between a and b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j := range b {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
