"""Quantize with ONNX Runtime's own static quantizer, import its QDQ model, and compare.

    ort_static.py FOLDER INTEROP     FOLDER as written by interop -keep-calib

Shows that QDQ models of another origin become simulations with the same outputs.
"""
import pathlib
import subprocess
import sys

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from qdq_ort import run, sqnr


class Reader(CalibrationDataReader):
    def __init__(self, name, case):
        self.batches = iter([{name: np.load(p)} for p in sorted(case.glob("calib*.npy"))[:1]])

    def get_next(self):
        return next(self.batches, None)


def main():
    folder, interop = pathlib.Path(sys.argv[1]), sys.argv[2]
    bad = 0
    for case in sorted(p.parent for p in folder.glob("*-w8a8/measure.json")):
        model = onnx.load(str(case / "net.onnx"))
        name = model.graph.input[0].name
        quant_pre_process(str(case / "net.onnx"), str(case / "pre.onnx"), skip_symbolic_shape=True)
        for label, kw in {"int8 weights": dict(weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8),
                          "per channel": dict(weight_type=QuantType.QInt8, activation_type=QuantType.QInt8, per_channel=True)}.items():
            quantize_static(str(case / "pre.onnx"), str(case / "static.onnx"), Reader(name, case), quant_format=QuantFormat.QDQ, **kw)
            p = subprocess.run([interop, "-load", str(case / "static.onnx"), "-base", str(case / "static.onnx"), "-result", str(case / "static.npy")],
                               capture_output=True, text=True)
            if p.returncode:
                print(f"{case.name} {label}: {p.stderr.strip()[:400]}")
                bad += 1
                continue
            want, have = run(case / "static.onnx", np.load(case / "x.npy")), np.load(case / "static.npy")
            print(f"{case.name} {label}: same top-1 {(want.argmax(-1) == have.argmax(-1)).mean():.2%}, {sqnr(have, want):.1f} dB, identical {(have == want).mean():.1%}")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
