#!/bin/sh
# What the optional rewrites of nn/prepare do to quantized networks, as a table for bench/RESULTS.md.
#   ROUNDEL=path/of/roundel sh bench/prepare.sh [SHARED]      SHARED: the folder with models and data (default ../shared)
# Needs some minutes for each network. NETS, RULES and VARIANTS make it shorter.
set -eu
shared=${1:-../shared}
roundel=${ROUNDEL:-roundel}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
echo "| network | grid | rewrites | nearest | AdaRound | with A8 |"
echo "|---|---|---|---|---|---|"
for net in ${NETS:-fashion_resnet fashion_mobilenet mobilenet_v2_bn}; do
	case $net in
	fashion_*) pre=unit,mean=0.2860,std=0.3530 calib=$shared/data/fashion-mnist/train-images-idx3-ubyte.gz eval=$shared/data/fashion-mnist/t10k-images-idx3-ubyte.gz ;;
	*) pre=imagenet calib=$shared/data/photos-calib eval=$shared/data/photos-eval ;;
	esac
	for rules in ${RULES:-8:roundel_default 8:default_per_tensor 4:roundel_default}; do
		for v in ${VARIANTS:-default equalize equalize,relu6-to-relu equalize,absorb-bias correct-bias=empirical correct-bias=analytic}; do
			list=$v
			[ "$v" != default ] || list=
			rm -rf "$tmp/o"
			"$roundel" quantize "$shared/models/$net.onnx" --preprocess "$pre" --calib "$calib" --samples "${SAMPLES:-64}" --eval "$eval" -o "$tmp/o" --positions "${POSITIONS:-2000}" \
				--param-bits "${rules%%:*}" --config "${rules#*:}" --prepare "$list" --no-qdq --progress off >"$tmp/log" 2>&1 || echo "failed: $net $rules $v" >&2
			sed -n 's/.*accuracy *\([0-9.]* %\).*SQNR *\(.*\)$/\1, \2/p; t; s/.*float *\([0-9.]* %\).*SQNR *\(.*\)$/\1, \2/p' "$tmp/log" >"$tmp/cells"
			printf '| %s | W%s %s | %s |' "$net" "${rules%%:*}" "${rules#*:}" "$v"
			grep -v '^100.0 %, equal' "$tmp/cells" | tail -3 | while read -r cell; do printf ' %s |' "$cell"; done
			echo
		done
	done
done
