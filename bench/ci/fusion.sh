#!/bin/sh
# The Go compiler may fuse x*y + z on arm64, which changes the last bit. Results that reach a file must be the same on
# every CPU, so the packages below may hold fused instructions only where the source line says FMA.
set -eu
pkgs="./tensor ./nn/... ./data ./quantsim/... ./adaround ./autograd"
out=$(mktemp)
trap 'rm -f "$out"' EXIT
CGO_ENABLED=0 GOOS=linux GOARCH=arm64 go build -gcflags='-S' $pkgs 2>&1 |
	grep -E '[[:space:]](FMADD|FMSUB|FNMADD|FNMSUB)[SD][[:space:]]' |
	sed -E 's/.*\(([^)]*\.go:[0-9]+)\).*/\1/' | sort -u > "$out" || true
bad=0
while IFS=: read -r file line; do
	text=$(sed -n "${line}p" "$file")
	case $text in *FMA*|*fma*) continue ;; esac
	echo "fused: $file:$line: $text"
	bad=1
done < "$out"
[ $bad = 0 ] && echo "no unrequested fused operations ($(wc -l < "$out") requested lines)"
exit $bad
