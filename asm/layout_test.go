//go:build !purego

package asm

import (
	"testing"
	"unsafe"
)

// TestLayout compares the field offsets with those in _gen/layout.go, by which the
// assembly reads them.
func TestLayout(t *testing.T) {
	var a Tile
	var d DwTile
	var w WinogradTiles
	for _, c := range []struct {
		field     string
		got, want uintptr
	}{
		{"Tile.C", unsafe.Offsetof(a.C), 0},
		{"Tile.A", unsafe.Offsetof(a.A), 24},
		{"Tile.B", unsafe.Offsetof(a.B), 48},
		{"Tile.Bias", unsafe.Offsetof(a.Bias), 72},
		{"Tile.Taps", unsafe.Offsetof(a.Taps), 96},
		{"Tile.LDC", unsafe.Offsetof(a.LDC), 120},
		{"Tile.LDA", unsafe.Offsetof(a.LDA), 128},
		{"Tile.LDB", unsafe.Offsetof(a.LDB), 136},
		{"Tile.K", unsafe.Offsetof(a.K), 144},
		{"Tile.Rows", unsafe.Offsetof(a.Rows), 152},
		{"Tile.Cols", unsafe.Offsetof(a.Cols), 160},
		{"Tile.Split", unsafe.Offsetof(a.Split), 168},
		{"Tile.Skip", unsafe.Offsetof(a.Skip), 176},
		{"Tile.Acc", unsafe.Offsetof(a.Acc), 184},
		{"Tile.Lo", unsafe.Offsetof(a.Lo), 192},
		{"Tile.Hi", unsafe.Offsetof(a.Hi), 196},
		{"Tile.Ahead", unsafe.Offsetof(a.Ahead), 200},
		{"DwTile.Dst", unsafe.Offsetof(d.Dst), 0},
		{"DwTile.Src", unsafe.Offsetof(d.Src), 24},
		{"DwTile.W", unsafe.Offsetof(d.W), 48},
		{"DwTile.Bias", unsafe.Offsetof(d.Bias), 72},
		{"DwTile.Taps", unsafe.Offsetof(d.Taps), 96},
		{"DwTile.LDD", unsafe.Offsetof(d.LDD), 120},
		{"DwTile.LDS", unsafe.Offsetof(d.LDS), 128},
		{"DwTile.Off", unsafe.Offsetof(d.Off), 136},
		{"DwTile.N", unsafe.Offsetof(d.N), 144},
		{"DwTile.Pix", unsafe.Offsetof(d.Pix), 152},
		{"DwTile.Lo", unsafe.Offsetof(d.Lo), 160},
		{"DwTile.Hi", unsafe.Offsetof(d.Hi), 164},
		{"DwTile.LDW", unsafe.Offsetof(d.LDW), 168},
		{"DwTile.First", unsafe.Offsetof(d.First), 176},
		{"DwTile.Last", unsafe.Offsetof(d.Last), 184},
		{"WinogradTiles.Image", unsafe.Offsetof(w.Image), 0},
		{"WinogradTiles.Terms", unsafe.Offsetof(w.Terms), 24},
		{"WinogradTiles.Bias", unsafe.Offsetof(w.Bias), 48},
		{"WinogradTiles.N", unsafe.Offsetof(w.N), 72},
		{"WinogradTiles.Tiles", unsafe.Offsetof(w.Tiles), 80},
		{"WinogradTiles.Row", unsafe.Offsetof(w.Row), 88},
		{"WinogradTiles.Pixel", unsafe.Offsetof(w.Pixel), 96},
		{"WinogradTiles.Next", unsafe.Offsetof(w.Next), 104},
		{"WinogradTiles.Term", unsafe.Offsetof(w.Term), 112},
		{"WinogradTiles.Step", unsafe.Offsetof(w.Step), 120},
		{"WinogradTiles.Lo", unsafe.Offsetof(w.Lo), 128},
		{"WinogradTiles.Hi", unsafe.Offsetof(w.Hi), 132},
	} {
		if c.got != c.want {
			t.Errorf("%s is at %d, the assembly reads it at %d", c.field, c.got, c.want)
		}
	}
}
