package data

import (
	"fmt"
	"strconv"
	"strings"

	"roundel/tensor"
)

// Layout is the order of dimensions of an image tensor.
type Layout uint8

// The layouts of an image tensor.
const (
	NCHW Layout = iota
	NHWC
)

// Preprocess says how an image becomes a model's input, in the order of the fields. Arrays take
// only the last three steps. The zero value gives the stored values.
type Preprocess struct {
	Gray   bool // one channel: luma as ITU-R 601 weighs it
	Resize int  // length of the shorter side in pixels, 0 for no resizing
	Width  int  // exact size in pixels, ignoring proportions; 0 for none
	Height int
	Crop   int // side of the square cut from the middle, 0 for none
	BGR    bool
	Layout Layout
	Scale  float64   // factor for the stored values, 0 for 1
	Mean   []float64 // subtracted after scaling: one value, one per channel, or none
	Std    []float64 // divided by after that; in the same way
}

// Imagenet returns the evaluation transform of torchvision's classification models: shorter side
// 256 by antialiased bilinear interpolation, the middle 224×224, RGB in [0, 1], normalised per channel.
func Imagenet() Preprocess {
	return Preprocess{Resize: 256, Crop: 224, Scale: 1. / 255, Mean: []float64{.485, .456, .406}, Std: []float64{.229, .224, .225}}
}

// ParsePreprocess reads a preset, "imagenet", "unit" (only the factor 1/255) or "none", followed by
// changes to it, all separated by commas: resize=N, size=WxH, crop=N, mean=A:B:C, std=A:B:C, scale=X (or 1/255),
// layout=nchw or nhwc, and the words gray, rgb and bgr. Example: "imagenet,resize=232,mean=0.5,std=0.5".
func ParsePreprocess(text string) (Preprocess, error) {
	words := strings.Split(text, ",")
	var p Preprocess
	switch words[0] {
	case "imagenet":
		p = Imagenet()
	case "unit":
		p.Scale = 1. / 255
	case "none":
	default:
		return p, fmt.Errorf("data: preprocessing %q must begin with imagenet, unit or none", text)
	}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		if err := p.set(key, value); err != nil {
			return p, fmt.Errorf("data: preprocessing %q: %q: %w", text, w, err)
		}
	}
	return p, p.Validate()
}

func (p *Preprocess) set(key, value string) (err error) {
	switch key {
	case "gray":
		p.Gray = true
	case "rgb":
		p.Gray, p.BGR = false, false
	case "bgr":
		p.Gray, p.BGR = false, true
	case "resize":
		p.Resize, err = strconv.Atoi(value)
	case "crop":
		p.Crop, err = strconv.Atoi(value)
	case "size":
		w, h, _ := strings.Cut(value, "x")
		if p.Width, err = strconv.Atoi(w); err == nil {
			p.Height, err = strconv.Atoi(h)
		}
		p.Resize = 0
	case "scale":
		p.Scale, err = parseRatio(value)
	case "mean":
		p.Mean, err = parseList(value)
	case "std":
		p.Std, err = parseList(value)
	case "layout":
		switch value {
		case "nchw":
			p.Layout = NCHW
		case "nhwc":
			p.Layout = NHWC
		default:
			return fmt.Errorf("want nchw or nhwc")
		}
	default:
		return fmt.Errorf("unknown setting; known are resize, size, crop, mean, std, scale, layout, gray, rgb, bgr")
	}
	return err
}

func parseRatio(s string) (float64, error) {
	num, den, both := strings.Cut(s, "/")
	v, err := strconv.ParseFloat(num, 64)
	if err != nil || !both {
		return v, err
	}
	d, err := strconv.ParseFloat(den, 64)
	return v / d, err
}

func parseList(s string) ([]float64, error) {
	var list []float64
	for _, w := range strings.Split(s, ":") {
		v, err := parseRatio(w)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// Validate reports sizes that are negative and factors that cannot be applied.
func (p Preprocess) Validate() error {
	if p.Resize < 0 || p.Crop < 0 || p.Width < 0 || p.Height < 0 || (p.Width == 0) != (p.Height == 0) || max(p.Resize, p.Crop, p.Width, p.Height) > 1<<14 {
		return fmt.Errorf("data: preprocessing: resize %d, size %dx%d, crop %d: sizes are 1 to %d pixels, or 0 for none", p.Resize, p.Width, p.Height, p.Crop, 1<<14)
	}
	for _, list := range [][]float64{p.Mean, p.Std, {p.Scale}} {
		for _, v := range list {
			if v-v != 0 {
				return fmt.Errorf("data: preprocessing: %v is not finite", v)
			}
		}
	}
	for _, v := range p.Std {
		if float32(v) == 0 {
			return fmt.Errorf("data: preprocessing: std is 0")
		}
	}
	return nil
}

// String returns p in the form that ParsePreprocess reads.
func (p Preprocess) String() string {
	words := []string{"none"}
	add := func(cond bool, format string, args ...any) {
		if cond {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(p.Width > 0, "size=%dx%d", p.Width, p.Height)
	add(p.Resize > 0, "resize=%d", p.Resize)
	add(p.Crop > 0, "crop=%d", p.Crop)
	add(p.BGR, "bgr")
	add(p.Gray, "gray")
	add(p.Scale != 0, "scale=%v", p.Scale)
	add(len(p.Mean) > 0, "mean=%s", joinList(p.Mean))
	add(len(p.Std) > 0, "std=%s", joinList(p.Std))
	add(p.Layout == NHWC, "layout=nhwc")
	return strings.Join(words, ",")
}

func joinList(list []float64) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", ":"), "[]")
}

// geometry does the steps on pixels: gray, resizing, crop.
func (p Preprocess) geometry(m pixels) pixels {
	if p.Gray && m.c == 3 {
		m = m.gray()
	}
	if p.Width > 0 {
		m = m.resize(p.Width, p.Height)
	} else if p.Resize > 0 {
		m = m.resize(shortSide(m.w, m.h, p.Resize))
	}
	if p.Crop > 0 {
		m = m.crop(p.Crop, p.Crop)
	}
	return m
}

// tensor returns the pixels as [1, C, H, W] or [1, H, W, C]: float32 after scaling and
// normalising or, when raw is set, the 8-bit values.
func (p Preprocess) tensor(m pixels, raw bool) (tensor.Any, error) {
	at := func(x, y, c int) int { return (c*m.h+y)*m.w + x }
	shape := []int{1, m.c, m.h, m.w}
	if p.Layout == NHWC {
		at = func(x, y, c int) int { return (y*m.w+x)*m.c + c }
		shape = []int{1, m.h, m.w, m.c}
	}
	channel := func(c int) int {
		if p.BGR {
			return m.c - 1 - c
		}
		return c
	}
	if raw {
		out := tensor.New[uint8](shape...)
		m.each(func(x, y int, s []uint8) {
			for c := range s {
				out.Data()[at(x, y, c)] = s[channel(c)]
			}
		})
		return out, nil
	}
	table := make([][256]float32, m.c)
	for c := range table {
		mean, std, err := p.normal(c, m.c)
		if err != nil {
			return nil, err
		}
		for v := range table[c] {
			table[c][v] = p.value(float64(v), mean, std)
		}
	}
	out := tensor.New[float32](shape...)
	m.each(func(x, y int, s []uint8) {
		for c := range s {
			out.Data()[at(x, y, c)] = table[c][s[channel(c)]]
		}
	})
	return out, nil
}

// value returns (v·scale − mean)/std, each step rounded to float32 as torchvision's transforms do.
func (p Preprocess) value(v float64, mean, std float32) float32 {
	if p.Scale != 0 {
		v *= p.Scale
	}
	return (float32(v) - mean) / std
}

// normal returns mean and standard deviation of channel c of n, in the order of the output.
func (p Preprocess) normal(c, n int) (mean, std float32, err error) {
	pick := func(list []float64, absent float64) float32 {
		switch len(list) {
		case 0:
			return float32(absent)
		case 1:
			return float32(list[0])
		case n:
			return float32(list[c])
		}
		err = fmt.Errorf("preprocessing has %d values of mean or std for %d channels", len(list), n)
		return 0
	}
	return pick(p.Mean, 0), pick(p.Std, 1), err
}

// changesValues reports whether arithmetic is asked for, which makes every input float32.
func (p Preprocess) changesValues() bool {
	return p.Scale != 0 && p.Scale != 1 || len(p.Mean) > 0 || len(p.Std) > 0
}
