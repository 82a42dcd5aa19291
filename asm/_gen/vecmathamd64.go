package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// amd64Ops are the vecOps of AVX2 and AVX-512.
type amd64Ops struct {
	*gen
	consts *constants
	used   []bool
}

func (o *amd64Ops) reg() int {
	for i, u := range o.used {
		if !u {
			o.used[i] = true
			return i
		}
	}
	panic("gen: out of vector registers")
}

func (o *amd64Ops) free(regs ...int) {
	for _, r := range regs {
		o.used[r] = false
	}
}

func (o *amd64Ops) bits(b uint32) int {
	r := o.reg()
	o.consts.loadBits(o.gen, b, o.regs[r])
	return r
}

func (o *amd64Ops) move(d, a int)    { o.VMOVAPS(o.regs[a], o.regs[d]) }
func (o *amd64Ops) add(d, a, b int)  { o.VADDPS(o.regs[b], o.regs[a], o.regs[d]) }
func (o *amd64Ops) sub(d, a, b int)  { o.VSUBPS(o.regs[b], o.regs[a], o.regs[d]) }
func (o *amd64Ops) mul(d, a, b int)  { o.VMULPS(o.regs[b], o.regs[a], o.regs[d]) }
func (o *amd64Ops) div(d, a, b int)  { o.VDIVPS(o.regs[b], o.regs[a], o.regs[d]) }
func (o *amd64Ops) fma(d, a, b int)  { o.VFMADD231PS(o.regs[b], o.regs[a], o.regs[d]) }
func (o *amd64Ops) fnma(d, a, b int) { o.VFNMADD231PS(o.regs[b], o.regs[a], o.regs[d]) }

// MAXPS and MINPS return their second source (first in Go's order) when it is a NaN.
func (o *amd64Ops) atLeast(x, lo int) { o.VMAXPS(o.regs[x], o.regs[lo], o.regs[x]) }
func (o *amd64Ops) atMost(x, hi int)  { o.VMINPS(o.regs[x], o.regs[hi], o.regs[x]) }

func (o *amd64Ops) andBits(d, a, b int) { o.and(o.regs[b], o.regs[a], o.regs[d]) }

func (o *amd64Ops) orBits(d, a, b int) {
	if o.masks {
		o.VPORD(o.regs[b], o.regs[a], o.regs[d])
		return
	}
	o.VPOR(o.regs[b], o.regs[a], o.regs[d])
}

func (o *amd64Ops) pick(d, a, b, yes, no int) {
	const less = operand.U8(0x11) // quiet
	if o.masks {
		o.VCMPPS(less, o.regs[b], o.regs[a], reg.K2)
		o.VBLENDMPS(o.regs[yes], o.regs[no], reg.K2, o.regs[d])
		return
	}
	mask := o.reg()
	o.VCMPPS(less, o.regs[b], o.regs[a], o.regs[mask])
	o.VBLENDVPS(o.regs[mask], o.regs[yes], o.regs[no], o.regs[d])
	o.free(mask)
}

func (o *amd64Ops) scale(y, n, t int, tiny bool) {
	if o.masks {
		o.VSCALEFPS(o.regs[n], o.regs[y], o.regs[y])
		return
	}
	u, h := o.regs[t], o.regs[n]
	add := func(c uint32, v reg.VecPhysical) {
		k := o.bits(c)
		o.VPADDD(o.regs[k], v, v)
		o.free(k)
	}
	if !tiny {
		add(scaleOne, u)
		o.VPSLLD(operand.U8(23), u, u)
		o.VMULPS(u, o.regs[y], o.regs[y])
		return
	}
	add(scaleStart, u)
	o.VPSRLD(operand.U8(1), u, h)
	o.VPSUBD(h, u, u)
	for _, v := range []reg.VecPhysical{h, u} {
		add(scaleHalf, v)
		o.VPSLLD(operand.U8(23), v, v)
		o.VMULPS(v, o.regs[y], o.regs[y])
	}
}

// generateMath returns the assembly of the elementary functions of an x86 instruction set and its stubs.
func generateMath(a isa) ([]file, error) {
	g := newFile(a, "vecmathmask")
	c := newConstants("vecmathconst_"+g.name, 1)
	for _, f := range mathFuncs {
		g.unary(f.name, unarySignature, []string{"dst", "src"}, func(o *amd64Ops) int { return f.f(&vec{o}, 0) }, c)
	}
	for _, f := range pairFuncs {
		g.unary(f.name, pairSignature, []string{"dst", "a", "b"}, func(o *amd64Ops) int {
			f.f(&vec{o}, 0, 0, 1)
			return 0
		}, c)
	}
	c.emit(g)
	text, err := g.print("math-" + a.name)
	if err != nil {
		return nil, err
	}
	stubs, err := mathStubs(a.name, a.title)
	base := "vecmath_" + a.name + "_amd64"
	return []file{{base + ".s", text}, {base + ".go", stubs}}, err
}

// unary generates a loop over slices of which the first is the output: body gets the
// others in registers 0 and up, and returns that of the result.
func (g *gen) unary(name, signature string, slices []string, body func(o *amd64Ops) int, c *constants) {
	ptrs := []reg.GPPhysical{reg.RDI, reg.RSI, reg.RDX}[:len(slices)]
	g.begin(label("%sF32_%s", name, g.name), signature)
	for i, s := range slices {
		g.Load(g.Param(s).Base(), ptrs[i])
	}
	n := reg.RCX
	g.Load(g.Param(slices[0]).Len(), n)
	one := func(masked bool) {
		o := &amd64Ops{gen: g, consts: c, used: make([]bool, len(g.regs)-2)} // without the mask of AVX2
		for i, p := range ptrs[1:] {
			o.used[i] = true
			if masked {
				g.loadMasked(m(p, 0), 0, g.regs[i])
			} else {
				g.VMOVUPS(m(p, 0), g.regs[i])
			}
		}
		out := g.regs[body(o)]
		if masked {
			g.storeMasked(out, 0, m(ptrs[0], 0))
		} else {
			g.VMOVUPS(out, m(ptrs[0], 0))
		}
	}
	g.SUBQ(imm(g.lanes), n)
	g.JL(operand.LabelRef("tail"))
	g.Label("loop")
	one(false)
	for _, p := range ptrs {
		g.ADDQ(imm(4*g.lanes), p)
	}
	g.SUBQ(imm(g.lanes), n)
	g.JGE(operand.LabelRef("loop"))
	g.Label("tail")
	g.ADDQ(imm(g.lanes), n)
	g.JZ(operand.LabelRef("done"))
	g.colMasks(1, n, reg.RAX)
	one(true)
	g.Label("done")
	g.end()
}

// mathStubs returns the Go declarations of the elementary functions of an instruction set.
func mathStubs(name, title string) ([]byte, error) {
	var all []kernel
	for _, f := range mathFuncs {
		all = append(all, kernel{f.name, unarySignature})
	}
	for _, f := range pairFuncs {
		all = append(all, kernel{f.name, pairSignature})
	}
	return declare("math-"+name, name, title, all)
}
