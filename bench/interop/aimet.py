"""Compare with AIMET 2.42 (aimet-onnx): large, so on demand only.

    pip install aimet-onnx==2.42.0
    go build -o interop ./bench/interop
    ./interop -out FOLDER -keep-calib && python aimet.py FOLDER ./interop --json FOLDER/aimet.json

For every case of FOLDER: AIMET's own encodings of the same model from the same calibration batches against ours, tensor by
tensor; the same with the weights on their grid beforehand (AIMET adds the offset before it rounds, which moves a few weights and
with them the ranges behind); our three versions of the encodings loaded into AIMET's simulation against our outputs; AIMET's
exports loaded into our simulation against AIMET's outputs. AIMET rounds ties up, we round them to even: the cases called exact
have none (power.go). Results of cases that are not run again are kept.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
from aimet_onnx.quantsim import QuantizationSimModel, load_encodings_to_sim

PER_TENSOR = {"w8a8_per_tensor"}


def sqnr(have, want):
    noise = np.square(have.astype(np.float64) - want).sum()
    return float("inf") if noise == 0 else float(10 * np.log10(np.square(want.astype(np.float64)).sum() / noise))


def per_tensor_config(folder):
    """The default config with per-channel quantization off, in our own copy."""
    source = pathlib.Path(__file__).resolve().parents[2] / "quantsim" / "rules" / "default_per_tensor.json"
    return str(source)


def make(case, measure, model=None, **kw):
    model = model or onnx.load(str(case / "net.onnx"))
    config = per_tensor_config(case) if measure["Precision"] in PER_TENSOR else None
    scheme = {"post_training_tf": "min_max", "post_training_tf_enhanced": "tf_enhanced"}[measure["Scheme"]]
    return QuantizationSimModel(model, param_type=f"int{measure['ParamBits']}", activation_type=f"int{measure['ActivationBits']}",
                                quant_scheme=scheme, config_file=config, providers=["CPUExecutionProvider"], **kw)


def forward(sim, x, batch=16):
    name = sim.session.get_inputs()[0].name
    return np.concatenate([sim.session.run(None, {name: x[i:i + batch]})[0] for i in range(0, len(x), batch)])


def entries(path):
    doc = json.loads(path.read_text())
    return {e["name"]: e for section in ("param_encodings", "activation_encodings") for e in doc[section]}


def compare_encodings(ours, theirs, enhanced):
    """Counts of scales: equal, equal in every bit of float32, another candidate, different; and the names that only one side has."""
    a, b = entries(ours), entries(theirs)
    params = {e["name"] for e in json.loads(ours.read_text())["param_encodings"]}
    count = {k: {"tensors": 0, "equal": 0, "float32_equal": 0, "other_candidate": 0, "different": 0} for k in ("weights", "activations")}
    misses = []
    for name in sorted(set(a) & set(b)):
        x, y, c = a[name], b[name], count["weights" if name in params else "activations"]
        c["tensors"] += 1
        if (x["bw"], x["is_sym"], x["enc_type"], len(x["scale"])) != (y["bw"], y["is_sym"], y["enc_type"], len(y["scale"])):
            c["different"] += 1
            misses.append([name, 0, {k: v for k, v in x.items() if k not in ("scale", "offset")}, {k: v for k, v in y.items() if k not in ("scale", "offset")}])
            continue
        for i, (s, o, t, q) in enumerate(zip(x["scale"], x["offset"], y["scale"], y["offset"])):
            c["float32_equal"] += bool(np.float32(s) == np.float32(t) and o == q)
            if abs(s - t) <= 1e-5 * t and o == q:
                c["equal"] += 1
                continue
            c["other_candidate" if enhanced and abs(s - t) <= 0.1 * t else "different"] += 1
            misses.append([name, i, s, o, t, q])
    return {**count, "only_one_has": sorted(set(a) ^ set(b)), "misses": misses[:50],
            "worst": max([abs(m[2] - m[4]) / m[4] for m in misses if len(m) == 6], default=0)}


def on_grid(case):
    """The model with its weights rounded to the grids that the encodings give them, and the names of these."""
    done, model, codes = [], onnx.load(str(case / "net.onnx")), entries(case / "net-1.0.0.encodings")
    axis = {n.input[1]: 1 if n.op_type == "ConvTranspose" else 0 for n in model.graph.node if len(n.input) > 1}
    for t in model.graph.initializer:
        e = codes.get(t.name)
        if e and len(t.dims) > 1:
            w = onnx.numpy_helper.to_array(t)
            shape = [1] * w.ndim
            shape[axis.get(t.name, 0)] = len(e["scale"])
            s, o = np.float32(e["scale"]).reshape(shape), np.reshape(e["offset"], shape)
            t.CopyFrom(onnx.numpy_helper.from_array((np.clip(np.rint(w / s), o, o + 2 ** e["bw"] - 1) * s).astype(np.float32), t.name))
            done.append(t.name)
    return model, done


def grids(sim):
    """What a simulation holds: by tensor, bits, scales and offsets."""
    return {n: (q.bitwidth, [(float(np.float32(e.delta)), float(e.offset)) for e in q.get_encodings()])
            for n, q in sim.qc_quantize_op_dict.items() if q.enabled and q.get_encodings()}


def agree(have, want):
    return {"same_top1": float((have.argmax(-1) == want.argmax(-1)).mean()), "sqnr": sqnr(have, want), "identical": float((have == want).mean())}


VERSIONS = ("0.6.1", "1.0.0", "2.0.0")


def run(case, interop, images):
    measure = json.loads((case / "measure.json").read_text())
    x, ours = np.load(case / "x.npy")[:images], np.load(case / "sim.npy")[:images]
    calib = [np.load(p) for p in sorted(case.glob("calib*.npy"), key=lambda p: int(p.stem[5:]))]
    result = {"case": case.name, "images": len(x)}
    exact, enhanced = "exact" in case.name, "enhanced" in measure["Scheme"]

    # Our files in AIMET's simulation.
    held = {}
    for version in VERSIONS:
        sim = make(case, measure)
        mismatches = load_encodings_to_sim(sim, str(case / f"net-{version}.encodings"), strict=False)
        held[version] = grids(sim)
        if version == VERSIONS[0] or held[version] != held[VERSIONS[0]]:
            result[f"ours_in_theirs_{version}"] = {**agree(forward(sim, x), ours), "mismatches": len(mismatches or [])}
        else:  # the same grids, so the same outputs
            result[f"ours_in_theirs_{version}"] = result[f"ours_in_theirs_{VERSIONS[0]}"]
    # AIMET's files in our simulation.
    if not exact:
        sim = make(case, measure)
        name = sim.session.get_inputs()[0].name
        start = time.time()
        sim.compute_encodings([{name: c} for c in calib])
        result["calibrate_seconds"] = time.time() - start
    start = time.time()
    theirs = forward(sim, x)
    result["sim_seconds"] = time.time() - start
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        for version in VERSIONS:
            sim.export(str(tmp), f"net-{version}", export_model=False, encoding_version=version)
            out = tmp / "ours.npy"
            subprocess.run([interop, "-load", str(tmp / f"net-{version}.encodings"), "-base", str(case / "net.onnx"), "-images", str(len(x)), "-result", str(out)], check=True)
            result[f"theirs_in_ours_{version}"] = agree(np.load(out), theirs)
        if exact:
            return result
        result["encodings"] = compare_encodings(case / "net-1.0.0.encodings", tmp / "net-1.0.0.encodings", enhanced)
        model, done = on_grid(case)
        sim = make(case, measure, model)
        for n in done:
            sim.qc_quantize_op_dict[n].enabled = False  # what it would make of the weight, it is
        sim.compute_encodings([{name: c} for c in calib])
        sim.export(str(tmp), "grid", export_model=False, encoding_version="1.0.0")
        result["encodings_on_grid"] = compare_encodings(case / "net-1.0.0.encodings", tmp / "grid.encodings", enhanced)
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("interop", help="the built command ./bench/interop")
    parser.add_argument("--only", default="")
    parser.add_argument("--images", type=int, default=None, help="evaluate on the first ones only")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    results = {r["case"]: r for r in json.loads(args.json.read_text())} if args.json and args.json.exists() else {}
    done = 0
    for case in sorted(p.parent for p in args.folder.glob("*/measure.json")):
        if args.only in case.name:
            results[case.name] = run(case, args.interop, args.images)
            done += 1
            print(json.dumps(results[case.name], indent=1, default=str), flush=True)
            if args.json:  # after every case: these runs are long
                args.json.write_text(json.dumps([results[k] for k in sorted(results)], indent=1, default=str) + "\n")
    sys.exit(not done)


if __name__ == "__main__":
    main()
