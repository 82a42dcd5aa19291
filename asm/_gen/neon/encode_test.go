package neon

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// all returns each encoder with low and high registers in every place.
func all() []Inst {
	var list []Inst
	regs := [][3]int{{0, 0, 0}, {31, 0, 0}, {0, 31, 0}, {0, 0, 31}, {31, 31, 31}, {1, 2, 3}, {16, 8, 4}, {21, 10, 27}}
	for _, r := range regs {
		for _, f := range []func(d, n, m int) Inst{FADD, FSUB, FMUL, FDIV, FCMGT, FCMEQ, UMIN} {
			list = append(list, f(r[0], r[1], r[2]))
		}
		list = append(list, FRINTN(r[0], r[1]), FCVTMS(r[0], r[1]))
		for lane := range 4 {
			list = append(list, FMLA(r[0], r[1], r[2], lane))
		}
	}
	return list
}

// TestGNU compares every encoder with the GNU assembler.
func TestGNU(t *testing.T) {
	as, err := exec.LookPath("aarch64-linux-gnu-as")
	if err != nil {
		t.Skip("aarch64-linux-gnu-as is not installed (binutils-aarch64-linux-gnu)")
	}
	objcopy, err := exec.LookPath("aarch64-linux-gnu-objcopy")
	if err != nil {
		t.Skip("aarch64-linux-gnu-objcopy is not installed")
	}
	dir := t.TempDir()
	object, raw := filepath.Join(dir, "a.o"), filepath.Join(dir, "a.bin")
	var source strings.Builder
	for _, i := range all() {
		source.WriteString(i.Text + "\n")
	}
	cmd := exec.Command(as, "-o", object, "-")
	cmd.Stdin = strings.NewReader(source.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command(objcopy, "-O", "binary", "-j", ".text", object, raw).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	code, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	words := make([]uint32, len(code)/4)
	if err := binary.Read(bytes.NewReader(code), binary.LittleEndian, words); err != nil {
		t.Fatal(err)
	}
	if len(words) != len(all()) {
		t.Fatalf("%d words for %d instructions", len(words), len(all()))
	}
	for k, i := range all() {
		if words[k] != i.Word {
			t.Errorf("%s: %#08x, the GNU assembler says %#08x", i.Text, i.Word, words[k])
		}
	}
}

// TestKnown checks words from the Arm reference, where no other assembler is at hand.
func TestKnown(t *testing.T) {
	for _, c := range []struct {
		i    Inst
		want uint32
	}{
		{FMLA(8, 2, 0, 3), 0x4fa01848},
		{FADD(0, 1, 2), 0x4e22d420},
		{FRINTN(3, 4), 0x4e218883},
	} {
		if c.i.Word != c.want {
			t.Errorf("%s: %#08x, want %#08x", c.i.Text, c.i.Word, c.want)
		}
	}
}

func TestBadOperands(t *testing.T) {
	for name, f := range map[string]func(){
		"register": func() { FADD(32, 0, 0) },
		"lane":     func() { FMLA(0, 0, 0, 4) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}
