"""Write the node tests of the installed onnx package to DIR/node: python node_tests.py DIR. Needs numpy and onnx."""
import os, shutil, sys
import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests

def save(path, value, vi):
    t = vi.type
    if isinstance(value, TensorProto):
        msg = value
    elif t.HasField("sequence_type"):
        msg = numpy_helper.from_list(value, vi.name)
    elif t.HasField("optional_type"):
        msg = numpy_helper.from_optional(value, vi.name)
    elif t.HasField("map_type"):
        msg = numpy_helper.from_dict(value, vi.name)
    else:
        msg = numpy_helper.from_array(np.asarray(value), vi.name)
    with open(path, "wb") as f:
        f.write(msg.SerializeToString())

np.random.seed(0)
out = sys.argv[1]
done = skipped = 0
for case in load_model_tests(kind="node"):
    d = os.path.join(out, "node", case.name)
    shutil.rmtree(d, ignore_errors=True)
    os.makedirs(d)
    try:
        with open(os.path.join(d, "model.onnx"), "wb") as f:
            f.write(case.model.SerializeToString())
        for i, (ins, outs) in enumerate(case.data_sets):
            s = os.path.join(d, f"test_data_set_{i}")
            os.makedirs(s)
            for j, v in enumerate(ins):
                save(os.path.join(s, f"input_{j}.pb"), v, case.model.graph.input[j])
            for j, v in enumerate(outs):
                save(os.path.join(s, f"output_{j}.pb"), v, case.model.graph.output[j])
        done += 1
    except Exception as e:
        print("skip", case.name, type(e).__name__, str(e)[:100])
        shutil.rmtree(d)
        skipped += 1
print(done, "written,", skipped, "skipped")
