#!/bin/sh
# Runs every fuzz target in ./fuzz for a fixed number of executions (the first argument, such as 20000x).
set -eu
count=${1:-20000x}
for target in $(grep -ho 'func Fuzz[A-Za-z0-9_]*' fuzz/*_test.go | sed 's/func //' | sort); do
	echo "fuzz $target $count"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$count" ./fuzz
done
