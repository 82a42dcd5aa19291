package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"roundel/internal/demo"
)

// TestMain lets tests start this very binary as roundel, under limits where they ask for some.
func TestMain(m *testing.M) {
	if os.Getenv("ROUNDEL_TEST_AS_MAIN") != "" {
		limitSelf()
		main()
	}
	os.Exit(m.Run())
}

// roundel is this test binary as a command of its own.
func roundel(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), "ROUNDEL_TEST_AS_MAIN=1"), env...)
	return cmd
}

// quantizeArgs is a small job over the demo network, with its results in dir/out.
func quantizeArgs(dir string, more ...string) []string {
	return append([]string{"quantize", filepath.Join(dir, "model.onnx"), "--calib", filepath.Join(dir, "x.npy"), "-o", filepath.Join(dir, "out"),
		"--positions", "512", "--progress", "off"}, more...)
}

// undisturbed runs the job and returns its results; the folder is removed.
func undisturbed(t *testing.T, dir string, args []string) map[string]string {
	t.Helper()
	if code, _, stderr := cli(t, args...); code != exitOK {
		t.Fatal(stderr)
	}
	out := filepath.Join(dir, "out")
	want := visible(t, out)
	if len(want) != 4 {
		t.Fatalf("%d results, want 4", len(want))
	}
	if err := os.RemoveAll(out); err != nil {
		t.Fatal(err)
	}
	return want
}

// stoppedThenResumed checks what a run that failed has left and said, continues it and compares the results.
func stoppedThenResumed(t *testing.T, dir string, args []string, stderr string, want map[string]string) {
	t.Helper()
	out := filepath.Join(dir, "out")
	lines := strings.Split(strings.TrimRight(stderr, "\n"), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, "--resume") {
		t.Errorf("%q does not say how to continue", last)
	}
	if have := visible(t, out); len(have) > 0 {
		t.Errorf("partial results: %d files", len(have))
	}
	if _, err := os.Stat(filepath.Join(out, stageName)); err == nil {
		t.Error("unfinished results are left behind")
	}
	var resumed bytes.Buffer
	code := run(context.Background(), &environment{io.Discard, &resumed}, append(args, "--resume", "--progress", "plain"))
	if code != exitOK {
		t.Fatalf("--resume failed: %s", resumed.String())
	}
	if strings.Contains(resumed.String(), "nothing to resume") {
		t.Error("everything was done again")
	}
	have := visible(t, out)
	for name := range want {
		if have[name] != want[name] {
			t.Errorf("%s differs from that of an undisturbed run", name)
		}
	}
	for name := range have {
		if err := os.Remove(filepath.Join(out, name)); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(out); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestKilledRunsLoseNothing runs the killer of bench/reliability for a few kills.
func TestKilledRunsLoseNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	cmd := exec.Command("go", "run", "../../bench/reliability/kill", "-bin", os.Args[0], "-kills", "10")
	cmd.Env = append(os.Environ(), "ROUNDEL_TEST_AS_MAIN=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

// whenSeen calls f once, when the text was written.
type whenSeen struct {
	bytes.Buffer
	text string
	f    func()
}

func (w *whenSeen) Write(b []byte) (int, error) {
	n, err := w.Buffer.Write(b)
	if w.f != nil && strings.Contains(w.String(), w.text) {
		w.f()
		w.f = nil
	}
	return n, err
}

// TestCancelled cancels a run in its later stages; TestSignals does so while it rounds.
func TestCancelled(t *testing.T) {
	dir := files(t)
	args := quantizeArgs(dir)
	want := undisturbed(t, dir, args)
	for _, stage := range []string{"calibrating", "evaluating"} {
		t.Run(stage, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			stderr := &whenSeen{text: stage, f: cancel}
			code := run(ctx, &environment{io.Discard, stderr}, append(args, "--progress", "plain"))
			if code != exitFailure || !strings.Contains(stderr.String(), "context canceled; stopped while "+stage) {
				t.Errorf("code %d, %q", code, stderr)
			}
			stoppedThenResumed(t, dir, args, stderr.String(), want)
		})
	}
}

// TestImageVanishes removes an image after the work has begun, and puts it back.
func TestImageVanishes(t *testing.T) {
	dir := files(t)
	images := filepath.Join(dir, "images")
	if err := os.Mkdir(images, 0o777); err != nil {
		t.Fatal(err)
	}
	x := demo.Calibration().Data()
	for i := range 48 {
		img := image.NewGray(image.Rect(0, 0, 28, 28))
		for p := range img.Pix {
			img.Pix[p] = uint8((x[i*784+p]*0.353 + 0.286) * 255)
		}
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, images, map[string]string{fmt.Sprintf("%02d.png", i): b.String()})
	}
	args := []string{"quantize", filepath.Join(dir, "model.onnx"), "--calib", images, "-o", filepath.Join(dir, "out"), "--positions", "512",
		"--preprocess", "unit,gray,mean=0.286,std=0.353"}
	want := undisturbed(t, dir, args)
	gone := filepath.Join(images, "40.png")
	stderr := &whenSeen{text: "calibrating", f: func() {
		if err := os.Rename(gone, gone+".away"); err != nil {
			t.Error(err)
		}
	}}
	code := run(context.Background(), &environment{io.Discard, stderr}, append(args, "--progress", "plain"))
	if code != exitFailure || !strings.Contains(stderr.String(), "40.png") || !strings.Contains(stderr.String(), "put it back") {
		t.Errorf("code %d, %q", code, stderr)
	}
	if err := os.Rename(gone+".away", gone); err != nil {
		t.Fatal(err)
	}
	stoppedThenResumed(t, dir, args, stderr.String(), want)
}

// TestCheckpointsAreNotTrusted damages the checkpoint of an interrupted run in several ways, or changes what it was made
// from: --resume must refuse each and name the file. The run that does not resume must not care.
func TestCheckpointsAreNotTrusted(t *testing.T) {
	dir := files(t)
	args := quantizeArgs(dir)
	want := undisturbed(t, dir, args)
	ctx, cancel := context.WithCancel(context.Background())
	stderr := &whenSeen{text: "calibrating", f: cancel}
	if code := run(ctx, &environment{io.Discard, stderr}, append(args, "--progress", "plain")); code != exitFailure {
		t.Fatal(stderr)
	}
	file := filepath.Join(dir, "out", checkpointName, "layer-0003.json")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(strings.Replace(file, "0003", "0004", 1))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[bytes.Index(good, []byte(`"Codes":"`))+20] ^= 1
	swap := func(old, fresh string) []byte { return bytes.Replace(good, []byte(old), []byte(fresh), 1) }
	cases := []struct {
		name    string
		content []byte
		more    []string // arguments
		want    string
	}{
		{"empty", nil, nil, "layer-0003.json"},
		{"truncated", good[:len(good)/2], nil, "layer-0003.json"},
		{"cut by one", good[:len(good)-3], nil, "layer-0003.json"},
		{"a bit flipped", flipped, nil, "layer-0003.json"},
		{"a scale changed", swap(`"Scale":[0`, `"Scale":[1`), nil, "layer-0003.json"},
		{"not ours", []byte("not JSON"), nil, "layer-0003.json"},
		{"JSON of another kind", []byte(`{"version":"1.0.0"}`), nil, "layer-0003.json"},
		{"of another layer", other, nil, "layer-0003.json"},
		{"older format", swap("roundel adaround checkpoint 2", "roundel adaround checkpoint 1"), nil, "layer-0003.json"},
		{"another seed", good, []string{"--seed", "5"}, "layer-0000.json"},
		{"other bits", good, []string{"--param-bits", "5"}, "layer-0000.json"},
		{"other data", good, []string{"--samples", "60"}, "layer-0000.json"},
		{"another solver", good, []string{"--solver", "adam", "--iterations", "10"}, "layer-0000.json"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if bytes.Equal(c.content, good) && c.more == nil {
				t.Fatal("nothing was changed")
			}
			if err := os.WriteFile(file, c.content, 0o666); err != nil {
				t.Fatal(err)
			}
			code, _, stderr := cli(t, append(append(args, "--resume"), c.more...)...)
			if code != exitFailure || !strings.Contains(stderr, c.want) || !strings.Contains(stderr, "remove ") {
				t.Errorf("code %d, %q", code, stderr)
			}
			if have := visible(t, filepath.Join(dir, "out")); len(have) > 0 {
				t.Errorf("results from it: %d files", len(have))
			}
		})
	}
	if err := os.Remove(file); err != nil { // as the messages say
		t.Fatal(err)
	}
	if code, _, stderr := cli(t, append(args, "--resume")...); code != exitOK {
		t.Fatal(stderr)
	}
	for name, content := range visible(t, filepath.Join(dir, "out")) {
		if content != want[name] {
			t.Errorf("%s differs after a checkpoint was removed", name)
		}
	}
}
