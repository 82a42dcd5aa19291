"""Write adaround/testdata/adam_steps.json: the paper's optimiser step by step, by PyTorch's autograd and Adam.

    python bench/peers/adam_steps.py > adaround/testdata/adam_steps.json

Two made-up layers, without activation and with ReLU6; every step sees all positions. For each: V and h(V) at the
start, beta and both losses of every step, the gradient by V of steps 1, 5 and 20, and V after them. Nothing of AIMET is used.
"""
import json
import math

import torch

ITERATIONS, WARM, LAMBDA, BETA, LR = 25, 0.2, 0.01, (20.0, 2.0), 1e-2
ZETA, GAMMA = 1.1, -0.1
SHOWN = (1, 5, 20)


def rounded(values):
    return [float(f"{v:.9g}") for v in values.flatten().tolist()]


def annealed(i):
    """Beta of iteration i, None during the warm start."""
    if i < WARM * ITERATIONS:
        return None
    t = (i - WARM * ITERATIONS) / (ITERATIONS * (1 - WARM))
    return BETA[1] + 0.5 * (BETA[0] - BETA[1]) * (1 + math.cos(math.pi * t))


def layer(seed, activation):
    r = torch.Generator().manual_seed(seed)
    outs, k, positions = 3, 7, 40
    w = torch.randn(outs, k, generator=r)
    bias = torch.randn(outs, generator=r)
    a = torch.relu(torch.randn(positions, k, generator=r) + 0.3)
    y = (a + 0.05 * torch.randn(positions, k, generator=r)) @ w.T + bias
    scale = w.abs().amax(1) / 7
    low, high = -8, 6  # one code less than the grid of the largest weight: some weights are clipped
    q = w / scale[:, None]
    base = torch.floor(q)
    v = (-torch.log((ZETA - GAMMA) / (q - base - GAMMA) - 1)).requires_grad_()
    act = (lambda z: torch.clamp(z, 0, 6)) if activation == "relu6" else (lambda z: z)
    adam = torch.optim.Adam([v], lr=LR)
    out = {"activation": activation, "weight": rounded(w), "bias": rounded(bias), "scale": rounded(scale), "lo": low, "hi": high,
           "columns": rounded(a), "targets": rounded(y), "v0": rounded(v), "recon": [], "penalty": [], "gradient": {}, "after": {}}
    for i in range(ITERATIONS):
        h = torch.clamp(torch.sigmoid(v) * (ZETA - GAMMA) + GAMMA, 0, 1)
        if i == 0:
            out["h0"] = rounded(h)
        soft = torch.clamp(base + h, low, high) * scale[:, None]
        recon = ((act(a @ soft.T + bias) - act(y)) ** 2).sum(1).mean()
        beta, penalty = annealed(i), torch.zeros(())
        if beta is not None:
            penalty = LAMBDA * (1 - (2 * h - 1).abs() ** beta).sum()
        adam.zero_grad()
        (recon + penalty).backward()
        out["recon"].append(recon.item())
        out["penalty"].append(penalty.item())
        if i + 1 in SHOWN:
            out["gradient"][str(i + 1)] = rounded(v.grad)
        adam.step()
        if i + 1 in SHOWN:
            out["after"][str(i + 1)] = rounded(v)
    return out


print(json.dumps({"torch": torch.__version__, "iterations": ITERATIONS, "warm_start": WARM, "lambda": LAMBDA, "beta": BETA, "lr": LR,
                  "betas": [annealed(i) for i in range(ITERATIONS)], "outputs": 3, "columns": 7,
                  "layers": [layer(1, "identity"), layer(2, "relu6")]}))
