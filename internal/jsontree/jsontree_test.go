package jsontree

import (
	"strings"
	"testing"
)

func TestFloatIsPythonRepr(t *testing.T) {
	for x, want := range map[float64]string{0: "0.0", -128: "-128.0", 0.1: "0.1", 1e-4: "0.0001", 1e-5: "1e-05", 2.367903373379221e-10: "2.367903373379221e-10",
		1e15: "1000000000000000.0", 1e16: "1e+16", 1.5e300: "1.5e+300", 4294967295: "4294967295.0"} {
		if got := Float(x); got != want {
			t.Errorf("Float(%g) = %q, want %q", x, got, want)
		}
	}
}

func TestMarshal(t *testing.T) {
	got := string(Marshal(map[string]any{"b": []any{1, true}, "a": "\"é\n\U0001F600", "c": []any{}, "d": map[string]any{}}))
	want := "{\n    \"a\": \"\\\"\\u00e9\\n\\ud83d\\ude00\",\n    \"b\": [\n        1,\n        true\n    ],\n    \"c\": [],\n    \"d\": {}\n}"
	if got != want {
		t.Errorf("have\n%s\nwant\n%s", got, want)
	}
}

func TestErrorsAreCollected(t *testing.T) {
	d, err := Parse("f.json", []byte(`{"a": {"b.c": ["x", 1.5, 300]}, "z": 1}`))
	if err != nil {
		t.Fatal(err)
	}
	d.Root.Only("a")
	list := d.Root.Get("a").Get("b.c").List()
	list[0].Float()
	list[1].Int(0, 255)
	list[2].Int(0, 255)
	d.Root.Get("a").Get("nothing").Get("deeper").Str() // one error, not three
	if d.Root.Opt("absent").Bool() {
		t.Error("an absent value is false")
	}
	err = d.Err()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`f.json: z: unknown key`, `a["b.c"][0]: a string where a number`, `a["b.c"][1]: 1.5 is not a whole number from 0 to 255`,
		`a["b.c"][2]: 300`, `a: "nothing" is missing`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 5 {
		t.Errorf("%d problems, want 5:\n%v", n, err)
	}
}
