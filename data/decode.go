package data

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
)

// maxPixels bounds the size of an image; a small file can claim a very large one.
const maxPixels = 1 << 26

// maxDensity is the most pixels that a byte can hold: eight of one bit in a PNG, compressed by DEFLATE. JPEG does not reach
// half of it.
const maxDensity = 8 * maxInflate

// decodeImage decodes a JPEG or PNG to RGB. Alpha is dropped, 16-bit samples keep their high byte,
// orientation tags are ignored: what Pillow's convert("RGB") does.
func decodeImage(file []byte) (pixels, error) {
	config, format, err := image.DecodeConfig(bytes.NewReader(file))
	switch {
	case err == image.ErrFormat:
		return pixels{}, errors.New("neither a JPEG nor a PNG")
	case err != nil:
		return pixels{}, err
	case config.Width < 1 || config.Height < 1 || config.Width > maxPixels/config.Height:
		return pixels{}, fmt.Errorf("%dx%d pixels are not supported", config.Width, config.Height)
	case config.Width*config.Height > maxDensity*len(file):
		return pixels{}, fmt.Errorf("%dx%d pixels cannot come from %d bytes; the file is damaged", config.Width, config.Height, len(file))
	}
	decode := png.Decode
	if format == "jpeg" {
		decode = jpeg.Decode
	}
	img, err := decode(bytes.NewReader(file))
	if err != nil {
		return pixels{}, err
	}
	return toRGB(img), nil
}

// toRGB takes the stored samples of the usual image types and goes through colour values for the others.
func toRGB(img image.Image) pixels {
	b := img.Bounds()
	out := newPixels(b.Dx(), b.Dy(), 3)
	switch img := img.(type) {
	case *image.YCbCr:
		yccToRGB(out, img)
	case *image.Gray:
		out.each(func(x, y int, p []uint8) {
			v := img.Pix[y*img.Stride+x]
			p[0], p[1], p[2] = v, v, v
		})
	case *image.RGBA: // image/png and image/jpeg make it for opaque images only
		out.each(func(x, y int, p []uint8) { copy(p, img.Pix[y*img.Stride+4*x:][:3]) })
	case *image.NRGBA:
		out.each(func(x, y int, p []uint8) { copy(p, img.Pix[y*img.Stride+4*x:][:3]) })
	default:
		out.each(func(x, y int, p []uint8) {
			c := color.NRGBAModel.Convert(img.At(b.Min.X+x, b.Min.Y+y)).(color.NRGBA)
			p[0], p[1], p[2] = c.R, c.G, c.B
		})
	}
	return out
}

// each calls f with the coordinates and the samples of every pixel.
func (m pixels) each(f func(x, y int, p []uint8)) {
	for y := range m.h {
		for x := range m.w {
			f(x, y, m.pix[(y*m.w+x)*m.c:][:m.c])
		}
	}
}

// gray returns the luma of an RGB image: (19595·R + 38470·G + 7471·B + 2¹⁵) >> 16, the weights of ITU-R 601 as Pillow rounds them.
func (m pixels) gray() pixels {
	out := newPixels(m.w, m.h, 1)
	out.each(func(x, y int, p []uint8) {
		s := m.pix[(y*m.w+x)*3:][:3]
		p[0] = uint8((19595*uint32(s[0]) + 38470*uint32(s[1]) + 7471*uint32(s[2]) + 1<<15) >> 16)
	})
	return out
}
