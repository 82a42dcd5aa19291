"""Time single operators of a peer, on request: one line of JSON in, one out.

    op_server.py --peer numpy|torch|ort --threads N

{"op": "gemm", "m": 3136, "n": 64, "k": 576}                    one float32 product, m pixels, n output channels
{"op": "conv", "in": 64, "out": 64, "size": 56, "kernel": 3, "stride": 1, "groups": 1}
{"run": 0.02}                                                   repeats it for about so many seconds
{"finish": 1}                                                   ort, one thread: seconds of the operator alone, from its own profile

A framework may hold either operand first, so a product is tried both ways at the start
and timed the faster way. A convolution is followed by a clamp to [0, 6], which ONNX
Runtime fuses. "run" answers with the seconds of one repetition.
"""
import argparse
import json
import os
import sys
import tempfile
import time


def repeat(f, seconds):
    """Returns the seconds of one call, over as many calls as fit, at least one."""
    n, start = 0, time.perf_counter()
    while True:
        f()
        n += 1
        spent = time.perf_counter() - start
        if spent >= seconds:
            return spent / n


class Numpy:
    def __init__(self, threads):
        import numpy
        self.np = numpy
        blas = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
        self.version = f"numpy {numpy.__version__} ({blas['name']} {blas['version']})"

    def gemm(self, m, n, k):
        r = self.np.random.default_rng(1)
        a, b = r.standard_normal((m, k), self.np.float32), r.standard_normal((k, n), self.np.float32)
        w, x = b.T.copy(), a.T.copy()
        c, d = self.np.empty((m, n), self.np.float32), self.np.empty((n, m), self.np.float32)
        return [lambda: self.np.dot(a, b, out=c), lambda: self.np.dot(w, x, out=d), lambda: self.np.dot(a, w.T, out=c)]


class Torch:
    def __init__(self, threads):
        import torch
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.torch = torch
        self.version = f"torch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()})"

    def gemm(self, m, n, k):
        a, b = self.torch.randn(m, k), self.torch.randn(k, n)
        w, x = b.T.contiguous(), a.T.contiguous()
        c, d = self.torch.empty(m, n), self.torch.empty(n, m)
        mm = self.torch.mm
        return [lambda: mm(a, b, out=c), lambda: mm(w, x, out=d), lambda: mm(a, w.T, out=c)]


class Ort:
    def __init__(self, threads):
        import onnxruntime
        self.ort = onnxruntime
        self.threads = threads
        self.version = f"onnxruntime {onnxruntime.__version__}"
        self.folder = tempfile.TemporaryDirectory()

    def session(self, model, profile):
        o = self.ort.SessionOptions()
        o.intra_op_num_threads, o.inter_op_num_threads = self.threads, 1
        o.add_session_config_entry("session.intra_op.allow_spinning", "1" if self.threads > 1 else "0")
        if profile:
            o.enable_profiling = True
            o.profile_file_prefix = os.path.join(self.folder.name, "profile")
        return self.ort.InferenceSession(model, o, providers=["CPUExecutionProvider"])

    def conv(self, spec):
        import numpy as np
        from onnx import TensorProto, helper, numpy_helper
        r = np.random.default_rng(1)
        cin, cout, size, kernel, stride, groups = (spec[k] for k in ("in", "out", "size", "kernel", "stride", "groups"))
        pad = kernel // 2
        out = (size + 2 * pad - kernel) // stride + 1
        arrays = {"w": r.standard_normal((cout, cin // groups, kernel, kernel), np.float32), "b": r.standard_normal(cout, np.float32),
                  "lo": np.float32(0), "hi": np.float32(6)}
        graph = helper.make_graph(
            [helper.make_node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[kernel] * 2, pads=[pad] * 4, strides=[stride] * 2, group=groups),
             helper.make_node("Clip", ["c", "lo", "hi"], ["y"])], "one",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, cin, size, size])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, cout, out, out])],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in arrays.items()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10).SerializeToString()
        feeds = {"x": r.standard_normal((1, cin, size, size), np.float32)}
        plain = self.session(model, False)
        if self.threads > 1:
            # The threads of two sessions would spin against each other: no profile.
            self.profiled = None
            return lambda seconds: repeat(lambda: plain.run(None, feeds), seconds)
        # Both sessions run in each turn; the profile tells the operator's own time, without reorders into blocked layout.
        self.profiled = self.session(model, True)
        self.turns = []

        def run(seconds):
            t = repeat(lambda: plain.run(None, feeds), seconds / 2)
            self.turns.append(0)
            start = time.perf_counter()
            while self.turns[-1] < 1 or time.perf_counter() - start < seconds / 2:
                self.profiled.run(None, feeds)
                self.turns[-1] += 1
            return t
        return run

    def finish(self):
        """Returns the mean seconds of the convolution in each turn, if it was profiled."""
        if self.profiled is None:
            return []
        path = self.profiled.end_profiling()
        with open(path, encoding="utf-8") as f:
            events = json.load(f)
        os.remove(path)
        times = [e["dur"] * 1e-6 for e in events if e.get("cat") == "Node" and e["name"].endswith("kernel_time")
                 and "Conv" in e["args"].get("op_name", "")]
        means, at = [], 0
        for n in self.turns:
            means.append(sum(times[at:at + n]) / n)
            at += n
        return means


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", choices=["numpy", "torch", "ort"], required=True)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(args.threads)  # before the libraries are loaded
    peer = {"numpy": Numpy, "torch": Torch, "ort": Ort}[args.peer](args.threads)
    print(json.dumps({"version": peer.version}), flush=True)
    run = None
    for line in sys.stdin:
        request = json.loads(line)
        answer = {}
        if request.get("op") == "gemm":
            ways = peer.gemm(request["m"], request["n"], request["k"])
            for f in ways:
                f()
            best = min(ways, key=lambda f: min(repeat(f, 0.01) for _ in range(3)))
            run = lambda seconds: repeat(best, seconds)
        elif request.get("op") == "conv":
            run = peer.conv(request)
        elif "finish" in request:
            answer["times"] = peer.finish()
        else:
            answer["time"] = run(request["run"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
