#!/bin/sh
# Counts the instructions of the inner loops of the NEON kernels in asm/kernels_neon_arm64.s, one Markdown row for each
# kernel that matches the expression (all of the largest tiles if there is none). An inner loop is what lies between a
# label and a backward branch to it, with no such pair inside; of several, the one with the most multiply-adds.
#
#   sh bench/neon.sh [REGEXP]
set -eu
cd "$(dirname "$0")/.."
echo '| kernel | multiply-adds (4 lanes) | loads | prefetches | others | instructions per multiply-add |'
echo '|---|---|---|---|---|---|'
awk -v want="${1:-gemm(TN)?F32_(8x12|8x8|4x12|1x12)|dw.*F32_8|axpy}" '
	function flush(   i, j, k, f, l, p, o, best, row) {
		for (i = 1; i <= n; i++) {
			if (target[i] == "" || !(target[i] in at) || at[target[i]] > i) continue
			f = l = p = o = inner = 0
			for (j = at[target[i]]; j <= i; j++) {
				if (j < i && target[j] != "" && target[j] in at && at[target[j]] <= j && at[target[j]] >= at[target[i]]) inner = 1
				if (kind[j] == "f") f++; else if (kind[j] == "l") l++; else if (kind[j] == "p") p++; else o++
			}
			if (!inner && f > best) {
				best = f
				row = sprintf("| %s | %d | %d | %d | %d | %.2f |", name, f, l, p, o, (f + l + p + o) / f)
			}
		}
		if (best > 0 && name ~ want) print row
		n = 0
		split("", at); split("", target); split("", kind)
	}
	/^TEXT/ { flush(); name = $2; sub(/^[^a-z]*/, "", name); sub(/\(SB\),?$/, "", name); next }
	/^[a-z0-9_]+:/ { l = $1; sub(/:.*/, "", l); at[l] = n + 1; next }
	/^\t[A-Z]/ {
		kind[++n] = $0 ~ /fmla|FMLA/ ? "f" : $1 == "PRFM" ? "p" : $1 ~ /^(FMOV|MOVD|VLD|FLDP|LDP)/ && $2 ~ /^[0-9]*\(|^\(/ ? "l" : "o"
		target[n] = $1 ~ /^(B|B[A-Z][A-Z]|CBZ|CBNZ|TBZ|TBNZ)$/ ? $NF : ""
	}
	END { flush() }' asm/kernels_neon_arm64.s
