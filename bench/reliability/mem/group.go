//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// group is a control group with a limit on memory: a process in it that needs more is killed.
type group struct{ dir string }

// newGroup makes a group of version 2 or 1; an empty one where that is not allowed.
func newGroup(limit int64) group {
	for _, v := range [][2]string{{"/sys/fs/cgroup", "memory.max"}, {"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}} {
		dir := filepath.Join(v[0], fmt.Sprint("roundel-mem-", os.Getpid()))
		if os.Mkdir(dir, 0o777) != nil {
			continue
		}
		if os.WriteFile(filepath.Join(dir, v[1]), fmt.Append(nil, limit), 0o666) == nil {
			return group{dir}
		}
		os.Remove(dir)
	}
	return group{}
}

// enter is the shell command that takes a process there.
func (g group) enter() string {
	if g.dir == "" {
		return ""
	}
	return "echo $$ > " + g.dir + "/cgroup.procs && "
}

func (g group) note() string {
	if g.dir == "" {
		return " (no group)"
	}
	for _, name := range []string{"memory.events", "memory.oom_control"} {
		b, _ := os.ReadFile(filepath.Join(g.dir, name))
		for line := range strings.Lines(string(b)) {
			if n, ok := strings.CutPrefix(line, "oom_kill "); ok && strings.TrimSpace(n) != "0" {
				return " (killed by the group)"
			}
		}
	}
	return ""
}

func (g group) close() {
	if g.dir != "" {
		os.Remove(g.dir)
	}
}
