//go:build !unix

package main

import "time"

var start = time.Now()

// cpuTime stands for the processor time where there is no such clock.
func cpuTime() time.Duration { return time.Since(start) }
