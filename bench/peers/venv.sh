#!/bin/sh
# Makes the Python environment of the peers, bench/peers/venv: for comparisons only, users never need it.
#   sh bench/peers/venv.sh          onnx, onnxruntime, numpy
#   sh bench/peers/venv.sh torch    and torch (several GB)
#   sh bench/peers/venv.sh aimet    and AIMET, with torch
# What is there already is left alone. Without a network, put an environment with these packages in that place.
set -eu
cd "$(dirname "$0")"
[ -x venv/bin/python ] || python3 -m venv venv
pip() { venv/bin/python -m pip install -q --disable-pip-version-check "$@"; }
has() { venv/bin/python -c "import importlib.util as u, sys; sys.exit(any(u.find_spec(m) is None for m in sys.argv[1:]))" "$@"; }
has onnx onnxruntime numpy || pip onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
for extra in "$@"; do
	case $extra in
	torch) has torch || pip torch==2.15.0 ;;
	aimet) has torch aimet_onnx || pip torch==2.15.0 aimet-onnx==2.42.0 ;;
	*) echo "venv.sh: unknown extra $extra: torch or aimet" >&2; exit 2 ;;
	esac
done
