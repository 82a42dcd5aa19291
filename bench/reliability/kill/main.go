// Command kill proves that a killed run loses nothing: it kills "roundel quantize" and "roundel adaround" with SIGKILL
// at random moments, looks at what they left, continues with --resume, and compares the files that come out with those
// of runs that nobody disturbed.
package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"roundel/data"
	"roundel/internal/demo"
	"roundel/tensor"
)

func main() {
	kills := flag.Int("kills", 10, "how many runs to kill")
	bin := flag.String("bin", "", "the roundel binary (default: build it)")
	seed := flag.Uint64("seed", 1, "of the moments")
	images := flag.Int("images", 256, "calibration images")
	positions := flag.Int("positions", 512, "sampled positions of a layer")
	flag.Parse()
	if err := run(*bin, *kills, *seed, *images, *positions); err != nil {
		fmt.Fprintln(os.Stderr, "kill:", err)
		os.Exit(1)
	}
}

// files are the results in a folder by name; hidden ones do not count.
type files map[string]string

// trial is one command with its results.
type trial struct {
	args  []string // without -o, --seed and --resume
	want  files    // of an undisturbed run with seed 1
	other files    // with seed 2: what an earlier run left in the folder
	took  time.Duration
}

type killer struct {
	bin    string
	rand   *rand.Rand
	phases map[string]int
	ends   int // completed runs, compared
}

func run(bin string, kills int, seed uint64, images, positions int) error {
	dir, err := os.MkdirTemp("", "roundel-kill-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if bin == "" {
		bin = filepath.Join(dir, "roundel.exe")
		if out, err := exec.Command("go", "build", "-o", bin, "roundel/cmd/roundel").CombinedOutput(); err != nil {
			return fmt.Errorf("building roundel: %w\n%s", err, out)
		}
	}
	model, calib := filepath.Join(dir, "demo.onnx"), filepath.Join(dir, "calib.npy")
	if err := os.WriteFile(model, demo.Model(), 0o666); err != nil {
		return err
	}
	x := demo.Calibration()
	n := min(images, demo.CalibrationImages)
	if err := data.WriteNpy(calib, tensor.From(x.Data()[:n*x.Len()/demo.CalibrationImages], n, 1, 28, 28)); err != nil {
		return err
	}
	common := []string{model, "--calib", calib, "--positions", strconv.Itoa(positions), "--progress", "off"}
	trials := []*trial{{args: append([]string{"quantize"}, common...)}, {args: append([]string{"adaround"}, common...)}}
	k := &killer{bin: bin, rand: rand.New(rand.NewPCG(seed, 0)), phases: map[string]int{}}
	for _, t := range trials {
		if err := k.undisturbed(t, dir); err != nil {
			return err
		}
	}
	start := time.Now()
	killed := 0
	for killed < kills {
		n, err := k.round(trials[k.rand.IntN(len(trials))], filepath.Join(dir, "out"), kills-killed)
		if err != nil {
			return fmt.Errorf("after %d kills: %w", killed+n, err)
		}
		killed += n
	}
	fmt.Printf("%d kills, %d completed runs, all with the bytes of an undisturbed run; %s\n", killed, k.ends, time.Since(start).Round(time.Second))
	for _, p := range slices.Sorted(maps.Keys(k.phases)) {
		fmt.Printf("  killed with %-40s %d\n", p, k.phases[p])
	}
	return nil
}

// undisturbed makes the results to compare with.
func (k *killer) undisturbed(t *trial, dir string) error {
	for seed, to := range map[int]*files{1: &t.want, 2: &t.other} {
		out := filepath.Join(dir, fmt.Sprint(t.args[0], seed))
		start := time.Now()
		if text, err := k.command(t, out, seed).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", t.args, err, text)
		}
		t.took = max(t.took, time.Since(start))
		var err error
		if *to, err = read(out); err != nil {
			return err
		}
	}
	if len(t.want) < 2 || maps.Equal(t.want, t.other) {
		return fmt.Errorf("%v: seeds 1 and 2 give the same %d files", t.args, len(t.want))
	}
	return nil
}

func (k *killer) command(t *trial, out string, seed int) *exec.Cmd {
	args := append(slices.Clone(t.args), "-o", out, "--seed", fmt.Sprint(seed), "--resume")
	return exec.Command(k.bin, args...)
}

// round starts from the results of another run, kills up to limit runs in a row, and lets the last one finish.
func (k *killer) round(t *trial, out string, limit int) (kills int, err error) {
	if err := os.RemoveAll(out); err != nil {
		return 0, err
	}
	if err := os.Mkdir(out, 0o777); err != nil {
		return 0, err
	}
	for name, content := range t.other {
		if err := os.WriteFile(filepath.Join(out, name), []byte(content), 0o666); err != nil {
			return 0, err
		}
	}
	for kills < limit {
		killed, err := k.once(t, out)
		if err != nil {
			return kills, err
		}
		if !killed {
			return kills, nil
		}
		kills++
		if k.rand.IntN(2) == 0 {
			break
		}
	}
	if text, err := k.command(t, out, 1).CombinedOutput(); err != nil {
		return kills, fmt.Errorf("--resume failed: %w\n%s", err, text)
	}
	return kills, k.finished(t, out)
}

// once runs the command, kills it after a random time, and checks what is there then.
func (k *killer) once(t *trial, out string) (killed bool, err error) {
	cmd := k.command(t, out, 1)
	var text strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Start(); err != nil {
		return false, err
	}
	timer := time.AfterFunc(time.Duration(k.rand.Float64()*1.1*float64(t.took)), func() { cmd.Process.Kill() })
	err = cmd.Wait()
	timer.Stop()
	if err == nil {
		return false, k.finished(t, out)
	}
	if cmd.ProcessState.ExitCode() != -1 {
		return false, fmt.Errorf("%v failed by itself: %w\n%s", cmd.Args, err, text.String())
	}
	return true, k.interrupted(t, out)
}

// finished checks that the results are those of an undisturbed run and that nothing else is left.
func (k *killer) finished(t *trial, out string) error {
	k.ends++
	have, err := read(out)
	if err != nil {
		return err
	}
	if !maps.Equal(have, t.want) {
		return fmt.Errorf("%v: the results differ from those of an undisturbed run: %s", t.args, describe(have, t))
	}
	list, err := os.ReadDir(out)
	if err == nil && len(list) != len(have) {
		err = fmt.Errorf("%v: files are left behind: %v", t.args, list)
	}
	return err
}

// interrupted checks that the results are all of one run: the earlier one, or this.
func (k *killer) interrupted(t *trial, out string) error {
	have, err := read(out)
	if err != nil {
		return err
	}
	layers, err := filepath.Glob(filepath.Join(out, ".roundel-checkpoint", "*.json"))
	if err != nil {
		return err
	}
	k.phases[phase(len(layers), have, t, out)]++
	complete := false
	for name := range have {
		complete = complete || filepath.Ext(name) == ".encodings"
	}
	for _, set := range []files{t.other, t.want} {
		ok := !complete || len(have) == len(set)
		for name, content := range have {
			ok = ok && set[name] == content
		}
		if ok {
			return nil
		}
	}
	return fmt.Errorf("%v: a mixed or partial set of results: %s", t.args, describe(have, t))
}

func phase(layers int, have files, t *trial, out string) string {
	making, err := os.ReadDir(filepath.Join(out, ".roundel-new"))
	switch {
	case maps.Equal(have, t.want):
		return "all new results in place"
	case len(have) < len(t.want):
		return "some results in place"
	case err == nil && len(making) > 0:
		return "results being made"
	case layers == 0:
		return "no layer finished"
	}
	return fmt.Sprintf("%2d to %2d layers finished", (layers-1)/6*6+1, (layers-1)/6*6+6)
}

// read returns the files of a folder without the hidden ones.
func read(dir string) (files, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := files{}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(f)
		f.Close()
		if err != nil {
			return nil, err
		}
		out[e.Name()] = string(b)
	}
	return out, nil
}

func describe(have files, t *trial) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(have)) {
		kind := "neither"
		switch have[name] {
		case t.want[name]:
			kind = "new"
		case t.other[name]:
			kind = "old"
		}
		parts = append(parts, name+" "+kind)
	}
	return strings.Join(parts, ", ")
}
