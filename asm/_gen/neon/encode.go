// Package neon encodes the arm64 vector instructions that Go's assembler does not
// know. Each has one encoder; a test compares them with the GNU assembler.
package neon

import "fmt"

// Inst is one instruction: its word and its text in the syntax of the GNU assembler.
type Inst struct {
	Word uint32
	Text string
}

// three returns an instruction on three vectors of four float32: d = n op m.
func three(word uint32, name string, d, n, m int) Inst {
	return Inst{word | reg(m)<<16 | reg(n)<<5 | reg(d), fmt.Sprintf("%s v%d.4s, v%d.4s, v%d.4s", name, d, n, m)}
}

func reg(r int) uint32 {
	if r < 0 || r > 31 {
		panic(fmt.Sprintf("neon: no register v%d", r))
	}
	return uint32(r)
}

// FADD is d = n + m.
func FADD(d, n, m int) Inst { return three(0x4e20d400, "fadd", d, n, m) }

// FSUB is d = n - m.
func FSUB(d, n, m int) Inst { return three(0x4ea0d400, "fsub", d, n, m) }

// FMUL is d = n * m.
func FMUL(d, n, m int) Inst { return three(0x6e20dc00, "fmul", d, n, m) }

// FDIV is d = n / m.
func FDIV(d, n, m int) Inst { return three(0x6e20fc00, "fdiv", d, n, m) }

// FCMGT sets the lanes of d to ones where n > m, to zeros elsewhere.
func FCMGT(d, n, m int) Inst { return three(0x6ea0e400, "fcmgt", d, n, m) }

// FCMEQ sets the lanes of d to ones where n = m, to zeros elsewhere.
func FCMEQ(d, n, m int) Inst { return three(0x4e20e400, "fcmeq", d, n, m) }

// UMIN is the smaller of n and m as unsigned integers.
func UMIN(d, n, m int) Inst { return three(0x6ea06c00, "umin", d, n, m) }

// FCVTMS is d = n rounded down to a signed integer; what is too large saturates, a NaN becomes 0.
func FCVTMS(d, n int) Inst {
	return Inst{0x4e21b800 | reg(n)<<5 | reg(d), fmt.Sprintf("fcvtms v%d.4s, v%d.4s", d, n)}
}

// FRINTN is d = n rounded to an integral value, halves to even.
func FRINTN(d, n int) Inst {
	return Inst{0x4e218800 | reg(n)<<5 | reg(d), fmt.Sprintf("frintn v%d.4s, v%d.4s", d, n)}
}

// FMLA is d += n * m[lane], fused.
func FMLA(d, n, m, lane int) Inst {
	if lane < 0 || lane > 3 {
		panic(fmt.Sprintf("neon: no lane %d", lane))
	}
	l := uint32(lane)
	return Inst{0x4f801000 | l&1<<21 | reg(m)<<16 | l>>1<<11 | reg(n)<<5 | reg(d),
		fmt.Sprintf("fmla v%d.4s, v%d.4s, v%d.s[%d]", d, n, m, lane)}
}
