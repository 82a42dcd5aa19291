"""What calibration and simulation cost in AIMET, as multiples of the float network in ONNX Runtime on the same batches.

    go run ./bench/cost -write FOLDER -samples 64 && python bench/peers/aimet_cost.py MODEL FOLDER [threads]
"""
import pathlib
import sys
import time

import numpy as np
import onnx
import onnxruntime as ort
from aimet_onnx.quantsim import QuantizationSimModel


def main():
    model, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    batches = [np.load(p) for p in sorted(folder.glob("batch*.npy"))]
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads = int(sys.argv[3]) if len(sys.argv) > 3 else 2
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
    print(f"| AIMET, {threads} | {photos} | {base:.3f} | {row[0]:.1f} | {row[1]:.1f} | {row[2]:.1f} |")


if __name__ == "__main__":
    main()
