#!/bin/sh
# Remakes cmd/roundel/licenses.txt from the licences of what the binary contains.
set -eu
cd "$(dirname "$0")/../.."
{
	echo "roundel is licensed under the Apache License, Version 2.0 (see LICENSE in the source)."
	for m in $(go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}' ./cmd/roundel | sort -u); do
		printf '\n======== %s %s\n\n' "$m" "$(go list -m -f '{{.Version}}' "$m")"
		cat "$(go list -m -f '{{.Dir}}' "$m")/LICENSE"
	done
	printf '\n======== Go standard library and runtime\n\n'
	cat "$(go env GOROOT)/LICENSE"
	printf '\n======== Fashion-MNIST (a slice of it is embedded for the demo)\n\n'
	cat internal/demo/LICENSE-fashion-mnist.txt
} > cmd/roundel/licenses.txt.new
mv cmd/roundel/licenses.txt.new cmd/roundel/licenses.txt
