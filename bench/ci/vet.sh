#!/bin/sh
# Format and vet for every target that has its own files.
set -eu
bad=$(gofmt -l . 2>/dev/null | grep -v '^bench/peers/venv' || true)
[ -z "$bad" ] || { echo "gofmt wants: $bad"; exit 1; }
go vet ./...
GOARCH=arm64 go vet ./...
go vet -tags purego ./...
for target in linux/riscv64 darwin/arm64 darwin/amd64 windows/amd64 windows/arm64; do
	echo "build $target"
	CGO_ENABLED=0 GOOS=${target%/*} GOARCH=${target#*/} go build -o /dev/null ./cmd/roundel
done
if go list -deps ./cmd/roundel | grep -qx net; then echo "the command line must not use the network"; exit 1; fi
