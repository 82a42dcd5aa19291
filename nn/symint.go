package nn

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// expr is an integer known during inference: mul·sym + add, where sym is a product
// of named extents such as "N" or "H*W", or "" for a plain number. Shape
// arithmetic on a symbolic batch (Shape, Gather, Mul, Concat, Reshape) runs on it.
type expr struct {
	mul, add int64
	sym      string
	ok       bool // false: nothing is known
}

func number(v int64) expr { return expr{add: v, ok: true} }

// isNumber reports whether e is a plain number.
func (e expr) isNumber() bool { return e.ok && e.sym == "" }

// isMonomial reports whether e is a number or a product without a summand.
func (e expr) isMonomial() bool { return e.ok && (e.sym == "" || e.add == 0) }

// coef returns the number in front of the symbols of a monomial.
func (e expr) coef() int64 {
	if e.sym == "" {
		return e.add
	}
	return e.mul
}

// monomial returns c·sym.
func monomial(c int64, sym string) expr {
	if sym == "" || c == 0 {
		return number(c)
	}
	return expr{mul: c, sym: sym, ok: true}
}

func (e expr) plus(f expr) expr {
	add, ok := addInt(e.add, f.add)
	switch {
	case !e.ok || !f.ok || !ok:
		return expr{}
	case f.sym == "":
		return expr{e.mul, add, e.sym, true}
	case e.sym == "":
		return expr{f.mul, add, f.sym, true}
	case e.sym == f.sym:
		mul, ok := addInt(e.mul, f.mul)
		if mul == 0 {
			return number(add)
		}
		return expr{mul, add, e.sym, ok}
	}
	return expr{}
}

func (e expr) times(f expr) expr {
	if e.sym == "" {
		e, f = f, e
	}
	switch {
	case !e.ok || !f.ok:
		return expr{}
	case f.sym == "":
		mul, ok1 := mulInt(e.mul, f.add)
		add, ok2 := mulInt(e.add, f.add)
		if e.sym == "" || mul == 0 {
			return expr{add: add, ok: ok2}
		}
		return expr{mul, add, e.sym, ok1 && ok2}
	case e.add == 0 && f.add == 0:
		mul, ok := mulInt(e.mul, f.mul)
		factors := append(strings.Split(e.sym, "*"), strings.Split(f.sym, "*")...)
		slices.Sort(factors)
		return expr{mul, 0, strings.Join(factors, "*"), ok}
	}
	return expr{}
}

// over returns e/f when the division leaves no remainder for any value of the symbols, or for two numbers, truncated.
func (e expr) over(f expr) expr {
	switch {
	case !e.ok || !f.ok || f.isNumber() && f.add == 0:
		return expr{}
	case e.isNumber() && f.isNumber():
		return number(e.add / f.add)
	case f.isNumber() && e.mul%f.add == 0 && e.add%f.add == 0:
		return expr{e.mul / f.add, e.add / f.add, e.sym, true}
	case !e.isMonomial() || !f.isMonomial() || f.coef() == 0 || e.coef()%f.coef() != 0:
		return expr{}
	}
	left := strings.Split(e.sym, "*")
	for _, s := range strings.Split(f.sym, "*") {
		i := slices.Index(left, s)
		if s == "" || i < 0 {
			return expr{}
		}
		left = slices.Delete(left, i, i+1)
	}
	return monomial(e.coef()/f.coef(), strings.Join(left, "*"))
}

// positive reports whether e is certainly above zero or, taking extents as at least one, is for every model that runs.
func (e expr) positive() bool {
	if e.isNumber() {
		return e.add > 0
	}
	return e.ok && e.mul > 0 && e.add >= 0
}

// String formats e as the name of a dimension.
func (e expr) String() string {
	switch {
	case !e.ok:
		return "?"
	case e.sym == "":
		return strconv.FormatInt(e.add, 10)
	}
	s := e.sym
	if e.mul != 1 {
		s = fmt.Sprintf("%d*%s", e.mul, s)
	}
	if e.add != 0 {
		s = fmt.Sprintf("%s%+d", s, e.add)
	}
	return s
}

// dim returns e as a dimension; a negative number becomes unknown, one that is
// too large stays so, for checkSize to report.
func (e expr) dim() Dim {
	switch {
	case !e.ok || e.isNumber() && e.add < 0:
		return Dim{Size: -1}
	case e.isNumber():
		return Known(int(min(e.add, maxDim+1)))
	}
	return Dim{Size: -1, Sym: e.String()}
}

// dimExpr returns the extent of a dimension; it reads back what dim wrote.
func dimExpr(d Dim) expr {
	if d.IsKnown() {
		return number(int64(d.Size))
	}
	if d.Sym == "" {
		return expr{}
	}
	e := expr{mul: 1, sym: d.Sym, ok: true}
	if i := strings.LastIndexAny(e.sym, "+-"); i > 0 {
		if add, err := strconv.ParseInt(e.sym[i:], 10, 64); err == nil {
			e.add, e.sym = add, e.sym[:i]
		}
	}
	if c, rest, found := strings.Cut(e.sym, "*"); found {
		if mul, err := strconv.ParseInt(c, 10, 64); err == nil && rest != "" {
			e.mul, e.sym = mul, rest
		}
	}
	return e
}

// product returns the product of the dimensions.
func product(dims []Dim) expr {
	p := number(1)
	for _, d := range dims {
		if d == Known(0) {
			return number(0)
		}
		p = p.times(dimExpr(d))
	}
	return p
}

// addInt and mulInt report whether the result fits.
func addInt(a, b int64) (int64, bool) {
	c := a + b
	return c, (c > a) == (b > 0)
}

func mulInt(a, b int64) (int64, bool) {
	hi, lo := bits.Mul64(absInt(a), absInt(b))
	return a * b, hi == 0 && lo < 1<<63
}

func absInt(a int64) uint64 {
	if a < 0 {
		return -uint64(a)
	}
	return uint64(a)
}
