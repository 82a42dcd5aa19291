#!/bin/sh
# Real clients of what roundel computes and writes: ONNX Runtime on the same inputs, on the exported models and on the QDQ
# models. Uses the models and photos of ../shared; says so and does nothing where they are absent.
set -eu
cd "$(dirname "$0")/../.."
shared=${ROUNDEL_SHARED:-../shared}
python=bench/peers/venv/bin/python
if [ ! -d "$shared/models" ]; then
	echo "SKIPPED: no $shared/models to compare with ONNX Runtime"
	exit 0
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
CGO_ENABLED=0 go build -o "$dir/roundel" ./cmd/roundel
echo "float outputs:"
$python bench/peers/ort_agree.py "$dir/roundel" "$shared"/models/*.onnx
echo "exported weights:"
"$dir/roundel" quantize "$shared/models/mobilenet_v2.onnx" --calib "$shared/data/photos-calib" --samples 32 --positions 2048 \
	--progress off -o "$dir/q"
$python bench/interop/grid.py "$shared/models/mobilenet_v2.onnx" "$dir/q/mobilenet_v2_w4a8.onnx" "$dir/q/mobilenet_v2_w4a8.encodings"
"$dir/roundel" check "$dir/q/mobilenet_v2_w4a8.onnx" "$dir/q/mobilenet_v2_w4a8.encodings" | tail -1
echo "QDQ models:"
go run ./bench/interop -shared "$shared" -out "$dir/interop" -only fashion -calib 64 -eval 256
$python bench/interop/qdq_ort.py "$dir/interop"
