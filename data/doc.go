// Package data reads calibration and evaluation samples: folders of images,
// NumPy files, idx files and lists of them, decoded lazily and in parallel by
// whoever asks.
//
// Everything here is deterministic: samples come in the order of their names,
// and the same file gives the same bits on every CPU. Resizing follows Pillow's
// fixed-point arithmetic and JPEG colour conversion follows libjpeg's, because
// published accuracies were measured through those two.
package data
