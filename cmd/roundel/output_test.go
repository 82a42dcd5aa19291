package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roundel/internal/lockfile"
	"roundel/tensor"
)

func mustWrite(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// visible returns the files of a folder that are not hidden, by name.
func visible(t *testing.T, dir string) map[string]string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(b)
	}
	return out
}

// TestCommitStoppedAnywhere stops commit before each of its changes: what is in place is always of one run, and
// complete if the encodings are there.
func TestCommitStoppedAnywhere(t *testing.T) {
	old := map[string]string{"m.onnx": "old", "m.onnx.data": "old", "m_qdq.onnx": "old", "m.html": "old", "m.encodings": "old"}
	fresh := map[string]string{"m.onnx": "new", "m_qdq.onnx": "new", "m.html": "new", "m.encodings": "new"}
	stop := errors.New("stop")
	for at := 0; ; at++ {
		dir := t.TempDir()
		mustWrite(t, dir, old)
		mustWrite(t, dir, map[string]string{"other": "untouched"})
		o, err := openOutput(dir)
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, o.stage(), fresh)
		steps := 0
		o.step = func() error {
			if steps++; steps > at {
				return stop
			}
			return nil
		}
		err = o.commit(resultNames("m"))
		have := visible(t, dir)
		if have["other"] != "untouched" {
			t.Fatalf("stopped at %d: another file changed", at)
		}
		delete(have, "other")
		if err == nil {
			if !maps.Equal(have, fresh) {
				t.Fatalf("after commit: %v", have)
			}
			if at < len(old)+len(fresh) {
				t.Fatalf("only %d steps were tried", at)
			}
			o.close()
			return
		}
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
		_, complete := have["m.encodings"]
		for _, set := range []map[string]string{old, fresh} {
			same := !complete || len(have) == len(set)
			for name, content := range have {
				same = same && set[name] == content
			}
			if same {
				have = nil
				break
			}
		}
		if have != nil {
			t.Errorf("stopped at %d: a mixed or partial set: %v", at, have)
		}
		o.close()
	}
}

func TestOutputFolderIsLocked(t *testing.T) {
	dir := files(t)
	out := filepath.Join(dir, "out")
	o, err := openOutput(out)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, o.stage(), map[string]string{"half.onnx": "x"})
	model, x := filepath.Join(dir, "model.onnx"), filepath.Join(dir, "x.npy")
	commands := [][]string{
		{"quantize", model, "--calib", x, "-o", out},
		{"adaround", model, "--calib", x, "-o", out},
		{"run", model, "--input", "input=" + x, "-o", out},
		{"demo", "-o", out},
	}
	for _, args := range commands {
		code, _, stderr := cli(t, args...)
		if code != exitFailure || !strings.Contains(stderr, out) || !strings.Contains(stderr, fmt.Sprintf("process %d", os.Getpid())) {
			t.Errorf("%s: code %d, %q", args[0], code, stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(o.stage(), "half.onnx")); err != nil {
		t.Errorf("a refused run disturbed the one at work: %v", err)
	}
	o.close()
	mustWrite(t, out, map[string]string{lockName: "123456\n"}) // as a killed process leaves it
	if code, _, stderr := cli(t, commands[2]...); code != exitOK {
		t.Errorf("a stale lock file blocks: %s", stderr)
	}
	if have := visible(t, out); len(have) != 1 {
		t.Errorf("want logits.npy only: %v", len(have))
	}
	if left, err := os.ReadDir(out); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestResultsNeverReplaceInputs(t *testing.T) {
	dir := files(t)
	model, x := filepath.Join(dir, "model.onnx"), filepath.Join(dir, "x.npy")
	want, err := os.ReadFile(model)
	if err != nil {
		t.Fatal(err)
	}
	code, _, stderr := cli(t, "adaround", model, "--calib", x, "-o", dir, "--prefix", "model", "--progress", "off")
	if code != exitFailure || !strings.Contains(stderr, model) {
		t.Errorf("code %d, %q", code, stderr)
	}
	if code, _, stderr := cli(t, "adaround", model, "--calib", x, "-o", dir, "--prefix", "../model"); code != exitUsage {
		t.Errorf("prefix with a folder: code %d, %q", code, stderr)
	}
	if got, err := os.ReadFile(model); err != nil || string(got) != string(want) {
		t.Errorf("the model changed: %v", err)
	}
}

func TestOutputsOfOneName(t *testing.T) {
	dir := t.TempDir()
	o, err := openOutput(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	x := tensor.New[float32](1)
	err = writeOutputs(&environment{}, o, map[string]tensor.Any{"a/b": x, "a_b": x}, []string{"a/b", "a_b"})
	if err == nil {
		t.Error("two outputs went to one file")
	}
	if _, err := lockfile.Acquire(filepath.Join(dir, lockName)); err == nil {
		t.Error("the folder is not locked")
	}
}
