package data

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"roundel/tensor"
)

// TestChromaUpsampling compares every ratio and many odd sizes with the definition: ¾ of the nearer and ¼
// of the further sample in each halved direction, with libjpeg's alternating rounding bias.
func TestChromaUpsampling(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	ratios := map[image.YCbCrSubsampleRatio][2]int{
		image.YCbCrSubsampleRatio444: {1, 1}, image.YCbCrSubsampleRatio422: {2, 1}, image.YCbCrSubsampleRatio420: {2, 2},
		image.YCbCrSubsampleRatio440: {1, 2}, image.YCbCrSubsampleRatio411: {4, 1}, image.YCbCrSubsampleRatio410: {4, 2},
	}
	for ratio, r := range ratios {
		for w := 1; w <= 11; w++ {
			for h := 1; h <= 5; h++ {
				img := image.NewYCbCr(image.Rect(0, 0, w, h), ratio)
				for i := range img.Cb {
					img.Cb[i] = uint8(rng.Uint32())
				}
				c := newChroma(img, img.Cb)
				row := make([]uint8, w+1)
				for y := range h {
					c.row(row, y)
					for x := range w {
						if want := chromaAt(img, r[0], r[1], x, y); row[x] != want {
							t.Fatalf("%v %dx%d at %d,%d: %d, want %d", ratio, w, h, x, y, row[x], want)
						}
					}
				}
			}
		}
	}
}

func chromaAt(img *image.YCbCr, rx, ry, x, y int) uint8 {
	cw, ch := (img.Rect.Dx()+rx-1)/rx, (img.Rect.Dy()+ry-1)/ry
	at := func(x, y int) int { return int(img.Cb[min(max(y, 0), ch-1)*img.CStride+min(max(x, 0), cw-1)]) }
	nx, ny := x/rx, y/ry
	fx, fy := nx-1+2*(x%2), ny-1+2*(y%2)
	switch {
	case rx == 2 && ry == 1 && cw > 2:
		if fx < 0 || fx >= cw {
			return uint8(at(nx, ny))
		}
		return uint8((3*at(nx, ny) + at(fx, ny) + 1 + x%2) / 4)
	case rx == 2 && ry == 2 && cw > 2:
		return uint8((9*at(nx, ny) + 3*at(fx, ny) + 3*at(nx, fy) + at(fx, fy) + 8 - x%2) / 16)
	case rx == 1 && ry == 2:
		return uint8((3*at(nx, ny) + at(nx, fy) + 1 + y%2) / 4)
	}
	return uint8(at(nx, ny))
}

// TestColourConversion checks the fixed-point conversion against the real formula, rounded.
func TestColourConversion(t *testing.T) {
	img := image.NewYCbCr(image.Rect(0, 0, 1, 1), image.YCbCrSubsampleRatio444)
	for y := 0; y < 256; y += 5 {
		for u := 0; u < 256; u += 3 {
			for v := 0; v < 256; v += 3 {
				img.Y[0], img.Cb[0], img.Cr[0] = uint8(y), uint8(u), uint8(v)
				out := newPixels(1, 1, 3)
				yccToRGB(out, img)
				cb, cr := float64(u)-128, float64(v)-128
				for c, want := range []float64{float64(y) + 1.402*cr, float64(y) - 0.344136*cb - 0.714136*cr, float64(y) + 1.772*cb} {
					want = min(max(want, 0), 255)
					if math.Abs(float64(out.pix[c])-want) > 0.505 {
						t.Fatalf("YCbCr %d %d %d: channel %d is %d, want %.3f", y, u, v, c, out.pix[c], want)
					}
				}
			}
		}
	}
}

func TestResamplingWeights(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {1, 7}, {7, 1}, {256, 224}, {224, 256}, {1000, 3}, {640, 256}} {
		for i, p := range resampling(size[0], size[1]) {
			sum := int64(0)
			for _, w := range p.weight {
				sum += int64(w)
			}
			if d := sum - 1<<weightBits; max(d, -d) > int64(len(p.weight)) {
				t.Errorf("%v: weights of output %d sum to %d", size, i, sum)
			}
			if p.first < 0 || p.first+len(p.weight) > size[0] {
				t.Errorf("%v: output %d reads %d samples from %d", size, i, len(p.weight), p.first)
			}
		}
	}
}

func TestResizeKeepsFlatImages(t *testing.T) {
	for v := range 256 {
		m := newPixels(13, 9, 1)
		for i := range m.pix {
			m.pix[i] = uint8(v)
		}
		for _, s := range [][2]int{{5, 4}, {30, 20}, {13, 4}, {5, 9}, {13, 9}} {
			out := m.resize(s[0], s[1])
			for _, got := range out.pix {
				if got != uint8(v) || len(out.pix) != s[0]*s[1] {
					t.Fatalf("%d at %v became %d", v, s, got)
				}
			}
		}
	}
}

func TestShortSideAndCrop(t *testing.T) {
	if w, h := shortSide(500, 375, 256); w != 341 || h != 256 {
		t.Errorf("shortSide = %d,%d", w, h)
	}
	if w, h := shortSide(375, 500, 256); w != 256 || h != 341 {
		t.Errorf("shortSide = %d,%d", w, h)
	}
	for _, tt := range []struct{ have, want, start int }{{341, 224, 58}, {256, 224, 16}, {273, 224, 24}, {275, 224, 26}, {100, 101, 0}, {100, 103, -1}, {5, 5, 0}} {
		if got := cropStart(tt.have, tt.want); got != tt.start {
			t.Errorf("cropStart(%d, %d) = %d, want %d", tt.have, tt.want, got, tt.start)
		}
	}
	m := pixels{2, 1, 1, []uint8{7, 8}}
	if got := m.crop(5, 3); !bytes.Equal(got.pix, []uint8{0, 0, 0, 0, 0, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("crop to a larger size = %v", got.pix)
	}
	m = pixels{3, 3, 1, []uint8{1, 2, 3, 4, 5, 6, 7, 8, 9}}
	if got := m.crop(1, 5); !bytes.Equal(got.pix, []uint8{0, 2, 5, 8, 0}) {
		t.Errorf("crop to a column = %v", got.pix)
	}
}

// TestPNGForms checks that alpha is dropped, not multiplied in, and that 16 bits keep the high byte.
func TestPNGForms(t *testing.T) {
	r := image.Rect(0, 0, 1, 1)
	c := color.NRGBA{200, 100, 50, 10}
	nrgba, nrgba64 := image.NewNRGBA(r), image.NewNRGBA64(r)
	nrgba.SetNRGBA(0, 0, c)
	nrgba64.SetNRGBA64(0, 0, color.NRGBA64{0xc8ff, 0x6480, 0x3200, 0xffff})
	paletted := image.NewPaletted(r, color.Palette{c})
	gray16 := image.NewGray16(r)
	gray16.SetGray16(0, 0, color.Gray16{0x80ff})
	for _, tt := range []struct {
		img  image.Image
		want []uint8
	}{{nrgba, []uint8{200, 100, 50}}, {nrgba64, []uint8{200, 100, 50}}, {paletted, []uint8{200, 100, 50}}, {gray16, []uint8{128, 128, 128}}} {
		var b bytes.Buffer
		if err := png.Encode(&b, tt.img); err != nil {
			t.Fatal(err)
		}
		m, err := decodeImage(b.Bytes())
		if err != nil || !bytes.Equal(m.pix, tt.want) {
			t.Errorf("%T: %v, %v; want %v", tt.img, m.pix, err, tt.want)
		}
	}
}

func TestDecodeImageErrors(t *testing.T) {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 8, 8))); err != nil {
		t.Fatal(err)
	}
	huge := bytes.Clone(b.Bytes())
	copy(huge[16:], "\x7f\xff\xff\xff\x7f\xff\xff\xff") // width and height; the checksum is wrong as well
	for name, file := range map[string][]byte{"empty": nil, "text": []byte("hello"), "truncated": b.Bytes()[:50], "huge": huge} {
		if m, err := decodeImage(file); err == nil {
			t.Errorf("%s: decoded to %dx%d", name, m.w, m.h)
		}
	}
}

func TestGray(t *testing.T) {
	m := pixels{3, 1, 3, []uint8{255, 255, 255, 255, 0, 0, 10, 20, 30}}
	if got := m.gray().pix; !bytes.Equal(got, []uint8{255, 76, 18}) {
		t.Errorf("gray = %v", got)
	}
}

// TestValueMatchesDivision checks that multiplying by 1/255 in float64 gives the float32 quotient that others compute.
func TestValueMatchesDivision(t *testing.T) {
	p := Preprocess{Scale: 1. / 255}
	for v := range 256 {
		if got, want := p.value(float64(v), 0, 1), float32(v)/255; got != want {
			t.Errorf("%d: %v, want %v", v, got, want)
		}
	}
}

func TestTensorLayouts(t *testing.T) {
	m := pixels{2, 1, 3, []uint8{1, 2, 3, 4, 5, 6}}
	for _, tt := range []struct {
		p     string
		shape tensor.Shape
		want  string
	}{
		{"none", tensor.Shape{1, 3, 1, 2}, "[1 4 2 5 3 6]"},
		{"none,bgr", tensor.Shape{1, 3, 1, 2}, "[3 6 2 5 1 4]"},
		{"none,layout=nhwc", tensor.Shape{1, 1, 2, 3}, "[1 2 3 4 5 6]"},
		{"none,layout=nhwc,bgr", tensor.Shape{1, 1, 2, 3}, "[3 2 1 6 5 4]"},
		{"none,mean=1:2:3", tensor.Shape{1, 3, 1, 2}, "[0 3 0 3 0 3]"},
		{"none,mean=1:2:3,std=0.5,bgr", tensor.Shape{1, 3, 1, 2}, "[4 10 0 6 -4 2]"},
		{"none,scale=2,mean=1,layout=nhwc", tensor.Shape{1, 1, 2, 3}, "[1 3 5 7 9 11]"},
	} {
		p, err := ParsePreprocess(tt.p)
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range []bool{false, true} {
			if raw && p.changesValues() {
				continue
			}
			a, err := p.tensor(m, raw)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(tensor.Int64s(a)); got != tt.want || !a.Shape().Equal(tt.shape) || (a.DType() == tensor.Uint8) != raw {
				t.Errorf("%s: %v%v %s, want %v %s", tt.p, a.DType(), a.Shape(), got, tt.shape, tt.want)
			}
		}
	}
	if _, err := (Preprocess{Mean: []float64{1, 2}}).tensor(m, false); err == nil {
		t.Error("two means for three channels were accepted")
	}
}

func TestParsePreprocess(t *testing.T) {
	for _, text := range []string{"imagenet", "unit", "none", "none,bgr,gray", "imagenet,resize=232,crop=200,mean=0.5,std=1/2:2:3,layout=nhwc",
		"none,size=32x24,scale=0.007843137254901961", "imagenet,rgb,mean=-1e-3"} {
		p, err := ParsePreprocess(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		q, err := ParsePreprocess(p.String())
		if err != nil || fmt.Sprint(p) != fmt.Sprint(q) || p.Scale != q.Scale {
			t.Errorf("%s: %+v became %+v (%v)", text, p, q, err)
		}
	}
	for text, want := range map[string]string{
		"": "must begin", "imagenet,x=1": "unknown setting", "none,resize=-1": "sizes", "none,resize=a": "invalid",
		"none,std=0": "std is 0", "none,mean=nan": "not finite", "none,scale=1/0": "not finite", "none,size=3": "invalid",
		"none,layout=chw": "nchw or nhwc", "none,crop=99999": "sizes", "none,std=1:": "invalid",
	} {
		if _, err := ParsePreprocess(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", text, err, want)
		}
	}
}
