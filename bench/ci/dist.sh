#!/bin/sh
# Builds static binaries for every target, twice from folders and caches of different names, and fails unless both are
# equal and at most 12 MiB. Leaves them in dist/ with their SHA-256 and sizes. TARGETS and VERSION may be given.
set -eu
version=${VERSION:-$(git describe --tags --always 2>/dev/null || echo devel)}
targets=${TARGETS:-linux/amd64 linux/arm64 linux/riscv64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64}
root=$PWD
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
mkdir -p dist "$tmp/somewhere/else"
git archive HEAD | tar x -C "$tmp/somewhere/else"
build() { # target, output
	CGO_ENABLED=0 GOOS=${1%/*} GOARCH=${1#*/} go build -trimpath -buildvcs=false \
		-ldflags "-s -w -buildid= -X main.release=$version" -o "$2" ./cmd/roundel
}
git diff --quiet HEAD -- || echo "note: uncommitted changes are left out"
mkdir "$tmp/first"
git archive HEAD | tar x -C "$tmp/first"
for t in $targets; do
	name=roundel-$(echo "$t" | tr / -)
	case $t in windows/*) name=$name.exe ;; esac
	(cd "$tmp/first" && build "$t" "$root/dist/$name")
	(cd "$tmp/somewhere/else" && GOCACHE=$tmp/cache build "$t" "$tmp/second")
	cmp "dist/$name" "$tmp/second" || { echo "$t: two builds differ"; exit 1; }
	size=$(wc -c <"dist/$name")
	[ "$size" -le 12582912 ] || { echo "$t: $size bytes, more than 12 MiB"; exit 1; }
	echo "$(sha256sum "dist/$name" | cut -c1-64) $size $name"
done
