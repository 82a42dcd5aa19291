package lockfile

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

const removeOpen = false

// farAway is where the locked byte is: locks are mandatory here, and others shall be able to read the process id.
const farAway = 1 << 30

func lock(f *os.File) error {
	at := &windows.Overlapped{OffsetHigh: farAway}
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return errHeld
	}
	return err
}
