package asm

// WinogradTiles describes one call of a transform of Winograd's F(2x2, 3x3): a row of
// tiles that each turn 4x4 input pixels into 2x2 output pixels (Lavin and Gray 2016).
// The assembly reads the fields by offset.
type WinogradTiles struct {
	Image []float32 // pixels, N channels each
	Terms []float32 // the 4x4 transformed values of each tile and channel
	Bias  []float32 // WinogradOutput: N values or nil
	N     int       // channels, a multiple of Lanes
	Tiles int
	// Distances in Image between rows, pixels of a row, and tiles.
	Row, Pixel, Next int
	// Distances in Terms between the 16 values, and between tiles.
	Term, Step int
	Lo, Hi     float32 // WinogradOutput clamps to [Lo, Hi] (see Clamp)
}

type winogradFunc func(*WinogradTiles)

// WinogradInput transforms input pixels, for each tile i < t.Tiles and channel c < t.N,
// with d[y][x] = Image[i*Next+y*Row+x*Pixel+c], first along columns and then along rows:
//
//	s[0] = d[0] - d[2], s[1] = d[1] + d[2], s[2] = d[2] - d[1], s[3] = d[1] - d[3]
//	v[..][0] = s[..][0] - s[..][2] and so on
//	Terms[(4*y+x)*Term+i*Step+c] = v[y][x]
//
// It panics if N is not a multiple of Lanes or an operand is too short.
func (k *Kernels) WinogradInput(t *WinogradTiles) {
	if t.check(k, 4) {
		k.winogradIn(t)
	}
}

// WinogradOutput transforms products back to output pixels, for each tile i < t.Tiles
// and channel c < t.N, with m[y][x] = Terms[(4*y+x)*Term+i*Step+c], first along columns
// and then along rows:
//
//	s[0] = (m[0] + m[1]) + m[2], s[1] = (m[1] - m[2]) - m[3]
//	o[..][0] = (s[..][0] + s[..][1]) + s[..][2], o[..][1] = (s[..][1] - s[..][2]) - s[..][3]
//	Image[i*Next+y*Row+x*Pixel+c] = clamp(o[y][x]+Bias[c], Lo, Hi)
//
// It panics if N is not a multiple of Lanes or an operand is too short.
func (k *Kernels) WinogradOutput(t *WinogradTiles) {
	if t.check(k, 2) {
		k.winogradOut(t)
	}
}

// check reports whether there is anything to do for tiles of size x size pixels.
func (t *WinogradTiles) check(k *Kernels, size int) bool {
	if t.N <= 0 || t.Tiles <= 0 {
		return false
	}
	last := t.Tiles - 1
	if t.N%k.Lanes != 0 || min(t.Row, t.Pixel, t.Next, t.Term, t.Step) < 0 || last*t.Next+(size-1)*(t.Row+t.Pixel)+t.N > len(t.Image) ||
		last*t.Step+15*t.Term+t.N > len(t.Terms) || t.Bias != nil && len(t.Bias) < t.N {
		panic("asm: Winograd transform: operand too short, or a part of a vector")
	}
	return true
}

func winogradInGeneric(t *WinogradTiles) {
	for i := range t.Tiles {
		for c := range t.N {
			var s [4][4]float32
			for x := range 4 {
				d := t.Image[i*t.Next+x*t.Pixel+c:]
				s[0][x], s[1][x], s[2][x], s[3][x] = winogradIn1(d[0], d[t.Row], d[2*t.Row], d[3*t.Row])
			}
			for y, r := range s {
				v := t.Terms[4*y*t.Term+i*t.Step+c:]
				v[0], v[t.Term], v[2*t.Term], v[3*t.Term] = winogradIn1(r[0], r[1], r[2], r[3])
			}
		}
	}
}

func winogradIn1(a, b, c, d float32) (float32, float32, float32, float32) {
	return a - c, b + c, c - b, b - d
}

func winogradOutGeneric(t *WinogradTiles) {
	for i := range t.Tiles {
		for c := range t.N {
			var s [2][4]float32
			for x := range 4 {
				m := t.Terms[x*t.Term+i*t.Step+c:]
				s[0][x], s[1][x] = winogradOut1(m[0], m[4*t.Term], m[8*t.Term], m[12*t.Term])
			}
			for y, r := range s {
				var o [2]float32
				o[0], o[1] = winogradOut1(r[0], r[1], r[2], r[3])
				for x, v := range o {
					if t.Bias != nil {
						v += t.Bias[c]
					}
					t.Image[i*t.Next+y*t.Row+x*t.Pixel+c] = clamp1(v, t.Lo, t.Hi)
				}
			}
		}
	}
}

func winogradOut1(a, b, c, d float32) (float32, float32) { return (a + b) + c, (b - c) - d }
