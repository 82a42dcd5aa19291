#!/bin/sh
# Makes the Python environment of the peers: for comparisons only, users never need it.
#   sh bench/peers/venv.sh          onnx, onnxruntime, numpy
#   sh bench/peers/venv.sh torch    and torch (large)
set -eu
cd "$(dirname "$0")"
[ -x venv/bin/python ] || python3 -m venv venv
pip() { venv/bin/python -m pip install -q --disable-pip-version-check "$@"; }
venv/bin/python -c 'import onnx, onnxruntime, numpy' 2>/dev/null || pip onnx==1.23.2 onnxruntime==1.32.0 numpy
for extra in "$@"; do
	venv/bin/python -c "import $extra" 2>/dev/null || pip "$extra"
done
