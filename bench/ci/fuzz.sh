#!/bin/sh
# Runs every fuzz target for a fixed number of executions, its own number below times the first argument (default 1):
# a count is the same on every machine, a duration is not. A crash leaves its input in testdata/fuzz, to be committed.
set -eu
times=${1:-1}
grep -l '^func Fuzz' ./*/*_test.go ./*/*/*_test.go | xargs -n1 dirname | sort -u | while read -r dir; do
	for target in $(grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | sed 's/func //' | sort); do
		case $target in
		FuzzSource) count=2500 ;; # writes files
		FuzzCommandLine) count=2500 ;;
		FuzzCheckpoint | FuzzPipeline | FuzzExecute | FuzzPrepare) count=10000 ;;
		*) count=20000 ;;
		esac
		echo "fuzz $dir $target $((count * times))"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$((count * times))x" -fuzzminimizetime 10x -parallel 1 "$dir"
	done
done
