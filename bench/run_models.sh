#!/bin/sh
# Writes common architectures as ONNX files, runs and quantizes them, and makes bench/models.md.
#   sh bench/run_models.sh [NAME ...]      models already measured are not measured again unless named
# TIMES=1 measures only the times again, of all models or of those named.
# CACHE (default: roundel-models under the user's cache folder) keeps the venv, the models and the results;
# PYTHON is a python with the packages of bench/peers/models.py, to use instead of making a venv.
set -eu
cd "$(dirname "$0")/.."
cache=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/roundel-models}
mkdir -p "$cache"
if [ -z "${PYTHON:-}" ]; then
	PYTHON=$cache/venv/bin/python
	if [ ! -x "$PYTHON" ]; then
		python3 -m venv "$cache/venv"
		"$PYTHON" -m pip install -q torch torchvision timm transformers onnx onnxscript onnxruntime
		"$PYTHON" -m pip install -q --no-deps rapidocr-onnxruntime silero-vad
	fi
fi
go build -o "$cache/roundel" ./cmd/roundel
go build -o "$cache/bench" ./bench/models
commit=$(git describe --always --dirty --abbrev=9 --exclude='*')
"$PYTHON" bench/peers/models.py "$cache/models"
if [ -n "${TIMES:-}" ]; then
	"$PYTHON" bench/peers/models_time.py --bench "$cache/bench" --cache "$cache/models" --commit "$commit" "$@"
	set -- # the table is made of what is known
fi
"$PYTHON" bench/peers/models_run.py --roundel "$cache/roundel" --bench "$cache/bench" --cache "$cache/models" --commit "$commit" --out bench/models.md "$@"
