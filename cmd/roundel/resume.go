package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// resumable does work that keeps its finished layers in the output folder. With resume it continues an interrupted run,
// without it starts over. When it fails, the error says how far it got and how to continue.
func (j *job) resumable(ctx context.Context, out *output, resume bool, work func() error) error {
	defer limitMemory(j.mem)()
	j.rounding.Checkpoint = out.path(checkpointName)
	kept, err := os.ReadDir(j.rounding.Checkpoint)
	switch {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("cannot read the checkpoint of an earlier run: %w", err)
	case resume && len(kept) == 0:
		j.reporter.Message("nothing to resume in %s, starting from the beginning", out.dir)
	case !resume && len(kept) > 0:
		j.reporter.Message("removed the checkpoint of an interrupted run in %s, starting over; --resume continues one", out.dir)
	}
	if !resume {
		if err := os.RemoveAll(j.rounding.Checkpoint); err != nil {
			return fmt.Errorf("cannot remove the checkpoint of an earlier run: %w", err)
		}
	}
	if err := work(); err != nil {
		return j.howToGoOn(ctx, err)
	}
	if err := os.RemoveAll(j.rounding.Checkpoint); err != nil {
		return fmt.Errorf("the results are complete, but the checkpoint cannot be removed: %w", err)
	}
	return nil
}

// howToGoOn adds to the error of a run how far it got and how to continue.
func (j *job) howToGoOn(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx) // that a layer or a sample was not finished follows from it
	}
	if j.done == 0 {
		return err
	}
	where := fmt.Sprintf("after %d of %d layers", j.done, j.total)
	if j.doing != "" {
		where = "while " + j.doing + ", after all layers"
	}
	return fmt.Errorf("%w; stopped %s, which are kept: continue with the same command and --resume", err, where)
}
