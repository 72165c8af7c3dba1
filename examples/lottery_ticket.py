"""Iterative magnitude pruning with rewinding, a run for each round: a family of lottery tickets.

python examples/lottery_ticket.py [STORE]

Each round trains, takes the weakest fifth of the connections out, and sets what is left back to the weights of an early
step (Frankle et al. 2020). Its run forks from the last snapshot of the round before. STORE is the directory of an
archive; the digits are scikit-learn's.
"""

from __future__ import annotations

import sys
import tempfile

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.utils import prune

import topostrata as ts

ROUNDS, EPOCHS, REWIND_EPOCH, SHARE = 4, 6, 1, 0.2


def train(model: nn.Module, pixels: torch.Tensor, classes: torch.Tensor, epochs: int) -> float:
    """Train for so many epochs; gives the accuracy."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(epochs):
        for batch in torch.randperm(len(pixels)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(pixels[batch]), classes[batch]).backward()
            optimizer.step()
    return float((model(pixels).argmax(1) == classes).float().mean())


def main(store: str) -> None:
    torch.manual_seed(0)
    digits = load_digits()
    pixels, classes = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    model = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))
    layers = [(model[0], "weight"), (model[2], "weight")]
    for layer, name in layers:
        prune.identity(layer, name)  # a mask of ones
    train(model, pixels, classes, REWIND_EPOCH)
    early = {name: value.clone() for name, value in model.named_parameters()}

    for number in range(ROUNDS):
        parent = f"ticket-{number - 1}@{number}" if number else None
        with ts.init(f"ticket-{number}", tags=["lottery-ticket"], fork_from=parent, store=store) as run:
            accuracy = train(model, pixels, classes, EPOCHS - REWIND_EPOCH)
            run.log(model, step=number, metrics={"accuracy": accuracy})
            prune.global_unstructured(layers, prune.L1Unstructured, amount=SHARE)
            run.log(model, step=number + 1)
            for name, value in model.named_parameters():  # rewind
                value.data.copy_(early[name])

    with ts.open(store) as archive:
        for number in range(ROUNDS):
            first, last = archive.snapshot(f"ticket-{number}@first"), archive.snapshot(f"ticket-{number}@last")
            print(
                f"{first.run}: accuracy {first.metrics['accuracy']:.3f} with {first.nnz} connections, {last.nnz} go on"
            )
        for edge in archive.lineage("ticket-0").edges:
            print(f"{edge.child} is a {edge.how} of {edge.parent}@{edge.step}")
        ends = (f"ticket-0@{1}", f"ticket-{ROUNDS - 1}@{ROUNDS}")
        print(f"NNSTD of {ends[0]} and {ends[1]}: {archive.nnstd(*ends, alignment='identity').nnstd:.3f}")
    print(f"go on: topostrata lineage ticket-0 --store {store}")
    print(f"       topostrata distances 'ticket-*@last' --store {store}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
