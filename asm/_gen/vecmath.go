package main

import "math"

// The kernels of elementary functions: one description for all instruction sets,
// which asm/vecmath.go repeats in Go, operation by operation.

// vecOps is what an instruction set offers them. Registers are numbers that reg and
// the constants hand out; a NaN passes through every operation.
type vecOps interface {
	reg() int
	free(regs ...int)
	bits(b uint32) int // a constant in a new register
	move(d, a int)
	add(d, a, b int) // d = a + b, and so on
	sub(d, a, b int)
	mul(d, a, b int)
	div(d, a, b int)
	fma(d, a, b int)              // d += a·b, rounded once
	fnma(d, a, b int)             // d -= a·b, rounded once
	atLeast(x, lo int)            // x = lo where x < lo
	atMost(x, hi int)             // x = hi where x > hi
	pick(d, a, b, yes, no int)    // d = yes where a < b, else no
	andBits(d, a, b int)          // bitwise
	orBits(d, a, b int)           // bitwise
	scale(y, n, t int, tiny bool) // y *= 2^n, where t = n + roundMagic; tiny: the result may be subnormal or overflow
}

// mathFuncs are the kernels dst[i] = f(src[i]).
var mathFuncs = []struct {
	name string
	f    func(v *vec, x int) int // uses x up and returns the register of the result
}{
	{"exp", (*vec).exp}, {"sigmoid", (*vec).sigmoid}, {"tanh", (*vec).tanh}, {"erf", (*vec).erf},
}

// pairFuncs are the kernels dst[i] = f(a[i], b[i]).
var pairFuncs = []struct {
	name string
	f    func(v *vec, d, a, b int)
}{
	{"multiply", func(v *vec, d, a, b int) { v.mul(d, a, b) }},
	{"divide", func(v *vec, d, a, b int) { v.div(d, a, b) }},
}

const (
	unarySignature = "func(dst, src []float32)"
	pairSignature  = "func(dst, a, b []float32)"
)

// vec adds what is the same for all instruction sets.
type vec struct{ vecOps }

func (v *vec) konst(x float32) int { return v.bits(math.Float32bits(x)) }

// with calls f with a constant.
func (v *vec) with(x float32, f func(c int)) {
	c := v.konst(x)
	f(c)
	v.free(c)
}

// poly returns the polynomial of x with coefficients c, lowest power first.
func (v *vec) poly(x int, c []float32) int {
	acc := v.konst(c[len(c)-1])
	for i := len(c) - 2; i >= 0; i-- {
		k := v.konst(c[i])
		v.fma(k, acc, x)
		v.free(acc)
		acc = k
	}
	return acc
}

// power replaces x by eˣ.
func (v *vec) power(x int, tiny bool) {
	t, n := v.konst(roundMagic), v.reg()
	v.with(log2E, func(c int) { v.fma(t, x, c) })
	v.with(roundMagic, func(c int) { v.sub(n, t, c) })
	v.with(ln2Top, func(c int) { v.fnma(x, n, c) })
	v.with(ln2Rest, func(c int) { v.fnma(x, n, c) })
	q := v.poly(x, expCoef)
	r2 := v.reg()
	v.mul(r2, x, x)
	v.fma(x, q, r2)
	v.free(q, r2)
	v.with(1, func(c int) { v.add(x, x, c) })
	v.scale(x, n, t, tiny)
	v.free(t, n)
}

func (v *vec) exp(x int) int {
	v.with(-104, func(c int) { v.atLeast(x, c) })
	v.with(89, func(c int) { v.atMost(x, c) })
	v.power(x, true)
	return x
}

// sigmoid is 1/(1+e) or e/(1+e) with e = exp(-|x|).
func (v *vec) sigmoid(x int) int {
	e, sign := v.reg(), v.bits(1<<31)
	v.orBits(e, x, sign)
	v.free(sign)
	v.with(-104, func(c int) { v.atLeast(e, c) })
	v.power(e, true)
	one, zero := v.konst(1), v.konst(0)
	v.pick(x, x, zero, e, one)
	v.free(zero)
	v.add(e, e, one)
	v.div(x, x, e)
	v.free(e, one)
	return x
}

// split returns |x| and leaves the sign bit of x.
func (v *vec) split(x int) (a int) {
	a = v.reg()
	mask := v.bits(1<<31 - 1)
	v.andBits(a, x, mask)
	v.free(mask)
	mask = v.bits(1 << 31)
	v.andBits(x, x, mask)
	v.free(mask)
	return a
}

// tanh is x + x³·P(x²) for |x| < 0.625, and 1 - 2/(e^(2|x|)+1) with the sign of x beyond.
func (v *vec) tanh(x int) int {
	a := v.split(x)
	s, small := v.reg(), v.reg()
	v.mul(s, a, a)
	p := v.poly(s, tanhCoef)
	v.mul(s, s, a)
	v.move(small, a)
	v.fma(small, p, s)
	v.free(p)
	v.add(s, a, a)
	v.with(20, func(c int) { v.atMost(s, c) })
	v.power(s, false)
	two, large := v.konst(2), v.konst(1)
	v.add(s, s, large)
	v.div(s, two, s)
	v.sub(large, large, s)
	v.free(two, s)
	return v.join(x, a, 0.625, small, large)
}

// erf is x + x·P(x²) for |x| < 1, and 1 - e^Q(|x|) with the sign of x beyond.
func (v *vec) erf(x int) int {
	a := v.split(x)
	s, small := v.reg(), v.reg()
	v.mul(s, a, a)
	p := v.poly(s, erfCoef)
	v.move(small, a)
	v.fma(small, p, a)
	v.free(p)
	v.move(s, a)
	v.with(4, func(c int) { v.atMost(s, c) })
	q := v.poly(s, erfcCoef)
	v.power(q, false)
	large := v.konst(1)
	v.sub(large, large, q)
	v.free(s, q)
	return v.join(x, a, 1, small, large)
}

// join gives small where a < bound, else large, the sign bit in x.
func (v *vec) join(x, a int, bound float32, small, large int) int {
	v.with(bound, func(c int) { v.pick(small, a, c, small, large) })
	v.orBits(x, x, small)
	v.free(a, small, large)
	return x
}

// What makes 2^n of n + roundMagic: the bits of that plus scaleOne, shifted to the
// exponent; or, in two halves of n, the bits plus scaleStart, halved, plus scaleHalf.
// None is negative between.
const (
	scaleOne   = 127 - magicBits + 1<<32
	scaleStart = 300 - magicBits + 1<<32
	scaleHalf  = 127 - 150 + 1<<32
	magicBits  = 0x4b400000 // of roundMagic
)

// Coefficients, lowest power first; those of asm/vecmath.go.
const (
	log2E   = 0x1.715476p+0
	ln2Top  = 0x1.62e430p-1
	ln2Rest = -0x1.05c610p-29
)

var (
	expCoef  = []float32{0x1.fffffcp-2, 0x1.555492p-3, 0x1.5558f2p-5, 0x1.1239e8p-7, 0x1.6a242ap-10}
	tanhCoef = []float32{-0x1.555532p-2, 0x1.110726p-3, -0x1.b83c5ap-5, 0x1.52269ap-6, -0x1.75e1ccp-8}
	erfCoef  = []float32{0x1.06eba8p-3, -0x1.81273ep-2, 0x1.ce2cf8p-4, -0x1.b7f90ep-6, 0x1.5405b2p-8, -0x1.a3f7p-11, 0x1.496a32p-14}
	erfcCoef = []float32{0x1.8a577cp-13, -0x1.212c0cp+0, -0x1.443566p-1, -0x1.bc1516p-4, 0x1.9d0306p-6, -0x1.138cbep-8,
		0x1.cec606p-12, -0x1.6bd7eap-16}
)
