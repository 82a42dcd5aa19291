"""Write small graphs and where AIMET 2.42 puts their quantizers, as test data of package quantsim.

    python placement.py quantsim/testdata/placement

Each graph stands for a case of the placement rules. Weights are random and small: only
placement matters. Needs aimet-onnx==2.42.0; see aimet.py.
"""
import json
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from aimet_onnx.quantsim import QuantizationSimModel, set_blockwise_quantization_for_weights

rng = np.random.default_rng(1)


class Net:
    """A graph under construction."""

    def __init__(self, shape, opset=17):
        self.nodes, self.inits, self.opset = [], [], opset
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]

    def input(self, name, shape):
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def const(self, name, value, dtype=np.float32):
        self.inits.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def weight(self, name, *shape):
        return self.const(name, rng.normal(size=shape) * 0.3)

    def add(self, op, inputs, out, **attrs):
        self.nodes.append(helper.make_node(op, inputs, [out] if isinstance(out, str) else out, name=f"{op.lower()}_{len(self.nodes)}", **attrs))
        return out

    def conv(self, x, out, cin, cout, k=1, group=1, bias=True, **attrs):
        ins = [x, self.weight(out + ".weight", cout, cin // group, k, k)]
        if bias:
            ins.append(self.weight(out + ".bias", cout))
        return self.add("Conv", ins, out, kernel_shape=[k, k], pads=[k // 2] * 4, group=group, **attrs)

    def model(self, *outputs):
        g = helper.make_graph(self.nodes, "g", self.inputs, [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs], self.inits)
        m = helper.make_model(g, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8 if self.opset < 21 else 10)
        return onnx.shape_inference.infer_shapes(m)


def squeeze_excite():
    n = Net([1, 8, 6, 6])
    n.conv("x", "c", 8, 8)
    n.add("HardSwish", ["c"], "h")
    n.add("GlobalAveragePool", ["h"], "p")
    n.conv("p", "r", 8, 4)
    n.add("Relu", ["r"], "rr")
    n.conv("rr", "e", 4, 8)
    n.add("HardSigmoid", ["e"], "s")
    n.add("Mul", ["h", "s"], "y")
    return n.model("y")


def split_concat():
    n = Net([1, 8, 6, 6])
    n.conv("x", "c", 8, 8)
    n.add("Sigmoid", ["c"], "s")
    n.add("Mul", ["c", "s"], "m")
    n.const("sizes", [4, 4], np.int64)
    n.add("Split", ["m", "sizes"], ["a", "b"], axis=1)
    n.conv("b", "d", 4, 4, 3)
    n.add("Relu", ["d"], "e")
    n.add("Concat", ["a", "e"], "f", axis=1)
    n.add("MaxPool", ["f"], "g", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    n.add("Concat", ["f", "g"], "h", axis=1)
    n.conv("h", "y", 16, 4)
    return n.model("y")


def nested_concat():
    n = Net([1, 4, 6, 6])
    n.conv("x", "a", 4, 4)
    n.conv("x", "b", 4, 4)
    n.conv("x", "c", 4, 4)
    n.add("Concat", ["a", "b"], "ab", axis=1)
    n.add("Transpose", ["ab"], "t", perm=[0, 1, 3, 2])
    n.add("Relu", ["c"], "cr")
    n.add("Concat", ["t", "cr"], "y", axis=1)
    return n.model("y")


def dense_block():
    n = Net([1, 4, 6, 6])
    n.conv("x", "a", 4, 4, 3)
    n.add("Concat", ["x", "a"], "xa", axis=1)
    n.conv("xa", "b", 8, 4, 3)
    n.add("Concat", ["xa", "b"], "xab", axis=1)
    n.add("AveragePool", ["xab"], "p", kernel_shape=[2, 2], strides=[2, 2])
    n.add("Relu", ["p"], "y")
    return n.model("y")


def grouped_transpose():
    n = Net([1, 4, 6, 6])
    n.add("ConvTranspose", ["x", n.weight("t.weight", 4, 3, 2, 2), n.weight("t.bias", 6)], "t", kernel_shape=[2, 2], strides=[2, 2], group=2)
    n.add("Relu", ["t"], "tr")
    n.add("ConvTranspose", ["tr", n.weight("u.weight", 6, 1, 2, 2)], "u", kernel_shape=[2, 2], group=6)
    n.add("Relu", ["u"], "y")
    return n.model("y")


def resize_pad():
    n = Net([1, 4, 6, 6])
    n.conv("x", "a", 4, 4, 3)
    n.const("scales", [1, 1, 2, 2])
    n.add("Resize", ["a", "", "scales"], "r", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    n.const("pads", [0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    n.const("zero", 0.0)
    n.add("Pad", ["r", "pads", "zero"], "p")
    n.conv("p", "c", 4, 4, 3)
    n.add("LeakyRelu", ["c"], "l", alpha=0.1)
    n.const("starts", [0], np.int64)
    n.const("ends", [4], np.int64)
    n.const("axes", [2], np.int64)
    n.add("Slice", ["l", "starts", "ends", "axes"], "s")
    n.add("Resize", ["s", "", "scales"], "y", mode="linear")
    return n.model("y")


def norms():
    n = Net([1, 4, 6, 6])
    n.add("InstanceNormalization", ["x", n.weight("i.weight", 4), n.weight("i.bias", 4)], "i")
    n.add("PRelu", ["i", n.weight("slope", 4, 1, 1)], "p")
    n.const("shape", [1, 4, 36], np.int64)
    n.add("Reshape", ["p", "shape"], "r")
    n.add("LayerNormalization", ["r", n.weight("l.weight", 36), n.weight("l.bias", 36)], "l")
    n.add("Tanh", ["l"], "t")
    n.const("axes", [2], np.int64)
    n.add("ReduceMean", ["t"], "y", axes=[2])
    return n.model("y")


def layer_norm_parts():
    n = Net([1, 5, 12])
    n.add("MatMul", ["x", n.weight("m.weight", 12, 12)], "m")
    n.add("ReduceMean", ["m"], "mean", axes=[-1])
    n.add("Sub", ["m", "mean"], "d")
    n.add("Pow", ["d", n.const("two", 2.0)], "sq")
    n.add("ReduceMean", ["sq"], "var", axes=[-1])
    n.add("Add", ["var", n.const("eps", 1e-5)], "ve")
    n.add("Sqrt", ["ve"], "sd")
    n.add("Div", ["d", "sd"], "n")
    n.add("Mul", ["n", n.weight("l.weight", 12)], "w")
    n.add("Add", ["w", n.weight("l.bias", 12)], "l")
    n.add("MatMul", ["l", n.weight("o.weight", 12, 4)], "o")
    n.add("Add", ["o", n.weight("o.bias", 4)], "ob")
    n.add("Relu", ["ob"], "y")
    return n.model("y")


def attention_heads():
    n = Net([1, 6, 8])
    for k in "qkv":
        n.add("MatMul", ["x", n.weight(k + ".weight", 8, 8)], k + "m")
        n.add("Add", [n.weight(k + ".bias", 8), k + "m"], k)
        n.const(k + "shape", [1, 6, 2, 4], np.int64)
        n.add("Reshape", [k, k + "shape"], k + "r")
    n.add("Transpose", ["qr"], "qt", perm=[0, 2, 1, 3])
    n.add("Transpose", ["kr"], "kt", perm=[0, 2, 3, 1])
    n.add("Transpose", ["vr"], "vt", perm=[0, 2, 1, 3])
    n.add("MatMul", ["qt", "kt"], "s")
    n.add("Div", ["s", n.const("root", 2.0)], "sd")
    n.add("Softmax", ["sd"], "p", axis=-1)
    n.add("MatMul", ["p", "vt"], "c")
    n.add("Transpose", ["c"], "ct", perm=[0, 2, 1, 3])
    n.const("back", [1, 6, 8], np.int64)
    n.add("Reshape", ["ct", "back"], "cr")
    n.add("Gemm", [n.add("Squeeze", ["cr", n.const("zero", [0], np.int64)], "cs"), n.weight("g.weight", 8, 8)], "g")
    n.add("Erf", ["g"], "y")
    return n.model("y")


def relu6_attributes():
    n = Net([1, 4, 6, 6], opset=9)
    n.conv("x", "a", 4, 8)
    n.add("Clip", ["a"], "ac", min=0.0, max=6.0)
    n.conv("ac", "d", 8, 8, 3, group=8)
    n.add("Clip", ["d"], "dc", min=0.0, max=6.0)
    n.conv("dc", "p", 8, 4, bias=False)
    n.add("BatchNormalization", ["p", n.weight("bn.weight", 4), n.weight("bn.bias", 4), n.weight("bn.mean", 4), n.const("bn.var", np.ones(4))], "pb")
    n.add("Add", ["pb", "x"], "s")
    n.add("Relu", ["s"], "r")
    n.add("Dropout", ["r"], "dr")
    n.add("AveragePool", ["dr"], "y", kernel_shape=[2, 2])
    return n.model("y")


def two_inputs():
    n = Net([1, 4, 6, 6])
    n.input("z", [1, 4, 6, 6])
    n.add("Relu", ["x"], "xr")
    n.add("Concat", ["xr", "z"], "c", axis=1)
    n.add("Max", ["c", n.const("floor", -1.0)], "m")
    n.conv("m", "a", 8, 4)
    n.add("Identity", ["a"], "i")
    n.add("Sub", ["i", "z"], "s")
    n.add("Exp", ["a"], "e")
    n.add("Add", ["s", "e"], "t")
    n.add("Flatten", ["t"], "y")
    return n.model("y", "e")


def gather_embedding():
    n = Net([1, 4])
    n.inputs = [helper.make_tensor_value_info("x", TensorProto.INT64, [1, 4])]
    n.add("Gather", [n.weight("table", 10, 8), "x"], "g")
    n.add("MatMul", ["g", n.weight("m.weight", 8, 8)], "m")
    n.add("Gelu" if n.opset >= 20 else "Tanh", ["m"], "t")
    n.add("Unsqueeze", ["t", n.const("axes", [1], np.int64)], "u")
    n.add("Concat", ["u", n.weight("k", 1, 1, 4, 8)], "y", axis=1)
    return n.model("y")


def conv_chains():
    n = Net([1, 4, 6, 6])

    def bn(x, out):
        return n.add("BatchNormalization", [x, n.weight(out + ".weight", 4), n.weight(out + ".bias", 4), n.weight(out + ".mean", 4), n.const(out + ".var", np.ones(4))], out)

    n.conv("x", "c1", 4, 4)
    n.add("Relu", [bn("c1", "b1")], "r1")
    n.conv("r1", "c2", 4, 4)
    n.add("HardSwish", [bn("c2", "b2")], "r2")
    n.conv("r2", "c3", 4, 4)
    n.add("LeakyRelu", [bn("c3", "b3")], "r3", alpha=0.2)
    n.conv("r3", "c4", 4, 4)
    n.add("PRelu", [bn("c4", "b4"), n.weight("slope4", 4, 1, 1)], "r4")
    n.conv("r4", "c5", 4, 4)
    n.add("HardSwish", ["c5"], "r5")
    n.conv("r5", "c6", 4, 4)
    n.add("LeakyRelu", ["c6"], "r6", alpha=0.2)
    n.conv("r6", "c7", 4, 4)
    n.add("PRelu", ["c7", n.weight("slope7", 4, 1, 1)], "r7")
    for i, act in enumerate(["Relu", "LeakyRelu", "PRelu"]):
        n.conv(f"r{7 + i}", f"c{8 + i}", 4, 4)
        n.add("Transpose", [f"c{8 + i}"], f"t{8 + i}", perm=[0, 1, 3, 2])
        extra = [n.weight(f"slope{8 + i}", 4, 1, 1)] if act == "PRelu" else []
        n.add(act, [f"t{8 + i}"] + extra, f"r{8 + i}")
    n.conv("r10", "c11", 4, 4, 3, group=4)
    n.add("Relu", [bn("c11", "b11")], "r11")
    n.add("Add", ["r11", "r10"], "s")
    n.add("Relu", ["s"], "sr")
    n.add("Flatten", ["sr"], "f")
    n.add("Gemm", ["f", n.weight("g.weight", 5, 144), n.weight("g.bias", 5)], "g", transB=1)
    n.add("Relu", ["g"], "gr")
    n.add("Gemm", ["gr", n.weight("h.weight", 5, 5)], "h")
    n.add("Clip", ["h", n.const("lo", 0.0), n.const("hi", 6.0)], "y")
    return n.model("y")


def rms_norm_parts():
    n = Net([1, 5, 12])
    n.add("MatMul", ["x", n.weight("m.weight", 12, 12)], "m")
    n.add("Pow", ["m", n.const("two", 2.0)], "sq")
    n.add("ReduceMean", ["sq"], "var", axes=[-1])
    n.add("Add", ["var", n.const("eps", 1e-5)], "ve")
    n.add("Sqrt", ["ve"], "sd")
    n.add("Reciprocal", ["sd"], "rs")
    n.add("Mul", ["m", "rs"], "n")
    n.add("Mul", ["n", n.weight("l.weight", 12)], "l")
    n.add("Add", ["l", "m"], "y")
    return n.model("y")


def orientations():
    n = Net([1, 4, 6, 6])
    n.add("ConvTranspose", ["x", n.weight("t.weight", 4, 3, 2, 2)], "t", kernel_shape=[2, 2])
    n.conv("t", "c", 3, 2)
    n.add("Flatten", ["c"], "f")
    n.add("Gemm", ["f", n.weight("g1.weight", 5, 98), n.weight("g1.bias", 5)], "g1", transB=1)
    n.add("Gemm", ["g1", n.weight("g0.weight", 5, 6)], "g0")
    n.add("MatMul", ["g0", n.weight("m.weight", 6, 7)], "m")
    n.add("Transpose", [n.weight("u.weight", 8, 7)], "ut", perm=[1, 0])
    n.add("MatMul", ["m", "ut"], "y")
    return n.model("y")


def every_rule():
    n = Net([1, 4, 6, 6])
    n.conv("x", "c1", 4, 4, 3)
    n.add("Relu", ["c1"], "r1")
    n.add("MaxPool", ["r1"], "p1", kernel_shape=[2, 2])
    n.conv("p1", "c2", 4, 4, 3)
    n.add("Add", ["c2", "p1"], "a")
    n.add("Mul", ["a", n.const("half", 0.5)], "m")
    n.add("Sigmoid", ["m"], "s")
    n.add("GlobalAveragePool", ["s"], "gap")
    n.add("Flatten", ["gap"], "f")
    n.add("Gemm", ["f", n.weight("fc.weight", 5, 4), n.weight("fc.bias", 5)], "fc", transB=1)
    n.add("Softmax", ["fc"], "y", axis=-1)
    return n.model("y")


def masked_softmax():
    n = Net([1, 2, 4, 4], opset=18)
    n.add("Mul", ["x", n.const("scale", 0.5)], "q")
    n.add("ReduceMin", ["q", n.const("last", [-1], np.int64)], "least")
    n.add("Add", ["least", n.const("far", -30.0)], "low")
    n.add("Where", [n.const("mask", np.tril(np.ones((1, 1, 4, 4))), np.bool_), "q", "low"], "w")
    n.add("Softmax", ["w"], "p", axis=-1)
    n.add("MatMul", ["p", "x"], "y")
    return n.model("y")


def recurrent():
    n = Net([3, 1, 4])
    n.input("h0", [1, 1, 5])
    n.input("c0", [1, 1, 5])
    n.add("Tanh", ["x"], "t")
    n.add("LSTM", ["t", n.weight("l.weight", 1, 20, 4), n.weight("l.weight_r", 1, 20, 5), n.weight("l.bias", 1, 40), "", "h0", "c0"], ["l", "lh", "lc"], hidden_size=5)
    n.add("Squeeze", ["l", n.const("one", [1], np.int64)], "s")
    n.add("GRU", ["s", n.weight("g.weight", 1, 12, 5), n.weight("g.weight_r", 1, 12, 4)], ["g", "gh"], hidden_size=4)
    n.add("Add", ["lh", "lc"], "z")
    n.add("Sigmoid", ["g"], "y")
    return n.model("y", "z", "gh")


GRAPHS = [conv_chains, rms_norm_parts, squeeze_excite, split_concat, nested_concat, dense_block, grouped_transpose, resize_pad, norms, layer_norm_parts,
          attention_heads, relu6_attributes, two_inputs, gather_embedding, orientations, every_rule, masked_softmax, recurrent]
# Configs of our own beside the graphs, one for each thing that a config can say; only for these graphs.
OWN = {orientations: ["symmetric_unsigned.json"], every_rule: ["symmetric_strict.json", "symmetric_unsigned.json", "by_operator.json"], masked_softmax: ["masked_softmax.json"]}
# name of the config, activation type
CONFIGS = [("default", "int8"), ("htp_v66", "int8"), ("htp_v68", "int8"), ("htp_v69", "int8"), ("htp_v73", "int8"), ("htp_v73", "int16"), ("htp_v69", "int16")]


def dump(sim):
    out, ids = {}, {}
    for name, q in sim.qc_quantize_op_dict.items():
        info = q.tensor_quantizer_params
        out[name] = {
            "enabled": bool(q.enabled), "bitwidth": int(q.bitwidth), "symmetric": bool(q.use_symmetric_encodings),
            "strict": bool(q.use_strict_symmetric), "unsigned": bool(q.use_unsigned_symmetric),
            "axis": int(info.channel_axis) % len(info.tensor_shape) if info is not None and q.quant_info.usePerChannelMode and info.channel_axis is not None else -1,
            "kind": "param" if name in sim.param_names else "activation",
            "group": ids.setdefault(id(q), len(ids)),
        }
        if q.enabled and q.get_encodings():
            out[name]["scale"] = [float(e.delta) for e in q.get_encodings()]
            out[name]["offset"] = [float(e.offset) for e in q.get_encodings()]
    return out


def ramp(shape, start):
    """Values that a test in Go can make too."""
    n = int(np.prod(shape))
    return ((np.arange(start, start + n) * 7919 % 1001) / np.float32(250) - np.float32(2)).astype(np.float32).reshape(shape)


def feeds(model):
    out = {}
    for k, i in enumerate(model.graph.input):
        shape = [d.dim_value for d in i.type.tensor_type.shape.dim]
        out[i.name] = np.arange(np.prod(shape)).reshape(shape) % 10 if i.type.tensor_type.elem_type == TensorProto.INT64 else ramp(shape, 17 * k)
    return out


def blocks(folder):
    """Block-wise encodings of the weights that blocks of a size divide, as files of two versions."""
    for size in (2, 3, 5, 7):
        model = onnx.load(str(folder / "orientations.onnx"))
        sim = QuantizationSimModel(model, param_type="int4", activation_type="int8", config_file="default", providers=["CPUExecutionProvider"])
        set_blockwise_quantization_for_weights(sim, ["Conv", "ConvTranspose", "Gemm", "MatMul"], 4, True, size, strict=False)
        sim.compute_encodings([feeds(model)])
        for version in ("1.0.0", "2.0.0"):
            sim.export(str(folder), f"blocks{size}_{version}", export_model=False, encoding_version=version)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make in GRAPHS:
        model = make()
        onnx.checker.check_model(model)
        onnx.save(model, str(folder / f"{make.__name__}.onnx"))
        result = {}
        for config, activations in CONFIGS + [(c, "int8") for c in OWN.get(make, [])]:
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            try:
                sim = QuantizationSimModel(copy, param_type="int4", activation_type=activations,
                                           config_file=str(folder / "configs" / config) if config.endswith(".json") else config, providers=["CPUExecutionProvider"])
            except Exception as e:  # AIMET refuses some graphs
                print(make.__name__, config, repr(e)[:200])
                continue
            sim.compute_encodings([feeds(model)])
            result[f"{config} {activations}"] = dump(sim)
        (folder / f"{make.__name__}.json").write_text(json.dumps(result, separators=(",", ":")).replace('},"', '},\n"') + "\n")
    blocks(folder)


if __name__ == "__main__":
    main()
