"""Write ops.json: small cases of single operators with the results of ONNX Runtime.

Usage: python make_ops.py  (needs numpy, onnx, onnxruntime; the versions used are in the file)
Every case is {op, attrs, inputs, outputs}; a tensor is {t: dtype, s: shape, d: elements}, an absent input null.
"""
import json
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

OPSET = 21
rng = np.random.default_rng(7)
cases = []


def f(*shape, lo=-2.0, hi=2.0):
    return (rng.random(shape) * (hi - lo) + lo).round(3).astype(np.float32)


def i64(*v):
    return np.array(v, np.int64)


def ints(lo, hi, *shape, dtype=np.int64):
    return rng.integers(lo, hi, shape).astype(dtype)


def num(v):
    v = v.item()
    if isinstance(v, float):
        if np.isnan(v) or np.isinf(v):
            return str(v)
        return float(f"{v:.8g}")
    return v


def tensor(a):
    if a is None:
        return None
    return {"t": str(a.dtype), "s": list(a.shape), "d": [num(v) for v in a.reshape(-1)]}


def run(op, inputs, outputs=1, opset=OPSET, **attrs):
    ins = [None if a is None else np.asarray(a) for a in inputs]
    names = ["" if a is None else f"i{k}" for k, a in enumerate(ins)]
    outs = [f"o{k}" for k in range(outputs)]
    node = helper.make_node(op, names, outs, **attrs)
    vi = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in zip(names, ins) if n]
    g = helper.make_graph([node], op, vi, [helper.make_empty_tensor_value_info(o) for o in outs])
    m = helper.make_model(g, opset_imports=[helper.make_opsetid("", opset)], ir_version=10 if opset < 23 else 11)
    o = ort.SessionOptions()
    o.log_severity_level = 4
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    res = ort.InferenceSession(m.SerializeToString(), o, providers=["CPUExecutionProvider"]).run(None, {n: a for n, a in zip(names, ins) if n})
    assert max([r.size for r in res] + [a.size for a in ins if a is not None]) < 1200, op
    cases.append({"op": op, "attrs": attrs, "inputs": [tensor(a) for a in ins], "outputs": [tensor(np.asarray(r)) for r in res]})


def pick(*options):
    return options[rng.integers(len(options))]


# Elementwise arithmetic with broadcasting, in float and integer types.
for op in ["Add", "Sub", "Mul", "Div", "Pow"]:
    run(op, [f(2, 3, lo=0.5), f(3, lo=0.5)])
    run(op, [f(2, 1, 3, lo=0.5), f(4, 1, lo=0.5)])
for op in ["Add", "Sub", "Mul", "Div"]:
    run(op, [ints(-9, 9, 5, dtype=np.int32), ints(1, 5, 5, dtype=np.int32)])
for op in ["Min", "Max", "Sum", "Mean"]:
    run(op, [f(2, 3), f(3), f(2, 1)])
run("Mod", [ints(-9, 9, 8), ints(1, 5, 8)])
run("Mod", [i64(7, -7, 7, -7), i64(3, 3, -3, -3)])
run("Mod", [f(6), f(6, lo=0.5)], fmod=1)
run("Pow", [ints(-3, 4, 6, dtype=np.int32), ints(0, 4, 6, dtype=np.int32)])
for op in ["Abs", "Neg", "Ceil", "Floor", "Round", "Exp", "Erf", "Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh", "Sign", "Reciprocal"]:
    run(op, [np.concatenate([f(5), np.array([0.5, 1.5, 2.5, -0.5], np.float32)])])
for op in ["Sqrt", "Log", "Acosh"]:
    run(op, [f(5, lo=1.0, hi=9.0)])
for op in ["Asin", "Acos", "Atanh"]:
    run(op, [f(5, lo=-0.99, hi=0.99)])
run("BitShift", [ints(0, 99, 4, dtype=np.uint8), ints(0, 7, 4, dtype=np.uint8)], direction="LEFT")
run("BitShift", [ints(0, 99, 4, dtype=np.uint32), ints(0, 7, 4, dtype=np.uint32)], direction="RIGHT")
for op in ["BitwiseAnd", "BitwiseOr", "BitwiseXor"]:
    run(op, [ints(-50, 50, 4, dtype=np.int32), ints(-50, 50, 4, dtype=np.int32)])
run("BitwiseNot", [ints(0, 255, 4, dtype=np.uint8)])
run("Clip", [f(6), np.float32(-0.5), None])
run("Clip", [f(6), None, np.float32(0.5)])
run("Clip", [ints(-9, 9, 6, dtype=np.int8), np.int8(-2), np.int8(3)])

# Comparisons, logic and selection.
for op in ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"]:
    run(op, [ints(0, 3, 2, 4), ints(0, 3, 4)])
for op in ["And", "Or", "Xor"]:
    run(op, [ints(0, 2, 2, 3, dtype=bool), ints(0, 2, 3, dtype=bool)])
run("Not", [ints(0, 2, 4, dtype=bool)])
run("Where", [ints(0, 2, 2, 1, dtype=bool), f(2, 3), f(3)])
special = np.array([1, np.nan, np.inf, -np.inf], np.float32)
run("IsNaN", [special])
run("IsInf", [special], detect_negative=0)

# Activations.
for op in ["Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSwish", "Mish"]:
    run(op, [f(9, lo=-5, hi=5)])
run("LeakyRelu", [f(5)], alpha=0.3)
run("PRelu", [f(2, 3, 2), f(3, 1)])
run("Elu", [f(5)], alpha=0.7)
run("Celu", [f(5)], alpha=0.7)
run("Selu", [f(5)])
run("ThresholdedRelu", [f(6)], alpha=0.4)
run("HardSigmoid", [f(6, lo=-4, hi=4)], alpha=0.25, beta=0.4)
run("Shrink", [f(6)], lambd=0.6, bias=0.2)
run("Gelu", [f(6)])
run("Gelu", [f(6)], approximate="tanh")
for op in ["Softmax", "LogSoftmax", "Hardmax"]:
    run(op, [f(2, 3, 2)], axis=1)
    run(op, [f(2, 3)])

# Reductions.
for op in ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"]:
    run(op, [f(2, 3, 2), i64(1)], keepdims=0)
    run(op, [f(2, 3, 2), i64(-1, 0)])
run("ReduceSum", [f(2, 3)])
run("ReduceSum", [f(2, 3), i64()], noop_with_empty_axes=1)
run("ReduceLogSum", [f(2, 3, lo=0.5), i64(1)])
run("ReduceSum", [ints(-9, 9, 2, 3), i64(0)], keepdims=0)
run("ReduceMax", [ints(-9, 9, 2, 3, dtype=np.int32), i64(1)])
run("ArgMax", [np.array([[1, 3, 3], [2, 2, 0]], np.float32)], axis=1)
run("ArgMax", [np.array([[1, 3, 3], [2, 2, 0]], np.float32)], axis=1, select_last_index=1, keepdims=0)
run("ArgMin", [f(3, 4)], axis=0)
for ex, rev in [(0, 0), (1, 0), (0, 1), (1, 1)]:
    run("CumSum", [f(2, 4), np.int64(1)], exclusive=ex, reverse=rev)
run("TopK", [f(3, 5), i64(2)], outputs=2, axis=1)
run("TopK", [ints(0, 4, 6, dtype=np.int64), i64(4)], outputs=2, largest=0)

# Movement.
x = f(2, 3, 4)
run("Reshape", [x, i64(0, -1, 2)])
run("Reshape", [x, i64(4, 6)])
run("Flatten", [x], axis=2)
run("Squeeze", [f(1, 3, 1), i64(-1)])
run("Squeeze", [f(1, 3, 1)])
run("Unsqueeze", [f(3), i64(0, -1)])
run("Transpose", [x], perm=[2, 0, 1])
run("Transpose", [x])
run("Concat", [f(2, 1), f(2, 3)], axis=-1)
run("Split", [f(7, 2), i64(1, 4, 2)], outputs=3, axis=0)
run("Split", [f(2, 7)], outputs=3, axis=1, num_outputs=3)
run("Slice", [x, i64(0, 1), i64(2, 99), i64(0, 2), i64(1, 2)])
run("Slice", [x, i64(-1), i64(-99), i64(1), i64(-2)])
run("Slice", [x, i64(1), i64(-1)])
run("Expand", [f(3, 1), i64(2, 1, 4)])
run("Tile", [f(2, 3), i64(2, 2)])
run("Pad", [f(2, 3), i64(1, 2, 0, 1), np.float32(7)])
run("Pad", [f(2, 4), i64(0, 2, 1, 3)], mode="edge")
run("Pad", [f(3, 4), i64(2, 1, 1, 3)], mode="reflect")
run("Pad", [f(3, 4), i64(1, 3)  , None, i64(1)], mode="wrap")
run("Pad", [f(3, 4), i64(-1, 1, 0, -2)])
for mode in ["DCR", "CRD"]:
    run("DepthToSpace", [f(1, 8, 2, 2)], blocksize=2, mode=mode)
run("SpaceToDepth", [f(1, 2, 4, 4)], blocksize=2)
run("Gather", [x, np.array([[0, -1], [2, 1]])], axis=1)
run("GatherElements", [f(3, 3), ints(-3, 3, 2, 3)], axis=0)
run("GatherND", [f(2, 3, 2), np.array([[[1]], [[-1]]])], batch_dims=1)
run("GatherND", [f(2, 3, 2), np.array([[0, 2], [1, 0]])])
run("ScatterElements", [f(3, 3), np.array([[0, 2, 1]]), f(1, 3)], axis=0)
for red in ["add", "mul", "min", "max"]:
    run("ScatterElements", [f(2, 4), np.array([[1, 1, -1], [0, 0, 2]]), f(2, 3)], axis=1, reduction=red)
run("ScatterND", [f(4, 2), np.array([[3], [0]]), f(2, 2)])
run("ScatterND", [f(4, 2), np.array([[3, 1], [3, 1]]), f(2)], reduction="add")
run("Compress", [f(3, 2), np.array([0, 1, 1], bool)], axis=0)
run("Compress", [f(3, 2), np.array([0, 1, 0, 0, 1], bool)])
run("NonZero", [ints(0, 2, 2, 3)])
run("OneHot", [i64(1, -1, 5), np.int64(3), f(2)], axis=0)
run("ReverseSequence", [f(4, 2, 2), i64(3, 2)], batch_axis=1, time_axis=0)
for k, upper in [(0, 1), (-1, 0), (1, 1)]:
    run("Trilu", [f(3, 4), np.int64(k)], upper=upper)
run("Unique", [np.array([2, 1, 1, 3, 2], np.float32)], outputs=4)
run("Unique", [np.array([[1, 0], [1, 0], [2, 3]], np.float32)], outputs=4, axis=0, sorted=0)
run("Shape", [x], start=-2)
run("Size", [x])
run("ConstantOfShape", [i64(2, 2)])
run("Range", [np.float32(1), np.float32(-2), np.float32(-0.7)])
run("Range", [np.int64(3), np.int64(12), np.int64(4)])
run("EyeLike", [ints(0, 3, 3, 4, dtype=np.int32)], k=1, dtype=TensorProto.FLOAT)
run("Cast", [np.array([1.9, -1.9, 0.0, 3.5], np.float32)], to=TensorProto.INT32)
run("Cast", [np.array([1.9, 0.0, -0.3], np.float32)], to=TensorProto.BOOL)
run("Cast", [np.array([300, -1, 7], np.int32)], to=TensorProto.UINT8)

# Products.
run("MatMul", [f(2, 3), f(3, 4)])
run("MatMul", [f(3), f(2, 3, 2)])
run("MatMul", [f(2, 1, 2, 3), f(2, 3, 2)])
run("MatMul", [ints(-4, 4, 2, 3), ints(-4, 4, 3, 2)])
run("Gemm", [f(3, 2), f(4, 3), f(4)], transA=1, transB=1, alpha=0.5, beta=2.0)
run("Gemm", [f(2, 3), f(3, 4), f(2, 1)])
for eq, shapes in [("ij,jk->ik", [(2, 3), (3, 4)]), ("bij,bjk->bik", [(2, 2, 3), (2, 3, 2)]), ("...ij,...jk->...ik", [(2, 1, 2, 3), (1, 2, 3, 2)]),
                   ("ii->i", [(3, 3)]), ("ij->", [(2, 3)]), ("ij,j", [(2, 3), (3,)]), ("bhid,bhjd->bhij", [(1, 2, 3, 2), (1, 2, 2, 2)]),
                   ("i,j->ij", [(2,), (3,)]), ("abc->cba", [(2, 3, 2)])]:
    run("Einsum", [f(*s) for s in shapes], equation=eq)

# Convolutions: random geometry.
for n in range(30):
    r = pick(1, 2, 2, 2, 3)
    g = pick(1, 1, 2, 3)
    cin, cout = g * pick(1, 2), g * pick(1, 2)
    k = [int(pick(1, 2, 3)) for _ in range(r)]
    size = {1: 11, 2: 5, 3: 3}[r]
    attrs = {"strides": [int(pick(1, 2)) for _ in range(r)], "group": g}
    if n % 4 == 3:
        attrs["auto_pad"] = pick("SAME_UPPER", "SAME_LOWER", "VALID")
    else:
        attrs["pads"] = [int(pick(0, 1, 2)) for _ in range(2 * r)]
        attrs["dilations"] = [int(pick(1, 1, 2)) for _ in range(r)]
    b = f(cout) if n % 2 else None
    run("Conv", [f(1, cin, *[size + int(pick(0, 1)) for _ in range(r)]), f(cout, cin // g, *k), b], **attrs)
for n in range(24):
    r = pick(1, 2, 2, 3)
    g = pick(1, 1, 2)
    cin, mg = g * pick(1, 2), pick(1, 2)
    k = [int(pick(1, 2, 3)) for _ in range(r)]
    s = [int(pick(1, 2, 3)) for _ in range(r)]
    attrs = {"strides": s, "group": g}
    if n % 4 == 3:
        attrs["auto_pad"] = pick("SAME_UPPER", "SAME_LOWER")
        k = [max(a, b) for a, b in zip(k, s)]  # a kernel below the stride: ONNX Runtime departs from the text of the standard
    elif n % 4 == 2:
        attrs["output_shape"] = [3 * v + int(pick(0, 1)) for v in s]
    else:
        attrs["dilations"] = [int(pick(1, 2)) for _ in range(r)]
        attrs["pads"] = [int(min(pick(0, 1), k[j % r] - 1)) for j in range(2 * r)]
        attrs["output_padding"] = [int(pick(0, v - 1)) for v in s]
    try:
        run("ConvTranspose", [f(1, cin, *[3] * r), f(cin, mg, *k), f(mg * g) if n % 2 else None], **attrs)
    except Exception as e:
        print("ConvTranspose", attrs, str(e)[:90])
for n in range(36):
    op = pick("MaxPool", "AveragePool", "LpPool")
    r = pick(1, 2, 2, 3)
    k = [int(pick(1, 2, 3)) for _ in range(r)]
    attrs = {"kernel_shape": k, "strides": [int(pick(1, 2, 3)) for _ in range(r)]}
    if n % 5 == 4:
        attrs["auto_pad"] = pick("SAME_UPPER", "SAME_LOWER", "VALID")
    else:
        attrs["pads"] = [int(min(pick(0, 1), k[j % r] - 1)) for j in range(2 * r)]
        attrs["ceil_mode"] = int(pick(0, 1))
    if op == "AveragePool":
        attrs["count_include_pad"] = int(pick(0, 1))
    if "auto_pad" not in attrs and n % 3 == 0 and r < 3:
        attrs["dilations"] = [int(pick(1, 2)) for _ in range(r)]
    if op == "LpPool":
        attrs["p"] = int(pick(1, 2, 3))
    try:
        run(op, [f(1, 2, *[{1: 9, 2: 7, 3: 4}[r]] * r)], outputs=2 if op == "MaxPool" else 1, **attrs)
    except Exception as e:
        print(op, attrs, str(e)[:90])
run("MaxPool", [ints(-99, 99, 1, 1, 4, 4, dtype=np.int8)], kernel_shape=[2, 2])
run("MaxPool", [f(1, 2, 4, 4)], outputs=2, kernel_shape=[2, 2], strides=[2, 2], storage_order=1)
for op in ["GlobalMaxPool", "GlobalAveragePool"]:
    run(op, [f(2, 2, 3, 3)])
run("GlobalLpPool", [f(2, 2, 3, 3)], p=3)

# Normalisations.
run("BatchNormalization", [f(2, 3, 2), f(3), f(3), f(3), f(3, lo=0.1)], epsilon=0.01)
run("InstanceNormalization", [f(2, 2, 3, 2), f(2), f(2)], epsilon=0.01)
run("GroupNormalization", [f(2, 4, 3), f(4), f(4)], num_groups=2)
run("LayerNormalization", [f(2, 3, 4), f(4), f(4)], outputs=3, axis=-1)
run("LayerNormalization", [f(2, 3, 4), f(3, 4)], axis=1, epsilon=0.1)
run("LRN", [f(1, 6, 2)[:, :, :, None]], size=5, alpha=0.3, beta=0.6, bias=1.5)
for p in (1, 2):
    run("LpNormalization", [f(2, 3, 2)], axis=1, p=p)
run("MeanVarianceNormalization", [f(2, 2, 3, 2)])

# Resize and sampling.
for mode in ["nearest", "linear", "cubic"]:
    for coord in ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]:
        run("Resize", [f(1, 1, 4, 5), None, None, i64(1, 1, 7, 3)], mode=mode, coordinate_transformation_mode=coord)
for nm in ["floor", "ceil", "round_prefer_ceil"]:
    run("Resize", [f(1, 1, 3, 4), None, np.array([1, 1, 2.5, 0.6], np.float32)], mode="nearest", nearest_mode=nm)
run("Resize", [f(1, 1, 5, 5), None, np.array([1, 1, 1.7, 0.7], np.float32)], mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1)
run("Resize", [f(1, 1, 4, 4), f(8, lo=0, hi=1), None, i64(1, 1, 3, 3)], mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=9.0)
for mode in ["nearest", "linear", "cubic"]:
    for pad in ["zeros", "border", "reflection"]:
        run("GridSample", [f(1, 2, 4, 3), f(1, 2, 3, 2, lo=-1.4, hi=1.4)], mode=mode, padding_mode=pad, align_corners=int(pick(0, 1)))
run("RoiAlign", [f(1, 2, 6, 6), np.array([[0, 0, 3, 4], [1, 1.5, 5, 4]], np.float32), i64(0, 0)], output_height=2, output_width=3, sampling_ratio=2, spatial_scale=0.9)
run("RoiAlign", [f(1, 1, 6, 6), np.array([[0, 0, 3, 4]], np.float32), i64(0)], output_height=2, output_width=2, coordinate_transformation_mode="output_half_pixel")
run("NonMaxSuppression", [f(1, 8, 4, lo=0, hi=1), f(1, 2, 8), i64(3), np.array([0.3], np.float32), np.array([0.0], np.float32)])
run("NonMaxSuppression", [f(1, 6, 4, lo=0.2, hi=1), f(1, 1, 6), i64(4), np.array([0.4], np.float32)], center_point_box=1)

# Recurrent layers.
H, I, T, N = 2, 3, 4, 2
for op, g in [("RNN", 1), ("GRU", 3), ("LSTM", 4)]:
    for d in ["forward", "reverse", "bidirectional"]:
        D = 2 if d == "bidirectional" else 1
        ins = [f(T, N, I), f(D, g * H, I), f(D, g * H, H), f(D, 2 * g * H), None, f(D, N, H)]
        if op == "LSTM":
            ins += [f(D, N, H), f(D, 3 * H)]
        if d == "reverse":
            ins[4] = np.array([4, 2], np.int32)
        attrs = {"hidden_size": H, "direction": d}
        if op == "GRU":
            attrs["linear_before_reset"] = int(d != "forward")
        if d == "bidirectional":
            attrs["clip"] = 1.5
        run(op, ins, outputs=3 if op == "LSTM" else 2, **attrs)
run("LSTM", [f(T, N, I), f(1, 4 * H, I), f(1, 4 * H, H)], outputs=3, hidden_size=H, activations=["HardSigmoid", "Softsign", "Relu"], activation_alpha=[0.3], activation_beta=[0.4])

# Integers.
run("QuantizeLinear", [np.array([0.5, 1.5, -2.5, 300, -300], np.float32), np.float32(1), np.uint8(3)])
run("QuantizeLinear", [f(2, 3), f(3, lo=0.01, hi=0.1), np.array([0, 3, -5], np.int8)], axis=1)
run("QuantizeLinear", [f(2, 4), f(2, 2, lo=0.01, hi=0.1), ints(-3, 3, 2, 2, dtype=np.int8)], axis=1, block_size=2)
run("DequantizeLinear", [ints(0, 255, 2, 3, dtype=np.uint8), f(2, lo=0.01, hi=0.1), ints(0, 9, 2, dtype=np.uint8)], axis=0)
run("DequantizeLinear", [ints(-99, 99, 4, dtype=np.int32), np.float32(0.25)])
run("DynamicQuantizeLinear", [f(7)], outputs=3)
run("MatMulInteger", [ints(0, 9, 2, 3, dtype=np.uint8), ints(0, 9, 3, 2, dtype=np.uint8), np.uint8(2), ints(0, 5, 2, dtype=np.uint8)])
run("ConvInteger", [ints(0, 9, 1, 1, 4, 4, dtype=np.uint8), ints(0, 9, 1, 1, 2, 2, dtype=np.uint8), np.uint8(3)], pads=[1, 1, 0, 0])
run("QLinearMatMul", [ints(0, 99, 2, 3, dtype=np.uint8), np.float32(0.03), np.uint8(4), ints(0, 99, 3, 2, dtype=np.uint8), np.float32(0.02), np.uint8(9), np.float32(0.05), np.uint8(7)])
run("QLinearConv", [ints(0, 99, 1, 2, 4, 4, dtype=np.uint8), np.float32(0.03), np.uint8(4), ints(-99, 99, 3, 2, 2, 2, dtype=np.int8), f(3, lo=0.01, hi=0.05), np.int8([0, 0, 0]),
                    np.float32(0.2), np.uint8(120), ints(-99, 99, 3, dtype=np.int32)], pads=[1, 0, 0, 1])

# Transformers.
run("Attention", [f(1, 2, 3, 4), f(1, 2, 5, 4), f(1, 2, 5, 2)], opset=23)
run("Attention", [f(2, 3, 8), f(2, 4, 4), f(2, 4, 4), ints(0, 2, 3, 4, dtype=bool)], opset=23, q_num_heads=4, kv_num_heads=2, scale=0.7)
run("Attention", [f(1, 2, 3, 4), f(1, 2, 3, 4), f(1, 2, 3, 4), None, f(1, 2, 2, 4), f(1, 2, 2, 4)], outputs=3, opset=23, is_causal=1, softcap=1.5)
run("RotaryEmbedding", [f(1, 2, 3, 4), f(5, 2), f(5, 2), np.array([[0, 4, 1]])], opset=23)
run("RotaryEmbedding", [f(1, 3, 12), f(1, 3, 2), f(1, 3, 2)], opset=23, num_heads=2, rotary_embedding_dim=4, interleaved=1)
run("RMSNormalization", [f(2, 3, 4), f(4)], opset=23, axis=-1)

# A single window that is partly outside.
run("AveragePool", [f(1, 2, 6, 6)], kernel_shape=[7, 7], pads=[0, 0, 1, 1])

with open("ops.json", "w") as out:
    out.write('{"producer": "onnxruntime %s", "opset": %d, "seed": 7, "cases": [\n' % (ort.__version__, OPSET))
    out.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases))
    out.write("\n]}\n")
print(len(cases), "cases")
