"""Times every model of models.py next to ONNX Runtime, in alternating runs at one thread, and enters the times in the results.

usage: python models_time.py --bench BIN --cache DIR [--seconds 6] [NAME ...]
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

import models_run

HERE = os.path.dirname(os.path.abspath(__file__))


def measure(bench, path, feeds, rounds):
    """The best times in ms and the memory, as bench/models prints them."""
    with tempfile.TemporaryDirectory() as d:
        for k, v in feeds.items():
            np.save(os.path.join(d, models_run.clean(k) + ".npy"), v)
        args = [bench, "-rounds", str(rounds), "-each", "2", "-feeds", d, "-json", "-python", sys.executable,
                "-script", os.path.join(HERE, "ort_bench.py"), path]
        out = subprocess.run(args, check=True, capture_output=True, text=True).stdout
    return json.loads(out.strip().splitlines()[-1])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bench", required=True)
    p.add_argument("--cache", required=True)
    p.add_argument("--seconds", type=float, default=6, help="for one model, about")
    p.add_argument("--commit", default="", help="the commit of the build, to note with the times")
    p.add_argument("names", nargs="*")
    a = p.parse_args()
    for name in a.names or sorted(f[:-5] for f in os.listdir(a.cache) if f.endswith(".json")):
        path = os.path.join(a.cache, name + ".onnx")
        with open(os.path.join(a.cache, name + ".json")) as f:
            inputs = json.load(f)["inputs"]
        rng = np.random.default_rng(3)
        feeds = {i.name: models_run.draw(rng, inputs[i.name]) for i in models_run.session(path).get_inputs()}
        keep, r = os.path.join(a.cache, "results", name + ".json"), {}
        if os.path.exists(keep):
            with open(keep) as f:
                r = json.load(f)
        before = r.get("ours", 50) + r.get("peer", 50)
        t = measure(a.bench, path, feeds, int(np.clip(500 * a.seconds / before, 3, 100)))
        print(f"{name:26} {t['ours']:9.2f} ms  ONNX Runtime {t['peer']:9.2f} ms  ratio {t['ours'] / t['peer']:.2f}", flush=True)
        if r:
            r.update(t)
            r["time_commit"] = a.commit
            with open(keep, "w") as f:
                json.dump(r, f, indent=1)


if __name__ == "__main__":
    main()
