"""Tries roundel on the models that models.py wrote: inspect, run, time, quantize; ONNX Runtime is the judge.

usage: python models_run.py --roundel BIN --bench BIN --cache DIR [--commit ID] [--out FILE.md] [--skip-quantize] [NAME ...]

Results are kept in DIR/results/NAME.json, each with the commit of the build (--commit) it is of; a model that has one there is not
run again unless it is named. What ONNX Runtime's quantizer made of the same samples is kept too. The table goes to --out.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image, ImageDraw, ImageFont


# Samples, sampled positions of each layer and memory where they are not the default; those of the longest beginning of a name hold.
SETTINGS = {"silero": {"samples": 64}, "vad": {"samples": 64}, "ppocr_cls": {"samples": 256}, "convnext": {"positions": 300},
            "deeplabv3": {"positions": 300}, "resnet50": {"positions": 300}, "ssdlite": {"positions": 300}, "swin": {"positions": 300},
            "vit": {"samples": 2, "positions": 300, "mem": "4200M"}}


def setting(a, name, key):
    """What the command line says, or SETTINGS, or the default."""
    own = [k for k in SETTINGS if name.startswith(k) and key in SETTINGS[k]]
    return getattr(a, key) or (SETTINGS[max(own, key=len)][key] if own else {"samples": 8, "positions": 1000, "mem": ""}[key])


def clean(name):
    return "".join(c if c.isalnum() and c.isascii() or c in "_-." else "_" for c in name).lstrip(".")


def smooth(rng, shape):
    """Noise with the falling spectrum of photographs, about zero mean and unit variance."""
    x = rng.standard_normal(shape)
    h, w = shape[-2:]
    f = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None])
    x = np.fft.ifft2(np.fft.fft2(x) / (f + 1.0 / max(h, w))).real
    return (x - x.mean()) / x.std()


def text(rng, h, w):
    """Lines of dark words on light paper, as text recognition is fed: three equal channels in [-1, 1]."""
    page = Image.new("L", (w, h), int(rng.integers(200, 256)))
    pen = ImageDraw.Draw(page)
    size = min(h * 0.6, 40) * rng.uniform(0.7, 1)
    for y in np.arange(0.15 * min(h, 60), h - size, 2 * size):
        words = " ".join("".join(rng.choice(list("abcdefghikmnoprstuvwxyzABEHKLMRST0123456789"), rng.integers(2, 8))) for _ in range(6))
        pen.text((rng.uniform(0.02, 0.2) * w, y), words, fill=int(rng.integers(0, 80)), font=ImageFont.load_default(size))
    x = np.asarray(page, dtype=np.float64) / 127.5 - 1 + 0.02 * rng.standard_normal((h, w))
    return np.broadcast_to(x, (1, 3, h, w))


def draw(rng, spec):
    shape = spec["shape"]
    kind = spec["kind"]
    if kind == "text":
        x = text(rng, *shape[2:])
    elif kind == "image":
        x = smooth(rng, shape) + 0.3 * rng.standard_normal(shape[:2] + [1, 1])
    elif kind == "audio":
        t = np.arange(shape[-1]) / 16000
        x = sum(a * np.sin(2 * np.pi * f * t + p) for a, f, p in zip(rng.uniform(0, 0.2, 6), rng.uniform(80, 3000, 6), rng.uniform(0, 6, 6)))
        x = x[None] + 0.01 * rng.standard_normal(shape)
    elif kind == "tokens":
        x = rng.integers(0, spec["high"], shape)
    elif kind == "mask":
        x = (np.arange(shape[-1]) < rng.integers(shape[-1] // 2, shape[-1] + 1)).astype(np.int64).reshape(shape)
    elif kind == "zero":
        x = np.zeros(shape)
    elif kind == "state":
        x = 0.3 * rng.standard_normal(shape)
    elif kind == "rate":
        x = np.array(16000)
    else:
        x = rng.standard_normal(shape)
    return np.asarray(x).astype(spec["dtype"])


def session(path):
    o = ort.SessionOptions()
    o.log_severity_level = 4
    o.intra_op_num_threads = 1
    return ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])


def high_water(pid):
    """Most resident memory of a process so far, in MB; the rusage of a child would count this script's own."""
    try:
        with open(f"/proc/{pid}/status") as f:
            return next((int(x.split()[1]) / 1024 for x in f if x.startswith("VmHWM")), 0.0)
    except (OSError, ValueError):
        return 0.0


def execute(args, limit):
    """Runs a command; returns (code, output, seconds, peak MB)."""
    start = time.time()
    with tempfile.TemporaryFile("w+") as log:
        p = subprocess.Popen(args, stdout=log, stderr=subprocess.STDOUT)
        end, code, hwm = start + limit, None, 0.0
        while code is None:
            pid, status = os.waitpid(p.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                break
            hwm = max(hwm, high_water(p.pid))
            if time.time() > end:
                p.kill()
                end = float("inf")
            time.sleep(0.02)
        p.returncode = code
        log.seek(0)
        return code, log.read(), time.time() - start, hwm


def compare(got, want):
    """Returns (max |a-b| / max |b|, SQNR in dB); for integers the share of equal elements decides."""
    if got.shape != want.shape:
        return None, None, f"shape {got.shape}, want {want.shape}"
    if got.dtype != want.dtype:
        return None, None, f"type {got.dtype}, want {want.dtype}"
    if want.size == 0:
        return 0.0, np.inf, ""
    g, w = got.astype(np.float64), want.astype(np.float64)
    if not np.array_equal(np.isfinite(g), np.isfinite(w)):
        return None, None, "other elements are infinite or NaN"
    d = np.where(np.isfinite(w), g - w, 0)
    top, noise, power = np.abs(np.where(np.isfinite(w), w, 0)).max(), (d * d).sum(), (w * w).sum()
    return np.abs(d).max() / max(top, 1e-30), 10 * np.log10(power / noise) if noise else np.inf, ""


def try_run(a, path, feeds, r):
    s = session(path)
    want = s.run(None, feeds)
    with tempfile.TemporaryDirectory() as d:
        args = [a.roundel, "run", path, "-o", d, "--threads", "1"]
        for k, v in feeds.items():
            f = os.path.join(d, "in_" + clean(k) + ".npy")
            np.save(f, v)
            args += ["--input", f"{k}={f}"]
        code, log, _, peak = execute(args, 300)
        if code:
            r["run_error"] = log.strip()[-1500:]
            return
        r["run_peak"] = peak
        worst, sqnr, problems = 0.0, np.inf, []
        for o, w in zip(s.get_outputs(), want):
            rel, db, why = compare(np.load(os.path.join(d, clean(o.name) + ".npy")), w)
            if why:
                problems.append(f"{o.name}: {why}")
                continue
            worst, sqnr = max(worst, rel), min(sqnr, db)
        r["max_rel"], r["sqnr"] = float(worst), float(sqnr)
        if problems:
            r["run_error"] = "; ".join(problems)


def try_time(a, path, feeds, r):
    with tempfile.TemporaryDirectory() as d:
        for k, v in feeds.items():
            np.save(os.path.join(d, clean(k) + ".npy"), v)
        code, log, _, _ = execute([a.bench, "-rounds", "6", "-each", "2", "-feeds", d, "-json", "-python", sys.executable,
                                  "-script", os.path.join(os.path.dirname(os.path.abspath(__file__)), "ort_bench.py"), path], 300)
        if code:
            r["time_error"] = log.strip()[-800:]
            return
        r.update(json.loads(log.strip().splitlines()[-1]))


def samples(rng, meta, n):
    """n samples; an input that counts no samples, such as a sample rate or a state, is what it is in each."""
    return [{k: draw(rng, spec) for k, spec in meta["inputs"].items()} for _ in range(n)]


def stacked(rows):
    """The samples as arrays whose first dimension counts them; [1, ...] inputs lose their batch dimension."""
    return {k: np.stack([r[k][0] if r[k].ndim and r[k].shape[0] == 1 else r[k] for r in rows]) for k in rows[0]}


def try_quantize(a, path, meta, r):
    rng = np.random.default_rng(a.seed)
    n, positions, mem = (setting(a, r["name"], k) for k in ("samples", "positions", "mem"))
    calib, evals = samples(rng, meta, n), samples(rng, meta, n)
    with tempfile.TemporaryDirectory() as d:
        for part, rows in (("calib", calib), ("eval", evals)):
            np.savez(os.path.join(d, part + ".npz"), **stacked(rows))
        for bits in a.bits:
            key = f"w{bits}a8"
            out = os.path.join(d, key)
            args = [a.roundel, "quantize", path, "--calib", os.path.join(d, "calib.npz"), "--eval", os.path.join(d, "eval.npz"), "-o", out,
                    "--param-bits", str(bits), "--positions", str(positions), "--batch-size", str(min(n, 8)), "--progress", "off",
                    "--prepare=" + a.prepare] + (["--mem", mem] if mem else [])
            code, log, sec, peak = execute(args, a.limit)
            q = {"seconds": sec, "peak": peak, "samples": n, "positions": positions, "commit": a.commit}
            if code:
                q["error"] = log.strip()[-1500:] or f"stopped after {sec:.0f} s"
            else:
                q.update(scores(log))
                q["log"] = log[-3000:]
                q.update(check_qdq(a, out, meta, rng))
            r[key] = q
            save(a, r)
    if r.get("ort_w8a8", {}).get("samples") != n and not a.no_ort:
        r["ort_w8a8"] = ort_static(path, calib, evals) | {"samples": n}


def save(a, r):
    with open(os.path.join(a.cache, "results", r["name"] + ".json"), "w") as f:
        json.dump(r, f, indent=1)


def scores(log):
    """What roundel quantize printed: SQNR of the first output for each variant, and agreement."""
    q = {}
    for line in log.splitlines():
        for mark, key in (("simulated", "sqnr"), ("nearest", "nearest"), ("AdaRound ", "adaround")):
            if mark in line and "SQNR" in line:
                rest = line.split("SQNR")[1].split()
                q[key] = float("inf") if rest[0] == "equal" else float(rest[0])
                if key == "sqnr":
                    q["agreement"] = float(line.split("agreement with float")[1].split("%")[0])
                break
    return q


class Reader(CalibrationDataReader):
    def __init__(self, rows):
        self.rows = iter(rows)

    def get_next(self):
        return next(self.rows, None)


def ort_static(path, calib, evals):
    """ONNX Runtime's own static quantization with its defaults (QDQ, min-max, weights per channel), on the same samples."""
    with tempfile.TemporaryDirectory() as d:
        try:
            out, pre = os.path.join(d, "q.onnx"), os.path.join(d, "pre.onnx")
            if onnx.load(path, load_external_data=False).opset_import[0].version < 13:  # before, no scales per channel
                onnx.save(version_converter.convert_version(onnx.load(path), 13), os.path.join(d, "13.onnx"))
                path = os.path.join(d, "13.onnx")
            try:
                quant_pre_process(path, pre, skip_symbolic_shape=True)
            except Exception:
                pre = path
            quantize_static(pre, out, Reader(calib), per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
            f, q = session(path), session(out)
            noise = power = agree = 0.0
            for feeds in evals:
                x, y = f.run(None, feeds)[0].astype(np.float64), q.run(None, feeds)[0].astype(np.float64)
                noise, power, agree = noise + ((x - y) ** 2).sum(), power + (x * x).sum(), agree + (x.argmax() == y.argmax())
            return {"sqnr": 10 * np.log10(power / noise) if noise else float("inf"), "agreement": 100 * agree / len(evals)}
        except Exception as e:
            return {"error": f"{type(e).__name__}: {e}"[-600:]}


def check_qdq(a, out, meta, rng):
    """The exported QDQ model must at least load and run in ONNX Runtime."""
    for f in sorted(os.listdir(out)):
        if "qdq" in f and f.endswith(".onnx"):
            try:
                session(os.path.join(out, f)).run(None, {k: draw(rng, s) for k, s in meta["inputs"].items()})
                return {"qdq": "ok"}
            except Exception as e:
                return {"qdq": str(e)[-400:]}
    return {"qdq": "none"}


def one(a, name):
    path = os.path.join(a.cache, name + ".onnx")
    with open(os.path.join(a.cache, name + ".json")) as f:
        meta = json.load(f)
    # the inputs the file really has
    meta["inputs"] = {i.name: meta["inputs"][i.name] for i in session(path).get_inputs()}
    m = onnx.load(path, load_external_data=False)
    kept = {}
    keep = os.path.join(a.cache, "results", name + ".json")
    if os.path.exists(keep):
        with open(keep) as f:
            kept = json.load(f)
    if a.only_quantize and "max_rel" in kept:
        try_quantize(a, path, meta, kept)
        return kept
    r = {"name": name, "opset": next(s.version for s in m.opset_import if s.domain in ("", "ai.onnx")), "nodes": len(m.graph.node), "commit": a.commit}
    r.update({k: v for k, v in kept.items() if k == "ort_w8a8" or k in TIMES and a.no_times})
    code, log, _, _ = execute([a.roundel, "inspect", path], 120)
    if code:
        r["inspect_error"] = log.strip()[-1500:]
        return r
    rng = np.random.default_rng(3)
    feeds = {k: draw(rng, s) for k, s in meta["inputs"].items()}
    try_run(a, path, feeds, r)
    if meta["batchable"] and "run_error" not in r:
        dynamic = all(not isinstance(i.shape[0], int) for i in session(path).get_inputs())
        if dynamic:
            two = {k: np.concatenate([feeds[k], draw(rng, s)]) for k, s in meta["inputs"].items()}
            b = {}
            try_run(a, path, two, b)
            if "run_error" in b or b["max_rel"] > 1e-3:
                r["batch_error"] = b.get("run_error", f"max rel {b.get('max_rel')}")
    if "run_error" not in r:
        if not a.no_times:
            try_time(a, path, feeds, r)
            r["time_commit"] = a.commit
        if a.skip_quantize:
            r.update({k: v for k, v in kept.items() if k in ("w8a8", "w4a8")})
        else:
            try_quantize(a, path, meta, r)
    return r


TIMES = ("ours", "peer", "weights", "activations", "time_commit")


def cell(q):
    if q is None:
        return "-"
    if "error" in q:
        return "fails"
    return f"{q['sqnr']:.1f} dB, {q['agreement']:.0f} %"


def table(results):
    lines = ["| model | opset | nodes | max rel. error | float SQNR | W8A8 vs float | ORT W8A8 | W4A8 vs float | W8 nearest -> AdaRound | W4 nearest -> AdaRound | ms | ORT ms | ratio | run / quantize |",
             "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for r in results:
        q8, q4 = r.get("w8a8"), r.get("w4a8")
        if "max_rel" not in r:
            lines.append(f"| {r['name']} | {r['opset']} | {r['nodes']} | {'does not load' if 'inspect_error' in r else 'does not run'} |" + " - |" * 10)
            continue
        gain = " | ".join(f"{q['nearest']:.1f} -> {q['adaround']:.1f} dB" if q and "adaround" in q else "-" for q in (q8, q4))
        ms = f"{r['ours']:.1f} | {r['peer']:.1f} | {r['ours'] / r['peer']:.2f}" if "ours" in r else "- | - | -"
        peaks = [q["peak"] for q in (q8, q4) if q and "error" not in q]
        mem = f"{(r['weights'] + r['activations']) / 2**20:.0f} MB" if "weights" in r else "-"
        mem += f" / {max(peaks):.0f} MB" if peaks else " / -"
        rel = f"{r['max_rel']:.1e}" + (" (!)" if "run_error" in r or "batch_error" in r else "")
        lines.append(f"| {r['name']} | {r['opset']} | {r['nodes']} | {rel} | {r['sqnr']:.0f} dB | {cell(q8)} | {cell(r.get('ort_w8a8'))} | {cell(q4)} | {gain} | {ms} | {mem} |")
    return "\n".join(lines) + "\n"


def builds(results):
    """Which commits the figures are of: the one of most, and the models of others."""
    lines = []
    for what, get in (("run", lambda r: r.get("commit")), ("W8A8", lambda r: r.get("w8a8", {}).get("commit")),
                      ("W4A8", lambda r: r.get("w4a8", {}).get("commit")), ("times", lambda r: r.get("time_commit"))):
        of = {}
        for r in results:
            of.setdefault(get(r) or "not noted", []).append(r["name"])
        most = max(of, key=lambda c: len(of[c]))
        lines.append(f"{what} {most}" + "".join(f"; {c}: {', '.join(n)}" for c, n in of.items() if c != most))
    return "Commits the figures are of: " + ". ".join(lines) + ".\n"


def problems(results):
    out = []
    for r in results:
        for k in ("inspect_error", "run_error", "batch_error", "time_error"):
            if k in r:
                out.append(f"- {r['name']}, {k.split('_')[0]}: {short(r[k])}")
        for k in ("w8a8", "w4a8"):
            q = r.get(k)
            if q and "error" in q:
                out.append(f"- {r['name']}, {k.upper()}: {short(q['error'])}")
            elif q and q.get("qdq", "ok") not in ("ok", "none"):
                out.append(f"- {r['name']}, {k.upper()} QDQ in ONNX Runtime: {short(q['qdq'])}")
    return "\n".join(out) + "\n" if out else "none\n"


def short(s):
    s = " ".join(w.rsplit("/", 1)[-1] if w.startswith("/") else w for w in s.split())
    return s[-300:]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--roundel", required=True)
    p.add_argument("--bench", required=True)
    p.add_argument("--cache", required=True)
    p.add_argument("--out")
    p.add_argument("--limit", type=float, default=1800, help="seconds for one quantization")
    p.add_argument("--commit", default="", help="the commit of the build, to note with the results")
    p.add_argument("--positions", type=int, default=0, help="sampled positions for each layer (0: as SETTINGS says)")
    p.add_argument("--samples", type=int, default=0, help="samples to calibrate and round with, and as many others to compare on (0: as SETTINGS says)")
    p.add_argument("--seed", type=int, default=7, help="of the samples; use a --cache of its own for another")
    p.add_argument("--mem", default="", help="for roundel quantize")
    p.add_argument("--bits", type=int, nargs="*", default=[8, 4], help="bits of the weights")
    p.add_argument("--prepare", default="", help="rewrites to switch on or off, as roundel's flag; use a --cache of its own then")
    p.add_argument("--no-ort", action="store_true", help="do not quantize with ONNX Runtime")
    p.add_argument("--no-times", action="store_true", help="keep the times that are known")
    p.add_argument("--skip-quantize", action="store_true")
    p.add_argument("--only-quantize", action="store_true", help="keep what is known of running the model")
    p.add_argument("names", nargs="*")
    a = p.parse_args()
    keep = os.path.join(a.cache, "results")
    os.makedirs(keep, exist_ok=True)
    every = sorted(f[:-5] for f in os.listdir(a.cache) if f.endswith(".json"))
    results = []
    for name in every:
        path = os.path.join(keep, name + ".json")
        if name in a.names or not a.names and not os.path.exists(path):
            r = one(a, name)
            save(a, r)
            print(json.dumps({k: ({x: y for x, y in v.items() if x != "log"} if isinstance(v, dict) else v) for k, v in r.items()}), flush=True)
        if os.path.exists(path):
            with open(path) as f:
                results.append(json.load(f))
    text = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "models_head.md")).read()
    text += "\n" + builds(results) + "\n" + table(results) + "\n## What fails\n\n" + problems(results)
    if a.out:
        with open(a.out, "w") as f:
            f.write(text)


if __name__ == "__main__":
    main()
