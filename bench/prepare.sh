#!/bin/sh
# What each rewrite of nn/prepare does to quantized networks, switched alone against the default, as a table for bench/RESULTS.md.
#   sh bench/run.sh prepare    or, for the table alone:    ROUNDEL=path/of/roundel sh bench/prepare.sh [SHARED]
# SHARED is the folder with models and data (../shared). NETS, BITS, VARIANTS, SAMPLES, POSITIONS and CONFIG change or shorten it.
# The weights' columns are against the network as rewritten, the last one against the file as it is, nothing rewritten (eval --against).
set -eu
shared=${1:-../shared}
roundel=${ROUNDEL:-roundel}
command -v "$roundel" >/dev/null || { echo "prepare.sh: no $roundel; give ROUNDEL=path/of/roundel" >&2; exit 2; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# cell prints the accuracy, or agreement without labels, and SQNR of the line of $tmp/log that has $1.
cell() {
	sed -n "/$1/!d; s/.*accuracy *\([0-9.]* %\).*SQNR *\(.*\)\$/\1, \2/p; t; s/.*float *\([0-9.]* %\).*SQNR *\(.*\)\$/\1, \2/p" "$tmp/log" | grep . || echo failed
}

# idle says that the variant $1 only leaves away what the default preparation had no occasion to do.
idle() {
	case $1 in
	-fold-constants) ! grep -q 'prepared.*\(fold constants\|remove\)' "$tmp/default" ;;
	-*) ! grep -q "prepared.*$(echo "${1#-}" | tr - ' ')" "$tmp/default" ;;
	*) false ;;
	esac
}

echo "| network | weights | rewrites | nearest | AdaRound | with A8, against the file |"
echo "|---|---|---|---|---|---|"
for net in ${NETS:-fashion_resnet fashion_mobilenet mobilenet_v2_bn}; do
	case $net in
	fashion_*) pre=unit,mean=0.2860,std=0.3530 calib=$shared/data/fashion-mnist/train-images-idx3-ubyte.gz eval=$shared/data/fashion-mnist/t10k-images-idx3-ubyte.gz positions=1000 ;;
	*) pre=imagenet calib=$shared/data/photos-calib eval=$shared/data/photos-eval positions=200 ;;
	esac
	for bits in ${BITS:-8 4}; do
		for v in default ${VARIANTS:--fold-constants -fuse-bias -fuse-scale -fold-batch-norm -normalize-batch-norm equalize equalize,relu6-to-relu equalize,absorb-bias equalize,relu6-to-relu,absorb-bias correct-bias=empirical correct-bias=analytic}; do
			if idle "$v"; then
				echo "| $net | W$bits | $v | nothing to do | | |"
				continue
			fi
			list=$v
			[ "$v" != default ] || list=
			rm -rf "$tmp/o"
			: >"$tmp/eval"
			"$roundel" quantize "$shared/models/$net.onnx" --preprocess "$pre" --calib "$calib" --samples "${SAMPLES:-64}" --eval "$eval" -o "$tmp/o" \
				--positions "${POSITIONS:-$positions}" --param-bits "$bits" --config "${CONFIG:-roundel_default}" --prepare="$list" --no-qdq --progress plain >"$tmp/log" 2>&1 &&
				"$roundel" eval "$tmp/o/${net}_w${bits}a8.onnx" --encodings "$tmp/o/${net}_w${bits}a8.encodings" --against "$shared/models/$net.onnx" --prepare=-all \
					--config "${CONFIG:-roundel_default}" --preprocess "$pre" --data "$eval" --progress off >"$tmp/eval" 2>&1 || { echo "failed: $net W$bits $v" >&2; tail -3 "$tmp/log" >&2; }
			[ "$v" != default ] || cp "$tmp/log" "$tmp/default"
			nearest=$(cell " nearest ") rounded=$(cell "AdaRound  ")
			mv "$tmp/eval" "$tmp/log"
			echo "| $net | W$bits | $v | $nearest | $rounded | $(cell simulated) |"
		done
	done
done
