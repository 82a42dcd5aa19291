"""What calibration and simulation cost in AIMET, as multiples of the float network in ONNX Runtime on the same batches.

    python bench/peers/aimet_cost.py FOLDER [threads]

FOLDER is that of a case of bench/interop with -keep-calib: its calibration batches serve for everything.
"""
import pathlib
import sys
import time

import numpy as np
import onnx
import onnxruntime as ort
from aimet_onnx.quantsim import QuantizationSimModel


def main():
    folder = pathlib.Path(sys.argv[1])
    model = str(folder / "net.onnx")
    batches = [np.load(p) for p in sorted(folder.glob("calib*.npy"))]
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    float_session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = float_session.get_inputs()[0].name

    def seconds(session):
        start = time.time()
        for x in batches:
            session.run(None, {name: x})
        return time.time() - start

    seconds(float_session)
    base = sorted(seconds(float_session) for _ in range(3))[1]
    row = []
    for scheme in ("min_max", "tf_enhanced"):
        sim = QuantizationSimModel(onnx.load(model), param_type="int8", activation_type="int8", quant_scheme=scheme, providers=["CPUExecutionProvider"])
        start = time.time()
        sim.compute_encodings(lambda session: seconds(session))
        row.append((time.time() - start) / base)
    row.insert(0, seconds(sim.session) / base)
    photos = sum(len(x) for x in batches)
    print(f"AIMET, {threads} threads, {photos} photos: simulation {row[0]:.1f} x float, calibration with min_max {row[1]:.1f} x float, "
          f"with tf_enhanced {row[2]:.1f} x float ({base:.3f} s of float in ONNX Runtime)")


if __name__ == "__main__":
    main()
