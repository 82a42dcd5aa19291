"""Run a model with ONNX Runtime without graph optimisations, and compare.

    ort_run.py model.onnx x.npy out.npy            writes the first output for the input x
    ort_run.py model.onnx x.npy --compare y.npy    prints the largest error of y relative to the largest output

The input must be of the model's input type. The exit status of a comparison is 1
above --limit.
"""
import argparse
import sys

import numpy as np
import onnxruntime as ort


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("input")
    parser.add_argument("output", nargs="?")
    parser.add_argument("--compare")
    parser.add_argument("--limit", type=float, default=1e-4)
    args = parser.parse_args()

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    s = ort.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
    want = s.run(None, {s.get_inputs()[0].name: np.load(args.input)})[0]
    if args.output:
        np.save(args.output, want)
    if args.compare:
        have = np.load(args.compare)
        error = np.abs(have.astype(np.float64) - want).max() / np.abs(want).max()
        same = (have.argmax(-1) == want.argmax(-1)).mean()
        print(f"{args.model}: relative error {error:.2e}, same class {same:.1%} of {len(want)}")
        sys.exit(int(error > args.limit))


if __name__ == "__main__":
    main()
