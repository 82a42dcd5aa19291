// Package settle keeps the idle threads of one contender out of the turn of the next:
// those of OpenBLAS and ONNX Runtime go on spinning for 50 to 100 ms after their last
// call, on a core that somebody else is being timed on.
package settle

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	step  = 10 * time.Millisecond // longer than the ticks that processor time is accounted in
	limit = 300 * time.Millisecond
)

// Wait returns when the threads of a process sleep, after 300 ms at the latest.
// Where that cannot be seen, it waits for half of this.
func Wait(pid int) {
	used, ok := cpuTime(pid)
	if !ok {
		time.Sleep(limit / 2)
		return
	}
	for waited := time.Duration(0); waited < limit; waited += step {
		time.Sleep(step)
		now, _ := cpuTime(pid)
		if now-used < step/20 {
			return
		}
		used = now
	}
}

// cpuTime returns the time that the threads of a process have been on a processor.
func cpuTime(pid int) (sum time.Duration, ok bool) {
	files, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/schedstat")
	for _, f := range files {
		b, _ := os.ReadFile(f) // a thread may have ended
		on, _, _ := strings.Cut(string(b), " ")
		if ns, err := strconv.ParseInt(on, 10, 64); err == nil {
			sum += time.Duration(ns)
			ok = true
		}
	}
	return sum, ok
}
