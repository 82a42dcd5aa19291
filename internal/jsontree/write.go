package jsontree

import (
	"bytes"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Marshal writes v with sorted keys and an indent of four, byte for byte as Python's
// json.dumps(v, indent=4, sort_keys=True) does: floats are the shortest text that
// reads back, with ".0" when whole, and text is ASCII. v is made of map[string]any,
// []any, string, bool, int, float64 and []float64; anything else panics.
func Marshal(v any) []byte {
	var b bytes.Buffer
	write(&b, v, "\n")
	return b.Bytes()
}

func write(b *bytes.Buffer, v any, nl string) {
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		sequence(b, '{', '}', len(keys), nl, func(i int, nl string) {
			quote(b, keys[i])
			b.WriteString(": ")
			write(b, v[keys[i]], nl)
		})
	case []any:
		sequence(b, '[', ']', len(v), nl, func(i int, nl string) { write(b, v[i], nl) })
	case []float64:
		sequence(b, '[', ']', len(v), nl, func(i int, nl string) { b.WriteString(Float(v[i])) })
	case string:
		quote(b, v)
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int:
		b.WriteString(strconv.Itoa(v))
	case float64:
		b.WriteString(Float(v))
	default:
		panic(fmt.Sprintf("jsontree: cannot write %T", v))
	}
}

func sequence(b *bytes.Buffer, open, end byte, n int, nl string, item func(i int, nl string)) {
	b.WriteByte(open)
	inner := nl + "    "
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(inner)
		item(i, inner)
	}
	if n > 0 {
		b.WriteString(nl)
	}
	b.WriteByte(end)
}

// Float formats a finite number as Python's repr does.
func Float(x float64) string {
	s := strconv.FormatFloat(x, 'e', -1, 64)
	exp, err := strconv.Atoi(s[strings.IndexByte(s, 'e')+1:])
	if err != nil || exp < -4 || exp >= 16 {
		return s
	}
	s = strconv.FormatFloat(x, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func quote(b *bytes.Buffer, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r >= 0x20 && r < 0x7f:
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
}
