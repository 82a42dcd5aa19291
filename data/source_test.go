package data

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"roundel/tensor"
)

// tree writes files under a new folder and returns it.
func tree(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// shade is a PNG of w×h pixels of one gray value.
func shade(v uint8, w, h int) []byte {
	img := image.NewGray(image.Rect(0, 0, w, h))
	for i := range img.Pix {
		img.Pix[i] = v
	}
	var b bytes.Buffer
	png.Encode(&b, img)
	return b.Bytes()
}

func npyBytes(t tensor.Any) []byte {
	var b bytes.Buffer
	EncodeNpy(&b, t)
	return b.Bytes()
}

func npzBytes(method uint16, arrays ...any) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(arrays); i += 2 {
		w, _ := z.CreateHeader(&zip.FileHeader{Name: arrays[i].(string) + ".npy", Method: method})
		EncodeNpy(w, arrays[i+1].(tensor.Any))
	}
	z.Close()
	return b.Bytes()
}

func idxBytes(kind byte, body []byte, dims ...uint32) []byte {
	b := []byte{0, 0, kind, byte(len(dims))}
	for _, d := range dims {
		b = binary.BigEndian.AppendUint32(b, d)
	}
	return append(b, body...)
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Write(b)
	z.Close()
	return out.Bytes()
}

// summary lists name, label and, per input in a, the shape and the first value of each sample.
func summary(t *testing.T, s *Source) string {
	t.Helper()
	var lines []string
	for v, err := range s.All(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%s %d", v.Name, v.Label)
		for _, name := range []string{"input", "a", "b"} {
			if x := v.Inputs[name]; x != nil {
				line += fmt.Sprintf(" %s:%v%v=%.5g", name, x.DType(), x.Shape(), tensor.Float64s(x)[0])
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestSources(t *testing.T) {
	none := &Preprocess{}
	three := tensor.From([]float32{1, 2, 3, 4, 5, 6}, 3, 2)
	square := tensor.From([]uint8{9, 8, 7, 6}, 2, 2)
	dir := tree(t, map[string][]byte{
		"flat/b.png": shade(2, 3, 2), "flat/a.PNG": shade(1, 3, 2), "flat/.hidden.png": shade(9, 3, 2), "flat/notes.md": []byte("x"),
		"flat.txt":     []byte("a.PNG 5\n# comment\n\nb.png\t6\n"),
		"order.txt":    []byte("3\n4\n"),
		"tree/y/1.png": shade(1, 1, 1), "tree/x/deep/2.png": shade(2, 1, 1), "tree/z/3.png": shade(3, 1, 1),
		"digits/10/1.png": shade(1, 1, 1), "digits/9/2.png": shade(2, 1, 1),
		"list.txt":               []byte("flat/a.PNG 7\nflat/b.png\nwith space 3.png\n"),
		"with space 3.png":       shade(3, 3, 2),
		"rows.npy":               npyBytes(three),
		"fortran.npy":            npyFile(1, "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 2), }", 0, 1, 0, 3, 0, 2, 0, 4),
		"labels.npy":             npyBytes(tensor.From([]int64{4, 5, 6}, 3)),
		"two.npz":                npzBytes(zip.Store, "a", three, "b", tensor.From([]int32{7, 8, 9}, 3, 1), "labels", tensor.From([]uint8{1, 0, 2}, 3)),
		"small.npz":              npzBytes(zip.Deflate, "a", three, "b", tensor.From([]int32{7, 8, 9}, 3, 1)),
		"arr.npz":                npzBytes(zip.Deflate, "arr_0", three),
		"t-images-idx3-ubyte":    idxBytes(8, []byte{255, 0, 51, 0}, 2, 1, 2),
		"t-labels-idx1-ubyte.gz": gz(idxBytes(8, []byte{3, 9}, 2)),
		"alone.gz":               gz(idxBytes(0x0b, []byte{1, 0, 0, 0}, 2, 1)),
		"square.npy":             npyBytes(square),
	})
	in := func(name string, dt tensor.DType, shape ...int) []Input {
		return []Input{{Name: name, DType: dt, Shape: shape}}
	}
	tests := []struct {
		name, path string
		o          Options
		want       string
	}{
		{"folder", "flat", Options{Preprocess: none}, "a.PNG -1 input:float32[1 3 2 3]=1\nb.png -1 input:float32[1 3 2 3]=2"},
		{"folder, byte input", "flat", Options{Preprocess: none, Inputs: in("a", tensor.Uint8, 3, -1, -1)}, "a.PNG -1 a:uint8[1 3 2 3]=1\nb.png -1 a:uint8[1 3 2 3]=2"},
		{"folder, labels by name", "flat", Options{Preprocess: none, Labels: "flat.txt"}, "a.PNG 5 input:float32[1 3 2 3]=1\nb.png 6 input:float32[1 3 2 3]=2"},
		{"folder, labels in order", "flat", Options{Preprocess: none, Labels: "order.txt"}, "a.PNG 3 input:float32[1 3 2 3]=1\nb.png 4 input:float32[1 3 2 3]=2"},
		{"folder, default preprocessing", "tree", Options{}, "x/deep/2.png 0 input:float32[1 3 224 224]=-2.0837\ny/1.png 1 input:float32[1 3 224 224]=-2.1008\nz/3.png 2 input:float32[1 3 224 224]=-2.0665"},
		{"folders of numbers", "digits", Options{Preprocess: none}, "10/1.png 10 input:float32[1 3 1 1]=1\n9/2.png 9 input:float32[1 3 1 1]=2"},
		{"list", "list.txt", Options{Preprocess: none}, "flat/a.PNG 7 input:float32[1 3 2 3]=1\nflat/b.png -1 input:float32[1 3 2 3]=2\nwith space 3.png -1 input:float32[1 3 2 3]=3"},
		{"image", "flat/b.png", Options{Preprocess: &Preprocess{Gray: true}}, "b.png -1 input:float32[1 1 2 3]=2"},
		{"npy rows", "rows.npy", Options{Inputs: in("a", tensor.Float32, 2)}, "rows.npy[0] -1 a:float32[1 2]=1\nrows.npy[1] -1 a:float32[1 2]=3\nrows.npy[2] -1 a:float32[1 2]=5"},
		{"npy single sample", "rows.npy", Options{Inputs: in("a", tensor.Float32, -1, 2)}, "rows.npy -1 a:float32[1 3 2]=1"},
		{"npy labels", "rows.npy", Options{Labels: "labels.npy"}, "rows.npy[0] 4 input:float32[1 2]=1\nrows.npy[1] 5 input:float32[1 2]=3\nrows.npy[2] 6 input:float32[1 2]=5"},
		{"npy fortran big endian", "fortran.npy", Options{}, "fortran.npy[0] -1 input:int16[1 2]=1\nfortran.npy[1] -1 input:int16[1 2]=3"},
		{"npy scaled", "square.npy", Options{Preprocess: &Preprocess{Scale: 0.5, Mean: []float64{1, 2}}}, "square.npy[0] -1 input:float32[1 2]=3.5\nsquare.npy[1] -1 input:float32[1 2]=2.5"},
		{"npz", "two.npz", Options{}, "two.npz[0] 1 a:float32[1 2]=1 b:int32[1 1]=7\ntwo.npz[1] 0 a:float32[1 2]=3 b:int32[1 1]=8\ntwo.npz[2] 2 a:float32[1 2]=5 b:int32[1 1]=9"},
		{"npz compressed, one of two", "small.npz", Options{Inputs: in("b", tensor.Int32, 1)}, "small.npz[0] -1 b:int32[1 1]=7\nsmall.npz[1] -1 b:int32[1 1]=8\nsmall.npz[2] -1 b:int32[1 1]=9"},
		{"npz of one array", "arr.npz", Options{Inputs: in("a", tensor.Float32, 2)}, "arr.npz[0] -1 a:float32[1 2]=1\narr.npz[1] -1 a:float32[1 2]=3\narr.npz[2] -1 a:float32[1 2]=5"},
		{"idx", "t-images-idx3-ubyte", Options{}, "t-images-idx3-ubyte[0] 3 input:float32[1 1 1 2]=1\nt-images-idx3-ubyte[1] 9 input:float32[1 1 1 2]=0.2"},
		{"idx flattened for the model", "t-images-idx3-ubyte", Options{Inputs: in("a", tensor.Float32, 2)}, "t-images-idx3-ubyte[0] 3 a:float32[1 2]=1\nt-images-idx3-ubyte[1] 9 a:float32[1 2]=0.2"},
		{"idx gzip, int16", "alone.gz", Options{Preprocess: none}, "alone.gz[0] -1 input:int16[1 1]=256\nalone.gz[1] -1 input:int16[1 1]=0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.o.Labels != "" {
				tt.o.Labels = filepath.Join(dir, tt.o.Labels)
			}
			s, err := Open(filepath.Join(dir, tt.path), tt.o)
			if err != nil {
				t.Fatal(err)
			}
			got := summary(t, s)
			if got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestSourceErrors(t *testing.T) {
	f32 := tensor.From([]float32{1, 2, 3, 4}, 2, 2)
	bomb := npzBytes(zip.Deflate, "a", f32)
	at := bytes.Index(bomb, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(bomb[at+24:], 1<<30) // the uncompressed size in the directory
	hugeIdx := gz(idxBytes(8, nil, 1<<20, 1<<10))
	dir := tree(t, map[string][]byte{
		"empty/readme.md": nil, "mixed/a.png": shade(1, 1, 1), "mixed/c/b.png": shade(1, 1, 1),
		"sizes/a.png": shade(1, 2, 2), "sizes/b.png": shade(1, 3, 2), "bad/a.png": []byte("not a png"), "cut/a.png": shade(1, 40, 40)[:60],
		"junk.bin": {1, 2, 3, 0}, "list.txt": []byte("nowhere.png\n"), "self.txt": []byte("self.txt\n"), "blank.txt": []byte("\n\n"),
		"a.npy": npyBytes(f32), "bytes.npy": npyBytes(tensor.New[uint8](2, 2)), "scalar.npy": npyBytes(tensor.Scalar[float32](1)), "none.npy": npyBytes(tensor.New[float32](0, 2)),
		"two.npz": npzBytes(zip.Store, "a", f32, "b", tensor.New[float32](3, 1)), "bomb.npz": bomb, "cut.npz": npzBytes(zip.Store, "a", f32)[:100],
		"flabels.npz": npzBytes(zip.Store, "a", f32, "labels", tensor.New[float32](2)), "nothing.npz": npzBytes(zip.Store),
		"huge.gz": hugeIdx, "short.idx": idxBytes(8, []byte{1}, 2, 1), "odd.idx": idxBytes(7, nil, 1), "notidx.gz": gz([]byte("hello world")),
		"thin.npy": npyFile(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 0), }"), "long.npy": npyBytes(tensor.New[uint8](maxSamples + 1)),
		"few.txt": []byte("1\n"), "names.txt": []byte("b.png 1\n"), "nolabel.txt": []byte("a.png one\n"), "twice.txt": []byte("a.png 1\na.png 2\n"), "negative.npy": npyBytes(tensor.From([]int8{-1, 0}, 2)),
		"pair/a.png": shade(1, 1, 1), "pair/b.png": shade(1, 1, 1),
	})
	none := Options{Preprocess: &Preprocess{}}
	labels := func(f string) Options { return Options{Preprocess: &Preprocess{}, Labels: filepath.Join(dir, f)} }
	want := func(dt tensor.DType, shape ...int) Options {
		return Options{Preprocess: &Preprocess{}, Inputs: []Input{{Name: "x", DType: dt, Shape: shape}}}
	}
	tests := []struct {
		name, path string
		o          Options
		parts      []string
	}{
		{"absent", "nowhere", none, []string{"nowhere"}},
		{"empty folder", "empty", none, []string{"empty", ".png"}},
		{"mixed folder", "mixed", none, []string{"mixed", "1 files of its own", "move them"}},
		{"not an image", "bad", none, []string{"a.png", "not a JPEG"}},
		{"truncated image", "cut", none, []string{"a.png", "cannot be decoded"}},
		{"unknown file", "junk.bin", none, []string{"junk.bin", "not a JPEG"}},
		{"list of absent", "list.txt", none, []string{"line 1", "nowhere.png"}},
		{"list of itself", "self.txt", none, []string{"line 1", "self.txt"}},
		{"blank list", "blank.txt", none, []string{"blank.txt"}},
		{"wrong dtype", "bytes.npy", want(tensor.Float32, 2), []string{"bytes.npy", "uint8", "float32", "scale"}},
		{"wrong shape", "a.npy", want(tensor.Float32, 3), []string{"a.npy", "[2]", "[3]"}},
		{"image of wrong shape", "sizes", want(tensor.Float32, 1, 2, 2), []string{"a.png", "[3 2 2]", "preprocessing"}},
		{"scalar", "scalar.npy", none, []string{"scalar.npy", "no dimensions"}},
		{"no rows", "none.npy", none, []string{"no samples"}},
		{"empty rows", "thin.npy", none, []string{"thin.npy", "empty"}},
		{"too many rows", "long.npy", none, []string{"long.npy", "at most"}},
		{"several inputs", "a.npy", Options{Inputs: []Input{{Name: "p"}, {Name: "q"}}}, []string{"p, q", ".npz"}},
		{"npz rows differ", "two.npz", none, []string{"two.npz", "2 samples", "has 3"}},
		{"npz input absent", "two.npz", want(tensor.Float32, 2), []string{`"x"`, "a, b"}},
		{"npz bomb", "bomb.npz", none, []string{"bomb.npz", "damaged"}},
		{"npz truncated", "cut.npz", none, []string{"cut.npz"}},
		{"npz float labels", "flabels.npz", none, []string{"labels", "integers"}},
		{"npz of nothing", "nothing.npz", none, []string{"nothing.npz"}},
		{"gzip bomb", "huge.gz", none, []string{"huge.gz", "damaged"}},
		{"idx truncated", "short.idx", none, []string{"needs 2 bytes, the file has 1"}},
		{"idx type", "odd.idx", none, []string{"not the beginning of an idx"}},
		{"gzip of something", "notidx.gz", none, []string{"not the beginning of an idx"}},
		{"too few labels", "pair", labels("few.txt"), []string{"few.txt", "1 labels for 2 samples"}},
		{"label missing", "pair", labels("names.txt"), []string{"names.txt", "a.png <class>"}},
		{"no label in line", "pair", labels("nolabel.txt"), []string{"line 1", "class number"}},
		{"label twice", "pair", labels("twice.txt"), []string{"line 2", "already"}},
		{"negative label", "pair", labels("negative.npy"), []string{"-1", "a.png"}},
		{"label file absent", "pair", labels("gone.txt"), []string{"gone.txt"}},
		{"preprocessing", "pair", Options{Preprocess: &Preprocess{Crop: -1}}, []string{"crop -1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Open(filepath.Join(dir, tt.path), tt.o)
			if err == nil {
				t.Fatalf("opened with %d samples", s.Len())
			}
			for _, p := range append(tt.parts, "data: ") {
				if !strings.Contains(err.Error(), p) {
					t.Errorf("error %q lacks %q", err, p)
				}
			}
		})
	}
	t.Run("mixed sizes", func(t *testing.T) {
		s, err := Open(filepath.Join(dir, "sizes"), none)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = s.At(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "b.png") || !strings.Contains(err.Error(), "in a.png it is") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("vanished", func(t *testing.T) {
		s, err := Open(filepath.Join(dir, "pair"), none)
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(dir, "pair", "b.png"))
		if _, err = s.At(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "b.png") || !strings.Contains(err.Error(), "disappeared") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("shorter", func(t *testing.T) {
		path := filepath.Join(dir, "a.npy")
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		os.Truncate(path, 130)
		if _, err = s.At(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "shorter") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		s, err := Open(filepath.Join(dir, "mixed/a.png"), none)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err = s.At(ctx, 0); err == nil || !strings.Contains(err.Error(), "canceled") {
			t.Errorf("error %v", err)
		}
	})
}

func TestPickAndSlice(t *testing.T) {
	n := 50
	dir := tree(t, map[string][]byte{"r.npy": npyBytes(tensor.New[float32](n, 1))})
	s, err := Open(filepath.Join(dir, "r.npy"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	names := func(s *Source) string {
		var out []string
		for i := range s.Len() {
			out = append(out, strings.Trim(s.Name(i), "r.npy[]"))
		}
		return strings.Join(out, " ")
	}
	if got := names(s.Slice(3, 6)); got != "3 4 5" {
		t.Errorf("Slice = %s", got)
	}
	a, b, c := names(s.Pick(5, 1)), names(s.Pick(5, 1)), names(s.Pick(5, 2))
	if a != b || a == c {
		t.Errorf("Pick: %s; %s; %s", a, b, c)
	}
	if s.Pick(n+1, 1).Len() != n || s.Pick(n, 1).Len() != n || s.Pick(0, 1).Len() != 0 {
		t.Error("Pick returns a wrong number of samples")
	}
	if s.Labelled() {
		t.Error("unlabelled source is Labelled")
	}
}

// TestConcurrentReads is for the race detector, and checks that goroutines do not get each other's samples.
func TestConcurrentReads(t *testing.T) {
	x := tensor.New[float32](40, 3)
	for i := range x.Data() {
		x.Data()[i] = float32(i / 3)
	}
	dir := tree(t, map[string][]byte{"plain.npy": npyBytes(x), "packed.npz": npzBytes(zip.Deflate, "input", x), "stored.npz": npzBytes(zip.Store, "input", x)})
	for _, name := range []string{"plain.npy", "packed.npz", "stored.npz"} {
		s, err := Open(filepath.Join(dir, name), Options{})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := w; i < s.Len(); i += 2 {
					v, err := s.At(t.Context(), i)
					if err != nil || tensor.Float64s(v.Inputs["input"])[2] != float64(i) {
						t.Errorf("%s: sample %d: %v %v", name, i, v, err)
					}
				}
			})
		}
		wg.Wait()
	}
}
