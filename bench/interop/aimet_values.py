"""Compare encodings with AIMET 2.42 on the same values, bit for bit: no network lies between the two.

    ./interop -base CASE/net.onnx -values CASE/values && python aimet_values.py CASE/values [...] --json FILE

AIMET's quantizers see each tensor as a graph input. A tf_enhanced encoding that differs is explained by the expected squared
error of both candidates over the histogram of the specification, which AIMET minimises too: a ratio near 1 is a near tie.
"""
import argparse
import json
import pathlib
import tempfile

import numpy as np
import onnx
from aimet_onnx.quantsim import QuantizationSimModel
from onnx import TensorProto, helper

CONFIG = pathlib.Path(__file__).resolve().parents[2] / "quantsim" / "rules" / "default_per_tensor.json"


def simulate(batches, bits, symmetric, scheme, percentile):
    """AIMET's scale and offset of each array."""
    names = [f"x{i}" for i in range(len(batches[0]))]
    value = lambda name, k: helper.make_tensor_value_info(name, TensorProto.FLOAT, batches[0][k].shape)
    graph = helper.make_graph([helper.make_node("Neg", [n], [f"y{k}"], name=f"neg{k}") for k, n in enumerate(names)], "values",
                              [value(n, k) for k, n in enumerate(names)], [value(f"y{k}", k) for k in range(len(names))])
    config = json.loads(CONFIG.read_text())
    config["defaults"]["ops"]["is_symmetric"] = str(symmetric)
    with tempfile.TemporaryDirectory() as tmp:
        path = pathlib.Path(tmp) / "config.json"
        path.write_text(json.dumps(config))
        sim = QuantizationSimModel(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), param_type="int8",
                                   activation_type=f"int{bits}", quant_scheme=scheme, config_file=str(path), providers=["CPUExecutionProvider"])
    for k in range(len(names)):
        sim.qc_quantize_op_dict[f"y{k}"].enabled = False
    if percentile:
        for n in names:
            sim.qc_quantize_op_dict[n]._tensor_quantizer.setPercentileValue(percentile)
    sim.compute_encodings([dict(zip(names, b)) for b in batches])
    return [(e.delta, e.offset) for n in names for e in sim.qc_quantize_op_dict[n].get_encodings()]


def histogram(batches):
    """Left edge of the first bin, width, bins per unit, and density, as measured (quantsim/encoding/histogram.go)."""
    x = next(b.ravel() for b in batches if b.any())
    lo, hi = x.min(), x.max()
    span = np.float32(hi - lo) if hi > lo else np.float32(0.01)
    w, per = span / np.float32(512), np.float32(1536) / np.float32(3 * span)
    first = np.float32(np.floor(lo * per)) - 512
    pdf = np.zeros(1536)
    for k, b in enumerate(batches):
        i = np.floor(b.ravel() * per) - first
        pdf = (pdf * k + np.bincount(i[(i >= 0) & (i < 1536)].astype(int), minlength=1536) / b.size) / (k + 1)
    return np.float64(np.float32(first * w)), np.float64(w), np.float64(per), pdf


def cost(hist, d, o, bits):
    left, w, per, p = hist
    mid = left + w * np.arange(1536) + w / 2
    lo, hi = (int(np.clip(np.floor((np.float64(np.float32(v)) - left) * per), 0, 1535)) for v in (d * o, d * (o + 2**bits - 1)))
    i = np.arange(1536)
    saturated = (p * np.square(mid - mid[lo]))[i < lo].sum() + (p * np.square(mid - mid[hi]))[i >= hi].sum()
    inner = (p * np.square(mid - d * (np.floor(mid / d - o + 0.5) + o)))[(i >= lo) & (i < hi)].sum()
    return 3 * saturated + inner


def compare(folder):
    rows = json.loads((folder / "values.json").read_text())
    tensors = 1 + max(r["Index"] for r in rows)
    batches = [[np.load(folder / f"v{i}_{b}.npy") for i in range(tensors)] for b in range(len(list(folder.glob("v0_*.npy"))))]
    out = []
    for key in dict.fromkeys((r["Bits"], r["Symmetric"], r["Scheme"], r["Percentile"]) for r in rows):
        theirs = simulate(batches, *key)
        result = {"bits": key[0], "symmetric": key[1], "scheme": key[2] + (f" {key[3]}" if key[3] else ""), "tensors": tensors, "float32": 0, "equal": 0, "misses": []}
        for r in (r for r in rows if (r["Bits"], r["Symmetric"], r["Scheme"], r["Percentile"]) == key):
            scale, offset = theirs[r["Index"]]
            result["float32"] += bool(np.float32(scale) == np.float32(r["Scale"]) and offset == r["Offset"])
            if abs(scale - r["Scale"]) <= 1e-5 * scale and offset == r["Offset"]:
                result["equal"] += 1
                continue
            miss = {"tensor": r["Tensor"], "ours": [r["Scale"], r["Offset"]], "theirs": [scale, offset]}
            if r["Scheme"] == "tf_enhanced":
                h = histogram([b[r["Index"]] for b in batches])
                # Scales that differ as 511 and 512 bins do: the largest value lies in another bin there.
                miss["other_bin"] = any(abs(scale / r["Scale"] - q) < 1e-5 for q in (511 / 512, 512 / 511))
                miss["costs"] = [cost(h, *v, r["Bits"]) for v in (miss["ours"], miss["theirs"])]
            result["misses"].append(miss)
        print({k: v for k, v in result.items() if k != "misses"}, *result["misses"], sep="\n    ", flush=True)
        out.append(result)
    return {"case": folder.parent.name, "results": out}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", type=pathlib.Path, nargs="+")
    parser.add_argument("--json", type=pathlib.Path, required=True)
    args = parser.parse_args()
    args.json.write_text(json.dumps([compare(f) for f in args.folders], indent=1) + "\n")


if __name__ == "__main__":
    main()
