// Package lockfile keeps two processes from working in one folder. The lock belongs to the open file, so the system
// drops it when its process ends, however that happens: a lock file that was left behind blocks nobody.
package lockfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// HeldError says that another process, or another lock of this one, has the lock.
type HeldError struct {
	Path string
	PID  int // of the process that has it; 0 when not known
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return e.Path + " is locked by another process"
	}
	return fmt.Sprintf("%s is locked by process %d", e.Path, e.PID)
}

// Lock is a lock that is held.
type Lock struct{ f *os.File }

// attempts bounds how often a lock file may vanish between opening and locking it.
const attempts = 100

// Acquire takes the lock of the file path, which is made if need be; it never waits. The error is a *HeldError when
// somebody has the lock, and wraps errors.ErrUnsupported where the file system has no locks.
func Acquire(path string) (*Lock, error) {
	for range attempts {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return nil, err
		}
		if err := lock(f); err != nil {
			pid := holder(f)
			f.Close()
			if errors.Is(err, errHeld) {
				return nil, &HeldError{path, pid}
			}
			return nil, fmt.Errorf("cannot lock %s: %w", path, err)
		}
		if same(f, path) {
			return &Lock{f}, mark(f)
		}
		f.Close() // its holder removed it after we had opened it: the lock of a file without a name is worth nothing
	}
	return nil, fmt.Errorf("cannot lock %s: it keeps vanishing", path)
}

// errHeld is what lock returns when somebody has the lock.
var errHeld = errors.New("held")

// Release removes the file and gives up the lock.
func (l *Lock) Release() error {
	// Where the system removes open files, that comes first: who has opened the file before and locks it
	// afterwards finds that it has no name. Elsewhere the file stays if somebody has opened it since.
	var err error
	if removeOpen {
		err = os.Remove(l.f.Name())
	}
	err = errors.Join(err, l.f.Close())
	if !removeOpen {
		_ = os.Remove(l.f.Name())
	}
	return err
}

func same(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// mark writes our process id for the message of the next process.
func mark(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		f.Close()
		return err
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		f.Close()
		return err
	}
	return nil
}

// holder reads what mark wrote, 0 when there is no number.
func holder(f *os.File) int {
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
