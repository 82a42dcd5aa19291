"""Compare with AIMET 2.42 (aimet-onnx): large, so on demand only.

    pip install aimet-onnx==2.42.0
    go build -o interop ./bench/interop
    ./interop -out FOLDER -keep-calib && python aimet.py FOLDER ./interop

For every case of FOLDER: AIMET's own encodings of the same model from the same
calibration batches against ours, tensor by tensor; our three versions of the encodings
loaded into AIMET's simulation against our outputs; AIMET's exports loaded into our
simulation against AIMET's outputs. AIMET rounds ties up, we round them to even.
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


def make(case, measure, **kw):
    model = onnx.load(str(case / "net.onnx"))
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
    """Counts of scales: equal, another candidate, different; and the names that only one side has."""
    a, b = entries(ours), entries(theirs)
    count = {"tensors": len(set(a) & set(b)), "equal": 0, "float32_equal": 0, "other_candidate": 0, "different": 0}
    worst = []
    for name in set(a) & set(b):
        x, y = a[name], b[name]
        if (x["bw"], x["is_sym"], x["enc_type"], len(x["scale"])) != (y["bw"], y["is_sym"], y["enc_type"], len(y["scale"])):
            count["different"] += 1
            worst.append([name, {k: v for k, v in x.items() if k not in ("scale", "offset")}, {k: v for k, v in y.items() if k not in ("scale", "offset")}])
            continue
        for s, o, t, q in zip(x["scale"], x["offset"], y["scale"], y["offset"]):
            if abs(s - t) <= 1e-5 * t and o == q:
                count["equal"] += 1
                count["float32_equal"] += np.float32(s) == np.float32(t)
            elif enhanced and abs(s - t) <= 0.1 * t:
                count["other_candidate"] += 1
            else:
                count["different"] += 1
                worst.append([name, s, o, t, q])
    return count, sorted(set(a) ^ set(b)), worst[:5]


def agree(have, want):
    return {"same_top1": float((have.argmax(-1) == want.argmax(-1)).mean()), "sqnr": sqnr(have, want), "identical": float((have == want).mean())}


def run(case, interop, images):
    measure = json.loads((case / "measure.json").read_text())
    x, ours = np.load(case / "x.npy")[:images], np.load(case / "sim.npy")[:images]
    calib = [np.load(p) for p in sorted(case.glob("calib*.npy"), key=lambda p: int(p.stem[5:]))]
    result = {"case": case.name}

    sim = make(case, measure)
    name = sim.session.get_inputs()[0].name
    start = time.time()
    sim.compute_encodings([{name: c} for c in calib])
    result["calibrate_seconds"] = time.time() - start
    start = time.time()
    theirs = forward(sim, x)
    result["sim_seconds"] = time.time() - start
    result["simulations"] = agree(ours, theirs)
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        for version in ("0.6.1", "1.0.0", "2.0.0"):
            sim.export(str(tmp), f"net-{version}", export_model=False, encoding_version=version)
            # AIMET's file in our simulation.
            out = tmp / "ours.npy"
            subprocess.run([interop, "-load", str(tmp / f"net-{version}.encodings"), "-base", str(case / "net.onnx"), "-result", str(out)], check=True)
            result[f"theirs_in_ours_{version}"] = agree(np.load(out)[:images], theirs)
        enhanced = "enhanced" in measure["Scheme"]
        result["encodings"], result["only_one_has"], result["worst"] = compare_encodings(case / "net-1.0.0.encodings", tmp / "net-1.0.0.encodings", enhanced)
    for version in ("0.6.1", "1.0.0", "2.0.0"):
        # Our file in AIMET's simulation.
        sim = make(case, measure)
        mismatches = load_encodings_to_sim(sim, str(case / f"net-{version}.encodings"), strict=False)
        result[f"ours_in_theirs_{version}"] = {**agree(forward(sim, x), ours), "mismatches": len(mismatches or [])}
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("interop", help="the built command ./bench/interop")
    parser.add_argument("--only", default="")
    parser.add_argument("--images", type=int, default=None, help="evaluate on the first ones only")
    parser.add_argument("--json")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    results = []
    for case in sorted(p.parent for p in args.folder.glob("*/measure.json")):
        if args.only in case.name:
            results.append(run(case, args.interop, args.images))
            print(json.dumps(results[-1], indent=1, default=str), flush=True)
            if args.json:  # after every case: these runs are long
                pathlib.Path(args.json).write_text(json.dumps(results, indent=2, default=str) + "\n")
    sys.exit(not results)


if __name__ == "__main__":
    main()
