package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"roundel/internal/atomicfile"
	"roundel/internal/lockfile"
)

// What an output folder holds besides results, while a run is at work or after it was interrupted.
const (
	lockName       = ".roundel-lock"
	checkpointName = ".roundel-checkpoint"
	stageName      = ".roundel-new"
)

// output is the folder for the results of one run, which nobody else writes to meanwhile. Results are made in a
// hidden folder inside and take their names together.
type output struct {
	dir  string
	lock *lockfile.Lock
	step func() error // called before each change that commit makes, nil outside tests
}

// openOutput makes the folder, locks it, and thereby proves that files can be written there before any work is done.
func openOutput(dir string) (*output, error) {
	if dir == "" {
		return nil, usagef("-o is missing: the folder for the results")
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("cannot make the output folder: %w", err)
	}
	lock, err := lockfile.Acquire(filepath.Join(dir, lockName))
	if held := (*lockfile.HeldError)(nil); errors.As(err, &held) {
		return nil, fmt.Errorf("the output folder %s is in use by another run (process %d); wait for it or give another folder", dir, held.PID)
	} else if err != nil {
		return nil, fmt.Errorf("cannot write to the output folder %s: %w", dir, err)
	}
	o := &output{dir: dir, lock: lock}
	if err := os.RemoveAll(o.stage()); err != nil {
		o.close()
		return nil, fmt.Errorf("cannot remove what an interrupted run left: %w", err)
	}
	if err := os.Mkdir(o.stage(), 0o777); err != nil {
		o.close()
		return nil, fmt.Errorf("cannot write to the output folder %s: %w", dir, err)
	}
	return o, nil
}

// close gives the folder free. Results that were not committed are removed.
func (o *output) close() {
	_ = os.RemoveAll(o.stage()) // the next run tries again
	_ = o.lock.Release()        // a lock file that stays blocks nobody
}

// stage is the folder where results are made.
func (o *output) stage() string { return filepath.Join(o.dir, stageName) }

func (o *output) path(name string) string { return filepath.Join(o.dir, name) }

// reserve refuses results that would replace one of the files that they are made from.
func (o *output) reserve(names []string, sources ...string) error {
	for _, name := range names {
		have, err := os.Stat(o.path(name))
		if err != nil {
			continue
		}
		for _, source := range sources {
			if st, err := os.Stat(source); err == nil && os.SameFile(have, st) {
				return fmt.Errorf("the result %s would replace the input %s; give another folder or prefix", o.path(name), source)
			}
		}
	}
	return nil
}

// commit replaces the files called names, those of an earlier run as far as there are any, by the ones of the stage,
// where the last must be. First the old ones go, the last name first, then the new ones come, the last name last. So a
// run that is killed meanwhile leaves files of one run only, and where the last is, all are.
func (o *output) commit(names []string) error {
	last := len(names) - 1
	fail := func(err error) error { return fmt.Errorf("cannot put the results into place: %w", err) }
	for i := range names {
		if err := o.before(); err != nil {
			return err
		}
		if err := os.Remove(o.path(names[last-i])); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fail(err)
		}
	}
	for i, name := range names {
		from := filepath.Join(o.stage(), name)
		if _, err := os.Lstat(from); errors.Is(err, os.ErrNotExist) && i < last {
			continue
		}
		if i == 0 || i == last { // what was done must be on the disk before what follows
			if err := atomicfile.SyncDir(o.dir); err != nil {
				return fail(err)
			}
		}
		if err := o.before(); err != nil {
			return err
		}
		if err := os.Rename(from, o.path(name)); err != nil {
			return fail(err)
		}
	}
	return atomicfile.SyncDir(o.dir)
}

func (o *output) before() error {
	if o.step == nil {
		return nil
	}
	return o.step()
}

// resultNames are the files that a run called name can have written, in the order of commit.
func resultNames(name string) []string {
	return []string{name + ".onnx.data", name + ".onnx", name + "_qdq.onnx.data", name + "_qdq.onnx", name + ".html", name + ".encodings"}
}
