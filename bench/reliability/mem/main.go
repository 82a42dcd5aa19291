//go:build linux

// Command mem holds "roundel quantize" to its promise about memory: it runs jobs with given --mem, each in a control group
// of that size where the system lets us make one, and prints what was predicted and what was measured. A job that is refused
// runs again with the size that the refusal says is enough.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"roundel/data"
	"roundel/internal/demo"
	"roundel/tensor"
)

func main() {
	bin := flag.String("bin", "bin/roundel", "the roundel binary")
	shared := flag.String("shared", "../shared", "folder with models/ and data/")
	cache := flag.String("cache", "", "folder of bench/run_models.sh with more models; default: these are left out")
	only := flag.String("only", "", "regular expression over the names of the jobs")
	flag.Parse()
	if err := run(*bin, *shared, *cache, *only); err != nil {
		fmt.Fprintln(os.Stderr, "mem:", err)
		os.Exit(1)
	}
}

// job is one line of the table.
type job struct {
	name, mem string
	args      []string
}

func jobs(shared, cache, dir string) []job {
	photos := []string{"--calib", filepath.Join(shared, "data/photos-calib"), "--preprocess", "imagenet", "--param-bits", "4"}
	demoArgs := []string{filepath.Join(dir, "demo.onnx"), "--calib", filepath.Join(dir, "calib.npy")}
	model := func(path string, more ...string) []string { return append(append([]string{path}, photos...), more...) }
	mobilenet := filepath.Join(shared, "models/mobilenet_v2.onnx")
	list := []job{
		{"demo network, 1024 images", "1.5G", demoArgs},
		{"demo network, 1024 images", "110M", demoArgs},
		{"demo network, 1024 images", "40M", demoArgs},
		{"MobileNetV2, 512 photos", "1.5G", model(mobilenet)},
		{"MobileNetV2, 512 photos", "700M", model(mobilenet)},
		{"MobileNetV2, 512 photos", "300M", model(mobilenet)},
		{"MobileNetV2, 128 photos, Adam", "1.5G", model(mobilenet, "--samples", "128", "--solver", "adam", "--iterations", "100")},
		{"MobileNetV2, 128 photos, Adam", "500M", model(mobilenet, "--samples", "128", "--solver", "adam", "--iterations", "100")},
		{"ResNet-18, 128 photos", "1.5G", model(filepath.Join(shared, "models/resnet18_random.onnx"), "--samples", "128")},
		{"ResNet-18, 128 photos", "900M", model(filepath.Join(shared, "models/resnet18_random.onnx"), "--samples", "128")},
	}
	if cache != "" {
		unet := model(filepath.Join(cache, "unet.onnx"), "--samples", "64", "--preprocess", "unit,resize=192,crop=192")
		list = append(list, job{"U-Net 192x192, 64 photos", "1.5G", unet}, job{"U-Net 192x192, 64 photos", "500M", unet})
	}
	return list
}

func run(bin, shared, cache, only string) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "roundel-mem-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "demo.onnx"), demo.Model(), 0o666); err != nil {
		return err
	}
	x := demo.Calibration()
	if err := data.WriteNpy(filepath.Join(dir, "calib.npy"), tensor.From(x.Data(), demo.CalibrationImages, 1, 28, 28)); err != nil {
		return err
	}
	fmt.Println("| job | --mem | predicted MiB | measured MiB | measured/predicted | peak while | result | s |")
	fmt.Println("|---|--:|--:|--:|--:|---|---|--:|")
	for _, j := range jobs(shared, cache, dir) {
		if pattern.MatchString(j.name + " " + j.mem) {
			enough, err := j.run(bin, filepath.Join(dir, "out"))
			if err == nil && enough != "" {
				j.mem = enough
				_, err = j.run(bin, filepath.Join(dir, "out"))
			}
			if err != nil {
				return fmt.Errorf("%s: %w", j.name, err)
			}
		}
	}
	return nil
}

// watched is what is known of a process while it runs.
type watched struct {
	stage     atomic.Value
	predicted string
	last      string
	done      chan struct{}
}

var stages = regexp.MustCompile(`rounding|calibrating|evaluating|writing`)

func (w *watched) read(r io.Reader) {
	w.stage.Store("reading")
	in := bufio.NewScanner(r)
	for in.Scan() {
		line := in.Text()
		if _, n, ok := strings.Cut(line, "predicted peak memory "); ok {
			w.predicted = n
		}
		if s := stages.FindString(line); s != "" {
			w.stage.Store(s)
		}
		w.last = line
	}
	close(w.done)
}

var said = regexp.MustCompile(`needs --mem (\d+M)`)

// run prints the line of j, and returns the size that is said to be enough when j is refused.
func (j job) run(bin, out string) (enough string, err error) {
	limit := mib(j.mem)
	group := newGroup(int64(limit * (1 << 20)))
	defer group.close()
	args := append(append([]string{"quantize"}, j.args...), "-o", out, "--mem", j.mem, "--progress", "plain", "--no-qdq")
	cmd := exec.Command("/bin/sh", append([]string{"-c", group.enter() + `exec "$0" "$@"`, bin}, args...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return "", err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return "", err
	}
	w := &watched{done: make(chan struct{})}
	go w.read(stderr)
	peak, when := int64(0), ""
	for running := true; running; {
		select {
		case <-w.done:
			running = false
		case <-time.After(10 * time.Millisecond):
			if now := highWater(cmd.Process.Pid); now > peak {
				peak, when = now, fmt.Sprint(w.stage.Load())
			}
		}
	}
	err = cmd.Wait()
	os.RemoveAll(out)
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		peak = max(peak, int64(u.Maxrss)<<10)
	}
	result := "complete"
	switch {
	case cmd.ProcessState.ExitCode() == 1:
		result = "refused: " + w.last
		if m := said.FindStringSubmatch(w.last); m != nil {
			enough = m[1]
		}
	case err != nil:
		result = "FAILED: " + err.Error() + " " + w.last
	case float64(peak) > limit*(1<<20):
		result = "ABOVE --mem"
	}
	measured, predicted := float64(peak)/(1<<20), mib(w.predicted)
	fmt.Printf("| %s%s | %s | %.0f | %.0f | %.2f | %s | %s | %.0f |\n", j.name, group.note(), j.mem, predicted, measured, measured/predicted,
		when, result, time.Since(start).Seconds())
	return enough, nil
}

// highWater is the most resident memory that a process had.
func highWater(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kib int64
	fmt.Sscan(rest, &kib)
	return kib << 10
}

// mib reads sizes such as 1.5G, 700M, 1.43 GiB and 700 MiB.
func mib(s string) float64 {
	number := strings.TrimRight(s, " GiMBK")
	v, _ := strconv.ParseFloat(number, 64)
	switch unit := strings.TrimSpace(s[len(number):]); {
	case strings.HasPrefix(unit, "G"):
		return v * 1024
	case strings.HasPrefix(unit, "K"):
		return v / 1024
	}
	return v
}
