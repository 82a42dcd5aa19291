package fuzz

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"roundel/data"
	"roundel/tensor"
)

// maxText bounds the inputs of targets that do not take models.
const maxText = 1 << 14

// FuzzNpy checks that an array that is accepted is written and read again without a change.
func FuzzNpy(f *testing.F) {
	for _, t := range []tensor.Any{tensor.From([]float32{1, 2, 3, 4, 5, 6}, 2, 3), tensor.From([]int64{-1}), tensor.New[uint8](0, 4), tensor.From([]bool{true, false}, 2)} {
		f.Add(npy(f, t))
	}
	head := func(s string) []byte {
		return append([]byte("\x93NUMPY\x01\x00"+string([]byte{byte(len(s)), byte(len(s) >> 8)})+s), make([]byte, 64)...)
	}
	for _, s := range []string{"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n", "{'descr': '>i2', 'fortran_order': False, 'shape': (4,)}\n",
		"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 99999999999)}", "{'descr': [('a', '<f4')], 'shape': ()}", "{'shape': (-1,)}",
		"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "((((((((((((((((((((((("} {
		f.Add(head(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxText {
			return
		}
		var x tensor.Any
		var err error
		if n := allocated(func() { x, err = data.DecodeNpy(bytes.NewReader(b), int64(len(b))) }); n > uint64(64*len(b))+1<<18 {
			t.Fatalf("%d bytes of input took %d bytes of memory", len(b), n)
		}
		if err != nil {
			return
		}
		first := npy(t, x)
		y, err := data.DecodeNpy(bytes.NewReader(first), int64(len(first)))
		if err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
		if second := npy(t, y); !bytes.Equal(first, second) {
			t.Fatalf("not a fixed point:\n%x\n%x", first, second)
		}
	})
}

func npy(t testing.TB, x tensor.Any) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := data.EncodeNpy(&b, x); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// archive makes a zip file; names ending in + are stored without compression.
func archive(t testing.TB, members map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range []string{"x.npy", "y.npy", "labels.npy", "x.npy+", "../x.npy"} {
		content, ok := members[name]
		if !ok {
			continue
		}
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		if name[len(name)-1] == '+' {
			h.Name, h.Method = name[:len(name)-1], zip.Store
		}
		w, err := z.CreateHeader(h)
		if err == nil {
			_, err = w.Write(content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sourceSeeds are files of every kind that data.Open knows.
func sourceSeeds(f *testing.F) [][]byte {
	x, y := npy(f, tensor.New[float32](3, 1, 4, 4)), npy(f, tensor.From([]int64{1, 0, 2}, 3))
	idx := append([]byte{0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4}, make([]byte, 32)...)
	var zipped, p, j bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err := w.Write(idx)
	if err == nil {
		err = w.Close()
	}
	img := image.NewRGBA(image.Rect(0, 0, 9, 5))
	img.Set(3, 3, color.White)
	if err == nil {
		err = png.Encode(&p, img)
	}
	if err == nil {
		err = jpeg.Encode(&j, img, nil)
	}
	if err != nil {
		f.Fatal(err)
	}
	return [][]byte{x, idx, zipped.Bytes(), p.Bytes(), j.Bytes(), archive(f, map[string][]byte{"x.npy": x, "labels.npy": y}),
		archive(f, map[string][]byte{"x.npy+": x, "y.npy": x}), []byte("good.npy 1\n# comment\ngood.npy 2\n"), []byte("../good.npy\n"), []byte("list\n"),
		[]byte("good.npy\nabsent.png 3\n"), []byte("/\n"), []byte("1\n2\n3\n"), []byte("good.npy[0] 1\ngood.npy[1] 2\n"), []byte("a\x00b")}
}

// FuzzSource opens a file of any content as a source of samples and reads some, with labels of any content.
func FuzzSource(f *testing.F) {
	for i, b := range sourceSeeds(f) {
		for _, l := range []string{"", "1\n2\n", "good.npy 1\n"} {
			f.Add(b, []byte(l), uint8(i), "")
			f.Add(b, []byte(l), uint8(i+7), "imagenet,resize=6,crop=4")
		}
	}
	f.Add(sourceSeeds(f)[3], []byte{}, uint8(1), "unit,gray,size=4x4,mean=0.1,std=2")
	f.Add(sourceSeeds(f)[4], []byte{}, uint8(1), "none,layout=nhwc,bgr")
	f.Fuzz(func(t *testing.T, content, labels []byte, kind uint8, preprocess string) {
		if len(content) > maxText || len(labels) > maxText || len(preprocess) > 100 {
			return
		}
		dir := t.TempDir()
		path := filepath.Join(dir, "list")
		o := data.Options{}
		for name, b := range map[string][]byte{path: content, filepath.Join(dir, "labels"): labels, filepath.Join(dir, "good.npy"): npy(t, tensor.New[float32](2, 1, 4, 4))} {
			if err := os.WriteFile(name, b, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		switch kind % 4 {
		case 1:
			o.Inputs = []data.Input{{Name: "x", DType: tensor.Float32, Shape: []int{-1, 4, 4}}}
		case 2:
			o.Inputs = []data.Input{{Name: "x", DType: tensor.Float32}, {Name: "y", DType: tensor.Float32}}
		case 3:
			o.Inputs = []data.Input{{Name: "x", DType: tensor.Uint8, Shape: []int{4, 4, 3}}}
		}
		if len(labels) > 0 {
			o.Labels = filepath.Join(dir, "labels")
		}
		if p, err := data.ParsePreprocess(preprocess); err == nil && preprocess != "" && small(p) {
			o.Preprocess = &p
			if again, err := data.ParsePreprocess(p.String()); err != nil || again.String() != p.String() {
				t.Fatalf("%q is written %q, which gives %q, %v", preprocess, p, again, err)
			}
		}
		s, err := data.Open(path, o)
		if err != nil {
			return
		}
		for i := range min(s.Len(), 4) {
			smp, err := s.At(context.Background(), i)
			if err != nil {
				continue
			}
			for name, x := range smp.Inputs {
				if x == nil || len(x.Shape()) == 0 || x.Shape()[0] != 1 {
					t.Fatalf("sample %d: input %q is %v", i, name, x)
				}
			}
		}
	})
}

// small bounds how large images are made, for the time that it takes.
func small(p data.Preprocess) bool {
	return max(p.Resize, p.Width, p.Height, p.Crop) <= 64
}
