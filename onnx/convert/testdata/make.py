"""Writes the models of this directory, and cases.json with what ONNX Runtime computes for them.

Each model has one small graph that uses an operator in a form of some opset. Run in this directory with
the Python packages onnx and onnxruntime (1.23.2 and 1.32.0 were used):

    python make.py
"""
import json
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T, helper as h, numpy_helper as nh

rng = np.random.default_rng(7)
cases = {}


def vi(name, shape, dt=T.FLOAT):
    return h.make_tensor_value_info(name, dt, shape)


def init(name, value, dtype=None):
    return nh.from_array(np.asarray(value, dtype), name)


def save(name, opset, nodes, inputs, outputs, inits=(), feeds=None, run=True, ir=8, functions=(), domains=(), edit=None):
    g = h.make_graph(list(nodes), name, list(inputs), list(outputs), list(inits))
    m = h.make_model(g, opset_imports=[h.make_opsetid("", opset)] + [h.make_opsetid(d, v) for d, v in domains],
                     functions=list(functions), producer_name="make.py", ir_version=ir)
    if edit:
        edit(m)
    data = m.SerializeToString(deterministic=True)
    open(name + ".onnx", "wb").write(data)
    case = {"opset": opset}
    if run:
        so = ort.SessionOptions()
        so.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        so.log_severity_level = 3
        s = ort.InferenceSession(data, so, providers=["CPUExecutionProvider"])
        feeds = feeds or {}
        for i in s.get_inputs():
            if i.name not in feeds:
                feeds[i.name] = np.round(rng.normal(size=[d if isinstance(d, int) else 2 for d in i.shape]) * 2, 2).astype(np.float32)
        out = s.run(None, feeds)
        case["inputs"] = {k: dump(v) for k, v in feeds.items()}
        case["outputs"] = {o.name: dump(v) for o, v in zip(s.get_outputs(), out)}
    cases[name] = case


def dump(v):
    return {"dtype": str(v.dtype), "shape": list(v.shape), "data": [float(x) for x in v.astype(np.float64).ravel()]}


def one(name, opset, op, shape, out, inits=(), nout=1, outdt=T.FLOAT, node=None, **kw):
    """A model of a single node: op reads x and the initializers in order ("" for those named "-")."""
    names = ["" if i.name.startswith("-") else i.name for i in inits]
    outs = ["y"] if nout == 1 else ["y%d" % i for i in range(nout)]
    n = h.make_node(op, ["x"] + names, outs, name="n", **(node or {}))
    outs_vi = [vi(o, out, outdt) for o in outs] if not isinstance(out, dict) else [vi(k, s, d) for k, (s, d) in out.items()]
    save(name, opset, [n], [vi("x", shape)], outs_vi, [i for i in inits if not i.name.startswith("-")], **kw)


i64 = lambda name, v: init(name, v, np.int64)
f32 = lambda name, v: init(name, v, np.float32)
none = lambda: f32("-", [])

# Clip: bounds are inputs since 11.
one("clip7", 7, "Clip", [2, 3], [2, 3], node=dict(min=-0.5, max=1.5))
one("clip7_min", 7, "Clip", [2, 3], [2, 3], node=dict(min=0.25))
one("clip11", 11, "Clip", [2, 3], [2, 3], [f32("lo", -0.5), f32("hi", 1.5)])
one("clip13_max", 13, "Clip", [2, 3], [2, 3], [none(), f32("hi", 0.5)])
save("clip7_double", 7, [h.make_node("Clip", ["x"], ["y"], min=-0.5, max=0.5)], [vi("x", [3], T.DOUBLE)], [vi("y", [3], T.DOUBLE)],
     run=False)

# Axes.
one("squeeze7", 7, "Squeeze", [2, 1, 3, 1], [2, 3], node=dict(axes=[1, 3]))
one("squeeze7_all", 7, "Squeeze", [2, 1, 3, 1], [2, 3])
one("squeeze13", 13, "Squeeze", [2, 1, 3, 1], [2, 3], [i64("axes", [1, 3])])
one("unsqueeze7", 7, "Unsqueeze", [2, 3], [1, 2, 1, 3], node=dict(axes=[0, 2]))
one("unsqueeze13", 13, "Unsqueeze", [2, 3], [1, 2, 1, 3], [i64("axes", [0, 2])])
one("reducemean7", 7, "ReduceMean", [2, 3, 4], [2, 1, 4], node=dict(axes=[1]))
one("reducemean7_all", 7, "ReduceMean", [2, 3], [], node=dict(keepdims=0))
one("reducemean13", 13, "ReduceMean", [2, 3, 4], [2, 3], node=dict(axes=[-1], keepdims=0))
one("reducemean18", 18, "ReduceMean", [2, 3, 4], [2, 3], [i64("axes", [-1])], node=dict(keepdims=0))
one("reducesum11", 11, "ReduceSum", [2, 3, 4], [2, 4], node=dict(axes=[1], keepdims=0))
one("reducesum13", 13, "ReduceSum", [2, 3, 4], [2, 4], [i64("axes", [1])], node=dict(keepdims=0))
one("reducemax13", 13, "ReduceMax", [2, 3, 4], [1, 3, 1], node=dict(axes=[0, 2]))

# Pad, Slice, Split, TopK.
one("pad7", 7, "Pad", [2, 3], [5, 4], node=dict(pads=[1, 0, 2, 1], value=1.5))
one("pad10_reflect", 10, "Pad", [3, 3], [5, 4], node=dict(pads=[1, 0, 1, 1], mode="reflect"))
one("pad11", 11, "Pad", [2, 3], [5, 4], [i64("pads", [1, 0, 2, 1]), f32("value", 1.5)])
one("pad18_axes", 18, "Pad", [2, 3], [2, 6], [i64("pads", [1, 2]), none(), i64("axes", [1])])
one("slice7", 7, "Slice", [4, 5], [2, 5], node=dict(starts=[1], ends=[3], axes=[0]))
one("slice9", 9, "Slice", [4, 5], [2, 4], node=dict(starts=[1, 0], ends=[3, -1]))
one("slice10", 10, "Slice", [4, 5], [4, 2], [i64("starts", [4]), i64("ends", [0]), i64("axes", [1]), i64("steps", [-2])])
one("split7", 7, "Split", [2, 5], {"y0": ([2, 2], T.FLOAT), "y1": ([2, 3], T.FLOAT)}, nout=2, node=dict(axis=1, split=[2, 3]))
one("split11_equal", 11, "Split", [2, 6], {"y0": ([2, 3], T.FLOAT), "y1": ([2, 3], T.FLOAT)}, nout=2, node=dict(axis=-1))
one("split13", 13, "Split", [2, 5], {"y0": ([2, 2], T.FLOAT), "y1": ([2, 3], T.FLOAT)}, [i64("sizes", [2, 3])], nout=2, node=dict(axis=1))
one("split18", 18, "Split", [2, 5], {"y0": ([2, 3], T.FLOAT), "y1": ([2, 2], T.FLOAT)}, nout=2, node=dict(axis=1, num_outputs=2))
one("topk7", 7, "TopK", [2, 5], {"y0": ([2, 2], T.FLOAT), "y1": ([2, 2], T.INT64)}, nout=2, node=dict(k=2))
one("topk10", 10, "TopK", [2, 5], {"y0": ([2, 2], T.FLOAT), "y1": ([2, 2], T.INT64)}, [i64("k", [2])], nout=2)
one("topk11", 11, "TopK", [2, 5], {"y0": ([2, 2], T.FLOAT), "y1": ([2, 2], T.INT64)}, [i64("k", [2])], nout=2, node=dict(largest=0))

# Resize and Upsample.
one("upsample7", 7, "Upsample", [1, 1, 2, 2], [1, 1, 4, 6], node=dict(scales=[1., 1., 2., 3.], mode="nearest"))
one("upsample9_linear", 9, "Upsample", [1, 1, 2, 2], [1, 1, 4, 4], [f32("scales", [1, 1, 2, 2])], node=dict(mode="linear"))
one("resize10_up", 10, "Resize", [1, 1, 3, 3], [1, 1, 4, 7], [f32("scales", [1, 1, 1.5, 2.5])], node=dict(mode="nearest"))
one("resize10_down", 10, "Resize", [1, 1, 5, 5], [1, 1, 3, 3], [f32("scales", [1, 1, 0.6, 0.6])], node=dict(mode="nearest"))
one("resize10_linear", 10, "Resize", [1, 1, 3, 3], [1, 1, 6, 6], [f32("scales", [1, 1, 2, 2])], node=dict(mode="linear"))
one("resize11_sizes", 11, "Resize", [1, 1, 2, 2], [1, 1, 5, 4], [f32("roi", []), f32("scales", []), i64("sizes", [1, 1, 5, 4])],
    node=dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"))
one("resize11_scales", 11, "Resize", [1, 1, 2, 2], [1, 1, 4, 4], [f32("roi", [0] * 8), f32("scales", [1, 1, 2, 2])],
    node=dict(mode="linear", coordinate_transformation_mode="align_corners"))
one("resize13", 13, "Resize", [1, 1, 2, 2], [1, 1, 4, 4], [none(), f32("scales", [1, 1, 2, 2])], node=dict(mode="linear"))

# Softmax: flattens before 13.
one("softmax7_flat", 7, "Softmax", [2, 3, 2], [2, 3, 2])
one("softmax11_last", 11, "Softmax", [2, 3, 2], [2, 3, 2], node=dict(axis=2))
one("softmax11_minus", 11, "LogSoftmax", [2, 3, 2], [2, 3, 2], node=dict(axis=-1))
one("softmax12_2d", 12, "Softmax", [2, 3], [2, 3])
one("softmax13", 13, "Softmax", [2, 3, 2], [2, 3, 2], node=dict(axis=1))
one("hardmax11_flat", 11, "Hardmax", [2, 3, 2], [2, 3, 2])
save("softmax9_gemm", 9, [h.make_node("Gemm", ["x", "w", "b"], ["g"], name="fc"), h.make_node("Softmax", ["g"], ["y"], name="sm")],
     [vi("x", ["N", 3])], [vi("y", ["N", 2])], [f32("w", [[1, 2], [0, -1], [.5, .25]]), f32("b", [0.5, -1])])

# Dropout and BatchNormalization.
one("dropout7", 7, "Dropout", [2, 3], [2, 3], node=dict(ratio=0.3))
save("dropout10_mask", 10, [h.make_node("Dropout", ["x"], ["y", "mask"], name="drop", ratio=0.3)], [vi("x", [2, 3])],
     [vi("y", [2, 3])])
one("dropout12", 12, "Dropout", [2, 3], [2, 3], [f32("ratio", 0.3)])
save("dropout12_mask", 12, [h.make_node("Dropout", ["x", "ratio"], ["y", "mask"], name="drop")], [vi("x", [2, 3])],
     [vi("y", [2, 3]), vi("mask", [2, 3], T.BOOL)], [f32("ratio", 0.3)])
save("dropout12_train", 12, [h.make_node("Dropout", ["x", "ratio", "mode"], ["y"], name="drop")], [vi("x", [2, 3])],
     [vi("y", [2, 3])], [f32("ratio", 0.3), init("mode", True, np.bool_)], run=False)
bn = [f32("s", [1, .5]), f32("b", [0, 1]), f32("m", [.1, .2]), f32("v", [1, 2])]
one("bn7", 7, "BatchNormalization", [2, 2, 2], [2, 2, 2], bn, node=dict(epsilon=1e-3, spatial=1))
one("bn9", 9, "BatchNormalization", [2, 2, 2], [2, 2, 2], bn)
one("bn15", 15, "BatchNormalization", [2, 2, 2], [2, 2, 2], bn, node=dict(training_mode=0))
save("bn14_train", 14, [h.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y", "rm", "rv"], name="bn", training_mode=1)],
     [vi("x", [2, 2, 2])], [vi("y", [2, 2, 2])], bn, run=False)

# Others whose names or defaults changed.
save("scatter9", 9, [h.make_node("Scatter", ["x", "i", "u"], ["y"], name="sc", axis=1)], [vi("x", [2, 3])], [vi("y", [2, 3])],
     [i64("i", [[0, 2], [1, 0]]), f32("u", [[9, 8], [7, 6]])])
save("gridsample16", 16, [h.make_node("GridSample", ["x", "grid"], ["y"], name="gs")], [vi("x", [1, 1, 2, 2])], [vi("y", [1, 1, 1, 2])],
     [f32("grid", [[[[0.1, -0.2], [0.5, 0.4]]]])])
save("roialign10", 10, [h.make_node("RoiAlign", ["x", "rois", "b"], ["y"], name="ra", output_height=2, output_width=2)],
     [vi("x", [1, 1, 4, 4])], [vi("y", [1, 1, 2, 2])], [f32("rois", [[0, 0, 3, 3]]), i64("b", [0])])
one("groupnorm18", 18, "GroupNormalization", [1, 4, 2], [1, 4, 2], [f32("s", [1, 2]), f32("b", [0, .5])], node=dict(num_groups=2))
one("dft17", 17, "DFT", [1, 4, 1], [1, 4, 2], node=dict(axis=1))

# Quantization.
q4 = h.make_tensor("w_q", T.INT4, [2, 3], [-8, -3, 0, 1, 5, 7])
z4 = h.make_tensor("zp", T.INT4, [], [0])
save("qdq21_int4", 21, [h.make_node("DequantizeLinear", ["w_q", "ws", "zp"], ["w"], name="dq"), h.make_node("MatMul", ["x", "w"], ["y"], name="mm"),
                        h.make_node("QuantizeLinear", ["y", "ys", "zp"], ["yq"], name="q"), h.make_node("DequantizeLinear", ["yq", "ys", "zp"], ["z"], name="dq2")],
     [vi("x", [1, 2])], [vi("z", [1, 3])], [q4, f32("ws", 0.25), z4, f32("ys", 0.5)], ir=10)
save("qdq17_contrib", 17, [h.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q", domain="com.microsoft"),
                           h.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="dq", domain="com.microsoft")],
     [vi("x", [2, 3])], [vi("y", [2, 3])], [f32("s", 0.01), init("z", 7, np.uint16)], domains=[("com.microsoft", 1)])

# Constants in every form.
consts = [h.make_node("Constant", [], ["a"], value=f32("", [1, 2, 3])), h.make_node("Constant", [], ["b"], value_float=0.5),
          h.make_node("Constant", [], ["c"], value_floats=[1., -1., 2.]), h.make_node("Constant", [], ["d"], value_int=1),
          h.make_node("Constant", [], ["e"], value_ints=[0, 2]),
          h.make_node("Constant", [], ["f"], sparse_value=h.make_sparse_tensor(f32("", [4]), i64("", [1]), [3])),
          h.make_node("Constant", [], ["unused"], value_string="text")]
save("constants13", 13, consts + [h.make_node("Add", ["x", "a"], ["t1"]), h.make_node("Mul", ["t1", "b"], ["t2"]), h.make_node("Add", ["t2", "c"], ["t3"]),
                                  h.make_node("Add", ["t3", "f"], ["t4"]), h.make_node("Gather", ["t4", "e"], ["t5"], axis=1),
                                  h.make_node("Gather", ["t5", "d"], ["y"], axis=1)], [vi("x", [2, 3])], [vi("y", [2])])


def sparse(m):
    m.graph.sparse_initializer.append(h.make_sparse_tensor(f32("sp", [5, 6]), i64("sp_i", [[0, 1], [1, 2]]), [2, 3]))


save("sparse13", 13, [h.make_node("Add", ["x", "sp"], ["y"], name="add")], [vi("x", [2, 3])], [vi("y", [2, 3])], edit=sparse)

# Subgraphs with values of the graph around them.
then = h.make_graph([h.make_node("Squeeze", ["x"], ["t_out"], name="sq", axes=[0]), ], "then", [], [vi("t_out", [3])])
els = h.make_graph([h.make_node("Constant", [], ["k"], value=f32("", [10.])), h.make_node("Squeeze", ["x"], ["e0"], axes=[0]),
                    h.make_node("Add", ["e0", "k"], ["e1"]), h.make_node("Add", ["e1", "w"], ["e_out"])], "else", [], [vi("e_out", [3])])
save("if11", 11, [h.make_node("ReduceSum", ["x"], ["s"], keepdims=0), h.make_node("Greater", ["s", "zero"], ["cond"]),
                  h.make_node("If", ["cond"], ["y"], name="branch", then_branch=then, else_branch=els)],
     [vi("x", [1, 3])], [vi("y", [3])], [f32("zero", 0), f32("w", [1, 2, 3])], feeds={"x": np.float32([[-1, -2, -.5]])})

# Functions: an attribute with a default, one that is passed on, and a call in a call.
leaky = h.make_function("local", "Scaled", ["a", "k"], ["out"],
                        [h.make_node("LeakyRelu", ["a"], ["t"], name="lr"), h.make_node("Mul", ["t", "k"], ["out"], name="mul")],
                        [h.make_opsetid("", 17)], ["alpha"], [])
ref = leaky.node[0].attribute.add()
ref.name, ref.ref_attr_name, ref.type = "alpha", "alpha", onnx.AttributeProto.FLOAT
twice = h.make_function("local", "Twice", ["a", "k"], ["out"],
                        [h.make_node("Scaled", ["a", "k"], ["t"], domain="local", alpha=0.5),
                         h.make_node("Scaled", ["t", "k"], ["out"], domain="local")],
                        [h.make_opsetid("", 17), h.make_opsetid("local", 1)], [], [])
ref = twice.node[1].attribute.add()
ref.name, ref.ref_attr_name, ref.type = "alpha", "beta", onnx.AttributeProto.FLOAT
twice.attribute_proto.append(h.make_attribute("beta", 0.25))
save("function17", 17, [h.make_node("Twice", ["x", "k"], ["h"], name="call", domain="local"), h.make_node("Relu", ["h"], ["r"], name="relu"),
                        h.make_node("Twice", ["h", "r"], ["y"], domain="local", beta=2.0)],
     [vi("x", [2, 3])], [vi("y", [2, 3])], [f32("k", 2)], functions=[leaky, twice], domains=[("local", 1)])
loop = h.make_function("local", "Loop1", ["a"], ["out"], [h.make_node("Loop1", ["a"], ["out"], domain="local")],
                       [h.make_opsetid("local", 1)])
save("function_recursive", 17, [h.make_node("Loop1", ["x"], ["y"], name="call", domain="local")], [vi("x", [1])], [vi("y", [1])],
     functions=[loop], domains=[("local", 1)], run=False)

# The shape of files.
save("ir3", 7, [h.make_node("Conv", ["x", "w"], ["c"], name="conv"), h.make_node("Add", ["c", "b"], ["y"], name="add")],
     [vi("x", ["N", 1, 3, "W"]), vi("w", [1, 1, 1, 1]), vi("b", [1])], [vi("y", ["N", 1, 3, "W"])],
     [f32("w", [[[[2]]]]), f32("b", [1])], ir=3)
save("names", 13, [h.make_node("Relu", ["x"], ["a"]), h.make_node("Relu", ["a"], ["b"], name="same"), h.make_node("Relu", ["b"], ["c"], name="same"),
                   h.make_node("Relu", ["c"], ["d"], name="/Relu"), h.make_node("Abs", ["d"], ["y"])], [vi("x", [2])], [vi("y", [2])],
     run=False)
save("unused", 13, [h.make_node("Add", ["x", "w"], ["y"], name="add")], [vi("x", [2])], [vi("y", [2])],
     [f32("w", [1, 2]), f32("nobody", [3]), h.make_tensor("text", T.STRING, [1], [b"hello"])])
save("unsorted", 13, [h.make_node("Abs", ["a"], ["y"], name="second"), h.make_node("Neg", ["x"], ["a"], name="first")], [vi("x", [2])],
     [vi("y", [2])], run=False)
save("cycle", 13, [h.make_node("Add", ["x", "b"], ["a"], name="one"), h.make_node("Neg", ["a"], ["b"], name="two")], [vi("x", [2])],
     [vi("b", [2])], run=False)
save("foreign", 13, [h.make_node("FusedConv", ["x"], ["a"], name="f1", domain="com.microsoft"), h.make_node("FusedConv", ["a"], ["b"], name="f2", domain="com.microsoft"),
                     h.make_node("Thing", ["b"], ["y"], name="t", domain="my.ops")], [vi("x", [2])], [vi("y", [2])],
     domains=[("com.microsoft", 1), ("my.ops", 1)], run=False)

# Elements in the typed fields instead of raw data, one initializer of each type; external data.
typed = [h.make_tensor("f32", T.FLOAT, [2], [1.5, -2]), h.make_tensor("f64", T.DOUBLE, [2], [1.5, -2]), h.make_tensor("f16", T.FLOAT16, [2], [1.5, -2]),
         h.make_tensor("bf16", T.BFLOAT16, [2], [1.5, -2]), h.make_tensor("i8", T.INT8, [2], [-128, 127]), h.make_tensor("i16", T.INT16, [2], [-32768, 32767]),
         h.make_tensor("i32", T.INT32, [2], [-2**31, 2**31 - 1]), h.make_tensor("i64", T.INT64, [2], [-2**63, 2**63 - 1]), h.make_tensor("u8", T.UINT8, [2], [0, 255]),
         h.make_tensor("u16", T.UINT16, [2], [0, 65535]), h.make_tensor("u32", T.UINT32, [2], [0, 2**32 - 1]), h.make_tensor("u64", T.UINT64, [2], [0, 2**64 - 1]),
         h.make_tensor("b", T.BOOL, [2], [True, False]), h.make_tensor("i4", T.INT4, [3], [-8, 7, -1]), h.make_tensor("u4", T.UINT4, [3], [0, 15, 9]),
         h.make_tensor("s", T.STRING, [2], [b"a", b"b"]), h.make_tensor("c64", T.COMPLEX64, [1], [1 + 2j]), h.make_tensor("f8", T.FLOAT8E4M3FN, [2], [1.5, -2])]
raw = []
for t in typed:
    if t.name in ("s", "c64", "f8"):
        continue
    r = nh.from_array(nh.to_array(t), t.name + "_raw")
    raw.append(r)
save("typed", 21, [h.make_node("Identity", ["x"], ["y"], name="id")], [vi("x", [2])], [vi("y", [2])], typed + raw, ir=10)


def external(m):
    onnx.external_data_helper.convert_model_to_external_data(m, all_tensors_to_one_file=True, location="external.data", size_threshold=0)
    onnx.external_data_helper.write_external_data_tensors(m, ".")


save("external", 13, [h.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc")], [vi("x", [1, 3])], [vi("y", [1, 2])],
     [f32("w", [[1, 2], [3, 4], [5, 6]]), f32("b", [7, 8])], edit=external, run=False)

json.dump(cases, open("cases.json", "w"), separators=(",", ":"), sort_keys=True)
