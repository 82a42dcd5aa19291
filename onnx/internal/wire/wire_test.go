package wire

import (
	"bytes"
	"errors"
	"math"
	"testing"
)

func TestVarint(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 300, 1<<14 - 1, 1 << 14, 1<<32 - 1, 1 << 62, math.MaxInt64, math.MaxUint64} {
		b := AppendVarint(nil, v)
		if len(b) != SizeVarint(v) {
			t.Errorf("%d: %d bytes, SizeVarint says %d", v, len(b), SizeVarint(v))
		}
		got, n, err := ReadVarint(append(b, 0xff))
		if got != v || n != len(b) || err != nil {
			t.Errorf("%d: read %d, %d bytes, %v", v, got, n, err)
		}
		for i := range b {
			if _, n, err := ReadVarint(b[:i]); !errors.Is(err, ErrTruncated) || n != i {
				t.Errorf("%d cut at %d: n=%d err=%v", v, i, n, err)
			}
		}
	}
	if v, n, err := ReadVarint([]byte{0x81, 0x80, 0x00}); v != 1 || n != 3 || err != nil {
		t.Errorf("overlong 1: %d %d %v", v, n, err)
	}
	long := bytes.Repeat([]byte{0x80}, 12)
	if _, n, err := ReadVarint(append(long[:9:9], 2)); err != errOverflow || n != 9 {
		t.Errorf("65 bits: n=%d err=%v", n, err)
	}
	if _, _, err := ReadVarint(long); err == nil {
		t.Error("12 continuation bytes were accepted")
	}
}

func TestTag(t *testing.T) {
	for _, f := range []int{1, 15, 16, 2047, 2048, MaxField} {
		b := AppendTag(nil, f, Bytes)
		if len(b) != SizeTag(f) {
			t.Errorf("field %d: %d bytes, SizeTag says %d", f, len(b), SizeTag(f))
		}
		got, typ, n, err := ReadTag(b)
		if got != f || typ != Bytes || n != len(b) || err != nil {
			t.Errorf("field %d: %d %v %d %v", f, got, typ, n, err)
		}
	}
	for name, b := range map[string][]byte{"field 0": {0x02}, "type 6": {0x0e}, "type 7": {0x0f},
		"field 2^29": AppendVarint(nil, 1<<32), "nothing": nil} {
		if _, _, _, err := ReadTag(b); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestBytes(t *testing.T) {
	b := append(AppendVarint(nil, 3), "abcdef"...)
	v, n, err := ReadBytes(b)
	if string(v) != "abc" || n != 4 || err != nil || cap(v) != 3 {
		t.Errorf("%q cap %d, %d, %v", v, cap(v), n, err)
	}
	if _, _, err := ReadBytes(AppendVarint(nil, math.MaxUint64)); !errors.Is(err, ErrTruncated) {
		t.Errorf("huge length: %v", err)
	}
}

func TestSkip(t *testing.T) {
	group := AppendTag(AppendVarint(AppendTag(nil, 2, Varint), 7), 1, EndGroup)
	tests := []struct {
		name string
		typ  Type
		b    []byte
		n    int
		ok   bool
	}{
		{"varint", Varint, []byte{0x80, 1, 9}, 2, true},
		{"fixed32", Fixed32, make([]byte, 5), 4, true},
		{"fixed64", Fixed64, make([]byte, 9), 8, true},
		{"bytes", Bytes, []byte{2, 0, 0, 0}, 3, true},
		{"group", StartGroup, group, len(group), true},
		{"open group", StartGroup, group[:2], 2, false},
		{"wrong end", StartGroup, AppendTag(nil, 3, EndGroup), 0, false},
		{"end alone", EndGroup, nil, 0, false},
		{"short fixed32", Fixed32, make([]byte, 3), 3, false},
		{"short fixed64", Fixed64, make([]byte, 7), 7, false},
		{"deep groups", StartGroup, bytes.Repeat([]byte{0x0b}, 1000), maxGroups, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, err := Skip(tt.b, 1, tt.typ)
			if n != tt.n || (err == nil) != tt.ok {
				t.Errorf("n=%d err=%v, want n=%d ok=%v", n, err, tt.n, tt.ok)
			}
		})
	}
}
