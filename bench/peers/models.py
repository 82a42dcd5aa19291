"""Writes ONNX files of common architectures, to try roundel on what exporters really produce.

usage: python models.py CACHE_DIR [NAME ...]

needs: torch torchvision timm transformers onnx onnxscript rapidocr-onnxruntime silero-vad (bench/run_models.sh installs
them into a venv). Weights are random, with a fixed seed, and the running statistics of batch normalisation come from
a few passes over random images, so that values keep their size through the network; models inside packages are copied as they are. Next to each NAME.onnx goes NAME.json:

  {"inputs": {name: {"shape": [...], "dtype": "float32", "kind": "image"}}, "batchable": true}

shape is one sample; a file that is already there is left alone.
"""
import glob
import json
import os
import shutil
import sys
import sysconfig
import warnings

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

warnings.filterwarnings("ignore")


def settle(model, shape):
    """Gives batch normalisation plausible statistics, and layers that start at zero random weights."""
    for m in model.modules():
        if isinstance(m, nn.Linear) and not m.weight.any():
            nn.init.trunc_normal_(m.weight, std=0.02)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
        if m.affine:
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, 0, 0.2)
    model.eval()
    for m in norms:
        m.train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(4, *shape[1:]))
    model.eval()


def image(*shape):
    return {"shape": [1, *shape], "dtype": "float32", "kind": "image"}


def tv(name, size=224, **kw):
    def build():
        import torchvision

        get = torchvision.models.get_model
        if "deeplab" in name or "lraspp" in name:
            m = get(name, weights=None, weights_backbone=None)
            return First(m), {"x": image(3, size, size)}
        if name.startswith("ssd"):
            return get(name, weights=None, weights_backbone=None), {"x": image(3, size, size)}
        return get(name, weights=None), {"x": image(3, size, size)}

    return build


def tm(name, size=224):
    def build():
        import timm

        return timm.create_model(name, pretrained=False, exportable=True), {"x": image(3, size, size)}

    return build


class First(nn.Module):
    """The main output of a segmentation model."""

    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, x):
        return self.m(x)["out"]


def double(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(True), nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(True))


class UNet(nn.Module):
    """Two transposed and one bilinear step up, with crops for odd sizes as the usual implementations have."""

    def __init__(self, c=16):
        super().__init__()
        self.down = nn.ModuleList([double(3, c), double(c, 2 * c), double(2 * c, 4 * c), double(4 * c, 8 * c)])
        self.up3 = nn.ConvTranspose2d(8 * c, 4 * c, 2, 2)
        self.up2 = nn.ConvTranspose2d(4 * c, 2 * c, 2, 2)
        self.up1 = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.Conv2d(2 * c, c, 1))
        self.fuse = nn.ModuleList([double(8 * c, 4 * c), double(4 * c, 2 * c), double(2 * c, c)])
        self.head = nn.Conv2d(c, 2, 1)

    def forward(self, x):
        skips = []
        for i, d in enumerate(self.down):
            x = d(x if i == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        for up, fuse, s in zip((self.up3, self.up2, self.up1), self.fuse, skips[2::-1]):
            x = up(x)
            dy, dx = s.shape[2] - x.shape[2], s.shape[3] - x.shape[3]
            x = F.pad(x, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
            x = fuse(torch.cat([s, x], 1))
        return self.head(x)


class ConvAct(nn.Module):
    def __init__(self, i, o, k=1, s=1):
        super().__init__()
        self.conv = nn.Conv2d(i, o, k, s, k // 2, bias=False)
        self.bn = nn.BatchNorm2d(o)

    def forward(self, x):
        return F.silu(self.bn(self.conv(x)))


class C2f(nn.Module):
    def __init__(self, i, o, n=1):
        super().__init__()
        self.a = ConvAct(i, o)
        self.m = nn.ModuleList(nn.Sequential(ConvAct(o // 2, o // 2, 3), ConvAct(o // 2, o // 2, 3)) for _ in range(n))
        self.b = ConvAct(o + n * (o // 2), o)

    def forward(self, x):
        y = list(self.a(x).chunk(2, 1))
        for m in self.m:
            y.append(y[-1] + m(y[-1]))
        return self.b(torch.cat(y, 1))


class SPPF(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.a, self.b, self.p = ConvAct(c, c // 2), ConvAct(c * 2, c), nn.MaxPool2d(5, 1, 2)

    def forward(self, x):
        y = [self.a(x)]
        for _ in range(3):
            y.append(self.p(y[-1]))
        return self.b(torch.cat(y, 1))


class Yolo(nn.Module):
    """A detector in the style of YOLOv8: C2f blocks, SPPF, a top-down path, a DFL head on three scales; nms: boxes out."""

    def __init__(self, c=16, classes=20, nms=False):
        super().__init__()
        self.nms, self.classes = nms, classes
        self.s1 = nn.Sequential(ConvAct(3, c, 3, 2), ConvAct(c, 2 * c, 3, 2), C2f(2 * c, 2 * c))
        self.s3 = nn.Sequential(ConvAct(2 * c, 4 * c, 3, 2), C2f(4 * c, 4 * c, 2))
        self.s4 = nn.Sequential(ConvAct(4 * c, 8 * c, 3, 2), C2f(8 * c, 8 * c, 2))
        self.s5 = nn.Sequential(ConvAct(8 * c, 16 * c, 3, 2), C2f(16 * c, 16 * c), SPPF(16 * c))
        self.u4, self.u3 = C2f(24 * c, 8 * c), C2f(12 * c, 4 * c)
        chans = [4 * c, 8 * c, 16 * c]
        self.box = nn.ModuleList(nn.Sequential(ConvAct(i, 64, 3), nn.Conv2d(64, 64, 1)) for i in chans)
        self.cls = nn.ModuleList(nn.Sequential(ConvAct(i, 32, 3), nn.Conv2d(32, classes, 1)) for i in chans)
        self.dfl = nn.Conv2d(16, 1, 1, bias=False)
        self.dfl.weight.data[:] = torch.arange(16.0).view(1, 16, 1, 1)

    def forward(self, x):
        p3 = self.s3(self.s1(x))
        p4 = self.s4(p3)
        p5 = self.s5(p4)
        p4 = self.u4(torch.cat([F.interpolate(p5, scale_factor=2), p4], 1))
        p3 = self.u3(torch.cat([F.interpolate(p4, scale_factor=2), p3], 1))
        outs, points, strides = [], [], []
        for i, (f, s) in enumerate(zip((p3, p4, p5), (8, 16, 32))):
            n, _, h, w = f.shape
            outs.append(torch.cat([self.box[i](f), self.cls[i](f)], 1).view(n, 64 + self.classes, -1))
            gy, gx = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
            points.append(torch.stack([gx, gy], -1).view(-1, 2))
            strides.append(torch.full((h * w, 1), float(s)))
        dist, cls = torch.cat(outs, 2).split((64, self.classes), 1)
        n, _, a = dist.shape
        dist = self.dfl(dist.view(n, 4, 16, a).transpose(2, 1).softmax(1)).view(n, 4, a)
        lt, rb = dist.chunk(2, 1)
        p, s = torch.cat(points).t()[None], torch.cat(strides).t()[None]
        x1, x2 = p - lt, p + rb
        y = torch.cat([(x1 + x2) / 2 * s, (x2 - x1) * s, cls.sigmoid()], 1)
        if not self.nms:
            return y
        import torchvision

        boxes = torch.cat([x1 * s, x2 * s], 1)[0].t()
        scores, label = cls.sigmoid()[0].max(0)
        scores, top = scores.topk(100)
        boxes, label = boxes[top], label[top]
        keep = torchvision.ops.batched_nms(boxes, scores, label, 0.5)
        return boxes[keep], scores[keep], label[keep]


class Recurrent(nn.Module):
    """A voice-activity model: 1-D convolutions over log energies, a recurrent layer, a linear head."""

    def __init__(self, kind, bidirectional=False):
        super().__init__()
        self.front = nn.Sequential(nn.Conv1d(40, 64, 5, padding=2), nn.BatchNorm1d(64), nn.ReLU(), nn.Conv1d(64, 64, 3, stride=2, padding=1), nn.ReLU())
        self.rnn = getattr(nn, kind)(64, 48, num_layers=2, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(48 * (2 if bidirectional else 1), 2)

    def forward(self, x):
        y, _ = self.rnn(self.front(x).transpose(1, 2))
        return self.head(y).softmax(-1)


def audio(*shape):
    return {"shape": [1, *shape], "dtype": "float32", "kind": "normal"}


def bert():
    from transformers import BertConfig, BertModel

    cfg = BertConfig(vocab_size=1000, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512,
                     max_position_embeddings=128, attn_implementation="eager")

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.m = BertModel(cfg)

        def forward(self, input_ids, attention_mask):
            o = self.m(input_ids=input_ids, attention_mask=attention_mask)
            return o.last_hidden_state, o.pooler_output

    return Encoder(), {"input_ids": {"shape": [1, 32], "dtype": "int64", "kind": "tokens", "high": 1000},
                       "attention_mask": {"shape": [1, 32], "dtype": "int64", "kind": "mask"}}


def small(make, size):
    return lambda: (make(), {"x": image(3, size, size)})


def vad(*args):
    return lambda: (Recurrent(*args), {"x": audio(40, 64)})


B, HW = {0: "n"}, {0: "n", 2: "h", 3: "w"}
# name: (builder, opset, dynamic axes of every input, dynamo exporter, several samples may share a batch)
MODELS = {
    "resnet50": (tv("resnet50"), 13, B, False, True),
    "resnet18_op9": (tv("resnet18"), 9, None, False, True),
    "mobilenet_v2": (tv("mobilenet_v2"), 11, B, False, True),
    "mobilenet_v3_small": (tv("mobilenet_v3_small"), 17, B, False, True),
    "mobilenet_v3_large": (tv("mobilenet_v3_large"), 12, HW, False, True),
    "efficientnet_b0": (tv("efficientnet_b0"), 17, B, False, True),
    "efficientnet_lite0": (tm("efficientnet_lite0"), 13, B, False, True),
    "regnet_y_400mf": (tv("regnet_y_400mf"), 14, B, False, True),
    "convnext_tiny": (tv("convnext_tiny"), 17, B, False, True),
    "densenet121": (tv("densenet121"), 15, B, False, True),
    "squeezenet1_1": (tv("squeezenet1_1"), 10, B, False, True),
    "shufflenet_v2": (tv("shufflenet_v2_x1_0"), 16, B, False, True),
    "deeplabv3_mobilenet": (tv("deeplabv3_mobilenet_v3_large", 256), 16, B, False, True),
    "unet": (small(UNet, 192), 17, HW, False, True),
    "yolo8_style": (small(Yolo, 320), 17, None, False, True),
    "yolo8_style_nms": (small(lambda: Yolo(nms=True), 320), 16, None, False, False),
    "ssdlite320": (tv("ssdlite320_mobilenet_v3_large", 320), 16, None, False, False),
    "deit_tiny": (tm("deit_tiny_patch16_224"), 17, B, False, True),
    "vit_b_16": (tv("vit_b_16"), 18, B, True, True),
    "swin_t": (tv("swin_t"), 17, B, False, True),
    "bert_small": (bert, 17, {0: "n", 1: "len"}, False, True),
    "vad_lstm": (vad("LSTM"), 17, {0: "n", 2: "t"}, False, True),
    "vad_bigru": (vad("GRU", True), 13, B, False, True),
    "mobilenet_v3_small_dynamo": (tv("mobilenet_v3_small"), 18, B, True, True),
    "resnet18_dynamo": (tv("resnet18"), 20, B, True, True),
    "deit_tiny_dynamo": (tm("deit_tiny_patch16_224"), 22, B, True, True),
    "unet_dynamo": (small(UNet, 192), 18, None, True, True),
}


def example(spec):
    if spec["kind"] == "tokens":
        return torch.randint(0, spec["high"], spec["shape"])
    if spec["kind"] == "mask":
        return torch.ones(spec["shape"], dtype=torch.int64)
    return torch.randn(spec["shape"])


def export(name, path):
    build, opset, axes, dynamo, batchable = MODELS[name]
    torch.manual_seed(1)
    model, inputs = build()
    model.eval()
    nms, model.nms = getattr(model, "nms", None), False
    settle(model, next(iter(inputs.values()))["shape"])
    if nms is not None:
        model.nms = nms
    args = tuple(example(s) for s in inputs.values())
    if dynamo:
        shapes = None
        if axes:
            shapes = tuple({i: torch.export.Dim(d) for i, d in axes.items()} for _ in inputs)
            args = tuple(torch.cat([x, x]) for x in args)
        torch.onnx.export(model, args, path, input_names=list(inputs), opset_version=opset, dynamo=True,
                          dynamic_shapes=shapes, external_data=False, verbose=False)
    else:
        with torch.no_grad():
            torch.onnx.export(model, args, path, input_names=list(inputs), output_names=None, opset_version=opset,
                              dynamo=False, dynamic_axes={k: axes for k in inputs} if axes else None)
    return inputs, batchable


def packaged():
    """The models inside packages: name -> (file, inputs, batchable)."""
    site = sysconfig.get_paths()["purelib"]
    ocr = os.path.join(site, "rapidocr_onnxruntime", "models")
    vad = os.path.join(site, "silero_vad", "data")
    out = {}
    for key, pattern, shape in (("ppocr_det", "*det*.onnx", (3, 320, 320)), ("ppocr_rec", "*rec*.onnx", (3, 48, 320)), ("ppocr_cls", "*cls*.onnx", (3, 48, 192))):
        for f in sorted(glob.glob(os.path.join(ocr, pattern)))[:1]:
            out[key] = (f, {"x": {"shape": [1, *shape], "dtype": "float32", "kind": "text"}}, True)
    state = {"shape": [2, 1, 128], "dtype": "float32", "kind": "state"}
    rate = {"shape": [], "dtype": "int64", "kind": "rate"}
    hidden = {"shape": [1, 1, 128], "dtype": "float32", "kind": "state"}
    chunk = {"shape": [1, 576], "dtype": "float32", "kind": "audio"}
    for key, f in (("silero_vad", "silero_vad.onnx"), ("silero_vad_16k_op15", "silero_vad_16k_op15.onnx"), ("silero_vad_op18_ifless", "silero_vad_op18_ifless.onnx"),
                   ("silero_vad_half", "silero_vad_half.onnx"), ("silero_vad_openvino", "silero_vad_openvino_16k.onnx"), ("silero_vad_16k_sequence", "silero_vad_16k_sequence.onnx")):
        if os.path.exists(os.path.join(vad, f)):
            out[key] = (os.path.join(vad, f), {"input": chunk, "state": state, "h": hidden, "c": hidden, "sr": rate}, False)
    return out


def main():
    cache, only = sys.argv[1], sys.argv[2:]
    os.makedirs(cache, exist_ok=True)
    pack = packaged()
    for name in only or [*MODELS, *pack]:
        path = os.path.join(cache, name + ".onnx")
        meta = os.path.join(cache, name + ".json")
        if os.path.exists(meta):
            continue
        try:
            if name in pack:
                src, inputs, batchable = pack[name]
                shutil.copyfile(src, path)
            else:
                inputs, batchable = export(name, path)
            with open(meta, "w") as f:
                json.dump({"inputs": inputs, "batchable": batchable}, f)
            print("wrote", name, os.path.getsize(path) >> 10, "KiB", flush=True)
        except Exception as e:  # one exporter's failure must not stop the others
            print("FAILED", name, type(e).__name__, str(e)[:300], flush=True)


if __name__ == "__main__":
    main()
