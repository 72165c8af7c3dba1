"""RigL and SET in plain torch, from the same start: two rules of growth, and how far apart they end.

python examples/rigl_digits.py [STORE]

Both take the weakest connections out, ever fewer. SET lets as many grow at random (Mocanu et al. 2018), RigL where the
loss has the steepest gradient (Evci et al. 2020). STORE is the directory of an archive; the digits are scikit-learn's.
"""

from __future__ import annotations

import math
import sys
import tempfile

import torch
from sklearn.datasets import load_digits
from torch import nn

import topostrata as ts

DENSITY, SHARE, STEPS, EVERY = 0.15, 0.3, 400, 50


def rewire(weight: nn.Parameter, mask: torch.Tensor, share: float, rule: str) -> None:
    """Take the weakest share of the connections out, and let as many grow where there was none."""
    free = mask == 0
    count = round(share * int(mask.sum()))
    weakest = weight.abs().masked_fill(free, math.inf).flatten().topk(count, largest=False).indices
    merit = weight.grad.abs() if rule == "rigl" else torch.rand_like(weight)
    grown = merit.masked_fill(~free, -1).flatten().topk(count).indices
    mask.view(-1)[weakest] = 0
    mask.view(-1)[grown] = 1
    weight.data.view(-1)[grown] = 0


def train(rule: str, pixels: torch.Tensor, classes: torch.Tensor, store: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 10))
    layers = [model[0], model[2]]
    masks = [(torch.rand_like(layer.weight) < DENSITY).float() for layer in layers]
    optimizer = torch.optim.SGD(model.parameters(), 0.2, momentum=0.9)
    names = ("0.weight", "2.weight")
    config = {"density": DENSITY, "share": SHARE}
    with ts.init(f"{rule}-digits", config=config, tags=[rule], store=store, orientation="out-in") as run:
        for step in range(STEPS + 1):
            for layer, mask in zip(layers, masks, strict=True):
                layer.weight.data *= mask
            batch = torch.randint(len(pixels), (64,))
            loss = nn.functional.cross_entropy(model(pixels[batch]), classes[batch])
            optimizer.zero_grad()
            loss.backward()
            if step % EVERY == 0:
                accuracy = (model(pixels).argmax(1) == classes).float().mean()
                run.log(dict(zip(names, masks, strict=True)), step=step, metrics={"accuracy": accuracy, "loss": loss})
                share = SHARE / 2 * (1 + math.cos(math.pi * step / STEPS))
                for layer, mask in zip(layers, masks, strict=True):
                    rewire(layer.weight, mask, share, rule)
            for layer, mask in zip(layers, masks, strict=True):
                layer.weight.grad *= (
                    mask  # RigL looked at the gradients of absent connections; nothing learns from them
                )
            optimizer.step()


def main(store: str) -> None:
    digits = load_digits()
    pixels, classes = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    for rule in ("set", "rigl"):
        train(rule, pixels, classes, store)
    with ts.open(store) as archive:
        for run in ("set-digits", "rigl-digits"):
            last = archive.snapshot(f"{run}@last")
            layers = archive.evolution(run, 0, STEPS).layers
            left = sum(layer.survived for layer in layers) / sum(layer.alive_from for layer in layers)
            print(f"{run}: accuracy {last.metrics['accuracy']:.3f}, {left:.0%} of its first connections survived")
        for step in (0, STEPS):
            distance = archive.nnstd(f"set-digits@{step}", f"rigl-digits@{step}", alignment="identity").nnstd
            print(f"NNSTD of the two at step {step}: {distance:.3f}")
    print(f"go on: topostrata nnstd set-digits rigl-digits --chance --store {store}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
