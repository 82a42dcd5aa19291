#!/usr/bin/env python3
"""Compares rounded networks with the float one on images and on the same images mirrored, by ONNX Runtime.

    views.py FLOAT.onnx IMAGES.npy ROUNDED.onnx...

IMAGES.npy is an array [N, C, H, W] by "adaround data" (bench/adaround). For each network: images on which the first class
is the float network's, SQNR of the logits in dB, mean KL divergence of the probabilities from the float network's.
"""
import sys

import numpy as np
import onnxruntime as ort


def logits(path, images):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: np.ascontiguousarray(images[i : i + 16])})[0] for i in range(0, len(images), 16)]
    return np.concatenate(parts).astype(np.float64)


def log_softmax(z):
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def score(got, want):
    p, q = log_softmax(want), log_softmax(got)
    agree = int((got.argmax(1) == want.argmax(1)).sum())
    sqnr = 10 * np.log10((want**2).sum() / ((got - want) ** 2).sum())
    return f"{agree} of {len(want)}, {sqnr:.2f} dB, KL {(np.exp(p) * (p - q)).sum(1).mean():.3f}"


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    images = np.load(sys.argv[2])
    views = [("as it is", images), ("mirrored", images[..., ::-1])]
    want = [logits(sys.argv[1], x) for _, x in views]
    for path in sys.argv[3:]:
        print(path + ": " + "; ".join(f"{n} {score(logits(path, x), w)}" for (n, x), w in zip(views, want)))


if __name__ == "__main__":
    main()
