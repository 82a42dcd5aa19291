#!/bin/sh
# Runs the demo with every instruction set of this machine, one and two threads, the plain Go build and the arm64
# build under qemu, and compares everything it prints, which includes the SHA-256 of every file it writes. With ELSEWHERE=1
# also the riscv64 build under qemu (a quarter of an hour) and the Windows build under Wine; Wine before 8.13 lacks
# bcryptprimitives.dll with ProcessPrng, which Go programs need: make one that calls SystemFunction036 of advapi32.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export CGO_ENABLED=0
go build -trimpath -o "$dir/native" ./cmd/roundel
go build -trimpath -tags purego -o "$dir/purego" ./cmd/roundel
GOARCH=arm64 go build -trimpath -o "$dir/arm64" ./cmd/roundel
failed=0 few=
try() { # name, threads, command...
	name=$1 threads=$2
	shift 2
	rm -rf "$dir/out"
	(cd "$dir" && "$@" demo --progress off --threads "$threads" $few -o out >"$name.raw" 2>"$name.err")
	tr -d '\r' <"$dir/$name.raw" | tr '\\' / >"$dir/$name.txt" # Windows writes out\demo.onnx
	[ -f "$dir/want.txt" ] || cp "$dir/$name.txt" "$dir/want.txt"
	if cmp -s "$dir/want.txt" "$dir/$name.txt"; then echo "same bytes: $name"; else
		echo "DIFFERENT: $name"
		diff "$dir/want.txt" "$dir/$name.txt" || true
		failed=1
	fi
}
for isa in $("$dir/native" version | sed -n 's/.*(available: \(.*\); .*/\1/p' | tr -d ,); do
	try "$isa" 2 env ROUNDEL_ISA="$isa" "$dir/native"
done
try one-thread 1 "$dir/native"
try purego 2 "$dir/purego"
cat "$dir/want.txt"
# The emulator is slow: the same comparison on 4 bits and fewer test images.
if command -v qemu-aarch64 >/dev/null; then
	rm "$dir/want.txt"
	few="--param-bits 4 --samples 250"
	try native-few 2 "$dir/native"
	try arm64-qemu 2 qemu-aarch64 -cpu max "$dir/arm64"
	if [ -n "${ELSEWHERE:-}" ]; then
		GOARCH=riscv64 go build -trimpath -o "$dir/riscv64" ./cmd/roundel
		GOOS=windows go build -trimpath -o "$dir/roundel.exe" ./cmd/roundel
		try riscv64-qemu 2 qemu-riscv64 "$dir/riscv64"
		try windows-wine 2 env WINEDEBUG=-all "$(command -v wine64 || echo /usr/lib/wine/wine64)" "$dir/roundel.exe"
	fi
else
	echo "SKIPPED arm64: no qemu-aarch64"
fi
exit $failed
