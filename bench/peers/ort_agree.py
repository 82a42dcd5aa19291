"""Compares roundel's float outputs with ONNX Runtime's on the same inputs.

usage: python ort_agree.py ROUNDEL MODEL.onnx [MODEL.onnx ...]

Inputs are drawn from a fixed seed, or read from photos with --photos DIR (through roundel's own preprocessing, so that
only the network is compared). Prints max |a-b| / max |b| for each output; fails above 1e-4.
"""
import argparse, os, subprocess, sys, tempfile
import numpy as np
import onnxruntime as ort

p = argparse.ArgumentParser()
p.add_argument("roundel")
p.add_argument("models", nargs="+")
p.add_argument("--batch", type=int, default=4)
a = p.parse_args()
bad = 0
for model in a.models:
    o = ort.SessionOptions()
    o.log_severity_level = 3
    s = ort.InferenceSession(model, o, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    feeds = {}
    for i in s.get_inputs():
        shape = [d if isinstance(d, int) else a.batch for d in i.shape]
        feeds[i.name] = rng.standard_normal(shape).astype(np.float32)
    want = s.run(None, feeds)
    with tempfile.TemporaryDirectory() as d:
        args = [a.roundel, "run", model, "-o", d]
        for k, v in feeds.items():
            np.save(os.path.join(d, "in_%s.npy" % k.replace("/", "_")), v)
            args += ["--input", "%s=%s" % (k, os.path.join(d, "in_%s.npy" % k.replace("/", "_")))]
        subprocess.run(args, check=True, stdout=subprocess.DEVNULL)
        for i, w in zip(s.get_outputs(), want):
            name = "".join(c if c.isalnum() or c in "_-." else "_" for c in i.name).lstrip(".")
            got = np.load(os.path.join(d, name + ".npy"))
            rel = np.abs(got - w).max() / np.abs(w).max()
            worst = np.linalg.norm(got - w) / np.linalg.norm(w)
            verdict = "ok" if got.shape == w.shape and rel <= 1e-4 else "FAIL"
            bad += verdict != "ok"
            print(f"{verdict} {os.path.basename(model)} {i.name} {w.shape}: max rel {rel:.2e}, rms rel {worst:.2e}")
sys.exit(bad > 0)
