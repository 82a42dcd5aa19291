package tensor

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// seq returns a tensor with elements 0, 1, 2, …
func seq(shape ...int) *Dense[float32] {
	d := New[float32](shape...)
	for i := range d.data {
		d.data[i] = float32(i)
	}
	return d
}

// at returns the element at a multi-index.
func at[T Elem](d *Dense[T], idx ...int) T {
	o := 0
	for i, s := range d.shape.Strides() {
		o += idx[i] * s
	}
	return d.data[o]
}

// indices calls f for every multi-index of shape.
func indices(shape Shape, f func(idx []int)) {
	idx := make([]int, len(shape))
	for range shape.Len() {
		f(idx)
		for i := len(shape) - 1; i >= 0; i-- {
			if idx[i]++; idx[i] < shape[i] {
				break
			}
			idx[i] = 0
		}
	}
}

func TestTransposeAllPermutations(t *testing.T) {
	x := seq(2, 3, 1, 4)
	for _, perm := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 0, 3, 2}, {0, 3, 1, 2}, {2, 3, 0, 1}} {
		y := Transpose(x, perm).(*Dense[float32])
		indices(y.shape, func(idx []int) {
			from := make([]int, 4)
			for i, p := range perm {
				from[p] = idx[i]
			}
			if at(y, idx...) != at(x, from...) {
				t.Errorf("perm %v: element %v = %v, want %v", perm, idx, at(y, idx...), at(x, from...))
			}
		})
	}
}

func TestExpandAndConcat(t *testing.T) {
	y := Expand(seq(3, 1), Shape{2, 3, 2}).(*Dense[float32])
	if want := []float32{0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2}; !slices.Equal(y.data, want) {
		t.Errorf("Expand = %v, want %v", y.data, want)
	}
	c := Concat([]Any{seq(2, 1), seq(2, 2)}, 1).(*Dense[float32])
	if want := []float32{0, 0, 1, 1, 2, 3}; !slices.Equal(c.data, want) || !c.shape.Equal(Shape{2, 3}) {
		t.Errorf("Concat = %v %v, want %v", c.shape, c.data, want)
	}
	e := Concat([]Any{seq(0, 2), seq(1, 2)}, 0)
	if !e.Shape().Equal(Shape{1, 2}) {
		t.Errorf("Concat with an empty tensor has shape %v", e.Shape())
	}
	s := SliceAxis(seq(2, 5), 1, 4, 3, -2).(*Dense[float32])
	if want := []float32{4, 2, 0, 9, 7, 5}; !slices.Equal(s.data, want) {
		t.Errorf("SliceAxis = %v, want %v", s.data, want)
	}
}

func TestBroadcastAgainstIndexing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		full := make(Shape, r.IntN(5))
		for i := range full {
			full[i] = r.IntN(4)
		}
		part := func() Shape {
			s := full[r.IntN(len(full)+1):].Clone()
			for i := range s {
				if r.IntN(3) == 0 {
					s[i] = 1
				}
			}
			return s
		}
		sa, sb := part(), part()
		a, b := seq(sa...), seq(sb...)
		y := Map2(a, b, func(a, b float32) float32 { return 100*a + b })
		want := mustBroadcast(sa, sb)
		if !y.shape.Equal(want) {
			t.Fatalf("%v with %v gives %v, want %v", sa, sb, y.shape, want)
		}
		pick := func(d *Dense[float32], idx []int) float32 {
			j := append([]int{}, idx[len(idx)-len(d.shape):]...)
			for i := range j {
				if d.shape[i] == 1 {
					j[i] = 0
				}
			}
			return at(d, j...)
		}
		cond := Map(y, func(v float32) bool { return int(v)%3 == 0 })
		w := Where(cond, a, b).(*Dense[float32])
		indices(want, func(idx []int) {
			p, q := pick(a, idx), pick(b, idx)
			if at(y, idx...) != 100*p+q {
				t.Errorf("%v with %v at %v: %v, want %v", sa, sb, idx, at(y, idx...), 100*p+q)
			}
			if at(cond, idx...) {
				q = p
			}
			if at(w, idx...) != q {
				t.Errorf("Where at %v: %v, want %v", idx, at(w, idx...), q)
			}
		})
	}
	if _, err := BroadcastShape(Shape{2, 3}, Shape{2}); err == nil {
		t.Error("[2 3] and [2] broadcast")
	}
}

func TestTakePut(t *testing.T) {
	x := From([]bool{true, false, true, true}, 2, 2)
	if y := Take(x, Shape{3, 2}, []int{1, -1, 0}, 2, nil).(*Dense[bool]); !slices.Equal(y.data, []bool{true, true, false, false, true, false}) {
		t.Errorf("Take = %v", y.data)
	}
	y := Put(seq(3, 1), []int{2, 0, 2}, 1, From([]float32{7, 8, 9}, 3)).(*Dense[float32])
	if !slices.Equal(y.data, []float32{8, 1, 9}) {
		t.Errorf("Put = %v", y.data)
	}
}
