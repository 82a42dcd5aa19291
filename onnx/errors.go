package onnx

import "fmt"

// SyntaxError means that bytes are not a well-formed ONNX protobuf.
type SyntaxError struct {
	File   string // "" when the bytes are not from a file
	Offset int64  // position in the input of the byte that is wrong
	Path   string // field that was being read, such as "graph.node[3].attribute[0].t"; "" at the top
	Err    error
}

// Error names the file, the position and the field.
func (e *SyntaxError) Error() string {
	text := "onnx: "
	if e.File != "" {
		text += e.File + ": "
	}
	text += fmt.Sprintf("byte %d", e.Offset)
	if e.Path != "" {
		text += ", in " + e.Path
	}
	return text + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *SyntaxError) Unwrap() error { return e.Err }

// UnsupportedError means that a model is well-formed but uses something we do not handle.
type UnsupportedError struct {
	What string // the feature, with the names of what uses it
}

// Error says what is not supported.
func (e *UnsupportedError) Error() string { return "onnx: not supported: " + e.What }

// Unsupportedf returns an UnsupportedError with a formatted text.
func Unsupportedf(format string, args ...any) error {
	return &UnsupportedError{fmt.Sprintf(format, args...)}
}
