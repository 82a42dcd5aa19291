"""Proves that an exported model lies on its exported grid, and runs in ONNX Runtime.

usage: python grid.py ORIGINAL.onnx EXPORTED.onnx EXPORTED.encodings

ORIGINAL must have the weights that were rounded (no BatchNorm to fold). For every parameter encoding (version 1.0.0) the
exported weight must be scale * integer to within float rounding, and the integer must be floor or ceil of the original
weight on that grid, clamped to it.
"""
import json, sys
import numpy as np
import onnx
from onnx import numpy_helper
import onnxruntime as ort

original, exported, encodings = sys.argv[1:]
w0 = {t.name: numpy_helper.to_array(t) for t in onnx.load(original).graph.initializer}
model = onnx.load(exported)
onnx.checker.check_model(model)
w1 = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
axis = {n.input[1]: (1 if n.op_type == "ConvTranspose" else 0) for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose", "Gemm")}
count = flips = 0
worst = 0.0
for e in json.load(open(encodings))["param_encodings"]:
    name, bits = e["name"], e["bw"]
    if name not in w0 or w0[name].ndim < 2:
        continue
    shape = [1] * w0[name].ndim
    shape[axis.get(name, 0)] = len(e["scale"])
    scale = np.array(e["scale"]).reshape(shape)
    lo = np.array(e["offset"]).reshape(shape)
    hi = lo + 2**bits - 1
    code = w1[name] / scale
    k = np.rint(code)
    worst = max(worst, float(np.abs(code - k).max()))
    f = w0[name] / scale
    eps = 1e-4  # a weight that lies on the grid itself
    ok = (k >= np.clip(np.floor(f - eps), lo, hi)) & (k <= np.clip(np.ceil(f + eps), lo, hi))
    assert ok.all(), f"{name}: {(~ok).sum()} codes are not floor or ceil"
    assert (k >= lo).all() and (k <= hi).all(), name
    count += k.size
    flips += int((k != np.clip(np.rint(f), lo, hi)).sum())
assert worst < 1e-4, f"off the grid by {worst} of a step"
s = ort.InferenceSession(exported, providers=["CPUExecutionProvider"])
x = {i.name: np.zeros([d if isinstance(d, int) else 2 for d in i.shape], np.float32) for i in s.get_inputs()}
y = s.run(None, x)
print(f"ok: {count} weights on the grid (worst {worst:.1e} of a step), each floor or ceil, {flips} not the nearest; runs in ONNX Runtime {ort.__version__} -> {[v.shape for v in y]}")
