package main

// Byte offsets of the fields of asm.Tile, asm.DwTile and asm.WinogradTiles, which the kernels read.
// asm/layout_test.go compares these numbers with the Go compiler's.
const (
	tileC     = 0
	tileA     = 24
	tileB     = 48
	tileBias  = 72
	tileTaps  = 96
	tileLDC   = 120
	tileLDA   = 128
	tileLDB   = 136
	tileK     = 144
	tileRows  = 152
	tileCols  = 160
	tileSplit = 168
	tileSkip  = 176
	tileAcc   = 184
	tileLo    = 192
	tileHi    = 196
	tileAhead = 200

	dwDst   = 0
	dwSrc   = 24
	dwW     = 48
	dwBias  = 72
	dwTaps  = 96
	dwLDD   = 120
	dwLDS   = 128
	dwOff   = 136
	dwN     = 144
	dwPix   = 152
	dwLo    = 160
	dwHi    = 164
	dwLDW   = 168
	dwFirst = 176
	dwLast  = 184

	winImage = 0
	winTerms = 24
	winBias  = 48
	winN     = 72
	winTiles = 80
	winRow   = 88
	winPixel = 96
	winNext  = 104
	winTerm  = 112
	winStep  = 120
	winLo    = 128
	winHi    = 132
)
