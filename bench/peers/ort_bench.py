"""Time a model with ONNX Runtime on the CPU.

    ort_bench.py --model m.onnx [--batch 1] [--threads 1] [--repeat 20]

prints "best median" in milliseconds per image. With --serve it answers each line
"n" on standard input with n times in milliseconds per image, so that bench/models
can interleave it with our own runs.
"""
import argparse
import os
import statistics
import sys
import time

import numpy as np
import onnxruntime as ort


def session(path, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--cpu", action="store_true", help="measure processor time: for a busy machine")
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--feeds", default="", help="folder with an .npy file for every input, instead of random images")
    args = parser.parse_args()

    s = session(args.model, args.threads)
    rng = np.random.default_rng(1)
    feeds = {}
    for i in s.get_inputs():
        if args.feeds:
            name = "".join(c if c.isalnum() and c.isascii() or c in "_-." else "_" for c in i.name).lstrip(".")
            feeds[i.name] = np.load(os.path.join(args.feeds, name + ".npy"))
            continue
        shape = [d if isinstance(d, int) else args.batch for d in i.shape]
        feeds[i.name] = rng.standard_normal([args.batch] + shape[1:], dtype=np.float32)

    clock = time.process_time if args.cpu else time.perf_counter

    def run(n):
        times = []
        for _ in range(n):
            start = clock()
            s.run(None, feeds)
            times.append((clock() - start) * 1e3 / args.batch)
        return times

    run(2)
    if args.serve:
        print("ready", flush=True)
        for line in sys.stdin:
            print(*(f"{t:.6f}" for t in run(int(line))), flush=True)
        return
    times = run(args.repeat)
    print(f"{min(times):.3f} {statistics.median(times):.3f}")


if __name__ == "__main__":
    main()
