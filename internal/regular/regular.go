// Package regular opens files that hold data: not folders, pipes and devices, which have no data, block, or never end.
package regular

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrNotRegular is wrapped by errors about folders, pipes and devices.
var ErrNotRegular = errors.New("not a regular file")

// Open opens a file for reading. Symbolic links are followed.
func Open(path string) (*os.File, error) {
	st, err := os.Stat(path) // before opening, which blocks for a pipe
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		kind := "a device"
		switch {
		case st.IsDir():
			kind = "a folder"
		case st.Mode()&os.ModeNamedPipe != 0:
			kind = "a pipe"
		case st.Mode()&os.ModeSocket != 0:
			kind = "a socket"
		}
		return nil, &os.PathError{Op: "read", Path: path, Err: fmt.Errorf("it is %s, %w", kind, ErrNotRegular)}
	}
	return os.Open(path)
}

// ReadFile reads a whole file of at most limit bytes.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > limit {
		return nil, &os.PathError{Op: "read", Path: path, Err: fmt.Errorf("it has %d bytes, more than the %d that such a file may have", st.Size(), limit)}
	}
	b := make([]byte, st.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, &os.PathError{Op: "read", Path: path, Err: err}
	}
	return b, nil
}
