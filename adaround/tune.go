package adaround

// Tune holds experiment switches; removed before release.
var Tune struct {
	A, B, C float64
	I, J    int
	X, Y, Z bool
}
