"""Round a model's weights with AIMET's own AdaRound, and time it layer by layer.

    aimet_adaround.py --model folded.onnx --calib calib.npy --bits 4 --iterations 10000 --out DIR
    aimet_adaround.py --model folded.onnx --calib calib.npy --bits 4 --time 40,240 --out DIR

The model has its batch normalisation folded already (bench/adaround fold), so that
AIMET and roundel round the same weights. The first form writes for every rounded
layer its weights on the grid, NNN.npy, and layers.json with weight, scale, offset and
seconds. The second runs two short counts of iterations and writes times.json: the
seconds of one iteration and the fixed seconds of a layer, from the line through both.
Seconds are those of the clock; *_cpu are those of the processor, for a busy machine.
"""
import argparse
import json
import os
import sys
import time


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--calib", required=True, help=".npy, samples first")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=10000)
    parser.add_argument("--time", default="", help="two counts of iterations, such as 40,240")
    parser.add_argument("--batch", type=int, default=32, help="samples of one calibration batch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scheme", default="tf_enhanced", help="tf_enhanced or min_max")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True)
    return parser.parse_args()


class Run:
    """One simulation, rounded, with the seconds that AIMET spent on each layer."""

    def __init__(self, args, iterations):
        import numpy as np
        import onnx
        import onnxruntime as ort
        import torch
        import aimet_onnx
        from aimet_onnx.adaround.adaround_optimizer import AdaroundOptimizer
        from aimet_onnx.common.defs import qtype

        torch.set_num_threads(args.threads)
        torch.manual_seed(args.seed)
        np.random.seed(args.seed)
        model = onnx.load(args.model)
        calib = np.load(args.calib)
        name = model.graph.input[0].name
        batches = [{name: calib[i:i + args.batch]} for i in range(0, len(calib), args.batch)]
        self.sim = aimet_onnx.QuantizationSimModel(
            model, param_type=qtype.int(args.bits), activation_type="int16", quant_scheme=args.scheme,
            dummy_input={name: calib[:1]}, providers=["CPUExecutionProvider"],
            session_options_kwargs={"intra_op_num_threads": args.threads})
        # Activation quantizers would stay in observation; without them the simulation is faster too.
        for tensor in self.sim.activation_names:
            self.sim.qc_quantize_op_dict[tensor].enabled = False

        self.layers = []
        inner = AdaroundOptimizer.adaround_module

        def timed(module, *rest):
            start, cpu = time.perf_counter(), time.process_time()
            inner(module, *rest)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            weight = module.params["weight"].name
            self.layers.append({"weight": weight, "seconds": seconds, "cpu": cpu})
            print(f"  {weight}: {seconds:.2f} s, {cpu:.2f} s of CPU", file=sys.stderr, flush=True)

        AdaroundOptimizer.adaround_module = timed
        try:
            start = time.perf_counter()
            aimet_onnx.apply_adaround(self.sim, batches, num_iterations=iterations)
            self.seconds = time.perf_counter() - start
        finally:
            AdaroundOptimizer.adaround_module = inner
        self.versions = {"aimet_onnx": aimet_onnx.__version__, "torch": torch.__version__, "onnxruntime": ort.__version__}

    def rounded(self):
        """Yields (layer, hard weights, scale, offset): what the simulation's quantizer makes of the stored weights."""
        import numpy as np
        from onnx import numpy_helper

        weights = {t.name: t for t in self.sim.model.model.graph.initializer}
        for layer in self.layers:
            quantizer = self.sim.qc_quantize_op_dict[layer["weight"]]
            soft = numpy_helper.to_array(weights[layer["weight"]])
            scale = np.array([e.delta for e in quantizer.encodings], np.float64)
            offset = np.array([e.offset for e in quantizer.encodings], np.float64)
            info = quantizer.quant_info
            shape = [1] * soft.ndim
            if info.usePerChannelMode:
                shape[info.channelAxis] = -1
            s = scale.astype(np.float32).reshape(shape)
            o = offset.astype(np.float32).reshape(shape)
            codes = np.clip(np.rint(soft / s) - o, 0, 2 ** quantizer.bitwidth - 1) + o
            yield layer, (codes * s).astype(np.float32), scale, offset


def main():
    args = arguments()
    # Before numpy and torch are loaded: their pools are sized once. The environment's choice of an old kernel is dropped.
    os.environ.pop("OPENBLAS_CORETYPE", None)
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)
    os.makedirs(args.out, exist_ok=True)
    if args.time:
        few, many = (int(n) for n in args.time.split(","))
        Run(args, 2)  # the first use of every library is not counted
        a, b = Run(args, few), Run(args, many)
        rows = []
        for x, y in zip(a.layers, b.layers):
            row = {"weight": x["weight"]}
            for kind, suffix in (("seconds", ""), ("cpu", "_cpu")):
                each = max(0.0, (y[kind] - x[kind]) / (many - few))
                row["iteration" + suffix] = each
                row["fixed" + suffix] = max(0.0, x[kind] - few * each)
            rows.append(row)
        result = {"counts": [few, many], "threads": args.threads, "versions": b.versions, "layers": rows}
        path = os.path.join(args.out, "times.json")
    else:
        import numpy as np

        run = Run(args, args.iterations)
        rows = []
        for i, (layer, weight, scale, offset) in enumerate(run.rounded()):
            file = f"{i:03d}.npy"
            np.save(os.path.join(args.out, file), weight)
            rows.append({**layer, "file": file, "scale": scale.tolist(), "offset": offset.tolist()})
        result = {"bits": args.bits, "iterations": args.iterations, "threads": args.threads, "seconds": run.seconds,
                  "versions": run.versions, "layers": rows}
        path = os.path.join(args.out, "layers.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
    print("wrote", path)


if __name__ == "__main__":
    main()
