"""Cut a part out of a model, with its input data.

    cut.py MODEL.onnx INPUT OUTPUT PART.onnx [DATA.npy PART_DATA.npy]...

INPUT and OUTPUT are names of values. Each DATA is fed to the whole model, image by
image, and the value INPUT that it gives becomes PART_DATA: what the part is fed.
"""
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import utils


def main():
    if len(sys.argv) < 5 or len(sys.argv) % 2 == 0:
        sys.exit(__doc__)
    model, source, sink, part = sys.argv[1:5]
    utils.extract_model(model, part, [source], [sink])
    m = onnx.load(part)
    for v in (*m.graph.input, *m.graph.output):
        v.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.save(m, part)
    if len(sys.argv) == 5:
        return
    whole = onnx.load(model)
    del whole.graph.output[:]
    whole.graph.output.extend([onnx.helper.make_empty_tensor_value_info(source)])
    s = ort.InferenceSession(whole.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = s.get_inputs()[0].name
    for path, out in zip(sys.argv[5::2], sys.argv[6::2]):
        x = np.load(path, mmap_mode="r")
        np.save(out, np.concatenate([s.run([source], {feed: x[i:i + 1]})[0] for i in range(len(x))]))


if __name__ == "__main__":
    main()
