"""Run the QDQ models of `go run ./bench/interop` in ONNX Runtime and compare with our simulation.

    qdq_ort.py FOLDER [--json FILE]

Graph optimisations are off, because they replace pairs by integer kernels whose
accumulation differs; --optimised runs with them, as a target would. Our integer form
of the simulation (integer.npy) is compared with those kernels. Exits with 1 if a case keeps less
than 40 dB or another top-1 class than that, or, without it, than our simulation.
"""
import argparse
import json
import pathlib
import sys

import numpy as np
import onnxruntime as ort


def sqnr(have, want):
    noise = np.square(have.astype(np.float64) - want).sum()
    return float("inf") if noise == 0 else float(10 * np.log10(np.square(want.astype(np.float64)).sum() / noise))


def session(path, optimised):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(path, x, optimised=False, batch=16):
    s = session(path, optimised)
    name = s.get_inputs()[0].name
    return np.concatenate([s.run(None, {name: x[i:i + batch]})[0] for i in range(0, len(x), batch)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--json")
    parser.add_argument("--optimised", action="store_true")
    parser.add_argument("--limit", type=float, default=40)
    args = parser.parse_args()
    results, bad = [], 0
    for case in sorted(p.parent for p in args.folder.glob("*/net_qdq.onnx")):
        x, sim, flt = (np.load(case / f"{n}.npy") for n in ("x", "sim", "float"))
        qdq = run(case / "net_qdq.onnx", x, args.optimised)
        ours = run(case / "net.onnx", x)
        # How far the same file is from itself when sums are made in another order.
        again = run(case / "net_qdq.onnx", x, not args.optimised)
        whole = None
        if (case / "integer.npy").exists():
            want = np.load(case / "integer.npy")
            have = run(case / "net-int8_qdq.onnx", x, True)
            whole = {
                "same_top1": float((have.argmax(-1) == want.argmax(-1)).mean()),
                "sqnr": sqnr(have, want),
                "identical": float((have == want).mean()),
                "sqnr_sim": sqnr(sim, want),
            }
        r = {
            "integer": whole,
            "case": case.name,
            "images": len(x),
            "same_top1": float((qdq.argmax(-1) == sim.argmax(-1)).mean()),
            "sqnr_qdq_sim": sqnr(qdq, sim),
            "identical": float((qdq == sim).mean()),
            "ort_same_top1": float((again.argmax(-1) == qdq.argmax(-1)).mean()),
            "sqnr_ort_ort": sqnr(again, qdq),
            "sqnr_float": sqnr(ours, flt),
            "sqnr_sim_float": sqnr(sim, flt),
            "model_bytes": (case / "net.onnx").stat().st_size,
            "qdq_bytes": (case / "net_qdq.onnx").stat().st_size,
        }
        results.append(r)
        judged = whole or {"same_top1": r["same_top1"], "sqnr": r["sqnr_qdq_sim"]}
        bad += judged["same_top1"] < 1 or judged["sqnr"] < args.limit
        if whole:
            print(f"{r['case']:34s} integer kernels, our integer form: same top-1 {whole['same_top1']:.2%}, {whole['sqnr']:.1f} dB ({whole['identical']:.2%} identical)")
        print(f"{r['case']:34s} same top-1 {r['same_top1']:.2%} of {r['images']}, QDQ vs simulation {r['sqnr_qdq_sim']:.1f} dB"
              f" ({r['identical']:.1%} identical), ONNX Runtime with and without optimisation {r['sqnr_ort_ort']:.1f} dB"
              f" (same top-1 {r['ort_same_top1']:.2%}), simulation vs float {r['sqnr_sim_float']:.1f} dB,"
              f" float vs ours {r['sqnr_float']:.1f} dB, {r['qdq_bytes'] / r['model_bytes']:.2f} of the size")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=2) + "\n")
    sys.exit(bool(bad) or not results)


if __name__ == "__main__":
    main()
